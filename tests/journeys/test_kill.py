"""Stop anywhere: killed at random instants and at named ones, the same command goes on and ends in the same root."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults import page
from journeys.yard import MIB, Yard, large_items, make_bucket, small_items
from kit.hazards import Seen, snapshot
from kit.proxy import Fault, FaultProxy
from kit.servers import S3Server

from portabl.large import PARTS_IN_FLIGHT

THREADS = 8
KILLS = 15
"""On each of the two stores: thirty in all."""

DRIVER = str(Path(__file__).with_name("killed.py"))

Stock = tuple[S3Server, str, dict[bytes, Seen]]


@pytest.fixture(scope="module")
def stock(seaweed2: S3Server) -> Stock:
    """A source with 60 small and 3 large objects."""
    bucket = make_bucket(seaweed2, small_items(60) + large_items([17 * MIB + 5, 16 * MIB + 1, 18 * MIB]))
    return seaweed2, bucket, snapshot(seaweed2, bucket)


@pytest.fixture(scope="module")
def little(seaweed2: S3Server) -> Stock:
    """A source with 24 small and 2 large objects."""
    bucket = make_bucket(seaweed2, small_items(24) + large_items([17 * MIB + 1, 18 * MIB]))
    return seaweed2, bucket, snapshot(seaweed2, bucket)


def _start(yard: Yard, *command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*command, *yard.arguments] if command else yard.here.command(*yard.arguments),
        cwd=yard.here.folder,
        env=dict(yard.here.environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def _killed_after(yard: Yard, seconds: float) -> bool:
    """Start a run and kill its process group after so long; False when it had ended by then."""
    run = _start(yard)
    try:
        run.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate()
        return True
    assert run.returncode == 0
    return False


def _instants(duration: float) -> list[float]:
    """Random instants, one in each of `KILLS` equal slices of an undisturbed run, in random order."""
    dice = random.Random(20260)
    instants = [(part + dice.random()) * duration / KILLS for part in range(KILLS)]
    dice.shuffle(instants)
    return instants


def _kill_until_done(yard: Yard, instants: list[float]) -> int:
    """Kill runs at the next instants, taken from the list, until one ends before it is hit; the number of kills."""
    kills = 0
    while instants and _killed_after(yard, instants[-1]):
        kills += 1
        instants.pop()
    if not kills:
        instants[-1] *= 0.9  # this run was faster than the one that was measured
    return kills


@pytest.mark.slow
@pytest.mark.parametrize("name", ["seaweed", "rgw"])
def test_killed_at_random_instants(name: str, stock: Stock, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    target: S3Server = request.getfixturevalue(name)
    source, bucket, seen = stock
    with FaultProxy(target.endpoint) as proxy:

        def yard(number: int) -> Yard:
            return Yard.at(tmp_path / str(number), source, bucket, target, via_target=proxy.endpoint, seen=seen)

        first = yard(0)
        began = time.monotonic()
        assert first.run().code == 0
        instants = _instants(time.monotonic() - began)
        needed = proxy.counts["put"] + proxy.counts["part"]
        assert 60 + 3 + 3 + 3 <= needed <= 60 + 3 + 3 + 3 + 8  # the adapter may try the server out first
        root = first.proven()
        rounds = total = repeated = 0
        while instants:
            rounds += 1
            here = yard(rounds)
            proxy.counts.clear()
            kills = _kill_until_done(here, instants)
            total += kills
            here.proven(root)
            sent = proxy.counts["put"] + proxy.counts["part"]
            repeated += sent - needed
            assert sent <= needed + kills * (THREADS + PARTS_IN_FLIGHT)
        print(f"{name}: {total} kills in {rounds} rounds, {repeated} objects or parts sent twice")
        assert total == KILLS
        assert repeated < KILLS * 8, "far more than what was in flight is repeated"


@pytest.mark.slow
def test_killed_between_directories_and_a_store(stock: Stock, seaweed: S3Server, tmp_path: Path) -> None:
    """A directory as target, then as source: no litter, the same roots."""
    source, bucket, seen = stock
    down = Yard.at(tmp_path / "down", source, bucket, seaweed, seen=seen, aim="./export")
    began = time.monotonic()
    root = down.run().document["source_root"]
    instants = _instants(time.monotonic() - began)[:6]
    for folder in range(100):
        if not instants:
            break
        down.aim = f"./export-{folder}"
        _kill_until_done(down, instants)
        done = down.run()
        assert (done.code, done.document["source_root"], done.document["target_root"]) == (0, root, root)
        export = down.here.folder / down.aim
        files = {path.relative_to(export).as_posix().encode(): path for path in export.rglob("*") if path.is_file()}
        assert {key: hashlib.sha256(path.read_bytes()).hexdigest() for key, path in files.items()} == {
            key: one.sha256 for key, one in seen.items()
        }
        assert not [path for path in export.rglob("*") if "tmp" in path.name], "litter"
    up = Yard.at(tmp_path / "down", source, bucket, seaweed, seen=seen, origin="./export")
    up.options = ("--restore", down.run().document["manifest"])
    for instant in _instants(1.5)[:6]:
        _killed_after(up, instant)
    up.proven(root)


PLACES = [
    ("portabl.journal:Journal.begin_pass", 1, "after"),
    ("portabl.shards:Shard._append", 3, "before"),
    ("portabl.shards:Shard._append", 20, "after"),
    ("portabl.journal:Journal.intend_upload", 1, "before"),
    ("portabl.journal:Journal.intend_upload", 2, "after"),
    ("portabl.journal:Journal.name_upload", 1, "before"),
    ("portabl.journal:Journal.name_upload", 2, "after"),
    ("portabl.journal:Journal.add_part", 2, "before"),
    ("portabl.journal:Journal.add_part", 4, "after"),
    ("portabl_adapters.s3.upload:S3Upload.finish", 1, "before"),
    ("portabl_adapters.s3.upload:S3Upload.finish", 1, "after"),
    ("portabl_adapters.s3.upload:S3Upload.finish", 2, "after"),
    ("portabl.journal:Journal.end_upload", 1, "before"),
    ("portabl.journal:Journal.end_upload", 1, "after"),
    ("portabl.shards:Shard._close", 1, "before"),
    ("portabl.shards:Shard._close", 2, "after"),
    ("portabl.journal:Journal.add_shard", 1, "before"),
    ("portabl.manifest:ManifestWriter.add", 7, "before"),
    ("portabl.manifest:ManifestWriter.finish", 1, "before"),
    ("portabl.manifest:ManifestWriter.finish", 1, "after"),
    ("portabl.journal:Journal.end_pass", 1, "before"),
    ("portabl.journal:Journal.end_pass", 1, "after"),
    ("portabl.state:Job.forget", 1, "after"),
]


def _die(yard: Yard, *places: str) -> None:
    """Run until the place is reached; fails when it is not."""
    run = _start(yard, sys.executable, DRIVER, "portabl.shards:SHARD_OBJECTS=10", *places, "--")
    _, err = run.communicate(timeout=120)
    assert run.returncode == -signal.SIGKILL, (places, run.returncode, err.decode())


@pytest.fixture(scope="module")
def root(little: Stock, rgw: S3Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The root of an undisturbed run."""
    source, bucket, seen = little
    return Yard.at(tmp_path_factory.mktemp("undisturbed"), source, bucket, rgw, seen=seen).proven()


@pytest.mark.slow
@pytest.mark.parametrize(("place", "number", "moment"), PLACES, ids=lambda value: str(value).rpartition(":")[2])
def test_killed_at_a_named_place(
    place: str, number: int, moment: str, little: Stock, rgw: S3Server, root: str, tmp_path: Path
) -> None:
    source, bucket, seen = little
    yard = Yard.at(tmp_path, source, bucket, rgw, seen=seen)
    _die(yard, f"{place}@{number},{moment}")
    yard.proven(root)
    page.check("kill -9", f"{moment} call {number} of `{place.rpartition(':')[2]}`", "outcome", "named (137)")


@pytest.mark.slow
@pytest.mark.parametrize("moved", [False, True], ids=["same machine", "another machine"])
@pytest.mark.parametrize(
    "place",
    [
        "portabl.remote_state:RemoteState.push@2,before",
        "portabl.remote_state:RemoteState.push@2,after",
        "portabl.remote_state:RemoteState._send@4,after",
        "portabl.remote_state:RemoteState._mark@1,after",
        "portabl.remote_state:RemoteState._mark@2,before",
        "portabl.state:Job.forget@1,after",
    ],
    ids=lambda value: value.rpartition(":")[2],
)
def test_killed_with_remote_state(place: str, moved: bool, seaweed: S3Server, tmp_path: Path) -> None:
    """The state lies in a bucket; the next run is here, or on a machine that knows nothing."""
    bucket = make_bucket(seaweed, small_items(60))
    yard = Yard.at(tmp_path, seaweed, bucket, seaweed)
    yard.options = ("--state", f"new:{seaweed.bucket('state')}/portabl")
    _die(yard, "portabl.remote_state:PUSH_SECONDS=0", place)
    if moved:
        shutil.rmtree(yard.here.folder / "home" / "state")
    root = yard.proven()
    assert yard.run().document["copied"] == 0
    shutil.rmtree(yard.here.folder / "home" / "state")
    done = yard.run()
    assert (done.document["unchanged"], done.document["source_root"]) == (60, root), "the remote state was lost"


def test_killed_twice_with_remote_state_before_the_first_push(seaweed: S3Server, tmp_path: Path) -> None:
    """What a killed run recorded here counts, although the remote state is older than that."""
    bucket = make_bucket(seaweed, small_items(30))
    yard = Yard.at(tmp_path, seaweed, bucket, seaweed)
    yard.options = ("--state", f"new:{seaweed.bucket('state')}/portabl")
    yard.proven()
    for number in range(30):
        seaweed.client().put_object(Bucket=bucket, Key=f"more/{number:02d}", Body=b"%d" % number)
    shutil.rmtree(yard.here.folder / "home" / "state")  # another machine: it fetches the state first
    _die(yard, "portabl.shards:Shard._append@40,after")  # among them the records that were known, at most 30
    done = yard.run()
    assert done.code == 0
    assert done.document["unchanged"] >= 30 + 10


def _interrupted(yard: Yard, proxy: FaultProxy, signals: int) -> tuple[int, str, float]:
    """Send SIGINT in the middle of copying; exit code, standard error, seconds until the end."""
    run = _start(yard)
    while proxy.counts["put"] < 20:
        assert run.poll() is None
        time.sleep(0.01)
    began = time.monotonic()
    for _ in range(signals):
        run.send_signal(signal.SIGINT)
        time.sleep(0.2)
    _, err = run.communicate(timeout=60)
    return run.returncode, err.decode(), time.monotonic() - began


@pytest.mark.parametrize("signals", [1, 2])
def test_interrupted(signals: int, little: Stock, rgw: S3Server, root: str, tmp_path: Path) -> None:
    """Once: what is in flight is finished. Twice: the end comes at once. Either way the same command goes on."""
    source, bucket, seen = little
    with FaultProxy(rgw.endpoint) as proxy:
        yard = Yard.at(tmp_path, source, bucket, rgw, via_target=proxy.endpoint, seen=seen)
        slow = proxy.add(Fault("delay", kind="part", seconds=2.0 if signals == 1 else 60))
        proxy.add(Fault("delay", kind="put", seconds=0.1))
        code, err, seconds = _interrupted(yard, proxy, signals)
        assert code == 4, err
        assert "stopping" in err
        assert "Traceback" not in err
        if signals == 2:
            assert seconds < 30, "not at once"
        assert slow.fired
        proxy.clear()
        proxy.counts.clear()
        yard.proven(root)
        if signals == 1:
            assert proxy.counts["put"] + proxy.counts["part"] < 24 + 3 + 3, "nothing was kept"
