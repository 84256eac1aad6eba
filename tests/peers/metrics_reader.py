"""Reads a gateway's metrics with code that is not ours, and prints them as one JSON object.

metrics_reader.py ASKED TOLD

Asks http://127.0.0.1:ASKED/metrics and reads the answer with prometheus_client; listens on TOLD for one OTLP request,
answers it, and reads it with the messages that OpenTelemetry publishes. Prints
{"prometheus": {NAME: {"type", "samples": [[NAME, LABELS, VALUE]]}}, "otlp": the request}.
"""
import http.server, json, sys, urllib.request
from google.protobuf import json_format
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from prometheus_client.parser import text_string_to_metric_families

asked, told = int(sys.argv[1]), int(sys.argv[2])
bodies = []


class Collector(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        assert self.path == "/v1/metrics" and self.headers["Content-Type"] == "application/json"
        bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


# Two requests: the first may have been read before the test did what it wants to see.
server = http.server.HTTPServer(("127.0.0.1", told), Collector)
while len(bodies) < 2:
    server.handle_request()
request = json_format.Parse(bodies[-1], ExportMetricsServiceRequest(), ignore_unknown_fields=False)

with urllib.request.urlopen(f"http://127.0.0.1:{asked}/metrics") as answer:
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    text = answer.read().decode()
families = {}
for family in text_string_to_metric_families(text):
    assert family.documentation and family.name not in families, family.name
    samples = [[sample.name, sample.labels, sample.value] for sample in family.samples]
    families[family.name] = {"type": family.type, "samples": samples}
print(json.dumps({"prometheus": families, "otlp": json_format.MessageToDict(request)}))
