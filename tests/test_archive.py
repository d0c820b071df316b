"""A package as one stream: what a stranger finds while it passes, what a cut does, and what is left of a failure."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest

from portabl import package, providers, verify_package
from portabl.errors import Interrupted, ManifestError, UsageError
from portabl.model import Proof
from portabl.package import Export, Restore

CONFIG = providers.Config()
LARGE = bytes(range(256)) * 75_000
FILES = {"a": b"", "sub/100%": b"%", "sub/new\nline": b"n", "large": LARGE, "z" * 200: b"long"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name, data in FILES.items():
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / name).write_bytes(data)
    return tmp_path


def _export(target: str, **more: object) -> package.Report:
    return package.export(Export("./source", target, CONFIG, threads=4, **more))  # type: ignore[arg-type]


def _passing(data: bytes) -> int:
    script = verify_package.__file__
    return subprocess.run(
        [sys.executable, "-I", "-S", script, "-"], input=data, capture_output=True, check=False
    ).returncode


@pytest.mark.parametrize("kind", ["tar", "tar.zst", "zip"])
def test_there_and_back(kind: str, here: Path) -> None:
    whole = package.export(Export("./source", "./whole", CONFIG))
    report = _export(f"./p.{kind}", proof=Proof.READBACK)
    assert (report.exit_code, report.source_root, report.copied) == (0, whole.source_root, len(FILES))
    found = package.verify(f"./p.{kind}", CONFIG)
    assert (found.exit_code, found.root_proven) == (0, whole.source_root)
    back = package.restore(Restore(f"./p.{kind}", "./back", CONFIG))
    assert (back.exit_code, back.target_root) == (0, whole.source_root)
    files = [path for path in (here / "back").rglob("*") if path.is_file()]
    assert {str(path.relative_to(here / "back")): path.read_bytes() for path in files} == FILES
    assert sorted(os.listdir(here)) == sorted(["source", "whole", "back", "state", f"p.{kind}"])
    with pytest.raises(UsageError, match="already"):
        _export(f"./p.{kind}")


def test_a_stranger_reads_while_it_passes(here: Path) -> None:
    _export("./p.tar")
    data = (here / "p.tar").read_bytes()
    assert _passing(data) == 0
    at = data.index(LARGE) + 12_345
    assert _passing(data[:at] + b"?" + data[at + 1 :]) == 1
    for cut in (0, 100, at, len(data) - 15_000, data.index(b"p/package.json")):
        assert _passing(data[:cut]) == 2, cut


def test_the_payload_comes_first_and_package_json_last(here: Path) -> None:
    _export("./p.tar")
    _export("./p.zip")
    with tarfile.open(here / "p.tar") as tar, zipfile.ZipFile(here / "p.zip") as packed:
        names = tar.getnames()
        assert packed.namelist() == names
    assert all(name.startswith("p/data/") for name in names[: len(FILES)])
    assert names[-1] == "p/package.json"


@pytest.mark.parametrize("kind", ["tar", "tar.zst", "zip"])
def test_a_cut_or_damaged_archive_is_no_package(kind: str, here: Path) -> None:
    _export(f"./p.{kind}")
    data = (here / f"p.{kind}").read_bytes()
    (here / f"cut.{kind}").write_bytes(data[: len(data) // 2])
    with pytest.raises(ManifestError):
        package.verify(f"./cut.{kind}", CONFIG)
    with pytest.raises(ManifestError):
        package.restore(Restore(f"./cut.{kind}", "./back", CONFIG))


def test_an_interrupted_archive_leaves_nothing(here: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Interrupted):
        package.export(Export("./source", "./p.tar", CONFIG), stop=stop)
    assert sorted(os.listdir(here)) == ["source"]
    (here / ".p.tar.0123456789abcdef.tmp").write_text("what a killed run left")
    (here / ".q.tar.0123456789abcdef.tmp").write_text("another's")
    assert _export("./p.tar").exit_code == 0
    assert sorted(os.listdir(here)) == [".q.tar.0123456789abcdef.tmp", "p.tar", "source"]


def test_what_cannot_be_read_is_named(here: Path) -> None:
    os.mkfifo(here / "source" / "pipe")
    report = _export("./p.tar")
    assert (report.exit_code, report.failed) == (3, 1)
    assert package.verify("./p.tar", CONFIG).exit_code == 3
    assert _passing((here / "p.tar").read_bytes()) == 1


def test_what_an_archive_cannot_do(here: Path) -> None:
    _export("./whole")
    with pytest.raises(UsageError, match="everything itself"):
        _export("./p.tar", since="./whole")
    with pytest.raises(UsageError, match="within the source"):
        _export("./source/p.tar")
    assert _export("./p.tar", dry_run=True).copied == len(FILES)
    assert not (here / "p.tar").exists()
