"""Small HTTP servers between a program and a real one: a forward proxy, and services that hand out credentials."""

from __future__ import annotations

import contextlib
import http.server
import json
import select
import socket
import socketserver
import ssl
import threading
import urllib.request
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

Answer = tuple[int, bytes]


@contextlib.contextmanager
def answering(answer: Callable[[str, str, bytes], Answer]) -> Iterator[str]:
    """A server on loopback that answers each (method, path, body) as ``answer`` says; its URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, data = answer(self.command, self.path, body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PUT = do_POST = handle_any

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with _running(server):
        yield f"http://127.0.0.1:{server.server_address[1]}"


@contextlib.contextmanager
def _running(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class ForwardProxy:
    """A proxy such as a company has: it takes absolute URLs, and names that only it can resolve.

    ``hosts`` maps host names to (address, port). ``asked`` lists the request lines it was given.
    """

    def __init__(self, hosts: dict[str, tuple[str, int]]) -> None:
        self.hosts = hosts
        self.asked: list[str] = []
        proxy = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                proxy._forward(self.rfile, self.wfile, self.request)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> ForwardProxy:
        self._context = _running(self._server)
        self._context.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._context.__exit__(None, None, None)

    def _forward(self, source, target, connection: socket.socket) -> None:  # type: ignore[no-untyped-def]
        """One request and its answer; every other byte as it came."""
        line = source.readline()
        if not line:
            return
        self.asked.append(line.decode("latin-1").strip())
        method, url, version = line.split(b" ", 2)
        if method == b"CONNECT":
            while source.readline() not in (b"\r\n", b""):
                pass
            target.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            _pump(connection, self.hosts[url.decode("latin-1")])
            return
        parts = urlsplit(url.decode("latin-1"))
        head = list(iter(source.readline, b"\r\n"))
        fields = {name.strip().lower(): value.strip() for name, _, value in (field.partition(b":") for field in head)}
        path = url.split(parts.netloc.encode(), 1)[1] or b"/"
        if b"100-continue" in fields.get(b"expect", b""):
            target.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        with socket.create_connection(self.hosts[parts.netloc], 30) as upstream:
            kept = [field for field in head if not field.lower().startswith((b"connection:", b"proxy-", b"expect:"))]
            upstream.sendall(b" ".join([method, path, version]) + b"".join(kept) + b"Connection: close\r\n\r\n")
            left = int(fields.get(b"content-length", b"0"))
            while left:
                piece = source.read(min(left, 65536))
                upstream.sendall(piece)
                left -= len(piece)
            while piece := upstream.recv(65536):
                target.write(piece)


def _pump(client: socket.socket, address: tuple[str, int]) -> None:
    """Bytes both ways, in one thread (a TLS socket is not for two), until one side has no more."""
    with socket.create_connection(address, 60) as upstream, contextlib.suppress(OSError):
        other = {client: upstream, upstream: client}
        while True:
            held = [one for one in other if isinstance(one, ssl.SSLSocket) and one.pending()]
            for one in held or select.select(list(other), [], [], 120)[0]:
                piece = one.recv(65536)
                if not piece:
                    return
                other[one].sendall(piece)


@contextlib.contextmanager
def tls_front(address: tuple[str, int], context: ssl.SSLContext) -> Iterator[tuple[str, int]]:
    """A TLS server in front of a plain one at ``address``; its own address."""

    class Handler(socketserver.StreamRequestHandler):
        def setup(self) -> None:
            self.request = context.wrap_socket(self.request, server_side=True)
            super().setup()

        def handle(self) -> None:
            _pump(self.request, address)

        def finish(self) -> None:
            super().finish()
            self.request.close()

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Connections that clients break off are none of our business."""

    server = Server(("127.0.0.1", 0), Handler)
    with _running(server):
        yield ("127.0.0.1", server.server_address[1])


def post(url: str, body: bytes, **headers: str) -> bytes:
    """POST and read the answer."""
    request = urllib.request.Request(url, body, headers, method="POST")
    with urllib.request.urlopen(request, timeout=60) as answer:
        data: bytes = answer.read()
    return data


def as_json(document: object) -> Answer:
    """A JSON document with status 200."""
    return 200, json.dumps(document).encode()
