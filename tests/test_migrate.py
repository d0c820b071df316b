"""The conductor over real directories: what is one job, what must not overlap, dry runs, stops and filters."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from portabl import listing, manifest, providers, standstill, state, verify_manifest
from portabl.engines import Engine
from portabl.errors import JobLocked, ManifestError, StorageError, UsageError
from portabl.listing import Listing
from portabl.migrate import migrate
from portabl.migration import Migration
from portabl.model import Entry, Proof
from portabl.plan import Line
from portabl.progress import NoProgress
from portabl.report import Report
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


class _Stages(NoProgress):
    """Which stages there were."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def stage(self, name: str, total: int | None) -> None:
        self.names.append(name)


def _stages(work: Migration, code: int = 0) -> tuple[Report, list[str]]:
    progress = _Stages()
    report = migrate(work, progress=progress)
    assert report.exit_code == code
    return report, progress.names


STILL = ["compare"]
USUAL = ["copy", "prove"]


def test_a_pass_in_which_nothing_moves_says_the_last_manifest_again(here: Path) -> None:
    first = migrate(Migration("./source", "./target", CONFIG))
    second, stages = _stages(Migration("./source", "./target", CONFIG, manifest="./manifest"))
    assert stages == STILL
    assert (second.copied, second.adopted, second.unchanged, second.objects, second.bytes) == (0, 0, 4, 4, first.bytes)
    assert second.source_root == second.target_root == first.source_root
    assert first.manifest != second.manifest
    for folder in (second.manifest, *(str(path) for path in (here / "state").rglob("manifests/*"))):
        document, differences = verify_manifest.verify(folder)
        assert (document["root"], differences) == (first.source_root, 0)
    assert (here / "manifest" / "manifest.json").read_bytes() in [
        path.read_bytes() for path in (here / "state").rglob("manifests/0002/manifest.json")
    ]


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("name", ["a.txt", "sub/c.txt", "sub/deep/d.bin"])
def test_one_change_at_either_side_is_put_right(name: str, side: str, here: Path) -> None:
    work = Migration("./source", "./target", CONFIG)
    migrate(work)
    (here / side / name).write_text(f"changed {name}")
    report, stages = _stages(work)
    assert stages == [*STILL, *USUAL]
    assert (report.copied, report.unchanged) == (1, 3)
    assert _files(here / "target") == _files(here / "source")
    (here / side / name).unlink()
    report, stages = _stages(work)
    assert stages == [*STILL, *USUAL]
    assert report.extra == (side == "source")
    assert (here / "target" / name).exists()


@pytest.mark.parametrize("name", ["0", "b.txt", "z"])
def test_what_only_one_side_has(name: str, here: Path) -> None:
    work = Migration("./source", "./target", CONFIG)
    root = migrate(work).source_root
    (here / "target" / name).write_text("extra")
    report, stages = _stages(work)
    assert (stages, report.extra, report.deleted, report.source_root) == (STILL, 1, 0, root)
    report, stages = _stages(replace(work, mirror=True))
    assert (stages, report.extra, report.deleted, report.source_root) == ([*STILL, "mirror"], 0, 1, root)
    assert _files(here / "target") == _files(here / "source")
    (here / "source" / name).write_text("new")
    report, stages = _stages(replace(work, mirror=True))
    assert (stages, report.copied, report.deleted) == ([*STILL, *USUAL], 1, 0)
    assert _files(here / "target") == _files(here / "source")


def test_a_source_that_stays_empty_empties_no_target(here: Path) -> None:
    work = Migration("./source", "./target", CONFIG, include=("nothing*",), mirror=True)
    migrate(work)
    (here / "target" / "nothing").write_text("extra")
    report, stages = _stages(work)
    assert (stages, report.objects, report.extra, report.deleted) == (STILL, 0, 1, 0)
    assert any("the source is empty" in warning for warning in report.warnings)
    assert (here / "target" / "nothing").exists()


def test_bytes_that_are_to_be_read_back_take_the_usual_way(here: Path) -> None:
    migrate(Migration("./source", "./target", CONFIG))
    report, stages = _stages(Migration("./source", "./target", CONFIG, proof=Proof.READBACK))
    assert (stages, report.copied, report.unchanged) == (USUAL, 0, 4)


def test_what_an_unfinished_run_knows_comes_first(here: Path) -> None:
    work = Migration("./source", "./target", CONFIG, threads=1)
    migrate(work)
    (here / "source" / "a.txt").write_text("changed")
    stop = threading.Event()
    assert migrate(work, progress=_StopAfter(stop, 2), stop=stop).exit_code == 4
    assert _stages(work)[1] == USUAL
    assert _stages(work)[1] == STILL


@pytest.mark.parametrize("objects", [1, 4])
def test_stopped_while_it_looks_nothing_is_begun(objects: int, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standstill, "TOLD_TOGETHER", 1)
    work = Migration("./source", "./target", CONFIG)
    migrate(work)
    stop = threading.Event()
    stopped = migrate(work, progress=_StopAfter(stop, objects), stop=stop)
    assert stopped.exit_code == (4 if objects < 4 else 0)
    assert _stages(work)[1] == STILL, "no pass was begun, or it was finished"


def test_stopped_while_it_mirrors_the_next_run_goes_on(here: Path) -> None:
    work = Migration("./source", "./target", CONFIG, mirror=True)
    migrate(work)
    for name in ("x", "y"):
        (here / "target" / name).write_text("extra")
    stop = threading.Event()

    class AtMirror(_Stages):
        def stage(self, name: str, total: int | None) -> None:
            if name == "mirror":
                stop.set()

    assert migrate(work, progress=AtMirror(), stop=stop).exit_code == 4
    report, stages = _stages(work)
    assert (stages, report.deleted, report.extra, report.copied) == ([*USUAL, "mirror"], 2, 0, 0)
    assert _stages(work)[1] == STILL


@pytest.mark.parametrize("moment", ["before", "between"])
def test_a_damaged_manifest_is_never_said_again(moment: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Migration("./source", "./target", CONFIG, manifest="./manifest")
    migrate(work)
    (segment,) = (here / "state").rglob("*.jsonl.gz")
    good, published = segment.read_bytes(), _files_of(here / "manifest")

    def damage() -> None:
        segment.write_bytes(good[:-6] + bytes([good[-6] ^ 1]) + good[-5:])

    if moment == "before":
        damage()
    said_again = manifest.again
    monkeypatch.setattr(manifest, "again", lambda *some: (damage(), said_again(*some))[1])
    with pytest.raises(ManifestError):
        migrate(work)
    assert len(list((here / "state").rglob("manifest.json"))) == 1
    assert _files_of(here / "manifest") == published, "nothing is published in its place"
    with pytest.raises(ManifestError, match="cannot be trusted"):
        migrate(work)
    segment.write_bytes(good)
    assert _stages(work)[0].unchanged == 4


def _files_of(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_listing_out_of_order_is_looked_at_again(side: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AHEAD_CHUNK", "AHEAD_CHUNKS", "SPOOLED_TOGETHER"):
        monkeypatch.setattr(listing, name, 1)
    work = Migration("./source", "./target", CONFIG)
    root = migrate(work).source_root
    for name in ("0", "00"):
        (here / "target" / name).write_text("extra")
    straight, disordered, asked = Listing._watched, list[str](), list[str]()

    def watched(self: Listing, entries: Iterable[Entry]) -> Iterator[Entry]:
        """As of a store that promises order and, at the beginning of its listing, breaks the promise."""
        name = self.storage.name
        asked.append(f"{name} begins")
        try:
            if name.endswith(side) and not disordered:
                first, second, *others = entries
                disordered.append(side)
                entries = [second, first, *others]
            yield from straight(self, entries)
        finally:
            asked.append(f"{name} ends")

    monkeypatch.setattr(Listing, "_watched", watched)
    report, stages = _stages(work)
    assert (disordered, stages) == ([side], STILL * 2)
    assert (report.unchanged, report.extra, report.source_root) == (4, 2, root)
    for name in ("./source", "./target"):
        events = [event.removeprefix(f"{name} ") for event in asked if event.startswith(name)]
        assert events in (["begins", "ends"], ["begins", "ends"] * 2), "one is given up before it is begun again"


@pytest.mark.parametrize(
    "option",
    [{"proof": Proof.SIZE}, {"engine": Engine(processes=2)}, {"listers": 2}, {"state": "memory://still/{}"}],
    ids=["size", "processes", "listers", "state"],
)
def test_nothing_moves_whatever_the_options(option: dict[str, Any], here: Path) -> None:
    more = {name: value.format(here.name) if name == "state" else value for name, value in option.items()}
    work = Migration("./source", "./target", CONFIG, **more, manifest="./manifest")
    root = migrate(work).source_root
    if "state" in more:
        shutil.rmtree(here / "state")  # as on another machine
    for _ in range(2):
        report, stages = _stages(work)
        assert (stages, report.unchanged, report.source_root) == (STILL, 4, root)
    assert verify_manifest.verify("./manifest")[0]["proof"] == str(work.proof)
    (here / "source" / "sub" / "c.txt").write_text("changed")
    assert _stages(work)[0].copied == 1
    assert _files(here / "target") == _files(here / "source")
