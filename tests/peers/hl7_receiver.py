"""An MLLP receiver over TLS made of PyPI `hl7`, which demands a client certificate: a peer that shares no code with us.

usage: hl7_receiver.py CERT KEY CLIENT_CA

Prints its port, then one line for each message: control id, number of OBX segments, and the value of the first one.
Answers AA the way the library makes acknowledgements.
"""

import asyncio
import ssl
import sys

from hl7.mllp import start_hl7_server


async def serve(reader, writer):
    try:
        while not writer.is_closing():
            message = await reader.readmessage()
            results = message.segments("OBX")
            print(message.extract_field("MSH", 1, 10), len(results), results[0](5), flush=True)
            writer.writemessage(message.create_ack())
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
        pass
    finally:
        writer.close()


async def main(cert, key, client_ca):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    context.load_verify_locations(client_ca)
    context.verify_mode = ssl.CERT_REQUIRED
    server = await start_hl7_server(serve, "127.0.0.1", 0, encoding="utf-8", ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


asyncio.run(main(*sys.argv[1:4]))
