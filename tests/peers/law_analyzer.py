"""An IHE LAW analyzer made of PyPI `hl7`: a peer that shares no code with us.

usage: law_analyzer.py PORT TUBE [CA CERT KEY]

Asks for the orders on a tube (LAB-27), accepts them (LAB-28), sends a result for each (LAB-29), all on one connection,
and prints one line for each message it reads: its type and what it says. Ends when the tube has no orders.
"""

import asyncio
import ssl
import sys

import hl7
from hl7.mllp import open_hl7_connection

HEADER = "MSH|^~\\&|AN|LAB|GW||20260101120000||{kind}|{id}|P|2.5.1|||ER|{answer}||UNICODE UTF-8|||{profile}^IHE\r"


def header(kind, control_id, profile, answer="AL"):
    return HEADER.format(kind=kind, id=control_id, profile=profile, answer=answer)


async def main(port, tube, *files):
    tls = {}
    if files:
        context = ssl.create_default_context(cafile=files[0])
        context.load_cert_chain(*files[1:])
        tls = {"ssl": context, "server_hostname": "localhost"}
    reader, writer = await open_hl7_connection("127.0.0.1", int(port), encoding="utf-8", **tls)

    async def send(text):
        writer.writemessage(hl7.parse(text))
        await writer.drain()

    await send(
        header("QBP^Q11^QBP_Q11", "Q1", "LAB-27")
        + "QPD|WOS^Work Order Step^IHELAW|TAG1|%s\rRCP|I||R^^HL70394\r" % tube
    )
    response = await reader.readmessage()
    print(response.segment("MSH")(9), response.segment("MSA")(1), response.segment("QAK")(2), flush=True)
    orders = await reader.readmessage()
    controls = [str(orc(1)) for orc in orders.segments("ORC")]
    numbers = [str(obr(2)) for obr in orders.segments("OBR")] if controls != ["DC"] else []
    print(orders.segment("MSH")(9), " ".join(controls + numbers), flush=True)
    answer = header("ORL^O34^ORL_O42", "A1", "LAB-28", "NE") + "MSA|AA|%s\r" % orders.segment("MSH")(10)
    if numbers:
        answer += "SPM|1|||SER\rSAC|||%s\r" % tube
    await send(answer + "".join("ORC|OK|%s|||SC\r" % number for number in numbers))
    for at, number in enumerate(numbers, 1):
        await send(
            header("OUL^R22^OUL_R22", "R%d" % at, "LAB-29")
            + "SPM|1|||SER^Serum^HL70487|||||||P^Patient^HL70369\rSAC|||%s\r" % tube
            + "OBR|1|%s||GLU^Glucose^L\rORC|OK||||CM||||20260101120000\r" % number
            + "OBX|1|NM|GLU^Glucose^L|1|5.4%d|mmol/L||N|||F|||||ADMIN||AN^MAKER|20260101120050\r" % at
        )
        acknowledged = await reader.readmessage()
        print(acknowledged.segment("MSH")(9), acknowledged.segment("MSA")(1), flush=True)
    writer.close()


asyncio.run(main(*sys.argv[1:]))
