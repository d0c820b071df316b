"""Records held against a place: an oracle for the merge, and a directory that is damaged in every way."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portabl import providers, registry
from portabl.budget import Budget
from portabl.checker import pairs
from portabl.errors import Changed, Interrupted
from portabl.migrate import migrate
from portabl.migration import Migration
from portabl.model import Entry, Proof, Record
from portabl.readback import PIECE, Reader
from portabl.verify import fingerprint, verify

KEYS = st.sets(st.binary(max_size=3), max_size=12)


@given(KEYS, KEYS)
def test_the_merge_against_sets(recorded: set[bytes], listed: set[bytes]) -> None:
    lines = [(b"", Record(key, 1, None)) for key in sorted(recorded)]
    extra: list[bytes] = []
    found = list(pairs(lines, [Entry(key, 1) for key in sorted(listed)], lambda entry: extra.append(entry.key)))
    assert [line[1].key for line, _ in found] == sorted(recorded)
    assert {line[1].key for line, entry in found if entry is not None} == recorded & listed
    assert all(entry is None or entry.key == line[1].key for line, entry in found)
    assert extra == sorted(listed - recorded)


@pytest.fixture
def moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with ``source``, its copy ``target`` and their ``manifest``."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "source" / "sub").mkdir(parents=True)
    for name in ("a", "b", "c", "sub/d"):
        (tmp_path / "source" / name).write_text(f"content of {name}")
    (tmp_path / "source" / "large").write_bytes(os.urandom(2 * PIECE + 12345))
    report = migrate(Migration("./source", "./target", providers.Config(), manifest="./manifest"))
    assert report.exit_code == 0
    return tmp_path


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "flipped bit": (lambda target: _flip(target / "b"), "content_differs"),
    "flipped bit of a large file": (lambda target: _flip(target / "large"), "content_differs"),
    "cut": (lambda target: os.truncate(target / "sub" / "d", 3), "size_differs"),
    "longer": (lambda target: (target / "a").write_text("content of a+"), "size_differs"),
    "gone": (lambda target: (target / "a").unlink(), "missing"),
    "a link in its place": (lambda target: ((target / "a").unlink(), (target / "a").symlink_to("b")), "unreadable"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_found_and_named(name: str, moved: Path) -> None:
    config = providers.Config()
    whole = verify("./manifest", None, config)
    assert (whole.exit_code, whole.root_proven) == (0, whole.root)
    damage, counter = DAMAGE[name]
    damage(moved / "target")
    found = verify("./manifest", "./target", config)
    assert found.exit_code == 3
    wrong = ("missing", "size_differs", "content_differs", "unreadable", "metadata_differs")
    assert {kind for kind in wrong if getattr(found, kind)} == {counter}, found
    assert sum(getattr(found, kind) for kind in wrong) == found.issues_total == 1
    assert found.root_proven != found.root
    by_listing = verify("./manifest", "./target", config, proof=Proof.SIZE)
    assert by_listing.exit_code == (0 if counter == "content_differs" else 3)


def test_what_is_only_there_is_told_and_no_failure(moved: Path) -> None:
    (moved / "target" / "new").write_text("x")
    found = verify("./manifest", None, providers.Config())
    assert (found.exit_code, found.extra, found.root_proven) == (0, 1, found.root)
    assert [(issue.kind, issue.key) for issue in found.issues] == [("extra", b"new")]


def test_filters_of_the_run_are_filters_of_its_verification(moved: Path) -> None:
    migrate(Migration("./source", "./part", providers.Config(), manifest="./less", include=("sub/**",)))
    (moved / "part" / "a").write_text("out of scope")
    found = verify("./less", None, providers.Config())
    assert (found.exit_code, found.objects, found.extra) == (0, 1, 0)


def test_an_interrupted_verification_proves_nothing(moved: Path) -> None:
    stop = threading.Event()
    stop.set()
    found = verify("./manifest", None, providers.Config(), stop=stop)
    assert (found.exit_code, found.interrupted, found.root_proven, found.complete) == (4, True, "", False)
    with pytest.raises(Interrupted):
        fingerprint("./target", providers.Config(), stop=stop)


def test_a_fingerprint_is_the_root(moved: Path) -> None:
    found = fingerprint("./target", providers.Config())
    assert found.root == verify("./manifest", None, providers.Config()).root
    assert (found.objects, found.issues) == (5, ())
    _flip(moved / "target" / "large")
    assert fingerprint("./target", providers.Config()).root != found.root


@pytest.mark.parametrize("size", [0, 1, PIECE, 2 * PIECE, 2 * PIECE + 1, 5 * PIECE + 7])
def test_reading_back_in_pieces(size: int, tmp_path: Path) -> None:
    data = os.urandom(size)
    (tmp_path / "x").write_bytes(data)
    with registry.open_location(str(tmp_path), providers.Config()) as storage, Reader(storage, Budget()) as reader:
        (entry,) = storage.entries()
        read = reader.read(entry)
        assert (read.size, read.sha256) == (size, hashlib.sha256(data).hexdigest())
        (tmp_path / "x").write_bytes(data + b"!")
        with pytest.raises(Changed):
            reader.read(entry)
