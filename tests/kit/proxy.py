"""A proxy in front of an S3 server that changes nothing, until it is told to break something.

It forwards bytes as they came, the Host header included, so signatures made for the proxy's address still hold::

    with FaultProxy(server.endpoint) as proxy:
        proxy.add(Fault("status", kind="put", status=503, share=0.3))
        proxy.add(Fault("cut", kind="get", after=100_000, times=1))
        ... use proxy.endpoint ...
        assert proxy.counts["put"] == 17
"""

from __future__ import annotations

import contextlib
import random
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from kit.wire import Ended, Head, Request, Stream, answer_pieces, request_pieces

CODES = {500: "InternalError", 503: "SlowDown", 429: "TooManyRequests", 403: "AccessDenied", 404: "NoSuchKey"}
CODES |= {200: "InternalError", 400: "InvalidRequest", 412: "PreconditionFailed", 507: "InsufficientStorage"}


@dataclass
class Fault:
    """One thing that goes wrong.

    ``action``:

    * "status": answer ``status`` with an S3 error document instead of asking the server; ``status=200`` with
      ``kind="complete"`` is the completion that fails in the body. With ``committed`` the server does get the request.
    * "cut": end the connection after ``after`` bytes of the body, of the answer or, with ``up``, of the request;
      a reset, or with ``gently`` an orderly end.
    * "lose": deliver the request and wait for the whole answer, then end the connection without giving it.
    * "delay": wait ``seconds``, then go on as usual, but with bodies no faster than ``rate`` bytes a second (0: as fast
      as they come), in each direction by itself.  "stall": after ``after`` bytes of the answer say nothing more.
    * "down": from this request on refuse every connection, until `FaultProxy.mend`.
    * "behead": end the connection, by a reset, in the middle of the answer's headers.
    * "call": call ``call()``, then go on as usual. With ``alone`` every request under way is answered before, and new
      ones wait until it is done.
    * "flip": invert one bit of the byte at ``after`` of the answer's body or, with ``up``, of the request's.
    * "rewrite": answer with ``rewrite(body)`` instead of the server's body.

    Which requests: those of ``kind`` (`Request.kind`; "" is any) for which ``match`` is true, not counting the first
    ``skip``, at most ``times`` (None: for ever), each with probability ``share`` (seeded: the same in every run).
    """

    action: str
    kind: str = ""
    match: Callable[[Request], bool] = lambda _: True
    skip: int = 0
    times: int | None = None
    share: float = 1.0
    status: int = 503
    code: str = ""
    committed: bool = False
    after: int = 0
    up: bool = False
    gently: bool = False
    seconds: float = 0.0
    rate: float = 0.0
    rewrite: Callable[[bytes], bytes] = bytes
    call: Callable[[], object] = lambda: None
    alone: bool = False
    headers: str = ""
    fired: int = 0
    _seen: int = 0
    _dice: random.Random = field(default_factory=lambda: random.Random(4711), repr=False)

    def strikes(self, request: Request) -> bool:
        """Whether this request is to fail; call under a lock, once for each request."""
        if (self.kind and request.kind != self.kind) or not self.match(request):
            return False
        self._seen += 1
        if self._seen <= self.skip or (self.times is not None and self.fired >= self.times):
            return False
        if self._dice.random() >= self.share:
            return False
        self.fired += 1
        return True


class FaultProxy:
    """A listening proxy; use as a context manager. ``counts`` is by kind of request, ``requests`` are their heads."""

    def __init__(self, upstream: str) -> None:
        address = urlsplit(upstream)
        self._upstream = (address.hostname or "127.0.0.1", address.port or 80)
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)  # an exchange or a call ended
        self._reserved = False  # for a call that wants to be alone
        self._closing = threading.Event()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._faults: list[Fault] = []
        self.counts: Counter[str] = Counter()
        self.requests: list[Request] = []
        self.under_way = self.under_way_max = 0
        self._is_down = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"

    def add(self, fault: Fault) -> Fault:
        """Let ``fault`` happen from now on; the first of the added ones that strikes decides."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Everything works again."""
        with self._lock:
            self._faults.clear()

    def mend(self) -> None:
        """Everything works again, and the counts begin anew."""
        self.clear()
        with self._lock:
            down, self._is_down = self._is_down, False
            self.counts.clear()
            self.requests.clear()
        if down:
            self.up()

    def _go_down(self) -> None:
        with self._lock:
            first, self._is_down = not self._is_down, True
        if first:
            self.down()

    def down(self) -> None:
        """Refuse connections and reset the open ones, until `up`."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        with self._lock:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def up(self) -> None:
        """Listen again, on the same port."""
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=256)
        self._accept_in_background()

    def __enter__(self) -> FaultProxy:
        self._accept_in_background()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        with contextlib.suppress(OSError):  # it may be down
            self.down()
        for thread in self._threads:
            thread.join(timeout=10)

    def _accept_in_background(self) -> None:
        self._acceptor = threading.Thread(target=self._accept, args=(self._listener,), daemon=True)
        self._acceptor.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:  # closed by down()
                return
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads = [t for t in self._threads if t.is_alive()] + [thread]
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        """One client connection: exchange after exchange over one connection upstream."""
        with contextlib.suppress(OSError), client, socket.create_connection(self._upstream) as server:
            with self._lock:
                self._open |= {client, server}
            try:
                for sock in (client, server):
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                exchange = _Exchange(Stream(client), Stream(server), self._closing)
                while not self._closing.is_set() and self._one(exchange):
                    pass
            finally:
                with self._lock:
                    self._open -= {client, server}

    def _one(self, exchange: _Exchange) -> bool:
        head = Request.read(exchange.client)
        if not isinstance(head, Request):
            return False
        with self._lock:
            self._changed.wait_for(lambda: not self._reserved)
            self.counts[head.kind] += 1
            self.requests.append(head)
            fault = next((f for f in self._faults if f.strikes(head)), None)
            self.under_way += 1
            self.under_way_max = max(self.under_way, self.under_way_max)
        try:
            if fault and fault.action == "down":
                self._go_down()
                return False
            if fault and fault.action == "call":
                self._call(fault)
            return exchange.run(head, fault)
        finally:
            with self._lock:
                self.under_way -= 1
                self._changed.notify_all()

    def _call(self, fault: Fault) -> None:
        if fault.alone:
            with self._lock:
                self._reserved = True
                self._changed.wait_for(lambda: self.under_way == 1)
        try:
            fault.call()
        finally:
            with self._lock:
                self._reserved = False
                self._changed.notify_all()


class _Exchange:
    """Carries one request up and its answer down, or does it wrong as told."""

    def __init__(self, client: Stream, server: Stream, closing: threading.Event) -> None:
        self.client = client
        self.server = server
        self.closing = closing

    def run(self, request: Request, fault: Fault | None) -> bool:
        """True when the connection can carry another exchange."""
        action = fault.action if fault else ""
        if fault and action == "delay":
            self.closing.wait(fault.seconds)
        if fault and action == "status" and not fault.committed:
            return self._answer_ourselves(request, fault)
        if not self._send(request, fault):
            return False
        answer = self._head(quiet=action in ("status", "lose"))
        if answer is None:
            return False
        pieces = answer_pieces(request.method, answer, self.server)
        if fault and action in ("status", "lose", "rewrite"):
            body = b"".join(raw for raw, payload in pieces if payload)
            return self._instead(request, fault, answer, body)
        return self._down(answer, pieces, fault)

    def _send(self, request: Request, fault: Fault | None) -> bool:
        """The request to the server; False when the exchange ended there."""
        self.server.sock.sendall(request.raw)
        if "expect" in request.headers and self._refused_before_body():
            return False
        up = fault if fault and fault.up else None
        pieces = request_pieces(request, self.client)
        for data in _spoiled(_paced(pieces, fault), up):
            if data is None and up:
                self._end(up)
                return False
            try:
                self.server.sock.sendall(data or b"")
            except OSError:  # it answered early and closed: its answer is still to be read
                return True
        return True

    def _refused_before_body(self) -> bool:
        """Wait for "100 Continue", or for a client that does not wait; True when the server refused instead."""
        waiting = [self.client.sock, self.server.sock]
        if self.client.buffer or self.server.sock not in select.select(waiting, [], [], 5)[0]:
            return False
        head = Head.read(self.server)
        if head is None:
            return True
        self.client.sock.sendall(head.raw)
        if head.start[1] == "100":
            return False
        for raw, _ in answer_pieces("PUT", head, self.server):
            self.client.sock.sendall(raw)
        return True

    def _head(self, *, quiet: bool) -> Head | None:
        """The final head; interim ones are passed on."""
        while (head := Head.read(self.server)) and head.start[1].startswith("1"):
            if not quiet:
                self.client.sock.sendall(head.raw)
        return head

    def _down(self, answer: Head, pieces: Iterator[tuple[bytes, bool]], fault: Fault | None) -> bool:
        down = fault if fault and not fault.up else None
        if down and down.action == "stall" and not down.after:
            return self._stall()
        if down and down.action == "behead":
            self.client.sock.sendall(answer.raw[: len(answer.raw) // 2])
            return self._end(down)
        self.client.sock.sendall(answer.raw)
        for data in _spoiled(_paced(pieces, fault), down):
            if data is None and down:
                return self._stall() if down.action == "stall" else self._end(down)
            self.client.sock.sendall(data or b"")
        return answer.headers.get("connection", "").lower() != "close"

    def _instead(self, request: Request, fault: Fault, answer: Head, body: bytes) -> bool:
        if fault.action == "lose":
            return self._end(fault)
        if fault.action == "status":
            return self._error(request, fault)
        body = fault.rewrite(body)
        drop = (b"content-length:", b"transfer-encoding:")
        lines = [line for line in answer.raw.rstrip(b"\r\n").split(b"\r\n") if not line.lower().startswith(drop)]
        head = b"\r\n".join([*lines, b"Content-Length: %d" % len(body)])
        self.client.sock.sendall(head + b"\r\n\r\n" + body)
        return True

    def _answer_ourselves(self, request: Request, fault: Fault) -> bool:
        if "expect" in request.headers and not self.client.buffer:
            self._error(request, fault, close=True)  # the body was never asked for
            return False
        for _ in request_pieces(request, self.client):
            pass
        return self._error(request, fault)

    def _error(self, request: Request, fault: Fault, *, close: bool = False) -> bool:
        code = fault.code or CODES.get(fault.status, "Injected")
        body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>injected</Message></Error>'
        lines = [f"HTTP/1.1 {fault.status} Injected", "Content-Type: application/xml", f"Content-Length: {len(body)}"]
        lines += ["Connection: close"] * close + [line for line in fault.headers.splitlines() if line]
        text = "\r\n".join(lines) + "\r\n\r\n" + ("" if request.method == "HEAD" else body)
        self.client.sock.sendall(text.encode())
        return not close

    def _stall(self) -> bool:
        while not self.closing.wait(0.05):
            readable, _, _ = select.select([self.client.sock], [], [], 0)
            if readable and not self.client.sock.recv(1, socket.MSG_PEEK):
                break
        return False

    def _end(self, fault: Fault) -> bool:
        if not fault.gently:
            self.client.reset()
        return False


def _paced(pieces: Iterator[tuple[bytes, bool]], fault: Fault | None) -> Iterator[tuple[bytes, bool]]:
    """The same pieces, no faster than a fault says."""
    began, size = time.monotonic(), 0
    for raw, payload in pieces:
        yield raw, payload
        size += len(raw)
        if fault and fault.rate:
            time.sleep(max(0.0, began + size / fault.rate - time.monotonic()))


def _spoiled(pieces: Iterator[tuple[bytes, bool]], fault: Fault | None) -> Iterator[bytes | None]:
    """The raw pieces of a body, with one bit flipped; None where it is to end or to stop."""
    action, position = (fault.action, fault.after) if fault else ("", 0)
    for raw, payload in pieces:
        if not payload or action not in ("flip", "cut", "stall"):
            yield raw
            continue
        if position >= len(raw):
            position -= len(raw)
            yield raw
            continue
        if action != "flip":
            yield raw[:position]
            yield None
            return
        yield raw[:position] + bytes([raw[position] ^ 0x01]) + raw[position + 1 :]
        action = ""
    if action in ("cut", "stall"):
        yield None  # the body was shorter: end behind it


__all__ = ["Ended", "Fault", "FaultProxy", "Request"]
