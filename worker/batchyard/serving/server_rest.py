"""GET /v1/models/NAME: the status of a model by HTTP, as start-up probes of every TF Serving version ask for it."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

from grpc import StatusCode

from batchyard.serving.protos import model_pb2
from batchyard.serving.server_models import Models, RpcError

_PATH = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?/?")
_HTTP = {StatusCode.NOT_FOUND: 404, StatusCode.INVALID_ARGUMENT: 400}


def answer(models: Models, path: str) -> tuple[int, object]:
    """Return the HTTP status and the JSON body for a GET of ``path``."""
    match = _PATH.fullmatch(path.partition("?")[0])
    if match is None:
        return 404, {"error": f"Malformed request: GET {path}"}
    spec = model_pb2.ModelSpec(name=unquote(match[1]))
    if match[2] is not None:
        spec.version.value = min(int(match[2]), 2**63 - 1)
    elif match[3] is not None:
        spec.version_label = unquote(match[3])
    try:
        versions = models.versions(spec)
    except RpcError as error:
        return _HTTP[error.code], {"error": error.details}
    ok = {"error_code": "OK", "error_message": ""}
    return 200, {"model_version_status": [{"version": str(v), "state": "AVAILABLE", "status": ok} for v in versions]}


def serve(models: Models, host: str, port: int) -> ThreadingHTTPServer:
    """Answer on ``host:port`` from an own thread until ``shutdown()``. Raises OSError when the port is taken."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code, body = answer(models, self.path)
            data = json.dumps(body, indent=1).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Keep probes out of the log."""

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
    return server
