"""Requests that survive trouble: retries, credentials renewed, pace kept, errors in portabl's words.

Limits: `ATTEMPTS` tries a request; waits of 0.2 s doubling to at most 10 s, with jitter, or what Retry-After says up
to 30 s; 10 s to connect; ``stall_seconds`` (30) without a byte ends a try. Answers 429, 500, 502, 503, 504 and
RequestTimeout are tried again; all else is an answer.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from portabl.errors import (
    AccessDenied,
    Changed,
    ConfigError,
    ContainerMissing,
    CredentialsRefused,
    ListingBroken,
    NotFound,
    PortablError,
    Refused,
    StorageError,
    Throttled,
    Unreachable,
)
from portabl.throttle import Pacer, wait
from portabl_adapters.s3 import replies
from portabl_adapters.s3.address import Address, has_dot_segment
from portabl_adapters.s3.bodies import ROOM_BYTES, Rooms, Sink
from portabl_adapters.s3.control import BotoHandle, Credentials, libcurl_signs
from portabl_adapters.s3.pace import Pace
from portabl_adapters.s3.wire import (
    EMPTY_SHA256,
    Answer,
    CurlHandle,
    Header,
    Keys,
    Lost,
    Transport,
)

ATTEMPTS = 8
WAIT_FIRST_SECONDS = 0.1
WAIT_MOST_SECONDS = 10.0
RETRY_AFTER_MOST_SECONDS = 30.0
_AGAIN = frozenset({429, 500, 502, 503, 504})
_SLOW_DOWN = frozenset({429, 503})
_EXPIRED = frozenset(
    {"ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired", "RequestExpired"}
)
_CREDENTIALS = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthorizationHeaderMalformed"}) | _EXPIRED
_PERHAPS_ONE_KEY = frozenset({"SignatureDoesNotMatch"})
"""A proxy or a server that reads a strange key in another way refuses the signature of that key alone."""


class Request:
    """One request, ready to be sent. Calling it sends it, from the calling thread, until there is an answer."""

    __slots__ = (
        "attempts",
        "body",
        "calls",
        "exact",
        "expect",
        "headers",
        "key",
        "method",
        "recover",
        "sha256",
        "sink",
        "url",
    )

    def __init__(
        self,
        calls: Calls,
        method: str,
        url: str,
        headers: Sequence[Header],
        body: bytes | memoryview,
        sha256: str,
        sink: Sink | None,
        recover: Callable[[], Answer | None] | None,
        exact: bool,
        key: bytes | None,
        expect: int,
        attempts: int,
    ) -> None:
        self.calls = calls
        self.method = method
        self.url = url
        self.headers = headers
        self.body = body
        self.sha256 = sha256
        self.sink = sink
        self.recover = recover
        self.exact = exact
        self.key = key
        self.expect = expect
        self.attempts = attempts

    def __call__(self) -> Answer:
        """The answer. Raises as `Calls.perform`."""
        return self.calls.perform(self)


@dataclass(frozen=True, slots=True)
class Tried:
    """What a request met with that an engine sent once, under ``keys``; calling this goes on from there."""

    request: Request
    keys: Keys
    answer: Answer | None
    lost: Lost | None

    def __call__(self) -> Answer:
        """The answer. Raises as `Calls.perform`."""
        return self.request.calls.perform(self.request, self)


class Calls:
    """All requests of one storage. Every thread has its own handle; `close` closes them all."""

    def __init__(
        self,
        name: str,
        address: Address,
        credentials: Credentials,
        threads: int,
        stall_seconds: int,
        pacer: Pacer | None = None,
        attempts: int = ATTEMPTS,
    ) -> None:
        self.name = name
        self._attempts = attempts
        self.address = address
        self.credentials = credentials
        self.pace = Pace(threads)
        self.rooms = Rooms(ROOM_BYTES)
        self._pacer = pacer
        self.stall_seconds = stall_seconds
        self._local = threading.local()
        self._handles: list[Transport] = []
        self._lock = threading.Lock()
        self._closed = False

    def object(
        self,
        method: str,
        key: bytes,
        query: str = "",
        headers: Sequence[Header] = (),
        body: bytes | memoryview = b"",
        sha256: str = EMPTY_SHA256,
        *,
        sink: Sink | None = None,
        recover: Callable[[], Answer | None] | None = None,
        expect: int = 0,
    ) -> Answer:
        """One request about one key, retried. ``key`` is the full key, prefix included.

        ``expect``: bytes that the answer will have, known before, for the throttle; others are counted afterwards.

        ``recover`` is asked after an answer was lost before the request is sent again: what it returns is the answer.
        """
        return self.request(method, key, query, headers, body, sha256, sink=sink, recover=recover, expect=expect)()

    def request(
        self,
        method: str,
        key: bytes,
        query: str = "",
        headers: Sequence[Header] = (),
        body: bytes | memoryview = b"",
        sha256: str = EMPTY_SHA256,
        *,
        sink: Sink | None = None,
        recover: Callable[[], Answer | None] | None = None,
        expect: int = 0,
        attempts: int = ATTEMPTS,
    ) -> Request:
        """The same, not sent yet."""
        url, exact = self.address.url(key) + query, has_dot_segment(key)
        return Request(self, method, url, headers, body, sha256, sink, recover, exact, key, expect, attempts)

    def bucket(self, query: str, attempts: int = ATTEMPTS) -> Answer:
        """One GET about the bucket, retried."""
        url = self.address.bucket_url + query
        return Request(self, "GET", url, (), b"", EMPTY_SHA256, None, None, False, None, 0, attempts)()

    def perform(self, request: Request, tried: Tried | None = None) -> Answer:
        """Send until there is an answer worth returning; ``tried``: the first try, made already.

        Raises Unreachable, Throttled, AccessDenied or ConfigError.
        """
        renewed = False
        attempts = min(request.attempts, self._attempts)
        for attempt in range(1, attempts + 1):
            tried = tried or self._try(request)
            answer, lost, keys = tried.answer, tried.lost, tried.keys
            tried = None
            if answer is not None and not _again(answer):
                if answer.status not in (400, 401, 403) or renewed or not _expired(request.method, answer):
                    return answer
                renewed = True
                if not self.credentials.renew(keys):
                    return answer
                continue
            if attempt == attempts or (lost is not None and lost.hopeless):
                raise self._give_up(answer, lost, request.key, attempts)
            if lost is not None and lost.arrived and request.recover is not None and (found := request.recover()):
                return found
            time.sleep(_wait_seconds(attempt, answer))
        raise Unreachable("the credentials expire faster than they are renewed", storage=self.name)

    def _try(self, request: Request) -> Tried:
        keys = self.credentials.current()
        handle = self._handle(request.exact or not libcurl_signs(keys.access))
        answer: Answer | None = None
        lost: Lost | None = None
        if self._pacer is not None:
            wait(self._pacer, 1, len(request.body), request.expect)
        entered = self.pace.enter()
        try:
            answer = handle.send(
                request.method, request.url, request.headers, request.body, request.sha256, keys, request.sink
            )
        except Lost as trouble:
            lost = trouble
        finally:
            if answer is not None and answer.status in _SLOW_DOWN:
                self.pace.slow_down(entered=entered)
            elif entered:
                self.pace.leave()
        if answer is not None and self._pacer is not None and len(answer.body) > request.expect:
            self._pacer.before(received=len(answer.body) - request.expect)  # whoever comes next waits for it
        return Tried(request, keys, answer, lost)

    def keys_for(self, request: Request) -> Keys | None:
        """What an engine signs this request with; None when it has to be made by a thread that can wait."""
        keys = self.credentials.at_hand()
        if keys is None or request.exact or self.pace.held or self._pacer or not libcurl_signs(keys.access):
            return None
        return keys

    def met(self, tried: Tried) -> Tried:
        """Note what an engine's request met with, before a thread goes on from it."""
        if tried.answer is not None and tried.answer.status in _SLOW_DOWN:
            self.pace.slow_down(entered=False)
        return tried

    def _handle(self, exact: bool) -> Transport:
        name = "boto" if exact else "curl"
        handle: Transport | None = getattr(self._local, name, None)
        if handle is None or self._closed:
            if self._closed:
                raise StorageError("used after it was closed", storage=self.name)
            handle = (
                BotoHandle(self.address, self.stall_seconds) if exact else CurlHandle(self.address, self.stall_seconds)
            )
            setattr(self._local, name, handle)
            with self._lock:
                self._handles.append(handle)
        return handle

    def close(self) -> None:
        """Close every connection; a request after that raises StorageError."""
        with self._lock:
            self._closed = True
            handles, self._handles = self._handles, []
        for handle in handles:
            handle.close()

    def _give_up(self, answer: Answer | None, lost: Lost | None, key: bytes | None, attempts: int) -> PortablError:
        if lost is not None:
            return self._unreachable(lost, key, attempts)
        assert answer is not None
        if answer.status in _SLOW_DOWN:
            return Throttled(f"still asked to slow down after {attempts} tries", key=key, storage=self.name)
        return Unreachable(f"answers {self.said(answer)} after {attempts} tries", key=key, storage=self.name)

    def _unreachable(self, lost: Lost, key: bytes | None, attempts: int) -> PortablError:
        text = self.credentials.redact(lost.text)
        if lost.tls:
            hint = (
                "set ca_bundle to the PEM file of the authority that signed it (or insecure = true, at your own risk)"
            )
            return Unreachable(f"the server's certificate is not trusted: {text}", storage=self.name, hint=hint)
        if lost.hopeless:
            return ConfigError(f"the endpoint cannot be used: {text}", storage=self.name)
        if lost.too_large and key is None:
            return ListingBroken("the answer is larger than any page of a listing", storage=self.name)
        if lost.too_large:
            return Changed("far more bytes arrive than were listed", key=key, storage=self.name)
        hint = "" if lost.arrived else f"is {self.address.endpoint} right, and is the server running?"
        return Unreachable(f"no answer after {attempts} tries: {text}", key=key, storage=self.name, hint=hint)

    def said(self, answer: Answer) -> str:
        """Status, code and message of an error answer, without secrets."""
        code, message = replies.error_code(answer.body), replies.error_message(answer.body)
        return self.credentials.redact(" ".join(part for part in (str(answer.status), code, message) if part))

    def denied(self, answer: Answer) -> bool:
        """Whether we may not know what was asked. Raises CredentialsRefused when we are no longer told anything."""
        if answer.status == 403 and not (error := self.error(answer)).passable:
            raise error
        return answer.status == 403

    def error(self, answer: Answer, key: bytes | None = None) -> StorageError:  # noqa: PLR0911 - a table
        """The error of portabl that an answer which is no success stands for."""
        code, said, name = replies.error_code(answer.body), self.said(answer), self.name
        if code == "NoSuchBucket":
            return ContainerMissing(f'no bucket "{self.address.bucket}"', storage=name)
        if code == "RequestTimeTooSkewed":
            return CredentialsRefused(
                "the clocks of this machine and of the store differ too much", storage=name, hint="set the clock"
            )
        if code in _CREDENTIALS - _PERHAPS_ONE_KEY or (code in _CREDENTIALS and key is None):
            return CredentialsRefused(f"the credentials are refused: {said}", storage=name)
        if code in _CREDENTIALS:
            return AccessDenied(f"the signature of this key is refused: {said}", key=key, storage=name)
        if answer.status in (401, 403):
            return AccessDenied(f"not allowed: {said}", key=key, storage=name)
        if answer.status == 404:
            return NotFound("no such object" if key is not None else f"not found: {said}", key=key, storage=name)
        if answer.status == 412:
            return Changed("the object is no longer the one that was listed", key=key, storage=name)
        if answer.status in (301, 307, 308):
            region = answer.text(b"x-amz-bucket-region")
            hint = f'set region = "{region}"' if region else "check endpoint and region"
            return Unreachable(f"the bucket lives elsewhere: {said}", storage=name, hint=hint)
        if answer.status in (400, 405, 409, 411, 413, 414, 501):
            return Refused(f"refused: {said}", key=key, storage=name)
        return Unreachable(f"unexpected answer: {said}", key=key, storage=name)


def _again(answer: Answer) -> bool:
    if answer.status in _AGAIN:
        return True
    return answer.status == 400 and replies.error_code(answer.body) == "RequestTimeout"


def _expired(method: str, answer: Answer) -> bool:
    """Whether other keys may help: these have expired or were rotated. A refused HEAD says no more than its status."""
    return method == "HEAD" or replies.error_code(answer.body) in _CREDENTIALS


def _wait_seconds(attempt: int, answer: Answer | None) -> float:
    asked = answer.text(b"retry-after") if answer is not None else ""
    if asked.isascii() and asked.isdigit():
        return min(float(asked), RETRY_AFTER_MOST_SECONDS)
    return min(WAIT_MOST_SECONDS, WAIT_FIRST_SECONDS * 2.0**attempt) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
