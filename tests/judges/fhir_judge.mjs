#!/usr/bin/env node
// Judges FHIR R4 resources with npm `fhir`: structure, cardinality, required codes, nothing unexpected.
//
//   fhir_judge.mjs FILE|FOLDER...      folders are searched for *.fhir.json and *.writes.json
//
// A file holds a Bundle, or a list of {method, url, ifNoneExist?, resource}. Each resource is judged on its own too:
// the package does not look into every entry. What it cannot see is checked here: references inside a Bundle lead to
// an entry, no condition stands twice, and obs-6.

import { createRequire } from 'node:module';
import fs from 'node:fs';
import path from 'node:path';

const peers = process.env.AFFERENT_PEERS_NODE ?? path.join(process.env.AFFERENT_PEERS ?? '.', 'node');
const { Fhir } = createRequire(path.resolve(peers, 'judge.js'))('fhir');
const fhir = new Fhir();

function* files(args) {
  for (const arg of args) {
    if (!fs.statSync(arg).isDirectory()) {
      yield arg;
      continue;
    }
    const names = fs.readdirSync(arg, { recursive: true }).filter((n) => /\.(fhir|writes)\.json$/.test(n));
    for (const name of names.sort()) yield path.join(arg, name);
  }
}

function references(node) {
  if (node === null || typeof node !== 'object') return [];
  const own = typeof node.reference === 'string' ? [node.reference] : [];
  return own.concat(...Object.values(node).map(references));
}

function faults(document) {
  const found = [];
  const judge = (resource) => {
    const result = fhir.validate(resource, { errorOnUnexpected: true });
    for (const m of result.messages) {
      if (['error', 'fatal'].includes(m.severity)) found.push(`${m.location ?? resource.resourceType}: ${m.message}`);
    }
    const value = Object.keys(resource).find((k) => k.startsWith('value'));
    // A panel has members instead of a value.
    const panel = Boolean(resource.hasMember);
    const count = [value, resource.dataAbsentReason].filter(Boolean).length;
    if (resource.resourceType === 'Observation' && count !== 1 && !(panel && count === 0)) {
      found.push('Observation: a value or a reason why there is none, not both (obs-6)');
    }
  };
  const bundle = !Array.isArray(document);
  if (bundle) judge(document);
  const writes = bundle ? document.entry.map((e) => ({ ...e.request, resource: e.resource })) : document;
  writes.forEach((w) => judge(w.resource));
  const conditions = writes.map((w) => `${w.method} ${w.url} ${w.ifNoneExist ?? ''}`);
  if (new Set(conditions).size !== conditions.length) found.push('a condition stands twice');
  if (writes.some((w) => w.method !== 'PUT' && !w.ifNoneExist)) found.push('a write that is not safe to repeat');
  const known = new Set(bundle ? document.entry.map((e) => e.fullUrl) : []);
  for (const reference of references(document)) {
    if (reference.startsWith('urn:') ? !known.has(reference) : !bundle) found.push(`${reference} leads nowhere`);
  }
  return found;
}

let passed = 0;
let failed = 0;
for (const file of files(process.argv.slice(2))) {
  let found;
  try {
    found = faults(JSON.parse(fs.readFileSync(file, 'utf8')));
  } catch (error) {
    found = [String(error)];
  }
  if (found.length === 0) passed += 1;
  else failed += 1;
  console.log(found.length === 0 ? `ok      ${file}` : `FAILED  ${file}: ${found.slice(0, 10).join('; ')}`);
}
console.log(`${passed} passed, ${failed} failed`);
process.exit(passed > 0 && failed === 0 ? 0 : 1);
