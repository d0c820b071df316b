"""Damage in what a run leaves behind: each byte changed, each length cut. Nothing says ok wrongly, nothing crashes.

The quick tests take every n-th place; the slow ones take all of them.
"""

from __future__ import annotations

import io
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from faults import page

from portabl import providers, verify_manifest, worklog
from portabl.errors import Interrupted, ManifestError, PortablError
from portabl.journal import Journal
from portabl.migrate import migrate
from portabl.migration import Migration
from portabl.progress import NoProgress
from portabl.verify import verify

SECTION = "Damage"
CONFIG = providers.Config()
REFUSED = "refused"


@dataclass(frozen=True)
class Yard:
    """A job that has run once, with all it left behind, in a directory from which each try starts anew."""

    folder: Path
    root: str

    @property
    def migration(self) -> Migration:
        names = (str(self.folder / name) for name in ("source", "target", "state"))
        source, target, state = names
        return Migration(source, target, CONFIG, threads=1, state=state)

    def fresh(self) -> None:
        """As it was after the first run."""
        for name in ("target", "state"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
            shutil.copytree(self.folder / "kept" / name, self.folder / name)

    def only(self, pattern: str) -> Path:
        (found,) = (self.folder / "state").rglob(pattern)
        return found

    def next_run(self) -> str:
        """Exit 0 is right only if everything is there and the root is the same; any other end is a clear error."""
        try:
            report = migrate(self.migration)
        except PortablError as error:
            return f"named ({error.exit_code})"
        assert (report.exit_code, report.source_root, report.target_root) == (0, self.root, self.root)
        for path in (self.folder / "source").iterdir():
            assert (self.folder / "target" / path.name).read_bytes() == path.read_bytes()
        return "absorbed"


class _Stop(NoProgress):
    """Asks for an end after some objects."""

    def __init__(self, objects: int) -> None:
        self.left = objects

    def advance(self, objects: int, size: int) -> None:
        self.left -= objects
        if self.left <= 0:
            raise Interrupted("enough")


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    """Three objects, one published pass, and one that was interrupted with an upload open."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)  # thousands of runs, and no power cut among them
        folder = tmp_path_factory.mktemp("damage")
        (folder / "source").mkdir()
        for number in range(3):
            (folder / "source" / f"k-{number}").write_bytes(b"%d" % number * number)
        here = Yard(folder, "")
        root = migrate(here.migration).source_root
        (folder / "source" / "k-0").write_bytes(b"another")
        _interrupt(here)
        (folder / "kept").mkdir()
        for name in ("target", "state"):
            shutil.copytree(folder / name, folder / "kept" / name)
        here.fresh()
        done = migrate(here.migration)
        assert done.source_root != root
        yield Yard(folder, done.source_root)


def _interrupt(here: Yard) -> None:
    assert migrate(here.migration, progress=_Stop(2)).interrupted
    journal = Journal(here.only("journal.sqlite3"))
    journal.intend_upload(b"k-9", "identity", 5, ("foreign",))
    journal.name_upload(b"k-9", "token")
    journal.add_part(b"k-9", 1, "00" * 32, "tag")
    journal.close()


def _damages(data: bytes, step: int, start: int) -> Iterator[bytes]:
    """Every ``step``-th byte changed, then cut at every ``step``-th length."""
    for at in range(start % step, len(data), step):
        yield data[:at] + bytes([data[at] ^ (1 if at % 2 else 0x20)]) + data[at + 1 :]
    for length in range(start % step, len(data), step):
        yield data[:length]


def _verified(yard: Yard, folder: Path) -> str:
    try:
        found = verify(str(folder), str(yard.folder / "target"), CONFIG, threads=1)
    except ManifestError:
        return REFUSED
    return f"exit {found.exit_code}"


def _alone(folder: Path) -> str:
    """The stand-alone verifier: 2 says that there is no usable manifest."""
    said = io.TextIOWrapper(io.BytesIO())
    with redirect_stdout(said), redirect_stderr(said):
        code = verify_manifest.main([str(folder)])
    return REFUSED if code == 2 else f"exit {code}"


@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["manifest.json", "000000.jsonl.gz"])
def test_manifest(name: str, step: int, yard: Yard) -> None:
    yard.fresh()
    path = yard.only(name)
    folder = path.parent if name == "manifest.json" else path.parent.parent
    good = path.read_bytes()
    written_anew = (yard.folder / "target" / "k-0").read_bytes() == b"another"  # by the run that was interrupted
    assert (_alone(folder), _verified(yard, folder)) == ("exit 0", "exit 3" if written_anew else "exit 0")
    for bad in _damages(good, step, 2):
        path.write_bytes(bad)
        assert (_alone(folder), _verified(yard, folder)) == (REFUSED, REFUSED), (len(bad), bad)
    for column in ("verify", "verify_manifest.py"):
        page.check(SECTION, name, column, REFUSED)


@pytest.mark.parametrize("share", [40, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["manifest.json", "000000.jsonl.gz"])
def test_next_run_over_a_damaged_manifest(name: str, share: int, yard: Yard) -> None:
    yard.fresh()
    path = yard.only(name)
    good = path.read_bytes()
    for number, bad in enumerate(_damages(good, share, 7)):
        if number % 100 == 0:  # a run that is refused leaves little behind: a line in the journal
            yard.fresh()
        path.write_bytes(bad)
        assert yard.next_run() == "named (3)", (len(bad), bad)
    path.write_bytes(good)
    assert yard.next_run() == "absorbed"
    page.check(SECTION, name, "next run", "named (3)")


def test_next_run_over_damaged_records(yard: Yard) -> None:
    """Every byte and every length: what is believed of them is what was written; some of them all the way."""
    yard.fresh()
    path = yard.only("*.log")
    good = path.read_bytes()
    lines = dict.fromkeys(line for line, _ in worklog.of_file(path))
    assert len(lines) >= 2
    for bad in _damages(good, 1, 0):
        path.write_bytes(bad)
        assert {line for line, _ in worklog.of_file(path)} < lines.keys(), (len(bad), bad)
    for bad in _damages(good, 61, 7):
        yard.fresh()
        path.write_bytes(bad)
        assert yard.next_run() == "absorbed", (len(bad), bad)
    page.check(SECTION, "records of an interrupted pass", "next run", "absorbed")


def _read_all(path: Path) -> list[object]:
    """Whatever a run asks the journal for."""
    journal = Journal(path)
    try:
        uploads = [journal.open_upload(key) for key in journal.open_keys()]
        return [journal.published(), journal.history(9), uploads, journal.begin_pass()]
    finally:
        journal.close()


def _shrunk(path: Path) -> bytes:
    """The journal in pages of 512 bytes, so that few of its bytes mean nothing."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in ("PRAGMA journal_mode=DELETE", "PRAGMA page_size=512", "VACUUM"):
            db.execute(statement)
    return path.read_bytes()


@pytest.mark.parametrize("step", [23, pytest.param(1, marks=pytest.mark.slow)])
def test_journal(step: int, yard: Yard, tmp_path: Path) -> None:
    """A damaged journal is an error, or tells a run just what it told before, or the run ends right all the same."""
    yard.fresh()
    path = yard.only("journal.sqlite3")
    good, right = _shrunk(path), ("absorbed", "named (2)", "named (3)")  # 3: it names a manifest that is not there
    assert len(good) < 10_000
    copy = tmp_path / "journal.sqlite3"
    copy.write_bytes(good)
    told = _read_all(copy)
    differing = 0
    for bad in _damages(good, step, 3):
        for litter in tmp_path.iterdir():
            litter.unlink()
        copy.write_bytes(bad)
        with suppress(PortablError):
            if _read_all(copy) != told:
                differing += 1
                yard.fresh()
                path.write_bytes(bad)
                assert yard.next_run() in right, (len(bad), bad)
    assert differing, "no damage reached a run"
    for bad in _damages(good, 211, 11):  # and some whatever they do
        yard.fresh()
        path.write_bytes(bad)
        assert yard.next_run() in right, (len(bad), bad)
    page.check(SECTION, "journal.sqlite3", "next run", " or ".join(right))
