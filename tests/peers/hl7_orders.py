"""An EHR over TLS made of PyPI `hl7`: it places orders and reads the answers; it shares no code with us.

usage: hl7_orders.py PORT CA CERT KEY

Sends an OML^O21, an OML^O33, an ORM^O01, a cancellation of nothing and an ADT^A40 on one connection and prints one
line for each answer: the id sent, MSA-1, MSA-2, MSH-9 and every ORC-1. Where PyPI `hl7apy` is there too, each answer
is judged by its structure and data types, and `valid` or what is wrong ends the line.
"""

import asyncio
import ssl
import sys

import hl7
from hl7.mllp import open_hl7_connection

try:
    from hl7apy.consts import VALIDATION_LEVEL
    from hl7apy.exceptions import HL7apyException
    from hl7apy.parser import parse_message, parse_segment
except ImportError:
    parse_message = None

PATIENT = "PID|1||4711^^^HOSP^MR||SYNTHETIC^PAT||19700101|F"
MESSAGES = [
    ("OML^O21^OML_O21", [PATIENT, "ORC|NW|P-1^EHR", "OBR|1|P-1^EHR||GLU^Glucose^L", "SPM|1|S-1||SER"]),
    (
        "OML^O33^OML_O33",
        [PATIENT, "SPM|1|S-2||SER", "ORC|NW|P-2", "OBR|1|P-2||K^Potassium^L", "ORC|NW|P-3", "OBR|2|P-3||NA^Sodium^L"],
    ),
    ("ORM^O01^ORM_O01", [PATIENT, "ORC|NW|P-4", "OBR|1|P-4||TSH^Thyrotropin^L"]),
    ("OML^O21^OML_O21", [PATIENT, "ORC|CA|NOTHING", "OBR|1|NOTHING||GLU^Glucose^L"]),
    ("ADT^A40^ADT_A39", ["EVN|A40|20260101120000", PATIENT, "MRG|OLD-1^^^HOSP^MR"]),
]


def judge(text):
    if parse_message is None:
        return "valid"
    level = VALIDATION_LEVEL.STRICT
    try:
        if "ORR_O02" in text:
            # hl7apy 1.3.5 takes the choice of OBR, RQD, ... for all of them: each segment is judged by itself.
            for segment in text.strip("\r").split("\r"):
                parse_segment(segment, version="2.5.1", validation_level=level).validate()
        else:
            parse_message(text, validation_level=level, find_groups=True).validate()
    except HL7apyException as error:
        return f"{error}"
    return "valid"


async def main(port, ca, cert, key):
    context = ssl.create_default_context(cafile=ca)
    context.load_cert_chain(cert, key)
    reader, writer = await open_hl7_connection(
        "127.0.0.1", int(port), encoding="utf-8", ssl=context, server_hostname="localhost"
    )
    for number, (kind, segments) in enumerate(MESSAGES, 1):
        header = f"MSH|^~\\&|EHR|HOSP|LAB|L|20260101120000||{kind}|PEER-{number}|P|2.5.1"
        writer.writemessage(hl7.parse("\r".join([header, *segments]) + "\r"))
        await writer.drain()
        answer = await reader.readmessage()
        msa = answer.segment("MSA")
        orcs = [str(segment(1)) for segment in answer if str(segment[0]) == "ORC"]
        words = [f"PEER-{number}", str(msa(1)), str(msa(2)), str(answer.segment("MSH")(9)), *orcs]
        print(*words, judge(str(answer)), flush=True)
    writer.close()


asyncio.run(main(*sys.argv[1:]))
