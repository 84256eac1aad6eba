// A Sparkplug B host of another maker (npm mqtt and sparkplug-payload): says every message it hears as a line of JSON,
// and for each line on its standard input asks the edge node named there for its birth, or says of itself what stands
// behind "STATE".
const fs = require("fs");
const [, , modules, port, name, group, ca, cert, key] = process.argv;
const mqtt = require(modules + "/mqtt");
const payload = require(modules + "/sparkplug-payload").get("spBv1.0");
const client = mqtt.connect(`mqtts://localhost:${port}`, {
  clientId: name, username: name, clean: true,
  ca: fs.readFileSync(ca), cert: fs.readFileSync(cert), key: fs.readFileSync(key),
});
const plain = (_, value) => (typeof value === "bigint" || (value && value.low !== undefined) ? Number(value) : value);
client.on("connect", () => client.subscribe(`spBv1.0/${group}/#`, { qos: 1 }, () => console.log('{"up":true}')));
client.on("message", (topic, bytes, packet) => {
  if (topic.includes("/NCMD/")) return;
  const told = payload.decodePayload(bytes);
  console.log(JSON.stringify({ topic, retain: packet.retain, text: bytes.toString("latin1"), ...told }, plain));
});
require("readline").createInterface({ input: process.stdin }).on("line", (node) => {
  if (node.startsWith("STATE ")) {
    const state = JSON.stringify({ online: node.endsWith("online"), timestamp: Date.now() });
    return client.publish(`spBv1.0/STATE/${name}`, state, { qos: 1, retain: true });
  }
  const metrics = [{ name: "Node Control/Rebirth", type: "Boolean", value: true }];
  client.publish(`spBv1.0/${group}/NCMD/${node}`, Buffer.from(payload.encodePayload({ timestamp: Date.now(), metrics })));
});
