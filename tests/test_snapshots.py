"""Snapshots side by side: what they share, what a prune takes, and thirty nights of it."""

from __future__ import annotations

import datetime
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portabl import package, providers, snapshots
from portabl.errors import Interrupted, ManifestError, UsageError
from portabl.model import Proof
from portabl.package import Export, Restore
from portabl.package_format import COMPLETE, INCOMPLETE, REMOVING, UNFINISHED, parse, with_state
from portabl.report import Report
from portabl.snapshots import DAMAGED, Retention, Snapshot, decide

CONFIG = providers.Config()
NIGHT = datetime.datetime(2026, 3, 1, 2, 0, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    for name in ("a.txt", "b.bin", "sub/c.txt", "100%"):
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / name).write_text(name)
    return tmp_path


def _take(night: int = 0, **more: object) -> Report:
    job = Export("./source", "./nightly", CONFIG, threads=4, **more)  # type: ignore[arg-type]
    return snapshots.take(job, now=NIGHT + night * DAY)


def _names() -> list[str]:
    return [one.name for one in snapshots.snapshots("./nightly", CONFIG)]


def _body(here: Path, night: int, name: str) -> Path:
    return here / "nightly" / (NIGHT + night * DAY).strftime("%Y%m%dT%H%M%SZ") / "data" / name


def _stranger(folder: Path) -> int:
    command = [sys.executable, "-I", "-S", str(folder / "verify_package.py"), str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode


def test_what_is_unchanged_is_shared_and_each_is_whole(here: Path) -> None:
    first = _take(0)
    (here / "source" / "a.txt").write_text("another a")
    (here / "source" / "new").write_text("new")
    (here / "source" / "b.bin").unlink()
    second = _take(1)
    assert (first.exit_code, first.copied, first.shared) == (0, 4, 0)
    assert (second.exit_code, second.objects, second.copied, second.shared) == (0, 4, 2, 2)
    assert os.path.samefile(_body(here, 0, "sub/c.txt"), _body(here, 1, "sub/c.txt"))
    assert os.path.samefile(_body(here, 0, "100!25"), _body(here, 1, "100!25"))
    assert not os.path.samefile(_body(here, 0, "a.txt"), _body(here, 1, "a.txt"))
    assert not _body(here, 1, "b.bin").exists()
    whole = package.export(Export("./source", "./whole", CONFIG))
    assert whole.source_root == second.source_root
    shutil.rmtree(here / "nightly" / _names()[0])
    assert _stranger(here / "nightly" / _names()[0]) == 0
    assert [found.exit_code for _, found in snapshots.verify("./nightly", CONFIG)] == [0]


def test_a_third_shares_with_the_second(here: Path) -> None:
    """Linking changes the change time of a file, which must not make it look changed."""
    for night in range(3):
        assert _take(night).exit_code == 0
    assert _body(here, 0, "a.txt").stat().st_nlink == 3
    assert all(found.exit_code == 0 for _, found in snapshots.verify("./nightly", CONFIG))


@pytest.mark.parametrize("harm", ["gone", "longer", "touched"])
def test_a_harmed_snapshot_does_not_harm_the_next(harm: str, here: Path) -> None:
    _take(0)
    body = _body(here, 0, "a.txt")
    if harm == "gone":
        body.unlink()
    elif harm == "longer":
        body.write_text("much longer than it was")
    else:
        body.write_text("A.txt")
        os.utime(body, ns=(1, 1))
    report = _take(1)
    assert (report.exit_code, report.copied, report.shared) == (0, 1, 3)
    assert _body(here, 1, "a.txt").read_text() == "a.txt"


def test_an_earlier_package_is_named_in_many_ways(here: Path) -> None:
    package.export(Export("./source", "./one", CONFIG))
    for number, since in enumerate(("./one", "./one/", "./one/manifest", "./one/manifest/manifest.json")):
        report = package.export(Export("./source", f"./more{number}", CONFIG, since=since))
        assert (report.exit_code, report.shared) == (0, 4)


def test_another_source_shares_nothing(here: Path) -> None:
    package.export(Export("./source", "./one", CONFIG))
    shutil.copytree(here / "source", here / "other")
    with pytest.raises(UsageError, match="another source"):
        package.export(Export("./other", "./two", CONFIG, since="./one"))
    with pytest.raises(UsageError, match="no package"):
        package.export(Export("./source", "./two", CONFIG, since="./source"))
    assert not (here / "two").exists()


def test_a_damaged_manifest_is_not_believed(here: Path) -> None:
    _take(0)
    segment = here / "nightly" / _names()[0] / "manifest" / "segments" / "000000.jsonl.gz"
    segment.write_bytes(segment.read_bytes()[:-1])
    with pytest.raises(ManifestError):
        _take(1)


def _mark(folder: Path, state: str) -> None:
    document = parse((folder / "package.json").read_bytes(), "")
    (folder / "package.json").write_bytes(with_state(document, state).to_json())


def test_an_interrupted_snapshot_is_continued(here: Path) -> None:
    _take(0)
    _take(1)
    _mark(here / "nightly" / _names()[1], UNFINISHED)
    assert _take(2).exit_code == 0
    assert len(_names()) == 2
    assert {one.state for one in snapshots.snapshots("./nightly", CONFIG)} == {COMPLETE}


def test_two_in_one_second(here: Path) -> None:
    for _ in range(2):
        assert _take(0).exit_code == 0
    assert _names() == ["20260301T020000Z", "20260301T020000Z-2"]


# --- prune ------------------------------------------------------------------------------------------------------------


def _prune(apply: bool = True, proof: Proof = Proof.SIZE, **rules: int) -> snapshots.Pruned:
    return snapshots.prune("./nightly", CONFIG, Retention(**rules), apply=apply, proof=proof, threads=4)  # type: ignore[arg-type]


def test_prune_is_a_dry_run_unless_asked(here: Path) -> None:
    for night in range(3):
        _take(night)
    done = _prune(apply=False, last=1)
    assert [decision.keep for decision in done.decisions] == [False, False, True]
    assert (done.removed, len(_names())) == ((), 3)
    done = _prune(last=1)
    assert (len(done.removed), done.exit_code) == (2, 0)
    assert sorted(path.name for path in (here / "nightly").iterdir()) == [_names()[0]]
    assert _stranger(here / "nightly" / _names()[0]) == 0


def test_prune_needs_a_rule(here: Path) -> None:
    _take(0)
    with pytest.raises(UsageError, match="no rule"):
        _prune()


@pytest.mark.parametrize("damage", ["missing body", "missing document", "manifest", "flipped"])
def test_prune_takes_nothing_while_what_stays_is_not_proven(damage: str, here: Path) -> None:
    for night in range(2):
        _take(night)
    newest = here / "nightly" / _names()[1]
    victim = {"missing body": "data/a.txt", "missing document": "README.txt", "flipped": "data/a.txt"}
    path = newest / victim.get(damage, "manifest/manifest.json")
    if damage in ("flipped", "manifest"):
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data[:-3] + bytes([data[-3] ^ 1]) + data[-2:])
    else:
        path.unlink()
    done = _prune(last=1, proof=Proof.READBACK)
    assert done.exit_code == 3
    assert done.removed == ()
    assert len(_names()) == 2
    assert "is to stay" in done.refused


def test_a_prune_that_was_killed_is_finished_by_the_next(here: Path) -> None:
    for night in range(2):
        _take(night)
    half = here / "nightly" / _names()[0]
    _mark(half, REMOVING)
    (half / "data" / "a.txt").unlink()
    with pytest.raises(ManifestError, match="being removed"):
        package.restore(Restore(str(half), "./back", CONFIG))
    assert _take(2).exit_code == 0
    assert _prune(last=9).removed == (half.name,)
    assert not half.exists()


def test_an_interrupted_prune_says_so(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    for night in range(2):
        _take(night)
    stop = threading.Event()
    stop.set()
    with pytest.raises(Interrupted):
        snapshots.prune("./nightly", CONFIG, Retention(last=1), apply=True, stop=stop)
    assert len(_names()) == 2


def _list(states: list[str], start: datetime.datetime = NIGHT, step: datetime.timedelta = DAY) -> list[Snapshot]:
    return [Snapshot(f"{n:03}", "", start + n * step, state) for n, state in enumerate(states)]


def _kept(there: list[Snapshot], **rules: object) -> list[str]:
    return [d.snapshot.name for d in decide(there, Retention(**rules)) if d.keep]  # type: ignore[arg-type]


def test_rules() -> None:
    there = _list([COMPLETE] * 60)  # 1 March to 29 April 2026, a Sunday to a Wednesday
    assert _kept(there, last=2) == ["058", "059"]
    assert _kept(there, daily=3) == ["057", "058", "059"]
    assert _kept(there, weekly=2) == ["056", "059"]
    assert _kept(there, monthly=5) == ["030", "059"]
    assert _kept(there, last=1, weekly=2, monthly=2) == ["030", "056", "059"]


def test_several_a_day_and_a_day_that_begins_elsewhere() -> None:
    there = _list([COMPLETE] * 48, step=datetime.timedelta(hours=1))
    assert _kept(there, daily=9) == ["021", "045", "047"]
    assert _kept(there, daily=9, zone="Europe/Berlin") == ["020", "044", "047"]
    with pytest.raises(UsageError, match="zone"):
        _kept(there, daily=1, zone="Mars/Base")


def test_incomplete_unfinished_and_damaged_ones() -> None:
    there = _list([COMPLETE, INCOMPLETE, UNFINISHED, DAMAGED, COMPLETE, INCOMPLETE, UNFINISHED, REMOVING])
    assert _kept(there, last=1) == ["002", "003", "004", "005", "006"], "without package.json it is not ours to remove"
    assert _kept(_list([INCOMPLETE, UNFINISHED]), last=1) == ["000", "001"]
    same_day = _list([COMPLETE, INCOMPLETE, COMPLETE], step=datetime.timedelta(hours=1))
    assert _kept([*same_day[:2], *_list([COMPLETE], start=NIGHT + 5 * DAY)], daily=2) == ["000", "000"]


@given(
    st.lists(st.sampled_from([COMPLETE, INCOMPLETE, UNFINISHED, DAMAGED]), max_size=50),
    st.tuples(*[st.integers(0, 5)] * 4).filter(any),
)
def test_the_newest_complete_one_always_stays(states: list[str], counts: tuple[int, int, int, int]) -> None:
    there = _list(states, step=datetime.timedelta(hours=7))
    rules = dict(zip(("last", "daily", "weekly", "monthly"), counts, strict=True))
    kept = set(_kept(there, **rules))
    complete = [one.name for one in there if one.state == COMPLETE]
    assert set(complete[-1:]) <= kept
    assert {one.name for one in there if one.state == DAMAGED} <= kept
    assert len(kept & set(complete)) >= min(len(complete), counts[0])


# --- thirty nights ----------------------------------------------------------------------------------------------------


def _change(source: Path, dice: random.Random) -> None:
    files = sorted(path for path in source.rglob("*") if path.is_file())
    for path in dice.sample(files, 2):
        path.write_bytes(dice.randbytes(dice.randrange(200)))
    dice.choice([path for path in files if path.parent == source]).unlink()  # an empty directory would be a key too
    for _ in range(2):
        path = source / dice.choice(("", "x/", "y/%/")) / f"n {dice.randrange(10**6)}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(dice.randbytes(dice.randrange(200)))


def test_thirty_nights(here: Path) -> None:
    dice = random.Random(3)
    source = here / "source"
    for number in range(20):
        (source / f"f{number}").write_bytes(dice.randbytes(100))
    roots: dict[str, str] = {}
    contents: dict[str, dict[str, bytes]] = {}
    for night in range(30):
        _change(source, dice)
        report = _take(night)
        assert report.exit_code == 0
        assert night == 0 or report.copied <= 4
        name = (NIGHT + night * DAY).strftime("%Y%m%dT%H%M%SZ")
        roots[name] = report.source_root
        contents[name] = {str(p.relative_to(source)): p.read_bytes() for p in source.rglob("*") if p.is_file()}
        if night % 5 == 4:
            assert _prune(last=3, weekly=3).exit_code == 0
    left = _names()
    assert 3 < len(left) < 8
    for one, found in snapshots.verify("./nightly", CONFIG):
        assert (found.exit_code, getattr(found, "root_proven", "")) == (0, roots[one.name])
    oldest = left[0]
    assert package.restore(Restore(f"./nightly/{oldest}", "./back", CONFIG)).exit_code == 0
    back = here / "back"
    assert {str(p.relative_to(back)): p.read_bytes() for p in back.rglob("*") if p.is_file()} == contents[oldest]

    victim = next(path for path in sorted((here / "nightly" / oldest / "data").rglob("f*")) if path.is_file())
    with victim.open("r+b") as file:
        byte = file.read(1)
        file.seek(0)
        file.write(bytes([byte[0] ^ 1]))
    sharing = {n for n in left if (p := here / "nightly" / n / "data" / victim.name).exists() and p.samefile(victim)}
    bad = {one.name: found for one, found in snapshots.verify("./nightly", CONFIG) if found.exit_code}
    assert set(bad) == sharing
    for found in bad.values():
        assert [(issue.kind, issue.key) for issue in found.issues] == [("content", victim.name.encode())]  # type: ignore[union-attr]


KEEP_ONE = Retention(last=1)


def _pruned(rules: Retention = KEEP_ONE) -> tuple[str, ...]:
    return tuple(snapshots.prune("./nightly", CONFIG, rules, apply=True).removed)


def test_an_empty_source_makes_no_good_snapshot_superfluous(here: Path) -> None:
    """A directory that was not mounted is exported as nothing, completely."""
    assert _take(0).exit_code == 0
    shutil.rmtree(here / "source")
    (here / "source").mkdir()
    assert _take(1).objects == 0
    assert _pruned() == ()
    assert _body(here, 0, "a.txt").exists()


def test_snapshots_of_different_sources_are_counted_apart(here: Path) -> None:
    assert _take(0).exit_code == 0
    (here / "other").mkdir()
    (here / "other" / "x").write_text("x")
    job = Export("./other", "./nightly", CONFIG, threads=4)
    assert snapshots.take(job, now=NIGHT + DAY).exit_code == 0
    assert _pruned() == ()
    assert len(_names()) == 2


def test_what_is_no_package_is_never_removed(here: Path) -> None:
    """A stranger's folder of such a name, and a snapshot whose package.json was lost."""
    stranger = here / "nightly" / "20250101T000000Z" / "database.dump"
    stranger.parent.mkdir(parents=True)
    stranger.write_text("precious")
    for night in range(3):
        assert _take(night).exit_code == 0
    (here / "nightly" / _names()[1] / "package.json").unlink()
    assert _pruned(Retention(last=9)) == ()
    assert stranger.read_text() == "precious"
    assert _body(here, 0, "a.txt").exists()


def test_a_clock_that_was_wrong_once_costs_no_snapshot(here: Path) -> None:
    job = Export("./source", "./nightly", CONFIG, threads=4)
    assert snapshots.take(job, now=datetime.datetime(2038, 1, 1, tzinfo=datetime.UTC)).exit_code == 0
    assert _take(0).exit_code == 0
    assert _take(1).exit_code == 0
    assert len(_pruned()) == 1
    assert _body(here, 1, "a.txt").exists(), "the newest of those with a possible time stays"


def test_an_export_whose_package_was_taken_away_under_it_is_no_success(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proven = package.between

    def taken_away(*arguments: object, **more: object) -> Report:
        report = proven(*arguments, **more)  # type: ignore[arg-type]
        document = here / "whole" / "package.json"
        document.write_bytes(with_state(parse(document.read_bytes(), "whole"), REMOVING).to_json())
        return report

    monkeypatch.setattr(package, "between", taken_away)
    with pytest.raises(UsageError, match="removing"):
        package.export(Export("./source", "./whole", CONFIG, threads=4))
