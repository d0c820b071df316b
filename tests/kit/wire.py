"""Just enough HTTP/1.1 to cut a byte stream into requests and answers without changing a byte."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import parse_qsl

LIST_PARAMETERS = {
    *("list-type", "prefix", "delimiter", "marker", "max-keys", "encoding-type"),
    *("start-after", "continuation-token", "fetch-owner", "x-id"),
}


class Ended(OSError):
    """The peer closed in the middle of a message."""


class Stream:
    """A socket read with a buffer of our own, so that `select` and the buffer can be asked separately."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = b""

    def until(self, mark: bytes) -> bytes:
        """Bytes up to and including ``mark``; b"" when the peer closed before the first byte."""
        while mark not in self.buffer:
            more = self.sock.recv(65536)
            if not more and self.buffer:
                raise Ended("closed in the middle of a message")
            if not more:
                return b""
            self.buffer += more
        end = self.buffer.index(mark) + len(mark)
        head, self.buffer = self.buffer[:end], self.buffer[end:]
        return head

    def some(self, limit: int) -> bytes:
        """At least one byte, at most ``limit``; b"" at the end."""
        data = self.buffer or self.sock.recv(min(limit, 262_144))
        self.buffer = data[limit:]
        return data[:limit]

    def reset(self) -> None:
        """Close so that the peer sees a reset, not an end."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


@dataclass(frozen=True)
class Head:
    """First line and headers of a message, with the bytes they came in."""

    raw: bytes
    start: tuple[str, str, str]
    headers: dict[str, str]

    @classmethod
    def read(cls, stream: Stream) -> Head | None:
        """The next head of a stream; None when the peer is done."""
        raw = stream.until(b"\r\n\r\n")
        if not raw:
            return None
        first, *lines = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
        one, two, three = (*first.split(" ", 2), "", "")[:3]
        pairs = (line.partition(":") for line in lines)
        return cls(raw, (one, two, three), {name.strip().lower(): value.strip() for name, _, value in pairs})

    @property
    def chunked(self) -> bool:
        """Whether the body is framed in chunks."""
        return "chunked" in self.headers.get("transfer-encoding", "").lower()


@dataclass(frozen=True)
class Request(Head):
    """What a client asked for, sorted into the kinds of requests an S3 client makes."""

    @property
    def method(self) -> str:
        """The verb."""
        return self.start[0]

    @property
    def target(self) -> str:
        """Path and query as sent."""
        return self.start[1]

    @property
    def kind(self) -> str:
        """One of list, versions, uploads, bucket; get, head, put, copy, delete; create, part, complete, abort, parts;
        tagging, other.
        """
        path, _, query = self.target.partition("?")
        asked = {name for name, _ in parse_qsl(query, keep_blank_values=True)}
        segments = path.split("/", 2)
        return self._object(asked) if len(segments) > 2 and segments[2] else self._bucket(asked)

    def _bucket(self, asked: set[str]) -> str:
        if self.method == "POST" and "delete" in asked:
            return "delete"
        if self.method != "GET" or len(self.target) < 2:
            return "bucket"
        named = asked & {"versions", "uploads"}
        return named.pop() if named else "list" if asked <= LIST_PARAMETERS else "bucket"

    def _object(self, asked: set[str]) -> str:
        if "uploadId" in asked:
            return {"PUT": "part", "POST": "complete", "DELETE": "abort", "GET": "parts"}.get(self.method, "other")
        if "uploads" in asked:
            return "create"
        if asked & {"tagging", "acl", "retention", "legal-hold", "attributes"}:
            return "tagging" if "tagging" in asked else "other"
        if self.method == "PUT" and "x-amz-copy-source" in self.headers:
            return "copy"
        return {"GET": "get", "HEAD": "head", "PUT": "put", "DELETE": "delete"}.get(self.method, "other")


def request_pieces(request: Head, stream: Stream) -> Iterator[tuple[bytes, bool]]:
    """The body of a request: raw bytes, and whether they are payload (framing is not)."""
    if request.chunked:
        return _chunks(stream)
    return _counted(stream, int(request.headers.get("content-length", "0")))


def answer_pieces(method: str, answer: Head, stream: Stream) -> Iterator[tuple[bytes, bool]]:
    """The body of an answer, in the same form."""
    status = int(answer.start[1])
    if method == "HEAD" or status in (204, 304) or status < 200:
        return iter(())
    if answer.chunked:
        return _chunks(stream)
    if "content-length" in answer.headers:
        return _counted(stream, int(answer.headers["content-length"]))
    return _to_the_end(stream)


def _counted(stream: Stream, length: int) -> Iterator[tuple[bytes, bool]]:
    while length:
        data = stream.some(length)
        if not data:
            raise Ended(f"{length} bytes missing")
        length -= len(data)
        yield data, True


def _chunks(stream: Stream) -> Iterator[tuple[bytes, bool]]:
    while True:
        line = stream.until(b"\r\n")
        if not line:
            raise Ended("no last chunk")
        yield line, False
        size = int(line.split(b";")[0], 16)
        if not size:
            break
        yield from _counted(stream, size)
        yield stream.until(b"\r\n"), False
    while True:  # trailers end with an empty line
        line = stream.until(b"\r\n")
        yield line, False
        if line in (b"\r\n", b""):
            return


def _to_the_end(stream: Stream) -> Iterator[tuple[bytes, bool]]:
    while data := stream.some(262_144):
        yield data, True
