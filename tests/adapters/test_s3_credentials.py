"""Keys that expire are asked for again in time, keys that were refused are not asked for again and again."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from kit.relay import Answer, answering, as_json

from portabl.errors import AccessDenied
from portabl_adapters.s3 import control
from portabl_adapters.s3.control import Credentials


@contextmanager
def _chain(monkeypatch: pytest.MonkeyPatch, seconds: float) -> Iterator[Credentials]:
    """boto3's chain with a service that hands out other keys each time, good for ``seconds``."""
    handed = 0

    def service(*_: object) -> Answer:
        nonlocal handed
        handed += 1
        end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
        keys = {"AccessKeyId": f"K{handed}", "SecretAccessKey": "s", "Token": "t"}
        return as_json({**keys, "Expiration": end.strftime("%Y-%m-%dT%H:%M:%SZ")})

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/nonexistent")
    with answering(service) as url:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{url}/keys")
        yield Credentials(lambda _: None, "", "place")


def _number(credentials: Credentials) -> int:
    return int(credentials.current().access.removeprefix("K"))


def test_keys_about_to_expire_are_renewed_before_they_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with _chain(monkeypatch, 300) as credentials:
        first = _number(credentials)
        assert _number(credentials) == first, "not with every request"
        monkeypatch.setattr(control, "RECHECK_SECONDS", 0)
        credentials.renew(credentials.current())
        before = _number(credentials)
        assert _number(credentials) > before > first


def test_keys_that_are_good_for_long_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "RECHECK_SECONDS", 0)
    with _chain(monkeypatch, 6 * 3600) as credentials:
        first = credentials.current()
        assert credentials.current() is first


def test_refused_keys_are_looked_up_once_and_not_for_every_object() -> None:
    asked: list[str] = []

    def secret(name: str) -> str | None:
        asked.append(name)
        return {"access_key_id": "a", "secret_access_key": "s"}.get(name)

    credentials = Credentials(secret, "", "place")
    keys = credentials.current()
    once = len(asked)
    assert [credentials.renew(keys) for _ in range(100)] == [False] * 100
    assert len(asked) == 2 * once


def test_rotated_keys_are_taken_at_once() -> None:
    present = {"access_key_id": "old", "secret_access_key": "s"}
    credentials = Credentials(present.get, "", "place")
    keys = credentials.current()
    present["access_key_id"] = "new"
    assert credentials.renew(keys)
    assert credentials.current().access == "new"
    assert credentials.renew(keys), "somebody else has renewed them"


def test_a_profile_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    with pytest.raises(AccessDenied, match="config profile \\(nobody\\)"):
        Credentials(lambda _: None, "nobody", "place").current()
