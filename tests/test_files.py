"""Whole files: there completely or not at all, locally, in memory and on S3."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from kit.servers import S3Server

from portabl import file_errors, remote_files
from portabl.errors import AccessDenied, NotFound, StateFull, StorageError, UsageError
from portabl.files import Files

SECRET = "s3cr3t-value-nobody-may-see"


def s3_options(server: S3Server, secret: str = "") -> dict[str, object]:
    return {
        "key": server.access_key,
        "secret": secret or server.secret_key,
        "client_kwargs": {"endpoint_url": server.endpoint, "region_name": server.region},
        "skip_instance_cache": True,
    }


@pytest.fixture(params=["local", "memory", "s3"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Files]:
    if request.param == "local":
        yield Files.at(str(tmp_path / "made" / "when needed"))
    elif request.param == "memory":
        yield Files.at("memory://place/below")
        fsspec.filesystem("memory").store.clear()
    else:
        server: S3Server = request.getfixturevalue("moto")
        bucket = f"files-{os.urandom(4).hex()}"
        server.client().create_bucket(Bucket=bucket)
        yield Files.at(f"s3://{bucket}/below", s3_options(server))


def test_a_file_is_written_read_listed_replaced_and_deleted(files: Files) -> None:
    assert files.names() == []
    assert not files.exists("a/b.json")
    files.write("a/b.json", b"one")
    files.write("c", b"")
    assert files.read("a/b.json") == b"one"
    assert files.read("c") == b""
    files.write("a/b.json", b"two")
    with files.open("a/b.json") as file:
        assert file.read(2) == b"tw"
    assert files.names() == ["a/b.json", "c"]
    assert files.names("a/") == files.names("a/b") == ["a/b.json"]
    assert files.names("a/x") == files.names("x/") == []
    assert files.exists("a/b.json")
    files.delete("a/b.json")
    files.delete("a/b.json")
    assert files.names() == ["c"]


def test_a_block_that_raises_leaves_what_was_there(files: Files) -> None:
    files.write("x", b"before")
    for name in ("x", "y"):
        with pytest.raises(ZeroDivisionError):
            write_half(files, name)
    assert files.names() == ["x"]
    assert files.read("x") == b"before"


def write_half(files: Files, name: str) -> None:
    with files.writer(name) as file:
        file.write(b"half" * 100_000)
        raise ZeroDivisionError


def test_nothing_is_visible_before_the_block_ends(files: Files) -> None:
    with files.writer("x") as file:
        file.write(b"data")
        assert files.names() == []
        assert not files.exists("x")
    assert files.read("x") == b"data"


def test_a_large_file_is_streamed(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_files, "SPOOL_BYTES_MAX", 2**20)
    data = os.urandom(3 * 2**20)
    with files.writer("large") as file:
        for start in range(0, len(data), 10_000):
            file.write(data[start : start + 10_000])
    assert files.read("large") == data


def test_what_is_not_there_is_not_found(files: Files) -> None:
    with pytest.raises(NotFound, match="no file missing"):
        files.read("missing")
    with pytest.raises(FileNotFoundError):
        files.open("missing/too")


@pytest.mark.parametrize("name", ["", "/a", "../a", "a/../../b", "a//b", "./a", "a/", "a\0"])
def test_names_cannot_leave_the_directory(files: Files, name: str) -> None:
    for call in (files.read, files.open, files.exists, files.delete, files.writer):
        with pytest.raises(ValueError, match="not the name of a file"):
            call(name)


def test_an_fsspec_local_filesystem_is_as_durable_as_a_path(tmp_path: Path) -> None:
    through = Files(fsspec.filesystem("file"), str(tmp_path))
    assert type(through._place) is type(Files.at(str(tmp_path))._place)
    assert type(Files.at(f"file://{tmp_path}")._place) is type(through._place)


def test_local_files_are_synchronised_before_they_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, os.replace

    def recorded_fsync(descriptor: int) -> None:
        events.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")).split(".")[-1])
        fsync(descriptor)

    def recorded_replace(old: str, new: str) -> None:
        events.append("replace")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    Files.at(str(tmp_path / "d")).write("x", b"data")
    assert events == [tmp_path.name, "tmp", "replace", "d"]


def test_a_kill_leaves_nothing_that_looks_like_a_file(tmp_path: Path) -> None:
    code = (
        "import os, sys; from portabl.files import Files\n"
        "with Files.at(sys.argv[1]).writer('x') as f:\n f.write(b'half'); f.flush(); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == -9
    files = Files.at(str(tmp_path))
    assert files.names() == []
    assert not files.exists("x")


def test_local_directories_do_not_import_fsspec(tmp_path: Path) -> None:
    code = (
        "import sys; from portabl.files import Files\n"
        "files = Files.at(sys.argv[1]); files.write('x', b''); files.names(); print('fsspec' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"


FULL_DISK = """
mount -t tmpfs -o size=64k none "$1" && exec "$2" -c '
import sys
from portabl.errors import StateFull
from portabl.files import Files
files = Files.at(sys.argv[1])
files.write("small", b"kept")
try:
    files.write("large", b"x" * 2**20)
except StateFull as full:
    print(full.exit_code, full.hint, files.names(), files.read("small"))
' "$1"
"""


def test_a_full_disk_is_told_and_leaves_the_rest(tmp_path: Path) -> None:
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        full_device_is_told()
        return
    command = ["unshare", "-rm", "sh", "-c", FULL_DISK, "sh", str(tmp_path), sys.executable]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.startswith("4 free space")
    assert done.stdout.endswith("['small'] b'kept'\n")


def full_device_is_told() -> None:
    """Where a file system of our own cannot be mounted, the device that is always full is what is left."""
    with pytest.raises(StateFull), file_errors.translated("/dev", "full"), io.FileIO("/dev/full", "w") as full:
        full.write(b"x")


def test_the_full_device(tmp_path: Path) -> None:
    full_device_is_told()


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_refused_directory_is_told(tmp_path: Path) -> None:
    files = Files.at(str(tmp_path))
    files.write("secret", b"x")
    tmp_path.chmod(0)
    try:
        with unprivileged():
            for call in (lambda: files.read("secret"), files.names, lambda: files.exists("secret")):
                with pytest.raises(AccessDenied) as caught:
                    call()
                assert caught.value.hint
            with pytest.raises(AccessDenied):
                files.write("other", b"x")
    finally:
        tmp_path.chmod(0o700)


def test_a_file_where_a_directory_should_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"")
    with pytest.raises(StorageError):
        Files.at(str(tmp_path / "x")).write("y", b"")


@pytest.mark.parametrize("url", ["nosuch://place", "gopher-x://user:pw@host/x"])
def test_an_unknown_filesystem_is_a_usage_error_without_secrets(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        Files.at(url, {"password": SECRET})
    assert SECRET not in str(caught.value)
    assert "pw@" not in str(caught.value)


def test_refused_credentials_are_told_without_secrets(moto: S3Server) -> None:
    files = Files.at("s3://no-such-bucket-here/x", s3_options(moto, SECRET))
    for call in (lambda: files.write("x", b""), lambda: files.read("x")):
        with pytest.raises(StorageError) as caught:
            call()
        assert SECRET not in f"{caught.value!r} {caught.value} {caught.value.hint}"


def test_an_unreachable_place_is_an_error_and_not_empty(tmp_path: Path) -> None:
    options = {
        "key": "key-nobody-has",
        "secret": SECRET,
        "client_kwargs": {"endpoint_url": "http://127.0.0.1:9"},
        "config_kwargs": {"retries": {"max_attempts": 1}, "connect_timeout": 1},
        "skip_instance_cache": True,
    }
    files = Files.at("s3://bucket/x", options)
    for call in (files.names, lambda: files.exists("x"), lambda: files.read("x"), lambda: files.write("x", b"")):
        with pytest.raises(StorageError) as caught:
            call()
        assert not isinstance(caught.value, NotFound)
        assert SECRET not in f"{caught.value!r} {caught.value}"


def test_a_failing_upload_leaves_nothing_under_the_name() -> None:
    memory = fsspec.filesystem("memory")
    files = Files(memory, "/fails")
    files.write("x", b"before")
    original = type(memory).mv

    def broken(*_: object, **__: object) -> None:
        raise OSError("cut")

    type(memory).mv = broken
    try:
        with pytest.raises(StorageError, match="cut"):
            files.write("x", b"after")
    finally:
        type(memory).mv = original
    assert files.read("x") == b"before"
    assert [name for name in memory.store if name.startswith("/fails")] == ["/fails/x"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("sftp://user:p/w@host/path", "sftp://host/path"),
        ("https://tok@host/x?sig=abc&t=1", "https://host/x?..."),
        ("s3://bucket/a@b", "s3://bucket/a@b"),
        (f"zip://x::ftp://u:{SECRET}@h/x", "zip://x::ftp://h/x"),
    ],
)
def test_urls_are_printed_without_secrets(text: str, shown: str) -> None:
    assert file_errors.printable(text, None) == shown
    assert file_errors.printable(f"bad key {SECRET}", {"client": {"secret": SECRET}}) == "bad key ***"
