"""portabl.toml: what is accepted, and how every mistake is named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from portabl import credentials, providers
from portabl.errors import ConfigError
from portabl.providers import Config, FileProvider, S3Provider, from_document, load

FULL = """
[providers.old]
type = "s3"
endpoint = "https://s3.example.org:9000"
region = "eu"
access_key_id = "key"
secret_access_key = "file:secret.txt"
session_token = "env:TOKEN"
addressing = "virtual"
ca_bundle = "ca.pem"
etag_is_md5 = false
announces_tags = true
list_objects_version = 1
parts_max = 1000
part_size_min = 5242880
stall_seconds = 2.5
"""


def _config(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "portabl.toml"
    path.write_text(text)
    return load(str(path))


def test_every_field_arrives_in_the_settings(tmp_path: Path) -> None:
    settings = _config(tmp_path, FULL).provider("old").settings()
    assert settings["etag_is_md5"] is False
    assert settings["stall_seconds"] == 2.5
    assert settings["secret_access_key"] == "file:secret.txt"
    assert "profile" not in settings, "what is not set stays away"


def test_secrets_are_found_anew_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = _config(tmp_path, FULL).provider("old")
    for secret in ("first", "second"):
        (tmp_path / "secret.txt").write_text(secret + "\n")
        monkeypatch.setenv("TOKEN", secret)
        assert old.secret("secret_access_key") == secret
        assert old.secret("session_token") == secret
    assert old.secret("access_key_id") == "key"
    assert old.secret("endpoint") is None, "only credentials are secrets"


def test_no_repr_shows_a_secret(tmp_path: Path) -> None:
    text = '[providers.a]\ntype = "s3"\naccess_key_id = "AKIAKEY"\nsecret_access_key = "hushhush"\n'
    text += '[providers.b]\ntype = "fsspec"\nurl = "sftp://me:hushhush@h/"\noptions = {password = "hushhush"}\n'
    config = _config(tmp_path, text)
    assert "hush" not in repr(config) + str(config.warnings)
    assert "AKIAKEY" not in repr(config)


def test_literal_secret_and_insecure_are_warned_of(tmp_path: Path) -> None:
    text = '[providers.a]\ntype = "s3"\naccess_key_id = "k"\nsecret_access_key = "literal"\ninsecure = true\n'
    warnings = _config(tmp_path, text).warnings
    assert [w.split("] ")[1].split(":")[0] for w in warnings] == ["secret_access_key", "insecure"]


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("x = 1", "unknown table `x`", "providers"),
        ("provider = {}", "unknown table `provider`", "did you mean `providers`?"),
        ("providers = 1", "`providers` must be a table", "[providers.NAME]"),
        ("[providers]\nold = 3", "[providers.old]: must be a table", "type"),
        ("[providers.old]", "[providers.old] type: is missing", "s3, file, fsspec"),
        ("[providers.old]\ntype = 's4'", "[providers.old] type: `s4` is unknown", "s3, file, fsspec"),
        ("[providers.old]\ntype = 5", "[providers.old] type: `5` is unknown", "s3"),
        ("[providers.old]\ntype = 'file'", "[providers.old] path: is missing", ""),
        ("[providers.old]\ntype = 'fsspec'", "[providers.old] url: is missing", ""),
        ("[providers.'a b']\ntype = 'file'\npath = '.'", "[providers.a b]: names consist of", ""),
        ("[providers.old]\ntype = 'file'\npaht = '.'", "[providers.old] paht: unknown field", "did you mean `path`?"),
        ("[providers.old]\ntype = 's3'\nzzz = 1", "[providers.old] zzz: unknown field", "known: catalogue, country"),
        ("[providers.old]\ntype = 's3'\nname = 'x'", "[providers.old] name: unknown field", "known"),
        ("[providers.old]\ntype = 's3'\nparts_max = '5'", "parts_max: must be a whole number, not a string", ""),
        ("[providers.old]\ntype = 's3'\nparts_max = 0", "parts_max: must be above 0", ""),
        ("[providers.old]\ntype = 's3'\nstall_seconds = true", "stall_seconds: must be a number", ""),
        ("[providers.old]\ntype = 's3'\nlist_objects_version = 3", "list_objects_version: must be 1 or 2", ""),
        ("[providers.old]\ntype = 's3'\nendpoint = 'https://u:p@h'", "endpoint: must be a URL", "such as"),
        ("[providers.old]\ntype = 's3'\nendpoint = 'https://h:99999'", "endpoint: must be a URL", "such as"),
        ("[providers.old]\ntype = 's3'\nendpoint = 'https://h/path'", "endpoint: must be a URL", "such as"),
        ("[providers.old]\ntype = 's3'\nsecret_access_key = 'env:X'", "access_key_id: is missing", ""),
        (
            "[providers.old]\ntype = 's3'\nprofile = 'p'\naccess_key_id = 'k'\nsecret_access_key = 'env:X'",
            "profile: cannot be combined",
            "",
        ),
        ("[providers.old]\ntype = 's3'\n\x1b", "not valid TOML", ""),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _config(tmp_path, text)
    assert str(caught.value).startswith(str(tmp_path / "portabl.toml"))
    assert message in str(caught.value)
    assert hint in caught.value.hint
    assert "\x1b" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(str(tmp_path / "missing.toml"))
    (tmp_path / "latin.toml").write_bytes(b"# \xe9\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(str(tmp_path / "latin.toml"))


def test_order_of_the_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    user = tmp_path / "config" / "portabl"
    user.mkdir(parents=True)
    environ = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    assert load(environ=environ).searched == (str(tmp_path / "portabl.toml"), str(user / "portabl.toml"))
    (user / "portabl.toml").write_text('[providers.user]\ntype = "file"\npath = "."\n')
    assert set(load(environ=environ).providers) == {"user"}
    (tmp_path / "portabl.toml").write_text('[providers.here]\ntype = "file"\npath = "."\n')
    assert set(load(environ=environ).providers) == {"here"}
    (tmp_path / "portabl.toml").unlink()
    (tmp_path / "portabl.toml").symlink_to("nowhere")
    with pytest.raises(ConfigError):  # a broken file is not an absent one
        load(environ=environ)


def test_unknown_provider_lists_the_known_ones(tmp_path: Path) -> None:
    config = _config(tmp_path, FULL)
    with pytest.raises(ConfigError, match=r"unknown provider `odl` \(known: old; looked in .*portabl.toml\)") as caught:
        config.provider("odl", "odl:x")
    assert "did you mean `old`?" in caught.value.hint
    assert "./odl:x" in caught.value.hint


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("env:NOT_SET", "environment variable NOT_SET is not set"),
        ("env:EMPTY", "`env:EMPTY` is empty"),
        ("env:", "names nothing"),
        ("file:missing", "cannot be read: No such file"),
        ("keyring:service", "has no user"),
    ],
)
def test_references_that_lead_nowhere(tmp_path: Path, reference: str, message: str) -> None:
    with pytest.raises(ConfigError, match="here secret: .*" + message.replace("(", r"\(")):
        credentials.resolve(reference, "here secret", str(tmp_path), {"EMPTY": ""})


def test_keyring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keyring = pytest.importorskip("keyring")
    from keyring.backend import KeyringBackend

    class Memory(KeyringBackend):
        priority = 1  # type: ignore[assignment]

        def get_password(self, service: str, username: str) -> str | None:
            return "fromring" if (service, username) == ("a/b", "me") else None

        def set_password(self, service: str, username: str, password: str) -> None: ...

    before = keyring.get_keyring()
    keyring.set_keyring(Memory())
    try:
        assert credentials.resolve("keyring:a/b/me", "here") == "fromring"
        with pytest.raises(ConfigError, match="holds nothing for you at a/b"):
            credentials.resolve("keyring:a/b/you", "here")
    finally:
        keyring.set_keyring(before)
    monkeypatch.setitem(__import__("sys").modules, "keyring", None)
    with pytest.raises(ConfigError) as caught:
        credentials.resolve("keyring:a/b", "here")
    assert caught.value.hint == "pip install 'portabl[keyring]'"


def test_fsspec_options_may_be_references(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", "word")
    text = '[providers.a]\ntype = "fsspec"\nurl = "memory://x"\n'
    text += 'options = {password = "env:PASSWORD", fo = "file:///x", inner = {token = "env:PASSWORD"}, n = 5}\n'
    provider = _config(tmp_path, text).provider("a")
    assert isinstance(provider, providers.FsspecProvider)
    assert provider.resolved_options() == {"password": "word", "fo": "file:///x", "inner": {"token": "word"}, "n": 5}


def test_a_configuration_can_be_made_without_a_file() -> None:
    config = Config({"a": FileProvider("a", path="/x"), "b": S3Provider("b")})
    assert config.provider("a").settings() == {"path": "/x"}
    assert from_document({}).providers == {}


@pytest.mark.skipif(os.name == "nt", reason="POSIX places")
def test_user_directory() -> None:
    assert providers.user_directory({"XDG_CONFIG_HOME": "/c"}) == "/c/portabl"
    if providers.sys.platform == "linux":
        assert providers.user_directory({"HOME": "/h"}) == "/h/.config/portabl"
