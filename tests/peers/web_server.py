"""A server of DICOMweb and FHIR as hospitals run them, of the standard library alone: HTTPS that demands a client
certificate, a token endpoint (SMART Backend Services, private_key_jwt), STOW-RS (PS3.18 10.5) behind a bearer token, and
transactions of FHIR R4.

usage: web_server.py CERT KEY CLIENT_CA DIRECTORY USES

Prints its port, then one JSON line for each request before it answers. A token is good for USES posts; where that is 0
none is needed. Objects are kept in DIRECTORY under their SOP Instance UID. A UID that is there already with other bytes is
refused (0111), as is every object whose UID stands in DIRECTORY/refused (0xC000). DIRECTORY/hold keeps the next request
from being answered: it becomes DIRECTORY/held, and who takes that away has it answered.

CERT and KEY may change at any time; the TLS context stays, so that tickets that were given before are good still."""

import base64
import json
import ssl
import struct
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

CERT, KEY, CLIENT_CA, DIRECTORY, USES = sys.argv[1:6]
TOKENS = {}


def parts(kind, body):
    """The bodies of the parts, by the rules of RFC 2046: each between CRLF + boundary lines."""
    fields = dict(f.strip().split("=", 1) for f in kind.split(";")[1:])
    assert kind.startswith("multipart/related") and fields["type"].strip('"') == "application/dicom", kind
    delimiter = b"\r\n--" + fields["boundary"].strip('"').encode()
    pieces = (b"\r\n" + body).split(delimiter)
    assert pieces[0] == b"" and pieces[-1].startswith(b"--"), "no first or last boundary"
    for piece in pieces[1:-1]:
        head, content = piece.split(b"\r\n\r\n", 1)
        assert b"content-type: application/dicom" in head.lower(), head
        yield content


def meta(file):
    """The text of the elements of group 2 of a DICOM file."""
    assert file[128:132] == b"DICM", "no prefix"
    at, found = 132, {}
    while file[at : at + 2] == b"\x02\x00":
        element, vr = struct.unpack_from("<H", file, at + 2)[0], file[at + 4 : at + 6]
        head, (length,) = (12, struct.unpack_from("<I", file, at + 8)) if vr == b"OB" else (8, struct.unpack_from("<H", file, at + 6))
        found[element] = file[at + head : at + head + length].rstrip(b"\0 ").decode("latin-1")
        at += head + length
    return found


class Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.ids = []
        known = {"/token": self.token, "/dicom-web/studies": self.store, "/fhir": self.transaction}.get(self.path)
        status, answer = known(body) if known else (404, {})
        subject = {k: v for rdn in self.connection.getpeercert()["subject"] for k, v in rdn}
        said = {"path": self.path, "status": status, "peer": subject.get("commonName"), "port": self.client_address[1]}
        said |= {"reused": self.connection.session_reused, "ids": self.ids}
        hold, held = Path(DIRECTORY, "hold"), Path(DIRECTORY, "held")
        is_held = hold.exists()
        if is_held:
            hold.rename(held)
        print(json.dumps(said), flush=True)
        while is_held and held.exists():
            time.sleep(0.01)
        text = json.dumps(answer).encode()
        self.send_response(status)
        kind = {"/dicom-web/studies": "application/dicom+json", "/fhir": "application/fhir+json"}
        self.send_header("Content-Type", kind.get(self.path, "application/json"))
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def token(self, body):
        form = {k: v[0] for k, v in parse_qs(body.decode()).items()}
        _, claims, signature = form["client_assertion"].split(".")
        claims = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
        good = (
            form["grant_type"] == "client_credentials"
            and form["client_assertion_type"].endswith("jwt-bearer")
            and claims.get("iss") == claims.get("sub") == "bench-1"
            and claims["aud"].endswith("/token")
            and time.time() < claims["exp"] <= time.time() + 300
            and len(signature) == 128
        )
        if not good:
            return 400, {"error": "invalid_client"}
        token = f"token-{len(TOKENS)}"
        TOKENS[token] = int(USES)
        return 200, {"access_token": token, "token_type": "bearer", "expires_in": 300, "scope": form.get("scope", "")}

    def store(self, body):
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if int(USES):
            if TOKENS.get(token, 0) < 1:
                return 401, {}
            TOKENS[token] -= 1
        stored, failed = [], []
        refused = Path(DIRECTORY, "refused")
        refused = refused.read_text().split() if refused.exists() else []
        for file in parts(self.headers["Content-Type"], body):
            said = meta(file)
            self.ids.append(said[3])
            item = {"00081150": {"vr": "UI", "Value": [said[2]]}, "00081155": {"vr": "UI", "Value": [said[3]]}}
            kept = Path(DIRECTORY, said[3] + ".dcm")
            reason = 0xC000 if said[3] in refused else 0x0111 if kept.exists() and kept.read_bytes() != file else 0
            if reason:
                failed.append(item | {"00081197": {"vr": "US", "Value": [reason]}})
            else:
                kept.write_bytes(file)
                stored.append(item)
        answer = {}
        if stored:
            answer["00081199"] = {"vr": "SQ", "Value": stored}
        if failed:
            answer["00081198"] = {"vr": "SQ", "Value": failed}
        return (200 if not failed else 202 if stored else 409), answer

    def transaction(self, body):
        entries = json.loads(body)["entry"]
        specimens = [e["resource"] for e in entries if e["resource"]["resourceType"] == "Specimen"]
        self.ids = [i["value"] for s in specimens for i in s["identifier"]]
        answers = [{"response": {"status": "201 Created"}} for _ in entries]
        return 200, {"resourceType": "Bundle", "type": "transaction-response", "entry": answers}

    def log_message(self, *_):
        pass


class Secured(ThreadingHTTPServer):
    daemon_threads = True

    def get_request(self):
        connection, address = super().get_request()
        context.load_cert_chain(CERT, KEY)
        # The handshake belongs to the thread of its connection: one that fails must not stop the others.
        return context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_verify_locations(CLIENT_CA)
context.verify_mode = ssl.CERT_REQUIRED
server = Secured(("127.0.0.1", 0), Server)
print(server.server_address[1], flush=True)
server.serve_forever()
