"""Export jobs and the jobs that read their snapshots again, over many simulated nights."""

from __future__ import annotations

import os
import random
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from jobs.place import Place

from portabl.errors import PortablError, UsageError
from portabl.jobs import check
from portabl.jobs.ring import Position, arc
from portabl.snapshots import snapshots

NIGHTLY = (
    '[jobs.nightly]\nkind = "export"\nsource = "data"\ntarget = "backup"\nstate = "state"\n'
    'schedule = "30 2 * * *"\ntimezone = "Europe/Berlin"\nretention = { last = 2, daily = 3, monthly = 2 }\n'
)
REREAD = '[jobs.reread]\nkind = "snapshots-verify"\nsource = "backup"\nwithin = "5d"\nschedule = "0 6 * * *"\n'


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    made.data(**{f"f{number:02d}": f"content {number}" for number in range(25)})
    return made


def _names(place: Place) -> list[str]:
    return [one.name for one in snapshots(str(place.folder / "backup"), place.jobs.config)]


def _state(place: Place, name: str) -> str:
    with place.runner() as runner:
        return check.health(runner.jobs.job(name), runner.store, place.clock()).state


def _payload(place: Place, snapshot: str, key: str) -> Path:
    return place.folder / "backup" / snapshot / "data" / key


def test_an_export_job_takes_a_snapshot_and_the_next_one_only_what_changed(place: Place) -> None:
    place.write(NIGHTLY)
    first = place.run()
    assert (first.result, first.objects, first.changes) == ("ok", 25, 25)
    place.clock.forward(days=1)
    place.data(f01="changed", extra="new")
    second = place.run()
    assert (second.result, second.objects, second.changes) == ("ok", 26, 2)
    old, new = _names(place)
    assert _payload(place, old, "f02").stat().st_ino == _payload(place, new, "f02").stat().st_ino, "shared"
    assert _payload(place, old, "f01").read_text() == "content 1"


def _rot(path: Path) -> None:
    """One bit is another, and nothing but reading shows it; no other snapshot shares the file."""
    stamp, good = path.stat(), path.read_bytes()
    other = path.with_name("copy")
    other.write_bytes(bytes([good[0] ^ 1]) + good[1:])
    path.unlink()
    other.rename(path)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))


def test_thirty_nights(place: Place) -> None:
    """Changes, prunes and rereadings. A byte that rots is found in time, and told until its snapshot is pruned."""
    dice = random.Random(7)
    place.write((NIGHTLY + REREAD).replace("5d", "2d").replace("schedule", "threads = 2\nschedule"))
    place.data(still="never changed")
    red: list[int] = []
    for night in range(30):
        place.clock.set((datetime(2026, 5, 20, 0, 30) + timedelta(days=night)).isoformat())
        place.data(**{f"f{dice.randrange(25):02d}": f"night {night}", f"n{night:02d}": "new"})
        (place.folder / "data" / f"n{night - 3:02d}").unlink(missing_ok=True)
        assert place.run().result == "ok"
        if night == 15:
            _rot(_payload(place, "20260603T003000Z", "still"))
        place.clock.forward(hours=5, minutes=30)
        again = place.run("reread")
        if again.result != "ok":
            red.append(night)
            assert (again.exit_code, '20260603T003000Z: content: "still"' in again.message) == (3, True)
        assert (_state(place, "nightly"), _state(place, "reread")) == ("ok", "failed" if red[-1:] == [night] else "ok")
    assert red[0] in (15, 16), "found within the two days"
    assert red == list(range(red[0], 17)), "and told every day, as long as it is kept"
    assert _names(place) == ["20260531T003000Z", *(f"202606{day}T003000Z" for day in range(16, 19))]


@pytest.mark.parametrize("within_days", [1.5, 2, 5, 7.3, 30])
def test_every_key_is_read_again_in_time(within_days: float) -> None:
    keys = [str(number).encode() for number in range(300)]
    within, night = timedelta(days=within_days), timedelta(days=1)
    now = datetime(2026, 6, 1, tzinfo=UTC)
    position: Position | None = None
    last = dict.fromkeys(keys, now)
    read = 0
    for _ in range(100):
        turn = arc(position, now, now + night, within)
        for key in keys:
            if turn.sample is None or turn.sample.takes(key):
                assert now - last[key] <= within
                last[key] = now
                read += 1
        position = turn.done(now)
        now += night
    assert all(now - night - moment <= within for moment in last.values())
    assert read <= 100 * len(keys) * min(1.0, 1.3 / max(within_days - 1, 0.1)), "a share, not everything each time"


def test_after_runs_that_were_left_out_more_is_read() -> None:
    night, within = timedelta(days=1), timedelta(days=11)
    start = datetime(2026, 6, 1, tzinfo=UTC)
    position = arc(None, start, start + night, within).done(start)
    usual = arc(position, start + night, start + 2 * night, within)
    later = arc(position, start + 4 * night, start + 5 * night, within)
    assert usual.share == pytest.approx(0.1)
    assert later.share == pytest.approx(0.4)
    assert arc(position, start + 99 * night, start + 100 * night, within).share == 1.0


def test_nothing_to_read_again_is_no_success(place: Place) -> None:
    place.write(NIGHTLY + REREAD)
    (place.folder / "backup").mkdir()
    with pytest.raises(UsageError, match="no finished snapshot"):
        place.run("reread")
    assert _state(place, "reread") == "failed"


def test_a_snapshot_that_lost_its_description_is_told(place: Place) -> None:
    place.write(NIGHTLY + REREAD)
    place.run()
    (name,) = _names(place)
    (place.folder / "backup" / name / "package.json").write_text("{}")
    run = place.run("reread")
    assert (run.result, run.exit_code) == ("failed", 3)
    assert f"{name}: damaged" in run.message


def test_a_missing_object_is_told_whatever_the_share(place: Place) -> None:
    place.write(NIGHTLY + REREAD.replace("5d", "900d"))
    place.run()
    (name,) = _names(place)
    _payload(place, name, "f13").unlink()
    assert re.search(f'{name}: missing: "f13"', place.run("reread").message)


def test_nothing_is_pruned_while_what_stays_is_not_as_it_should_be(place: Place) -> None:
    place.write(NIGHTLY.replace("last = 2, daily = 3, monthly = 2", "last = 2"))
    place.run()
    place.clock.forward(days=1)
    place.run()
    newest = _names(place)[-1]
    _payload(place, newest, "f13").unlink()
    place.data(f13="so that it is not shared from there")
    place.clock.forward(days=1)
    run = place.run()
    assert (run.result, run.exit_code) == ("failed", 3)
    assert "nothing was pruned" in run.message
    assert len(_names(place)) == 3


def test_an_incomplete_export_prunes_nothing_and_says_so(place: Place) -> None:
    place.write(NIGHTLY.replace("last = 2, daily = 3, monthly = 2", "last = 1"))
    place.run()
    (place.folder / "data" / "link").symlink_to("f01")
    place.clock.forward(days=1)
    run = place.run()
    assert (run.result, run.exit_code) == ("failed", 3)
    assert len(_names(place)) == 2


def test_an_interrupted_export_is_gone_on_with_in_the_same_snapshot(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    from portabl.package_writing import Describer

    place.write(NIGHTLY)

    def down(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Describer, "describe", down)
    with pytest.raises(KeyboardInterrupt):
        place.run()
    monkeypatch.undo()
    place.clock.forward(hours=3)
    after = place.run()
    assert (after.result, after.resumes) == ("ok", 1)
    assert len(_names(place)) == 1


def test_a_manifest_may_be_read_by_turns_too(place: Place) -> None:
    place.write(
        NIGHTLY.replace('"export"', '"migrate"').replace("retention", "#")
        + REREAD.replace('"snapshots-verify"\nsource = "backup"', '"verify"\nmanifest_of = "nightly"')
    )
    place.run()
    shares = []
    for _ in range(7):
        shares.append(place.run("reread"))
        place.clock.forward(days=1)
    assert {run.result for run in shares} == {"ok"}
    path = place.folder / "backup" / "f07"
    path.write_text("content X")
    results = []
    for _ in range(6):
        results.append(place.run("reread").result)
        place.clock.forward(days=1)
    assert results[-1] == "failed"


def test_a_wrong_source_is_an_error(place: Place) -> None:
    place.write(NIGHTLY.replace('"data"', '"gone"'))
    with pytest.raises(PortablError):
        place.run()
    assert _state(place, "nightly") == "failed"
