"""Views against the tools that read them."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest
from manifest_samples import record

from portabl.model import Record
from portabl.views import View, bagit_manifest, s3_batch_csv, sha256sums

EASY = [b" lead", b"#h", b"*star", b"-dash", b"...", b"a b/c d", b"percent%0A", b"plain", b"trail ", b"uni\xc3\xa9"]
HARD = [b"\\n", b"a\\", b"back\\slash", b"bytes\xff\xfe", b"car\rret", b"new\nline", b"tab\tx", b"~\n\r\\"]
IMPOSSIBLE = [b"", b"/lead", b"a//b", b"a/./b", b"a/../b", b"dir/", b"..", b"nul\0"]


def filled(directory: Path, names: list[bytes]) -> list[Record]:
    some = []
    for name in sorted(names):
        path = os.path.join(os.fsencode(directory), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(name * 3)
        some.append(record(name, name * 3))
    return some


def checked(directory: Path, sums: Path) -> int:
    command = ["sha256sum", "--strict", "--check", "--quiet", str(sums)]
    return subprocess.run(command, cwd=directory, check=False, capture_output=True).returncode


def test_sha256sum_reads_every_name(tmp_path: Path) -> None:
    directory = tmp_path / "d"
    directory.mkdir()
    some = filled(directory, EASY + HARD)
    sums = tmp_path / "SHA256SUMS"
    with sums.open("wb") as out:
        assert sha256sums(some, out) == View(len(some), {})
    assert checked(directory, sums) == 0
    (directory / "new\nline").write_bytes(b"changed")
    assert checked(directory, sums) == 1


def test_the_bytes_are_those_sha256sum_writes(tmp_path: Path) -> None:
    some = filled(tmp_path, EASY + HARD)
    out = io.BytesIO()
    sha256sums(some, out)
    names = [os.fsdecode(one.key) for one in some]
    done = subprocess.run(["sha256sum", "--", *names], cwd=tmp_path, check=True, capture_output=True)
    assert out.getvalue() == done.stdout


def rclone(directory: Path, sums: Path) -> int:
    program = shutil.which("rclone") or os.path.join(os.path.dirname(sys.executable), "rclone")
    environment = {**os.environ, "RCLONE_CONFIG": "/dev/null"}
    command = [program, "checksum", "sha256", str(sums), str(directory)]
    return subprocess.run(command, check=False, capture_output=True, env=environment).returncode


def test_rclone_reads_names_without_escapes(tmp_path: Path) -> None:
    directory = tmp_path / "d"
    directory.mkdir()
    sums = tmp_path / "SHA256SUMS"
    with sums.open("wb") as out:
        sha256sums(filled(directory, EASY), out)
    assert rclone(directory, sums) == 0
    (directory / "plain").write_bytes(b"changed")
    assert rclone(directory, sums) == 1


def test_rclone_refuses_rather_than_skips_names_with_escapes(tmp_path: Path) -> None:
    """rclone does not know the escapes of coreutils: it must at least not call such a list checked."""
    directory = tmp_path / "d"
    directory.mkdir()
    sums = tmp_path / "SHA256SUMS"
    with sums.open("wb") as out:
        sha256sums(filled(directory, [b"back\\slash"]), out)
    assert rclone(directory, sums) == 1


@pytest.mark.parametrize("view", [sha256sums, bagit_manifest])
def test_what_names_no_file_of_its_own_is_left_out_and_counted(view: object) -> None:
    out = io.BytesIO()
    some = [record(key) for key in sorted(IMPOSSIBLE)] + [replace(record(b"unread"), sha256=None)]
    found = view(some, out)  # type: ignore[operator]
    assert out.getvalue() == b""
    assert found == View(0, {"no relative path": len(IMPOSSIBLE), "not read": 1}, tuple(one.key for one in some))


def test_only_the_current_version_is_listed() -> None:
    marker = Record(b"gone", 0, None, ordinal=1, delete_marker=True)
    some = [record(b"gone"), marker, record(b"k", b"old"), replace(record(b"k", b"new"), ordinal=3), record(b"l")]
    out = io.BytesIO()
    assert sha256sums(some, out).written == 2
    assert hashlib.sha256(b"new").hexdigest().encode() + b"  k\n" in out.getvalue()
    assert b"gone" not in out.getvalue()


def test_examples_are_bounded() -> None:
    found = sha256sums((record(b"/%03d" % n) for n in range(100)), io.BytesIO())
    assert (found.left_out, len(found.examples)) == ({"no relative path": 100}, 20)


def test_bagit_names_are_percent_encoded() -> None:
    out = io.BytesIO()
    found = bagit_manifest([record(b"100%\r\n"), record(b"a b"), record(b"\xff")], out)
    digest = hashlib.sha256(b"").hexdigest()
    assert out.getvalue().decode() == f"{digest}  data/100%25%0D%0A\n{digest}  data/a b\n"
    assert found == View(2, {"not UTF-8": 1}, (b"\xff",))


def test_s3_batch_rows_decode_to_the_exact_keys() -> None:
    keys = sorted(EASY + HARD + IMPOSSIBLE + [b'quote",comma'])
    out = io.BytesIO()
    found = s3_batch_csv(
        [record(key) for key in keys], out, "bucket", b"p\xff/", lambda one: one.source.version or "v,1"
    )
    rows = list(csv.reader(io.StringIO(out.getvalue().decode("ascii"), newline="")))
    assert found == View(len(keys), {})
    assert [unquote_to_bytes(row[1]) for row in rows] == [b"p\xff/" + key for key in keys]
    assert {(row[0], row[2]) for row in rows} == {("bucket", "v,1")}
    assert out.getvalue().count(b"\r\n") == len(keys)


def test_s3_batch_has_two_columns_without_versions_and_no_empty_key() -> None:
    out = io.BytesIO()
    assert s3_batch_csv([record(b""), record(b"a b+c")], out, "bucket") == View(1, {"empty key": 1}, (b"",))
    assert out.getvalue() == b"bucket,a%20b%2Bc\r\n"
