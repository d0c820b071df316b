"""Which digest of a part this server really checks, found out by sending it a wrong one.

Servers accept the signed SHA-256 of a body (x-amz-content-sha256) without ever holding it against the body: SeaweedFS
and moto do, AWS and Ceph refuse what does not match. Where SHA-256 is checked, in one header or the other, it proves
a part by itself; elsewhere the part's MD5 has to, at more than twice the CPU. Where the server holds a CRC-64/NVME
against the body, and TLS or the loopback interface keeps strangers out on the way, the CRC does it at a tenth of the
CPU, and SHA-256 is computed once, for the manifest. So before the first large object a part
of 7 bytes under a wrong digest goes into an upload of its own, which is aborted at once: nothing becomes visible.
"""

from __future__ import annotations

import base64
import enum
import hashlib
import threading
from urllib.parse import quote

from portabl import checksum
from portabl_adapters.s3 import fields, replies
from portabl_adapters.s3.calls import Calls

_BODY = b"portabl"
_RIGHT = hashlib.sha256(_BODY).hexdigest()
_WRONG = hashlib.sha256(b"something else").hexdigest()
_TYPE = "Content-Type: application/octet-stream"
UNSIGNED = "UNSIGNED-PAYLOAD"
"""In place of a body's SHA-256: the signature covers the headers, and with them the CRC, but not the body."""


class Checked(enum.Enum):
    """The digest of a part that the server compares with the bytes."""

    SIGNED = "x-amz-content-sha256"
    CHECKSUM = "x-amz-checksum-sha256"
    CRC64 = "x-amz-checksum-crc64nvme"
    MD5 = "none of its SHA-256: MD5 is needed"


def checksum_header(sha256: str) -> str:
    """x-amz-checksum-sha256 for a digest in hex."""
    return f"x-amz-checksum-sha256: {base64.b64encode(bytes.fromhex(sha256)).decode('ascii')}"


def crc64_header(crc64: str) -> str:
    """x-amz-checksum-crc64nvme for a CRC in hex."""
    return f"x-amz-checksum-crc64nvme: {base64.b64encode(bytes.fromhex(crc64)).decode('ascii')}"


class BodyProof:
    """What one server checks; asked once, by whoever comes first."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._asked = threading.Lock()
        self._checked: Checked | None = None

    @property
    def known(self) -> Checked:
        """What was found out, MD5 before anything was."""
        return self._checked or Checked.MD5

    def learn(self, key: bytes) -> Checked:
        """Find out, with an upload for ``key`` that never becomes an object. Raises what the store's errors are."""
        with self._asked:
            if self._checked is None:
                self._checked = self._ask(key)
        return self._checked

    def _ask(self, key: bytes) -> Checked:
        begun = self._calls.object("POST", key, "?uploads", [_TYPE])
        if begun.status != 200:
            return Checked.MD5  # the real upload will say what is wrong
        try:
            token = quote(replies.upload_id(begun.body), safe="")
        except replies.Unreadable:
            return Checked.MD5
        try:
            if self._checks_crc64(key, token):
                return Checked.CRC64
            if self._refuses(key, token, [_TYPE], _WRONG):
                return Checked.SIGNED
            if self._refuses(key, token, [_TYPE, checksum_header(_WRONG)], _RIGHT):
                return Checked.CHECKSUM
            return Checked.MD5
        finally:
            self._calls.object("DELETE", key, f"?uploadId={token}")

    def _checks_crc64(self, key: bytes, token: str) -> bool:
        """Whether a part under its CRC alone is taken, and one under a wrong CRC is not."""
        if not self._calls.address.guarded:
            return False
        right = checksum.crc64nvme(_BODY)
        if not self._refuses(key, token, [_TYPE, crc64_header(right[::-1])], UNSIGNED):
            return False
        query = f"?partNumber=1&uploadId={token}"
        return self._calls.object("PUT", key, query, [_TYPE, crc64_header(right)], _BODY, UNSIGNED).status == 200

    def _refuses(self, key: bytes, token: str, headers: list[str], sha256: str) -> bool:
        query = f"?partNumber=1&uploadId={token}"
        return fields.says_damaged(self._calls.object("PUT", key, query, headers, _BODY, sha256))
