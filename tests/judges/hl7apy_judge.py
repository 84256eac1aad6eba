#!/usr/bin/env python3
"""Judges HL7 v2 messages by structure, data types and lengths with hl7apy, strictly.

  hl7apy_judge.py FILE|FOLDER...      folders are searched for *.hl7

Segments may end in CR or LF. Three weak spots of hl7apy 1.3.5 are worked around, and nothing is let off by it:
- it reads every OBX-5 as ST: the value is judged on its own as the type OBX-2 names, and left empty in the message;
- in 2.7 and later it takes every OBX for part of the ORC group and runs out of room, in 2.5 it takes SPM anywhere: the
  order of segments is judged here, against the grammar of ORU_R01; from 2.7 on hl7apy judges each segment by itself;
- it does not know that OBX-4 tells equal OBX-3 apart: that is counted here.
"""
import pathlib
import re
import sys

from hl7apy import load_reference
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.exceptions import HL7apyException
from hl7apy.factories import datatype_factory
from hl7apy.parser import parse_component, parse_message, parse_segment

STRICT = VALIDATION_LEVEL.STRICT
# What of ORU_R01 is ever sent; the parts stand in this order in every version.
ORU_R01 = re.compile(r"MSH (PID (NTE )*(PV1 )?)?((ORC )?OBR (NTE )*(OBX (NTE )*)*(SPM )*)+")
SIMPLE = {"NM", "ST", "FT", "TX"}
# Comparators and separators of SN (chapter 2A).
SN_COMPARATORS, SN_SEPARATORS = {"", "<", ">", "<=", ">=", "=", "<>"}, {"", "-", "+", "/", ".", ":"}


def judge(text):
    """Raises on the first thing that is wrong."""
    segments = segments_of(text)
    if not segments or not segments[0].startswith("MSH|^~\\&|"):
        raise ValueError("no MSH with the usual delimiters")
    version = segments[0].split("|")[11]
    kept, seen = [], set()
    for at, segment in enumerate(segments):
        fields = segment.split("|")
        if fields[0] == "OBX":
            key = (fields[3].split("^")[0], fields[4])
            if key in seen:
                raise ValueError("OBX-4 %s stands twice beside OBX-3 %s" % key)
            seen.add(key)
            value(fields[2], fields[5], version)
            fields[5] = ""
        elif fields[0] == "OBR":
            seen = set()
        elif fields[0] == "ORC" and fields[2:4] != "".join(segments[at + 1 : at + 2]).split("|")[2:4]:
            raise ValueError("ORC-2 and ORC-3 are not OBR-2 and OBR-3")
        kept.append("|".join(fields))
    if not ORU_R01.fullmatch(" ".join(s[:3] for s in kept) + " "):
        raise ValueError("segments out of order")
    if tuple(int(n) for n in version.split(".")) >= (2, 7):
        valid = [parse_segment(s, version=version, validation_level=STRICT).validate() for s in kept]
    else:
        valid = [parse_message("\r".join(kept) + "\r", validation_level=STRICT, find_groups=True).validate()]
    if not all(valid):
        raise ValueError("not valid")


def segments_of(text):
    return [s for s in text.replace("\r\n", "\r").replace("\n", "\r").split("\r") if s]


def value(kind, text, version):
    """OBX-5 as the type OBX-2 names."""
    if not text:
        return
    if kind in SIMPLE:
        if any(delimiter in text for delimiter in "^&~"):
            raise ValueError("a %s with components or repeats" % kind)
        datatype_factory(kind, text, version, STRICT)
        if kind == "ST" and len(text) > 199 or kind == "NM" and not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)", text):
            raise ValueError("no %s" % kind)
        return
    components = load_reference(kind, "Datatypes_Structs", version)
    parts = text.split("^")
    if len(parts) > len(components):
        raise ValueError("a %s with %d components" % (kind, len(parts)))
    for part, (name, reference, cardinality, _) in zip(parts, components):
        if part:
            parse_component(part, name=name, datatype=reference[2], version=version, validation_level=STRICT)
        elif cardinality[0]:
            raise ValueError("%s is required" % name)
    if kind == "SN":
        parts += [""] * 4
        if parts[0] not in SN_COMPARATORS or parts[2] not in SN_SEPARATORS:
            raise ValueError("SN with an unknown comparator or separator")


def files(arguments):
    for argument in map(pathlib.Path, arguments):
        yield from sorted(argument.rglob("*.hl7")) if argument.is_dir() else [argument]


def judge_files(judge, arguments):
    """Judges each file, says how it fared, and returns the exit code."""
    passed = failed = 0
    for path in files(arguments):
        try:
            judge(path.read_bytes().decode("utf-8"))
            passed += 1
            print("ok      %s" % path)
        except (HL7apyException, ValueError, IndexError, KeyError) as error:
            failed += 1
            print("FAILED  %s: %s: %s" % (path, type(error).__name__, str(error)[:300]))
    print("%d passed, %d failed" % (passed, failed))
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(judge_files(judge, sys.argv[1:]))
