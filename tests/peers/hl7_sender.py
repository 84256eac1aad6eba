"""An MLLP sender over TLS made of PyPI `hl7`: a peer that shares no code with us.

usage: hl7_sender.py PORT CA [CERT KEY]

Sends three results on one connection and prints one line for each acknowledgement: the id sent, MSA-1 and MSA-2.
Prints `refused` when the line is closed instead.
"""

import asyncio
import ssl
import sys

import hl7
from hl7.mllp import open_hl7_connection

MESSAGE = (
    "MSH|^~\\&|SIMULATED-1|LAB|||20260101120000||ORU^R01^ORU_R01|{id}|P|2.5.1||||||UNICODE UTF-8\r"
    "PID|1||PT1^^^HOSP^MR||DOE^JANE||19700101|F\r"
    "OBR|1||{id}|PANEL^Panel^L|||20260101120000\r"
    "OBX|1|NM|2345-7^Glucose^LN||{value}|mg/dL||N|||F|||20260101120000\r"
)


async def main(port, ca, *pair):
    context = ssl.create_default_context(cafile=ca)
    if pair:
        context.load_cert_chain(*pair)
    try:
        reader, writer = await open_hl7_connection(
            "127.0.0.1", int(port), encoding="utf-8", ssl=context, server_hostname="localhost"
        )
        for number, value in enumerate(["8.0", "1.50", "0.017"], 1):
            control_id = f"PEER-{number}"
            writer.writemessage(hl7.parse(MESSAGE.format(id=control_id, value=value)))
            await writer.drain()
            answer = await reader.readmessage()
            print(control_id, answer.segment("MSA")(1), answer.segment("MSA")(2), flush=True)
        writer.close()
    except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
        print("refused", flush=True)


asyncio.run(main(*sys.argv[1:]))
