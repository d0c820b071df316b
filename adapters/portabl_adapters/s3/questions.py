"""Questions to a server about keys below a scratch prefix: every one has an answer, if only that there is none."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from portabl.errors import Throttled, Unreachable
from portabl_adapters.s3.fields import content_md5
from portabl_adapters.s3.wire import EMPTY_SHA256, Answer, Header

if TYPE_CHECKING:
    from portabl_adapters.s3.storage import S3Storage

BODY = b"portabl"
_TYPE = "Content-Type: application/octet-stream"


class Questions:
    """Sends single requests for one storage."""

    def __init__(self, storage: S3Storage) -> None:
        self.storage = storage
        self.calls = storage.calls

    def ask(
        self,
        method: str,
        name: bytes,
        query: str = "",
        headers: Sequence[Header] = (),
        body: bytes = b"",
        sha256: str = "",
    ) -> Answer:
        """One request about a key below the prefix. ``sha256``: another digest than the right one is signed."""
        digest = sha256 or (hashlib.sha256(body).hexdigest() if body else EMPTY_SHA256)
        sent = [_TYPE, *headers] if method in ("PUT", "POST") else headers
        return _answer(lambda: self.calls.object(method, self.storage.prefix + name, query, sent, body, digest))

    def bucket(self, query: str) -> Answer:
        """One question about the bucket."""
        return _answer(lambda: self.calls.bucket(query))

    def put(self, name: bytes, *headers: Header) -> Answer:
        """Store an ordinary object of `BODY`."""
        return self.ask("PUT", name, "", headers, BODY)

    def put_checked(self, name: bytes, query: str, body: bytes, *headers: Header) -> Answer:
        """A PUT with Content-MD5, as everything about object lock needs it."""
        return self.ask("PUT", name, query, [content_md5(hashlib.md5(body).hexdigest()), *headers], body)

    def said(self, answer: Answer) -> str:
        """What an answer was, for people."""
        return self.calls.said(answer) if answer.status else "no usable answer"


def _answer(send: Callable[[], Answer]) -> Answer:
    """None at all, or errors of the server only, is an answer with status 0. Refused credentials are an error still."""
    try:
        return send()
    except (Unreachable, Throttled) as error:
        return Answer(0, [], error.message.encode())
