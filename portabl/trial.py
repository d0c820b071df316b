"""Whether a provider works: one scratch object is listed for, written, read back and deleted, step by step.

A step that fails says what the provider said and what to do; the steps that depend on it are left out. What was
written is removed whatever happens in between.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from portabl.errors import (
    AccessDenied,
    ConfigError,
    Corrupt,
    NotFound,
    PortablError,
    StorageError,
    Unreachable,
)
from portabl.keys import show
from portabl.model import Body, Entry, Metadata
from portabl.provider_types import S3Provider
from portabl.storage import Storage

_PERMISSION = {"list": "s3:ListBucket", "put": "s3:PutObject", "read": "s3:GetObject", "delete": "s3:DeleteObject"}


@dataclass(frozen=True)
class Step:
    """One thing that was tried. ``error`` is None when it worked."""

    name: str
    detail: str
    error: PortablError | None = None
    hint: str = ""


@dataclass(frozen=True)
class Trial:
    """All steps that were tried, in order. ``note``: what a successful trial leaves behind, or did not look at."""

    steps: tuple[Step, ...]
    note: str = ""

    @property
    def exit_code(self) -> int:
        """0 when every step worked, else the code of the first that did not."""
        return next((step.error.exit_code for step in self.steps if step.error), 0)


def try_location(storage: Storage) -> Trial:
    """List, put, read back, delete. The scratch key is new, so nothing that is there is touched."""
    key = f"portabl-test-{secrets.token_hex(8)}".encode()
    data = secrets.token_bytes(64)
    steps = [_step(storage, "list", lambda: _list(storage))]
    if steps[0].error:
        return Trial(tuple(steps))
    version = ""

    def put() -> str:
        nonlocal version
        body = Body(data, hashlib.sha256(data).hexdigest(), hashlib.md5(data).hexdigest())
        version = storage.write(key, body, Metadata()).version
        return f"{len(data)} bytes as {show(key)}"

    steps.append(_step(storage, "put", put))
    if steps[-1].error and not _may_be_there(steps[-1].error):
        return Trial(tuple(steps))
    if not steps[-1].error:
        steps.append(_step(storage, "read", lambda: _read(storage, key, data)))
    steps.append(_step(storage, "delete", lambda: _delete(storage, key), show(key)))
    kept = f"the bucket keeps versions: one version and a delete marker of {show(key)} stay" if version else ""
    return Trial(tuple(steps), kept)


def try_provider(provider: S3Provider) -> Trial:
    """Without a bucket: whether the endpoint answers, takes the credentials, and which buckets it shows."""
    found: list[str] = []

    def ask() -> str:
        found.extend(_buckets(provider))
        return f"{len(found)} buckets: {', '.join(found[:20])}{' ...' if len(found) > 20 else ''}"

    step = Step("buckets", "")
    try:
        step = Step("buckets", ask())
    except PortablError as error:
        hint = error.hint or "they may still be good for one bucket: name it"
        step = Step("buckets", str(error), error, hint)
    return Trial((step,), f"nothing was written: name a bucket to try that, as `{provider.name}:BUCKET`")


def _step(storage: Storage, name: str, action: Callable[[], str], left: str = "") -> Step:
    try:
        return Step(name, action())
    except PortablError as error:
        hint = error.hint or _advice(storage, name, error)
        return Step(name, str(error), error, f"{hint}; {left} has to be removed by hand" if left else hint)


def _advice(storage: Storage, name: str, error: PortablError) -> str:
    if isinstance(error, AccessDenied):
        return f"allow `{_PERMISSION[name]}` for these credentials at {storage.name}, or check that they belong to it"
    return "try again"


def _list(storage: Storage) -> str:
    storage.check(write=True)
    first = next(iter(storage.entries()), None)
    return "nothing there yet" if first is None else f"the first key is {show(first.key)}"


def _read(storage: Storage, key: bytes, data: bytes) -> str:
    info = storage.stat(key)
    entry = Entry(key, len(data), info.etag)
    got = bytes(storage.read(entry).data)
    if got != data:
        raise Corrupt(
            f"{len(got)} bytes came back, and they are not those that were sent", key=key, storage=storage.name
        )
    return "the same bytes came back"


def _delete(storage: Storage, key: bytes) -> str:
    storage.delete(key)
    try:
        storage.stat(key)
    except NotFound:
        return "gone again"
    raise StorageError("is still there after it was deleted", key=key, storage=storage.name)


def _may_be_there(error: PortablError) -> bool:
    """Whether a write that failed may have left something."""
    return isinstance(error, (Corrupt, Unreachable))


def _buckets(provider: S3Provider) -> list[str]:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    settings: dict[str, Any] = provider.settings()
    access, secret = provider.secret("access_key_id"), provider.secret("secret_access_key")
    config = Config(
        s3={"addressing_style": settings.get("addressing", "path" if provider.endpoint else "auto")},
        retries={"mode": "standard", "total_max_attempts": 3},
        connect_timeout=10,
        read_timeout=30,
    )
    try:
        session = boto3.Session(access, secret, provider.secret("session_token"), profile_name=provider.profile or None)
        client = session.client(
            "s3",
            region_name=provider.region or "us-east-1",
            endpoint_url=provider.endpoint or None,
            verify=False if provider.insecure else (provider.trusted() or None),
            config=config,
        )
        try:
            return [bucket["Name"] for bucket in client.list_buckets().get("Buckets", ())]
        finally:
            client.close()
    except ClientError as error:
        said = error.response.get("Error", {})
        words = " ".join(filter(None, (str(said.get("Code", "")), str(said.get("Message", "")))))
        raise AccessDenied(
            f"listing buckets is refused: {_without(words, secret)}", storage=f"{provider.name}:"
        ) from None
    except (BotoCoreError, ValueError) as error:
        raise _not_reached(provider, error) from None


def _not_reached(provider: S3Provider, error: Exception) -> PortablError:
    from botocore import exceptions

    name = f"{provider.name}:"
    if isinstance(error, (exceptions.NoCredentialsError, exceptions.PartialCredentialsError)):
        hint = "set access_key_id and secret_access_key, or profile, or run where a role is attached"
        return AccessDenied("no credentials found", storage=name, hint=hint)
    if isinstance(error, exceptions.ProfileNotFound):
        return ConfigError(f"{name}: the AWS configuration has no profile `{provider.profile}`")
    if isinstance(error, exceptions.SSLError):
        hint = "set ca_bundle to the PEM file of the authority that signed it"
        return Unreachable("the server's certificate is not trusted", storage=name, hint=hint)
    return Unreachable(f"no answer from {provider.endpoint or 'AWS'}: {type(error).__name__}", storage=name)


def _without(text: str, secret: str | None) -> str:
    return text.replace(secret, "***") if secret else text
