"""Takes OTLP over HTTP, decodes it by the messages that OpenTelemetry publishes, and prints each request
as one line of JSON, until its standard input ends."""

import base64
import http.server
import json
import sys
import threading

sys.path.insert(0, "/usr/local/lib/opentelemetry")
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (  # noqa: E402
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status  # noqa: E402


def values(attributes):
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in attributes}


def spans(request):
    for of_resource in request.resource_spans:
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                yield {
                    "resource": values(of_resource.resource.attributes),
                    "scope": of_scope.scope.name,
                    "name": span.name,
                    "kind": Span.SpanKind.Name(span.kind),
                    "trace": span.trace_id.hex(),
                    "span": span.span_id.hex(),
                    "parent": span.parent_span_id.hex(),
                    "state": span.trace_state,
                    "status": Status.StatusCode.Name(span.status.code),
                    "message": span.status.message,
                    "attributes": values(span.attributes),
                    "events": len(span.events),
                    "start": span.start_time_unix_nano,
                    "end": span.end_time_unix_nano,
                }


class Collector(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        told = {
            "path": self.path,
            "host": self.headers["Host"],
            "type": self.headers["Content-Type"],
            "raw": base64.b64encode(body).decode(),
            "spans": list(spans(ExportTraceServiceRequest.FromString(body))),
        }
        print(json.dumps(told), flush=True)
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Collector)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
