"""One request over libcurl: signed by libcurl (AWS Signature Version 4), answered as bytes, nothing interpreted.

A handle a thread keeps its connection alive. libcurl never follows redirects, never decodes a body, and sends no
header that was not asked for. https://curl.se/libcurl/c/CURLOPT_AWS_SIGV4.html
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pycurl

from portabl_adapters.s3.address import Address
from portabl_adapters.s3.bodies import Sink

EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
CONNECT_SECONDS = 10
STALL_SECONDS = 30
SMALL = 256 * 2**10
"""Bodies up to this size are collected in pieces; larger ones go straight into a buffer of the right size."""
ANSWER_BYTES_MAX = 16 * 2**20
"""No listing page or error is larger; a whole small object is at most `SMALL`."""

_BUFFER = 64 * 1024
"""What libcurl takes in and gives out at a time. Larger buffers fall out of the processor's caches: 512 KiB cost a
seventh more CPU for large objects (measured), and memory with every connection.
"""
Header = str | bytes
_E_OR_X = frozenset(b"eExX")
_SILENCED = ("Accept:", "Expect:")
_NOT_ARRIVED = frozenset({pycurl.E_COULDNT_RESOLVE_HOST, pycurl.E_COULDNT_RESOLVE_PROXY, pycurl.E_COULDNT_CONNECT})
_TLS = frozenset(
    {pycurl.E_SSL_CACERT, pycurl.E_PEER_FAILED_VERIFICATION, pycurl.E_SSL_CACERT_BADFILE, pycurl.E_SSL_ISSUER_ERROR}
)
_BOUNDED = pycurl.version_info()[2] >= 0x080400
"""Whether MAXFILESIZE ends a body whose length was not said before (CURLOPT_MAXFILESIZE_LARGE(3))."""
_HOPELESS = _TLS | {
    pycurl.E_URL_MALFORMAT,
    pycurl.E_UNSUPPORTED_PROTOCOL,
    pycurl.E_NOT_BUILT_IN,
    pycurl.E_BAD_FUNCTION_ARGUMENT,
}


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """Credentials at one moment. No repr: they must not be printed by accident."""

    access: str
    secret: str
    token: str = ""

    def same(self, other: Keys) -> bool:
        """Whether these are the same credentials."""
        return (self.access, self.secret, self.token) == (other.access, other.secret, other.token)


class Lost(Exception):
    """No whole answer. ``arrived``: the request may have been carried out. ``hopeless``: trying again cannot help."""

    def __init__(self, code: int, text: str, *, timeout: bool = False) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.timeout = timeout
        self.arrived = code not in _NOT_ARRIVED
        self.hopeless = code in _HOPELESS
        self.tls = code in _TLS
        self.too_large = code == pycurl.E_FILESIZE_EXCEEDED


class Answer:
    """Status, headers and body as they came."""

    __slots__ = ("_headers", "body", "lines", "status")

    def __init__(self, status: int, lines: list[bytes], body: bytes | memoryview) -> None:
        self.status = status
        self.lines = lines
        self.body = body
        self._headers: dict[bytes, bytes] | None = None

    @property
    def headers(self) -> dict[bytes, bytes]:
        """Lower-case names, values as bytes, duplicates joined by a comma; parsed at first use."""
        if self._headers is None:
            self._headers = parse_headers(self.lines)
        return self._headers

    @property
    def identity(self) -> tuple[str, str]:
        """(ETag without quotes, version id), each "" when absent; found without parsing the rest."""
        etag = version = b""
        for line in self.lines:
            if line[0] not in _E_OR_X:
                continue
            if line[:5].lower() == b"etag:":
                etag = line[5:]
            elif line[:17].lower() == b"x-amz-version-id:":
                version = line[17:]
        return etag.strip(b' "\r\n').decode("utf-8", "surrogateescape"), version.strip().decode(
            "utf-8", "surrogateescape"
        )

    def text(self, name: bytes) -> str:
        """One header as text (UTF-8, surrogateescape), "" when it is absent."""
        return self.headers.get(name, b"").decode("utf-8", "surrogateescape")


def parse_headers(lines: Sequence[bytes]) -> dict[bytes, bytes]:
    """Header lines of the last answer among ``lines`` (an interim 1xx answer comes before it)."""
    found = {(cut := line.partition(b":"))[0].lower(): cut[2].strip() for line in lines}
    if len(found) == len(lines) and lines[0][9:10] != b"1":
        return found
    return _parse_slowly(lines)


def _parse_slowly(lines: Sequence[bytes]) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if colon:
            name = name.lower()
            value = value.strip(b" \t\r\n")
            found[name] = found[name] + b"," + value if name in found else value
        elif line.startswith(b"HTTP/"):
            found.clear()
    return found


class _Source:
    """Hands a large body to libcurl slice by slice, without a copy of the whole."""

    def __init__(self, body: bytes | memoryview) -> None:
        self._view = memoryview(body)
        self._at = 0

    def read(self, count: int) -> memoryview:
        """The next ``count`` bytes."""
        piece = self._view[self._at : self._at + count]
        self._at += len(piece)
        return piece


class Transport(Protocol):
    """One request, one answer. Raises Lost."""

    def send(
        self,
        method: str,
        url: str,
        headers: Sequence[Header],
        body: bytes | memoryview,
        sha256: str,
        keys: Keys,
        sink: Sink | None,
    ) -> Answer:
        """Send and receive. ``sha256``: hex digest of ``body``, sent and signed as x-amz-content-sha256."""
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...


def lost(code: int, text: str) -> Lost:
    """What an error of libcurl stands for."""
    if code == pycurl.E_ABORTED_BY_CALLBACK:
        text = "the connection was closed before an answer came"
    return Lost(code, text, timeout=code == pycurl.E_OPERATION_TIMEDOUT)


class CurlHandle:
    """libcurl with one live connection, for one thread."""

    def __init__(self, address: Address, stall_seconds: int = STALL_SECONDS) -> None:
        self._lines: list[bytes] = []
        self._chunks: list[bytes] = []
        self._method = ""
        self._keys: Keys | None = None
        self._starts = 0
        self._plain = True
        self.curl = curl = pycurl.Curl()
        for option, value in _fixed_options(address, stall_seconds):
            curl.setopt(option, value)
        curl.setopt(pycurl.HEADERFUNCTION, self._lines.append)
        curl.setopt(pycurl.WRITEFUNCTION, self._chunks.append)

    def send(
        self,
        method: str,
        url: str,
        headers: Sequence[Header],
        body: bytes | memoryview,
        sha256: str,
        keys: Keys,
        sink: Sink | None,
    ) -> Answer:
        """One request, one answer. Raises Lost."""
        if len(body) > SMALL:
            self._prepare(method, url, headers, sha256, keys)
            return self._upload(body)
        self.begin(method, url, headers, body, sha256, keys)
        try:
            return self._perform(sink)
        finally:
            if sink is not None:  # what arrived belongs to the caller alone
                self.curl.setopt(pycurl.WRITEFUNCTION, self._chunks.append)

    def begin(
        self, method: str, url: str, headers: Sequence[Header], body: bytes | memoryview, sha256: str, keys: Keys
    ) -> None:
        """Have libcurl ready for a request with a small body and a small answer; `end` takes the answer."""
        self._prepare(method, url, headers, sha256, keys)
        if method in ("PUT", "POST"):
            self.curl.setopt(pycurl.POSTFIELDS, body if isinstance(body, bytes) else bytes(body))
        self._lines.clear()
        self._chunks.clear()

    def end(self) -> Answer:
        """What came back for `begin`, once libcurl is done with it."""
        chunks = self._chunks
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        return Answer(self.curl.getinfo(pycurl.RESPONSE_CODE), self._lines.copy(), body)

    def _prepare(self, method: str, url: str, headers: Sequence[Header], sha256: str, keys: Keys) -> None:
        curl = self.curl
        self._starts = 0
        if keys is not self._keys:
            self._take_keys(keys)
        if method != self._method:
            self._aim(method)
        lines = [*_SILENCED, f"x-amz-content-sha256: {sha256}", *headers]
        if keys.token:
            lines.append(f"x-amz-security-token: {keys.token}")
        curl.setopt(pycurl.URL, url)
        curl.setopt(pycurl.HTTPHEADER, lines)

    def _upload(self, body: bytes | memoryview) -> Answer:
        """A PUT of a large body; nothing of it stays with the connection."""
        curl = self.curl
        curl.setopt(pycurl.UPLOAD, 1)
        curl.setopt(pycurl.INFILESIZE_LARGE, len(body))
        curl.setopt(pycurl.READFUNCTION, _Source(body).read)
        try:
            return self._perform(None)
        finally:
            curl.unsetopt(pycurl.READFUNCTION)
            curl.setopt(pycurl.UPLOAD, 0)
            self._method = ""  # the next request is aimed anew

    def _perform(self, sink: Sink | None) -> Answer:
        quickly = sink is not None and _BOUNDED
        self._receive(sink, quickly=quickly)
        code, text = self._carry_out()
        if sink is not None and quickly and code == pycurl.E_FILESIZE_EXCEEDED:  # to be looked at piece by piece
            quickly = False
            self._receive(sink, quickly=quickly)
            code, text = self._carry_out()
        if code and not (sink and sink.over and code == pycurl.E_WRITE_ERROR):
            raise lost(code, text)
        answer = self.end()
        if sink is not None:
            if quickly:
                sink.sort()
            answer.body = sink.body
        return answer

    def _carry_out(self) -> tuple[int, str]:
        """libcurl's error code and words, (0, "") when all went well."""
        try:
            self.curl.perform()
        except pycurl.error as error:
            arguments: tuple[object, ...] = error.args
            return int(str(arguments[0])), str(arguments[-1])
        return 0, ""

    def _receive(self, sink: Sink | None, *, quickly: bool) -> None:
        curl = self.curl
        self._lines.clear()
        self._chunks.clear()
        if sink is not None:
            sink.attach(self._lines)
            curl.setopt(pycurl.WRITEFUNCTION, sink.quick if quickly else sink.write, use_memoryview=True)
            curl.setopt(pycurl.MAXFILESIZE_LARGE, sink.want if quickly else 0)
            self._plain = False
        elif not self._plain:
            curl.setopt(pycurl.WRITEFUNCTION, self._chunks.append)
            self._bound(self._method)
            self._plain = True

    def _bound(self, method: str) -> None:
        """A bound on the answer; libcurl also holds it against the length in a HEAD, whose body never comes."""
        self.curl.setopt(pycurl.MAXFILESIZE_LARGE, 0 if method == "HEAD" else ANSWER_BYTES_MAX)

    def _before_request(self, *_: object) -> int:
        """libcurl repeats a request whose kept-alive connection breaks: right for reading only."""
        self._starts += 1
        if self._starts > 1 and self._method in ("PUT", "POST"):
            return int(pycurl.PREREQFUNC_ABORT)
        return int(pycurl.PREREQFUNC_OK)

    def _take_keys(self, keys: Keys) -> None:
        self.curl.setopt(pycurl.USERNAME, keys.access.encode())
        self.curl.setopt(pycurl.PASSWORD, keys.secret.encode())
        self._keys = keys

    def _aim(self, method: str) -> None:
        curl = self.curl
        curl.unsetopt(pycurl.CUSTOMREQUEST)
        curl.setopt(pycurl.NOBODY, 0)
        if method in ("PUT", "POST"):
            curl.setopt(pycurl.POST, 1)
            curl.setopt(pycurl.PREREQFUNCTION, self._before_request)
        else:
            curl.setopt(pycurl.HTTPGET, 1)
        if method == "HEAD":
            curl.setopt(pycurl.NOBODY, 1)
        elif method not in ("GET", "POST"):
            curl.setopt(pycurl.CUSTOMREQUEST, method)
        if self._plain:
            self._bound(method)
        self._method = method

    def close(self) -> None:
        """Close the connection and forget the credentials."""
        with contextlib.suppress(
            pycurl.error
        ):  # a request is under way in its thread: the handle dies with that thread
            self.curl.close()
        self._keys = None


def _fixed_options(address: Address, stall_seconds: int) -> list[tuple[int, object]]:
    options: list[tuple[int, object]] = [
        (pycurl.AWS_SIGV4, f"aws:amz:{address.region}:s3"),
        (pycurl.NOSIGNAL, 1),
        (pycurl.TCP_NODELAY, 1),
        (pycurl.TCP_KEEPALIVE, 1),
        (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
        (pycurl.FOLLOWLOCATION, 0),
        (pycurl.CONNECTTIMEOUT, CONNECT_SECONDS),
        (pycurl.LOW_SPEED_LIMIT, 1),
        (pycurl.LOW_SPEED_TIME, stall_seconds),
        (pycurl.BUFFERSIZE, _BUFFER),
        (pycurl.UPLOAD_BUFFERSIZE, _BUFFER),
        (pycurl.MAXFILESIZE_LARGE, ANSWER_BYTES_MAX),
        (pycurl.USERAGENT, "portabl"),
        (pycurl.SSL_VERIFYPEER, 0 if address.insecure else 1),
        (pycurl.SSL_VERIFYHOST, 0 if address.insecure else 2),
    ]
    if address.ca_bundle:
        options.append((pycurl.CAINFO, address.ca_bundle))
    return options
