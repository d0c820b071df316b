"""Reading objects that their owner encrypted with keys of his own (SSE-C): the key goes with every GET and HEAD.

No listing says which objects these are, and none which key is whose: a request that the store refuses with 400 is
repeated with each key (some say 403 to a wrong one). https://docs.aws.amazon.com/AmazonS3/latest/userguide/ServerSideEncryptionCustomerKeys.html
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence

from portabl.errors import ConfigError
from portabl.tasks import Task
from portabl_adapters.s3.calls import Request
from portabl_adapters.s3.wire import Answer, Header

_ALGORITHM = "x-amz-server-side-encryption-customer-algorithm: AES256"
KEY_BYTES = 32


class CustomerKeys:
    """The keys of one place; remembers which one was right, as neighbours mostly have the same."""

    def __init__(self, text: str | None) -> None:
        self._headers = [_headers(key) for key in (text or "").replace(",", " ").split()]
        self._last: list[Header] = []

    def sending(self, request: Callable[[Sequence[Header]], Request]) -> Task[Answer]:
        """The answer to ``request``, which is given the headers of a key: of none, or of each until one is right."""
        first = self._last
        answer: Answer = yield request(first)
        refused = answer.status == 400 or (answer.status == 403 and bool(first))  # 403: another key is right
        if not refused or not self._headers:
            return answer
        for headers in ([], *self._headers):
            if headers != first:
                again: Answer = yield request(headers)
                if again.status not in (400, 403):
                    self._last = list(headers)
                    return again
        return answer


def _headers(key: str) -> list[Header]:
    try:
        raw = base64.b64decode(key, validate=True)
    except ValueError:
        raw = b""
    if len(raw) != KEY_BYTES:
        raise ConfigError(
            "sse_c_keys: each key must be 32 bytes in base64",
            hint="make it a credential reference, such as `env:NAME`; several keys are separated by blanks",
        )
    digest = base64.b64encode(hashlib.md5(raw).digest()).decode("ascii")
    prefix = "x-amz-server-side-encryption-customer-key"
    return [_ALGORITHM, f"{prefix}: {key}", f"{prefix}-MD5: {digest}"]
