"""A web server on loopback that hands on the answers of another, or files, and spoils those it is told to spoil."""

import http.client
import socket
import struct
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

Fault = Literal["stall", "silence", "reset", "short", "503", "500", "403", "flip"]
RETRIED: tuple[Fault, ...] = ("stall", "silence", "reset", "short", "503", "500", "flip")
Answer = tuple[int, Mapping[str, str], bytes]
Source = Callable[[str, str, Mapping[str, str]], Answer]
"""Answers the method, the path and the headers of a request."""

_HOP_BY_HOP = {"connection", "date", "keep-alive", "server", "transfer-encoding", "content-length"}


def another_server(host: str, port: int) -> Source:
    """The answers of another server."""

    def answer(method: str, path: str, headers: Mapping[str, str]) -> Answer:
        connection = http.client.HTTPConnection(host, port, timeout=10)
        try:
            connection.request(method, path, headers={**headers})
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        finally:
            connection.close()

    return answer


def folder(root: Path) -> Source:
    """The files of a folder, of which neither ranges nor lists are given."""

    def answer(method: str, path: str, headers: Mapping[str, str]) -> Answer:
        del method, headers
        file = root / path.lstrip("/")
        return (200, {}, file.read_bytes()) if file.is_file() else (404, {}, b"")

    return answer


class FaultyServer(ThreadingHTTPServer):
    """Serves until it is left as a context manager."""

    faults: defaultdict[str, deque[Fault | None]]
    """By file name, what is to befall the next requests for it, one each."""
    requests: defaultdict[str, int]
    """By file name, the requests so far."""
    daemon_threads = False
    block_on_close = True

    def __init__(self, source: Source) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.source = source
        self.faults = defaultdict(deque)
        self.requests = defaultdict(int)
        self.lock = threading.Lock()
        self.stopped = threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})

    def fault_for(self, name: str) -> Fault | None:
        """What is to befall the present request."""
        faults = self.faults[name]
        return faults.popleft() if faults else None

    @property
    def url(self) -> str:
        """Where it serves."""
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stopped.set()
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that gave up are no news."""


class _Handler(BaseHTTPRequestHandler):
    server: FaultyServer
    protocol_version = "HTTP/1.0"  # a connection for each request

    def do_GET(self) -> None:
        name = self.path.partition("?")[0].rpartition("/")[2]
        with self.server.lock:
            self.server.requests[name] += 1
            fault = self.server.fault_for(name)
        if fault == "silence":
            self.server.stopped.wait()
            return
        if fault in ("503", "500", "403"):
            self._answer(int(fault), {}, b"<Error><Code>Fault</Code><Message>injected</Message></Error>")
            return
        status, headers, body = self.server.source(self.command, self.path, dict(self.headers.items()))
        if fault == "flip":
            body = body[:-1] + bytes([body[-1] ^ 1])
        self._answer(status, headers, body, cut=fault in ("stall", "reset", "short"))
        if fault == "stall":
            self.server.stopped.wait()
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    do_HEAD = do_GET

    def _answer(self, status: int, headers: Mapping[str, str], body: bytes, cut: bool = False) -> None:
        self.send_response(status)
        for key, value in headers.items():
            if key.lower() not in _HOP_BY_HOP:
                self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        with suppress(OSError):  # the client has gone
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if cut else body)
            self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""
