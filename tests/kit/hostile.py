"""An S3 server that means harm: it answers listings and reads with whatever a test wants, and counts the requests."""

from __future__ import annotations

import http.server
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, quote, unquote, urlsplit

ENDLESS = -1


@dataclass(frozen=True)
class Answer:
    """An answer to send. ``length``: the Content-Length to claim; None: the true one; `ENDLESS`: chunked."""

    body: bytes | Iterable[bytes] = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    length: int | None = None


Query = Mapping[str, str]
Lists = Callable[[Query], Answer]
Reads = Callable[[str, Mapping[str, str]], Answer]


class HostileServer:
    """Context manager. ``lists`` answers a listing from its query, ``reads`` a GET or HEAD from key and headers."""

    def __init__(self, lists: Lists, reads: Reads | None = None) -> None:
        self.lists = lists
        self.reads = reads or (lambda key, headers: Answer(status=404))
        self.counts: Counter[str] = Counter()
        owner = self

        class Handler(_Handler):
            server_owner = owner

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign,assignment]  # clients hang up here
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def provider_toml(self, name: str = "evil", *lines: str) -> str:
        """A provider table for it."""
        table = f'[providers.{name}]\ntype = "s3"\nendpoint = "{self.endpoint}"\naddressing = "path"\n'
        return table + 'access_key_id = "env:EVIL_KEY"\nsecret_access_key = "env:EVIL_KEY"\n' + "\n".join(lines) + "\n"

    def __enter__(self) -> HostileServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_owner: HostileServer
    wbufsize = 2**16  # head and body in one packet

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        _, _, key = url.path.lstrip("/").partition("/")
        if not key:
            self.server_owner.counts["list"] += 1
            self._send(self.server_owner.lists(query))
        elif "tagging" in query:
            self._send(Answer(b"<Tagging><TagSet></TagSet></Tagging>"))
        else:
            self.server_owner.counts["get"] += 1
            self._send(self.server_owner.reads(unquote(key), self.headers))

    do_HEAD = do_GET

    def _send(self, answer: Answer) -> None:
        body = answer.body
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.length == ENDLESS:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for piece in body if not isinstance(body, bytes) else (body,):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
            return
        assert isinstance(body, bytes)
        self.send_header("Content-Length", str(len(body) if answer.length is None else answer.length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        if answer.length not in (None, len(body)):
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Quiet."""


def item(key: str, size: object = 3, etag: str = "900150983cd24fb0d6963f7d28e17f72", more: str = "") -> str:
    """A listed object; its ETag is the MD5 of ``abc``."""
    modified = "<LastModified>2026-01-01T00:00:00.000Z</LastModified>"
    name = f"<Key>{quote(key, safe='/')}</Key>"
    return f"<Contents>{name}{modified}<ETag>&quot;{etag}&quot;</ETag><Size>{size}</Size>{more}</Contents>"


def page(*items: str, token: str = "", truncated: str = "", head: str = "") -> Answer:
    """A page of a listing, in encoding-type=url; truncated when it has a token."""
    more = f"<NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    flag = f"<IsTruncated>{truncated or ('true' if token else 'false')}</IsTruncated>"
    inner = f"<EncodingType>url</EncodingType><KeyCount>{len(items)}</KeyCount>{flag}{more}{''.join(items)}"
    text = f'<?xml version="1.0" encoding="UTF-8"?>{head}<ListBucketResult>{inner}</ListBucketResult>'
    return Answer(text.encode(), headers={"Content-Type": "application/xml"})


def abc(key: str, headers: Mapping[str, str]) -> Answer:
    """Every object is ``abc``."""
    return Answer(b"abc", headers={"ETag": '"900150983cd24fb0d6963f7d28e17f72"'})
