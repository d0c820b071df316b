"""Locations: what is which, and what is refused."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.servers import S3Server

import portabl
from portabl import providers, registry
from portabl.errors import ConfigError, PortablError, UsageError
from portabl.providers import Config, FileProvider, FsspecProvider, S3Provider
from portabl.registry import holds_secret, parse, safe_url, whole_segments

CONFIG = Config(
    {
        "old": S3Provider("old", endpoint="http://127.0.0.1:1"),
        "disk": FileProvider("disk", path="/data"),
        "mem": FsspecProvider("mem", url="memory://base"),
    },
    path="/etc/portabl.toml",
)


@pytest.mark.parametrize(
    ("text", "kind", "container", "prefix"),
    [
        ("old:b", "s3", "b", b""),
        ("old:b/", "s3", "b", b""),
        ("old:b/2026", "s3", "b", b"2026/"),
        ("old:b/2026/", "s3", "b", b"2026/"),
        ("old:b/2026//", "s3", "b", b"2026//"),
        ("old:b//x", "s3", "b", b"/x/"),
        ("old:b/a:b", "s3", "b", b"a:b/"),
        ("old:b/\udcff", "s3", "b", b"\xff/"),
        ("old:b/x\ny", "s3", "b", b"x\ny/"),
        ("s3://b/p?versionId=1", "s3", "b", b"p?versionId=1/"),
        ("disk:", "file", "/data", b""),
        ("disk:x/y", "file", "/data/x/y", b""),
        ("disk:/x", "file", "/data/x", b""),
        ("mem:x", "fsspec", "", b"x/"),
        ("memory://x", "fsspec", "", b""),
        ("zip://::file:///x.zip", "fsspec", "", b""),
        ("/a/b", "file", "/a/b", b""),
        ("/a:b/c", "file", "/a:b/c", b""),
        ("file:///a/%20b", "file", "/a/%20b", b""),
        ("/a::b", "file", "/a::b", b""),
    ],
)
def test_what_is_which(text: str, kind: str, container: str, prefix: bytes) -> None:
    location = parse(text, CONFIG)
    assert (location.type, location.container, location.prefix) == (kind, container, prefix)


def test_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    for text, path in (("x", "x"), ("./old:b", "old:b"), (".", ""), ("a/b:c", "a/b:c")):
        assert parse(text, CONFIG).container == str(tmp_path / path), text
    assert parse("~/x", CONFIG).container == "/home/me/x"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("old:", "names no container"),
        ("old:/x", "names no container"),
        ("old", "no container is named"),
        ("nope:x", "unknown provider `nope`"),
        ("old://x", "not a URL that fsspec knows"),
        ("s4://x", "unknown URL scheme `s4`"),
        ("zip://::s4://x", "unknown URL scheme `s4`"),
        ("s3://", "names no bucket"),
        ("s3://k:secret@b", "credentials do not belong"),
        ("file://host/x", "has a host"),
        ("disk:../x", "leaves the provider's directory"),
        ("disk:x/../../y", "leaves the provider's directory"),
        ("a\0b", "NUL"),
        ("no\x1b[31mpe:x", "unknown provider|path"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    if "\x1b" in text:
        assert "\x1b" not in parse(text, CONFIG).name
        return
    with pytest.raises(UsageError, match=message) as caught:
        parse(text, CONFIG)
    assert "secret" not in str(caught.value)


def test_one_letter_is_a_drive_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert parse("C:/data", CONFIG).type == "file"
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(ConfigError, match="unknown provider `C`"):
        parse("C:/data", CONFIG)


@given(st.text())
def test_any_text_is_a_location_or_an_error_of_ours(text: str) -> None:
    try:
        location = parse(text, CONFIG)
    except PortablError as error:
        assert str(error).isprintable()  # noqa: PT017 - both outcomes are allowed
    else:
        assert location.name.isprintable()
        assert location.prefix == b"" or location.prefix.endswith(b"/")


@given(st.binary())
def test_prefixes_keep_every_byte(raw: bytes) -> None:
    prefix = whole_segments(raw.decode("utf-8", "surrogateescape"))
    assert prefix in (raw, raw + b"/")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:pw@host/a?sig=abc", "https://host/a?..."),
        ("https://host?sig=abc", "https://host?..."),
        ("zip://x::https://me:pw@host/f.zip?t=1", "zip://x::https://host/f.zip?..."),
        ("sftp://me@host/@a", "sftp://host/@a"),
        ("ftp://me:pass/word@host/a", "ftp://host/a"),
        ("http://host:80/a@b", "http://host:80/a@b"),
        ("http://[::1]/a@b", "http://[::1]/a@b"),
        ("./a?b@c", "./a?b@c"),
        ("memory://x\x1b[2J", "memory://x\\x1b[2J"),
    ],
)
def test_printable_locations_hold_no_secret(text: str, shown: str) -> None:
    assert safe_url(text) == shown


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("https://me:pw@host/a", True),
        ("https://TOKEN@host/a", True),
        ("zip://x::https://TOKEN@host/f.zip", True),
        ("https://host/a?sig=abc", True),
        ("https://host/a@b", False),
        ("sftp://me@host/a", False),
        ("abfss://container@account.dfs.example.org/a", False),
        ("old:bucket/a@b", False),
        ("./a@b", False),
    ],
)
def test_what_workers_may_be_told(text: str, holds: bool) -> None:
    assert holds_secret(text) is holds


def test_adapters_come_from_the_entry_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with registry.open_location(str(tmp_path), CONFIG) as storage:
        assert list(storage.entries()) == []
    with pytest.raises(ConfigError, match="no adapter for type `ftp`") as caught:
        registry.adapter("ftp")
    assert "file, fsspec, s3" in caught.value.hint
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: ())
    registry.registered.cache_clear()
    with pytest.raises(ConfigError, match="not installed properly"):
        registry.adapter("ftp")


def test_our_own_adapters_are_the_entry_points_that_portabl_installs() -> None:
    installed = importlib.metadata.distribution("portabl").entry_points.select(group=registry.GROUP)
    assert {point.name: point.value for point in installed} == {
        name: f"{module}:open_storage" for name, module in registry.OURS.items()
    }
    assert all(registry.adapter(point.name) is point.load() for point in installed)


def test_an_opening_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(registry, "adapter", lambda _: seen.append)
    options = {"password": "hushhush"}
    config = Config({"a": FsspecProvider("a", url="memory://", options=options)})
    registry.open_location("a:x", config)
    assert "hushhush" not in repr(seen)
    assert seen[0].settings["options"] == options  # type: ignore[attr-defined]


def test_filesystems(tmp_path: Path, moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "portabl.toml").write_text(
        moto.provider_toml("s") + '[providers.disk]\ntype = "file"\npath = "files"\n'
        '[providers.mem]\ntype = "fsspec"\nurl = "memory://base"\n'
    )
    config = providers.load(str(tmp_path / "portabl.toml"))
    bucket = moto.bucket()
    moto.client().put_object(Bucket=bucket, Key="a/b", Body=b"x")
    found, path = registry.filesystem(f"s:{bucket}/a", config)
    assert path == f"{bucket}/a"
    assert found.cat_file(f"{path}/b") == b"x"
    assert bucket in portabl.filesystem("s:", str(tmp_path / "portabl.toml")).ls("")
    assert registry.filesystem("disk:x", config)[1] == str(tmp_path / "files" / "x")
    assert registry.filesystem("mem:x", config)[1] == "/base/x"
    registry.files("mem:run", config).write("a", b"1")
    assert fsspec.filesystem("memory").cat("/base/run/a") == b"1"
    registry.files(f"s:{bucket}/run", config).write("a", b"2")
    assert moto.client().get_object(Bucket=bucket, Key="run/a")["Body"].read() == b"2"


def test_importing_portabl_is_cheap() -> None:
    code = "import portabl, sys; print([m for m in ('boto3', 'fsspec', 'click', 'pycurl', 'tqdm') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == "[]"


def test_an_adapter_that_cannot_be_imported_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a system without POSIX calls: a clear error, no traceback."""
    monkeypatch.setitem(sys.modules, "portabl_adapters.local", None)
    with pytest.raises(ConfigError, match="cannot run here") as caught:
        registry.adapter("file")
    assert "Linux" in caught.value.hint
