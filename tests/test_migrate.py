"""The conductor over real directories: what is one job, what must not overlap, dry runs, stops and filters."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from portabl import providers, state
from portabl.engines import Engine
from portabl.errors import JobLocked, StorageError, UsageError
from portabl.migrate import migrate
from portabl.migration import Migration
from portabl.model import Proof
from portabl.plan import Line
from portabl.progress import NoProgress
from portabl.state import Pass

CONFIG = providers.Config()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    for name in ("a.txt", "b.bin", "sub/c.txt", "sub/deep/d.bin"):
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / name).write_text(name)
    return tmp_path


def _files(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("target", ["./source", "./source/sub", ".", "./source/sub/../../source", "./link/new"])
def test_source_and_target_must_not_overlap(target: str, here: Path) -> None:
    (here / "link").symlink_to(here / "source")
    before = _files(here)
    with pytest.raises(UsageError, match="overlap"):
        migrate(Migration("./source", target, CONFIG))
    assert _files(here) == before


def test_neighbours_whose_names_begin_alike_do_not_overlap(here: Path) -> None:
    assert migrate(Migration("./source", "./source2", CONFIG)).exit_code == 0
    assert _files(here / "source2") == _files(here / "source")


def test_a_dry_run_writes_nothing_and_says_what_would_happen(here: Path) -> None:
    before = _files(here)
    report = migrate(Migration("./source", "./target", CONFIG, dry_run=True))
    assert (report.objects, report.copied, report.dry_run, report.manifest) == (4, 4, True, "")
    assert _files(here) == before
    assert not (here / "target").exists()
    assert not (here / "state").exists()


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (("*.txt",), (), {"a.txt", "sub/c.txt"}),
        ((), ("sub/**",), {"a.txt", "b.bin"}),
        (("*.bin",), ("sub/deep/",), {"b.bin"}),
        (("nothing",), (), set()),
    ],
)
def test_filters(include: tuple[str, ...], exclude: tuple[str, ...], expected: set[str], here: Path) -> None:
    report = migrate(Migration("./source", "./target", CONFIG, include=include, exclude=exclude))
    assert (report.exit_code, report.objects) == (0, len(expected))
    assert set(_files(here / "target")) == expected if expected else not _files(here / "target")


@pytest.mark.parametrize("processes", [1, 2])
def test_only_records_of_this_very_process_are_believed_as_its_own(
    processes: int, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other processes may be of another release, on this machine too: one that was installed meanwhile."""
    lines, asked = Pass.lines, []

    def spied(done: Pass, *, own: bool = False) -> Iterator[Line]:
        asked.append(own)
        return lines(done, own=own)

    monkeypatch.setattr(Pass, "lines", spied)
    monkeypatch.setattr(Engine, "run", lambda _self, _workers, plan, crew: crew.own.run(plan))
    migration = Migration("./source", "./target", CONFIG, engine=Engine(processes=processes))
    assert migrate(migration).exit_code == 0
    assert asked == [processes == 1]


def test_mirror_stays_within_the_filters(here: Path) -> None:
    (here / "target").mkdir()
    (here / "target" / "old.txt").write_text("old")
    (here / "target" / "old.bin").write_text("old")
    report = migrate(Migration("./source", "./target", CONFIG, include=("*.txt",), mirror=True))
    assert (report.exit_code, report.deleted) == (0, 1)
    assert set(_files(here / "target")) == {"a.txt", "sub/c.txt", "old.bin"}


class _StopAfter(NoProgress):
    def __init__(self, stop: threading.Event, objects: int) -> None:
        self._stop, self._left = stop, objects

    def advance(self, objects: int, size: int) -> None:
        self._left -= objects
        if self._left <= 0:
            self._stop.set()


@pytest.mark.parametrize("objects", range(1, 9))
def test_stopped_anywhere_and_continued_it_ends_in_the_same_root(objects: int, here: Path) -> None:
    undisturbed = migrate(Migration("./source", "./other", CONFIG)).source_root
    stop = threading.Event()
    work = Migration("./source", "./target", CONFIG, threads=1)
    first = migrate(work, progress=_StopAfter(stop, objects), stop=stop)
    assert first.exit_code in ((0, 4) if objects >= 8 else (4,))
    second = migrate(work)
    assert (second.exit_code, second.source_root, second.target_root) == (0, undisturbed, undisturbed)
    assert first.copied + second.copied == 4, "nothing is copied twice"
    assert _files(here / "target") == _files(here / "source")


def test_two_runs_of_one_job_exclude_each_other(here: Path) -> None:
    work = Migration("./source", "./target", CONFIG)
    migrate(work)
    (folder,) = (here / "state" / "portabl" / "jobs").iterdir()
    identity = {k: v for k, v in json.loads((folder / "job.json").read_text()).items() if k != "id"}
    with state.Job(here / "state" / "portabl", identity), pytest.raises(JobLocked):
        migrate(work)
    assert migrate(work).unchanged == 4


def test_a_source_that_is_not_there_is_no_empty_source(here: Path) -> None:
    migrate(Migration("./source", "./target", CONFIG))
    (here / "source").rename(here / "elsewhere")
    with pytest.raises(StorageError):
        migrate(Migration("./source", "./target", CONFIG, mirror=True))
    assert len(_files(here / "target")) == 4


@pytest.mark.parametrize(
    "option", [{"include": ("*",)}, {"exclude": ("x",)}, {"storage_class": "keep"}, {"symlinks": "follow"}]
)
def test_what_changes_the_outcome_makes_another_job(option: dict[str, Any], here: Path) -> None:
    for more in ({}, {}, option, {"proof": Proof.SIZE}, {"threads": 2}, {"mirror": True}):
        assert migrate(Migration("./source", "./target", CONFIG, **more)).exit_code == 0
    assert len(list((here / "state" / "portabl" / "jobs").iterdir())) == 2
