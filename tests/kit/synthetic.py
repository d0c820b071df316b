"""An S3 server of objects that nobody stored: each is made from its key, so a bucket of millions costs nothing.

It speaks what a copy of small objects needs: list, HEAD, GET with ranges, PUT, DELETE, and questions about a bucket.
Bodies and digests are real and checked; signatures are not looked at. A bucket that is written to remembers one bit for
each object that arrived as it should be, and everything else in full. Answers may be held back by a latency; that
costs no thread, so thousands of connections are no trouble.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import socket
import sys
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote_to_bytes
from xml.sax.saxutils import escape

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from kit.processes import Family, free_ports
from kit.servers import S3Server

PREFIX, SUFFIX = b"objects/", b".bin"
DIGITS = 9
PAGE = 1_000
BORN = 1_700_000_000
"""When every object was last modified: seconds since the epoch."""
XMLNS = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
ASKED = {
    "location": f"<LocationConstraint {XMLNS}/>",
    "versioning": f"<VersioningConfiguration {XMLNS}/>",
    "uploads": f"<ListMultipartUploadsResult {XMLNS}><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>",
    "tagging": f"<Tagging {XMLNS}><TagSet/></Tagging>",
}
REASONS = {200: "OK", 204: "No Content", 206: "Partial Content"}


def body_of(number: int) -> bytes:
    """What object ``number`` holds: 1 to 64 bytes."""
    return (b"%09d" % number * 8)[: 1 + number % 64]


def key_of(number: int) -> bytes:
    """Its key; keys sort as numbers do."""
    return b"%s%09d%s" % (PREFIX, number, SUFFIX)


def _number(key: bytes) -> int:
    """The number a key belongs to, -1 for any other key."""
    digits = key[len(PREFIX) : -len(SUFFIX)]
    return int(digits) if len(digits) == DIGITS and digits.isdigit() and key == key_of(int(digits)) else -1


class Bucket:
    """Objects numbered from 0, all there or none there yet; others are kept as they came."""

    def __init__(self, objects: int, full: bool) -> None:
        self.there = bytearray((b"\x01" if full else b"\x00") * objects)
        self.others: dict[bytes, bytes] = {}
        self.types: dict[bytes, bytes] = {}
        """Headers of objects that came with others than their neighbours."""
        self.usual = b""

    def get(self, key: bytes) -> bytes | None:
        """The body."""
        number = _number(key)
        if 0 <= number < len(self.there) and self.there[number]:
            return body_of(number)
        return self.others.get(key)

    def put(self, key: bytes, body: bytes, headers: bytes) -> None:
        """Store it."""
        self.delete(key)
        number = _number(key)
        self.usual = self.usual or headers
        if headers != self.usual:
            self.types[key] = headers
        if 0 <= number < len(self.there) and body == body_of(number):
            self.there[number] = 1
        else:
            self.others[key] = body

    def delete(self, key: bytes) -> None:
        """Forget it."""
        number = _number(key)
        if 0 <= number < len(self.there):
            self.there[number] = 0
        self.others.pop(key, None)
        self.types.pop(key, None)

    def headers(self, key: bytes) -> bytes:
        """The headers it came with."""
        return self.types.get(key, self.usual)

    def after(self, key: bytes, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Keys and bodies behind a key, in byte order."""
        others = sorted(other for other in self.others if other > key and other.startswith(prefix))
        for number in self._numbers(max(key, prefix)):
            found = key_of(number)
            if found <= key:
                continue
            if not found.startswith(prefix):
                break
            while others and others[0] < found:
                yield others[0], self.others[others.pop(0)]
            yield found, body_of(number)
        yield from ((other, self.others[other]) for other in others)

    def _numbers(self, key: bytes) -> Iterator[int]:
        low, high = 0, len(self.there)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if key_of(middle) < key else (low, middle)
        while (low := self.there.find(1, low)) >= 0:
            yield low
            low += 1


class _Connection(asyncio.Protocol):
    """One client connection: requests in, answers out, in turn."""

    def __init__(self, bucket: Bucket, latency: float) -> None:
        self._bucket = bucket
        self._latency = latency
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        sock: socket.socket = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            first, *lines = self._buffer[:end].split(b"\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
            size = int(headers.get(b"content-length", b"0"))
            if len(self._buffer) < end + 4 + size:
                return
            body = self._buffer[end + 4 : end + 4 + size]
            self._buffer = self._buffer[end + 4 + size :]
            method, target, _ = first.split(b" ", 2)
            answer = Answering(self._bucket, method, headers, body).to(target)
            if self._latency:
                asyncio.get_running_loop().call_later(self._latency, self._transport.write, answer)
            else:
                self._transport.write(answer)


class Answering:
    """One request and its answer."""

    def __init__(self, bucket: Bucket, method: bytes, headers: dict[bytes, bytes], body: bytes) -> None:
        self._bucket = bucket
        self._method = method
        self._headers = headers
        self._body = body

    def to(self, target: bytes) -> bytes:
        """The whole answer."""
        path, _, query = target.partition(b"?")
        key = unquote_to_bytes(path[1:].partition(b"/")[2])
        asked = parse_qs(query.decode(), keep_blank_values=True) if query else {}
        for name, xml in ASKED.items():
            if name in asked and self._method == b"GET":
                return _reply(200, xml.encode())
        if key and not asked:
            return self._object(key)
        if key or self._method == b"POST":
            return _refusal(501, "NotImplemented")
        if self._method == b"GET" and (not asked or "list-type" in asked):
            return self._page({name: values[0] for name, values in asked.items()})
        return _reply(200) if self._method in (b"HEAD", b"PUT") else _refusal(501, "NotImplemented")

    def _object(self, key: bytes) -> bytes:
        if self._method == b"PUT":
            return self._put(key)
        if self._method == b"DELETE":
            self._bucket.delete(key)
            return _reply(204)
        body = self._bucket.get(key)
        if body is None:
            return _reply(404) if self._method == b"HEAD" else _refusal(404, "NoSuchKey")
        tag = b'"%s"' % hashlib.md5(body).hexdigest().encode()
        if self._headers.get(b"if-match", tag).strip(b'"') != tag.strip(b'"'):
            return _refusal(412, "PreconditionFailed")
        about = b"ETag: %s\r\nLast-Modified: %s\r\n%s" % (tag, _BORN, self._bucket.headers(key))
        wanted = self._headers.get(b"range", b"")
        if not wanted.startswith(b"bytes="):
            return _reply(200, body, about, hidden=self._method == b"HEAD")
        first, _, last = wanted[6:].partition(b"-")
        piece = body[int(first) : int(last) + 1 if last else None]
        about += b"Content-Range: bytes %d-%d/%d\r\n" % (int(first), int(first) + len(piece) - 1, len(body))
        return _reply(206, piece, about)

    def _put(self, key: bytes) -> bytes:
        if b"x-amz-copy-source" in self._headers:
            return _refusal(501, "NotImplemented")
        if self._headers.get(b"if-none-match") == b"*" and self._bucket.get(key) is not None:
            return _refusal(412, "PreconditionFailed")
        promised = self._headers.get(b"x-amz-content-sha256", b"UNSIGNED-PAYLOAD")
        if len(promised) == 64 and promised.decode() != hashlib.sha256(self._body).hexdigest():
            return _refusal(400, "XAmzContentSHA256Mismatch")
        kept = [name for name in self._headers if name == b"content-type" or name.startswith(b"x-amz-meta-")]
        self._bucket.put(key, self._body, b"".join(b"%s: %s\r\n" % (name, self._headers[name]) for name in kept))
        return _reply(200, about=b'ETag: "%s"\r\n' % hashlib.md5(self._body).hexdigest().encode())

    def _page(self, asked: dict[str, str]) -> bytes:
        after = asked.get("continuation-token") or asked.get("start-after") or ""
        most = min(PAGE, int(asked.get("max-keys", PAGE)))
        found = []
        more = last = ""
        for key, body in self._bucket.after(after.encode("utf-8", "surrogateescape"), asked.get("prefix", "").encode()):
            if len(found) == most:
                more = f"<NextContinuationToken>{escape(last)}</NextContinuationToken>"
                break
            last = key.decode("utf-8", "surrogateescape")
            tag = hashlib.md5(body).hexdigest()
            found.append(
                f"<Contents><Key>{quote(key)}</Key><LastModified>2023-11-14T22:13:20.000Z</LastModified>"
                f"<ETag>&quot;{tag}&quot;</ETag><Size>{len(body)}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            )
        head = f"<IsTruncated>{str(bool(more)).lower()}</IsTruncated><EncodingType>url</EncodingType>"
        head += f"<KeyCount>{len(found)}</KeyCount><MaxKeys>{most}</MaxKeys>{more}"
        return _reply(200, f"<ListBucketResult {XMLNS}>{head}{''.join(found)}</ListBucketResult>".encode())


_BORN = formatdate(BORN, usegmt=True).encode()


def _reply(status: int, body: bytes = b"", about: bytes = b"", *, hidden: bool = False) -> bytes:
    reason = REASONS.get(status, "Refused")
    size = b"" if status == 204 else b"Content-Length: %d\r\n" % len(body)
    head = b"HTTP/1.1 %d %s\r\nServer: AmazonS3\r\n%s%s\r\n" % (status, reason.encode(), size, about)
    return head if hidden else head + body


def _refusal(status: int, code: str) -> bytes:
    return _reply(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode())


def start(objects: int, *, full: bool, latency: float = 0.0, name: str = "synthetic") -> S3Server:
    """A server in a process of its own, whose only bucket (under any name) holds ``objects`` or none of them yet."""
    family, port = Family(name), free_ports(1)
    options = ("--port", str(port), "--objects", str(objects), "--latency", str(latency), *["--full"] * full)
    family.start(name, sys.executable, str(Path(__file__).resolve()), *options)
    family.wait(lambda: socket.create_connection(("127.0.0.1", port)).close(), 60)
    return S3Server(name, f"http://127.0.0.1:{port}", "anykey", "anysecret", family=family)


async def _serve(options: argparse.Namespace) -> None:
    bucket = Bucket(options.objects, options.full)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: _Connection(bucket, options.latency), "127.0.0.1", options.port, backlog=1024
    )
    await server.serve_forever()


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--full", action="store_true", help="all objects are there from the beginning")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds that every answer is held back")
    asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
