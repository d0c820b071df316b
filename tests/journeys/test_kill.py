"""Stop anywhere: killed at random instants and at named ones, the same command goes on and ends in the same root."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from journeys.yard import MIB, Yard, large_items, make_bucket, small_items
from kit.hazards import Seen, snapshot
from kit.proxy import FaultProxy
from kit.servers import S3Server

from portabl.large import PARTS_IN_FLIGHT

THREADS = 8
KILLS = 30
DRIVER = str(Path(__file__).with_name("killed.py"))

Stock = tuple[S3Server, str, dict[bytes, Seen]]


@pytest.fixture(scope="module")
def stock(seaweed2: S3Server) -> Stock:
    """A source with 240 small and 4 large objects."""
    bucket = make_bucket(seaweed2, small_items(240) + large_items([33 * MIB + 5, 30 * MIB, 36 * MIB, 31 * MIB]))
    return seaweed2, bucket, snapshot(seaweed2, bucket)


@pytest.fixture(scope="module")
def little(seaweed2: S3Server) -> Stock:
    """A source with 24 small and 2 large objects."""
    bucket = make_bucket(seaweed2, small_items(24) + large_items([17 * MIB + 1, 25 * MIB]))
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


@pytest.mark.slow
@pytest.mark.parametrize("name", ["seaweed", "rgw"])
def test_killed_at_random_instants(name: str, stock: Stock, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    target: S3Server = request.getfixturevalue(name)
    source, bucket, seen = stock
    with FaultProxy(target.endpoint) as proxy:

        def yard(number: int) -> Yard:
            return Yard.at(tmp_path / str(number), source, bucket, target, via_target=proxy.endpoint, seen=seen)

        began = time.monotonic()
        root = yard(0).proven()
        duration = time.monotonic() - began
        needed = proxy.counts["put"] + proxy.counts["part"]
        assert needed == 240 + 5 + 4 + 5 + 4
        dice = random.Random(20260)
        instants = [(slot + dice.random()) * duration / KILLS for slot in range(KILLS)]
        dice.shuffle(instants)
        rounds = open_uploads = 0
        while instants:
            rounds += 1
            here, kills = yard(rounds), 0
            proxy.counts.clear()
            while instants and _killed_after(here, instants.pop()):
                kills += 1
                open_uploads += len(here.uploads())
            here.proven(root)
            sent = proxy.counts["put"] + proxy.counts["part"]
            print(f"{name}: round {rounds}, {kills} kills, {sent} objects and parts sent, {needed} needed")
            assert sent <= needed + kills * (THREADS + PARTS_IN_FLIGHT)
        assert open_uploads, "no kill came in the middle of an upload: this test shows less than it says"


PLACES = [
    ("portabl.journal:Journal.begin_pass", 1, "after"),
    ("portabl.shards:Shard.add_line", 3, "before"),
    ("portabl.shards:Shard.add_line", 20, "after"),
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
