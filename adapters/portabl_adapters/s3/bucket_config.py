"""Settings of a bucket as a whole, read and written through boto3.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from portabl.errors import ContainerMissing, CredentialsRefused, Refused, Unreachable
from portabl.model import Setting
from portabl_adapters.s3.address import Address
from portabl_adapters.s3.control import Credentials
from portabl_adapters.s3.wire import CONNECT_SECONDS, STALL_SECONDS

ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class _Kind:
    """Which calls read and write a setting. ``member``: where the document stands in the answer, "" for all of it.

    ``argument``: what the writing call takes the document as. ``unset``: error codes that say there is none.
    """

    name: str
    operation: str
    argument: str
    member: str = ""
    unset: frozenset[str] = frozenset()


_KINDS = (
    _Kind("versioning", "bucket_versioning", "VersioningConfiguration"),
    _Kind(
        "lifecycle",
        "bucket_lifecycle_configuration",
        "LifecycleConfiguration",
        unset=frozenset({"NoSuchLifecycleConfiguration"}),
    ),
    _Kind("cors", "bucket_cors", "CORSConfiguration", unset=frozenset({"NoSuchCORSConfiguration"})),
    _Kind("policy", "bucket_policy", "Policy", "Policy", frozenset({"NoSuchBucketPolicy"})),
    _Kind("tags", "bucket_tagging", "Tagging", unset=frozenset({"NoSuchTagSet", "NoSuchTagSetError"})),
    _Kind(
        "encryption",
        "bucket_encryption",
        "ServerSideEncryptionConfiguration",
        "ServerSideEncryptionConfiguration",
        frozenset({"ServerSideEncryptionConfigurationNotFoundError", "NoSuchEncryptionConfiguration"}),
    ),
    _Kind(
        "object-lock",
        "object_lock_configuration",
        "ObjectLockConfiguration",
        "ObjectLockConfiguration",
        frozenset({"ObjectLockConfigurationNotFoundError", "NoSuchObjectLockConfiguration"}),
    ),
    _Kind("website", "bucket_website", "WebsiteConfiguration", unset=frozenset({"NoSuchWebsiteConfiguration"})),
    _Kind("notifications", "bucket_notification_configuration", "NotificationConfiguration"),
)
_REFUSED = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"})


class BucketConfig:
    """The settings of one bucket. boto3's client takes a good part of a second to make: only when asked for."""

    def __init__(self, name: str, address: Address, credentials: Credentials) -> None:
        self._name = name
        self._address = address
        self._credentials = credentials
        self._client: Any = None

    def read(self) -> tuple[Setting, ...]:
        """Every setting. Raises Unreachable, CredentialsRefused or ContainerMissing."""
        return tuple(self._read(kind) for kind in _KINDS)

    def _read(self, kind: _Kind) -> Setting:
        code, answer = self._call(f"get_{kind.operation}")
        if code in kind.unset:
            return Setting(kind.name)
        if code:
            return Setting(kind.name, problem=code)
        return Setting(kind.name, _document(answer, kind))

    def write(self, name: str, document: Any) -> None:
        """Replace one setting. Raises Refused, Unreachable, CredentialsRefused or ContainerMissing."""
        kind = next(kind for kind in _KINDS if kind.name == name)
        value = json.dumps(document) if kind.name == "policy" else document
        code, _ = self._call(f"put_{kind.operation}", **{kind.argument: value})
        if code:
            raise Refused(f"the store refuses this {name} setting: {code}", storage=self._name)

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()

    def _call(self, operation: str, **arguments: Any) -> tuple[str, Any]:
        """(error code or "", answer)."""
        from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

        try:
            self._client = self._client or _client(self._address, self._credentials)
            return "", getattr(self._client, operation)(Bucket=self._address.bucket, **arguments)
        except ClientError as error:
            return self._code(error), None
        except ParamValidationError as error:
            raise Refused(f"not a document of S3: {error}", storage=self._name) from None
        except BotoCoreError as error:
            said = self._credentials.redact(str(error))
            raise Unreachable(f"no answer after {ATTEMPTS} tries: {said}", storage=self._name) from None

    def _code(self, error: Any) -> str:
        code, status = error.response["Error"].get("Code", ""), error.response["ResponseMetadata"]["HTTPStatusCode"]
        if code == "NoSuchBucket":
            raise ContainerMissing(f'no bucket "{self._address.bucket}"', storage=self._name)
        if code in _REFUSED:
            raise CredentialsRefused(f"the credentials are refused: {code}", storage=self._name)
        if status >= 500 and status != 501:
            raise Unreachable(f"answers {status} {code} after {ATTEMPTS} tries", storage=self._name)
        return str(code or status)


def _document(answer: Any, kind: _Kind) -> Any:
    """The setting as JSON, None when it is not set."""
    found = {name: value for name, value in answer.items() if name != "ResponseMetadata"}
    document = found.get(kind.member) if kind.member else found
    if kind.name == "policy":
        return json.loads(str(document)) if document else None
    if kind.name == "lifecycle":
        document = {"Rules": found.get("Rules", [])}
        return _as_json(document) if document["Rules"] else None
    if kind.name == "versioning" and found.get("MFADelete") == "Disabled":  # Ceph says so, others say nothing
        del found["MFADelete"]
    if kind.name == "tags" and not found.get("TagSet"):
        return None
    if kind.name == "object-lock" and document and "Rule" in document:  # days or years: the other one may be a 0
        default = document["Rule"].get("DefaultRetention", {})
        document["Rule"]["DefaultRetention"] = {name: value for name, value in default.items() if value}
    return _as_json(document) or None


def _as_json(document: Any) -> Any:
    return json.loads(json.dumps(document, default=lambda date: date.isoformat()))


@functools.cache
def _session() -> Any:
    """boto3's session, made once: it reads the description of the whole S3 API."""
    import boto3

    return boto3.session.Session()


def _client(address: Address, credentials: Credentials) -> Any:
    from botocore.config import Config

    keys = credentials.current()
    virtual = not address.base.startswith(f"{address.endpoint}/")
    client = _session().client(
        "s3",
        endpoint_url=address.endpoint,
        region_name=address.region,
        aws_access_key_id=keys.access,
        aws_secret_access_key=keys.secret,
        aws_session_token=keys.token or None,
        verify=False if address.insecure else (address.ca_bundle or True),
        config=Config(
            s3={"addressing_style": "virtual" if virtual else "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            connect_timeout=CONNECT_SECONDS,
            read_timeout=STALL_SECONDS,
        ),
    )
    client.meta.events.register("before-call.s3", _with_md5)
    return client


def _with_md5(params: dict[str, Any], **_: Any) -> None:
    """Older servers want a Content-MD5 with a configuration; boto3 no longer sends one."""
    body = params.get("body")
    if isinstance(body, bytes) and body:
        digest = hashlib.md5(body).digest()
        params["headers"].setdefault("Content-MD5", base64.b64encode(digest).decode())
