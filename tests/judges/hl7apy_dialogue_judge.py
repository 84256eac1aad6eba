#!/usr/bin/env python3
"""Judges what instruments are told, by structure and data types with hl7apy, strictly.

  hl7apy_dialogue_judge.py FILE|FOLDER...      folders are searched for *.hl7

What no standard has is judged segment by segment: the GeneXpert's RSP^Z02 and Mindray's ORR^O02 with OBX. Segments that
repeat what the instrument wrote (QPD, QRD, QRF outside of LAW) are the instrument's and not judged. hl7apy 1.3.5 takes
a second order of OML_O33 for a prior one: each order is judged with the specimen, by itself. Of the choice in ORM_O01
(an OBR or a diet or a drug) it wants all: what is sent of it is judged segment by segment.
"""
import sys

from hl7apy.parser import parse_message, parse_segment
from hl7apy_judge import STRICT, judge_files, segments_of

VENDORS_OWN = {"RSP^Z02", "ORR^O02", "ORM^O01^ORM_O01"}
ECHOED = {"QPD", "QRD", "QRF"}


def judge(text):
    segments = segments_of(text)
    header = segments[0].split("|")
    version, kind = header[11], header[8]
    if kind in VENDORS_OWN:
        own = [s for s in segments if s[:3] not in ECHOED | {"OBX"}]
        valid = all(parse_segment(s, version=version, validation_level=STRICT).validate() for s in own)
    elif kind == "DSR^Q03":
        # Lines are counted, so empty ones are sent; a test is a line with `^^^` behind its code.
        filled = [s.replace("^^^", "") for s in segments if not s.startswith("DSP|") or s.count("|") > 2]
        valid = whole([STANDARD.get(s[:3], s) for s in filled])
    else:
        orders = [at for at, segment in enumerate(segments) if segment.startswith("ORC|")] or [len(segments)]
        ends = orders[1:] + [len(segments)]
        valid = all(whole(segments[: orders[0]] + segments[at:end]) for at, end in zip(orders, ends))
    if not valid:
        raise ValueError("not valid")


# Stand-ins for what the instrument wrote.
STANDARD = {
    "QRD": "QRD|20260101120000|R|D|1|||1^RD|X^DOE|OTH|X|Y",
    "QRF": "QRF|X",
}


def whole(segments):
    return parse_message("\r".join(segments) + "\r", validation_level=STRICT, find_groups=True).validate()


if __name__ == "__main__":
    sys.exit(judge_files(judge, sys.argv[1:]))
