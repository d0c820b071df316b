"""Further processes and a Dask cluster do what one process does, also when workers die under them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from journeys.yard import MIB, Yard, large_items, make_bucket, small_items
from kit.hazards import Item, Seen, snapshot
from kit.proxy import Fault, FaultProxy
from kit.servers import S3Server

SHARDS_OF_20 = "import portabl.fleet; portabl.fleet.SHARD_STEPS = 20; from portabl.cli import main; main()"
ENGINES = [("--processes", "2"), ("--engine", "dask", "--processes", "2")]
NAMES = ["processes", "dask"]
PATIENCE = 60

Stock = tuple[S3Server, str, dict[bytes, Seen], str]


@pytest.fixture(scope="module")
def stock(seaweed2: S3Server, seaweed: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Stock:
    """A source of 200 small objects, some with unusual keys, and two large ones; and the root one process finds."""
    odd = [Item(f"Odd/{c} {n}".encode(), b"x", {}) for n, c in enumerate("éÜ%+ &=")]
    bucket = make_bucket(seaweed2, small_items(200) + odd + large_items([17 * MIB + 1, 25 * MIB]))
    seen = snapshot(seaweed2, bucket)
    alone = Yard.at(
        tmp_path_factory.mktemp("alone"), seaweed2, bucket, seaweed, seen=seen, options=("--processes", "1")
    )
    return seaweed2, bucket, seen, alone.proven()


def _yard(folder: Path, stock: Stock, target: S3Server, *engine: str, **more: str) -> Yard:
    server, bucket, seen, _ = stock
    return Yard.at(folder, server, bucket, target, seen=seen, options=engine, **more)


def _start(yard: Yard) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SHARDS_OF_20, *yard.arguments],
        cwd=yard.here.folder,
        env=dict(yard.here.environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _children(pid: int) -> set[int]:
    """Processes below one, as the kernel tells it."""
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        for task in Path(f"/proc/{waiting.pop()}/task").glob("*/children"):
            below = {int(word) for word in task.read_text().split()} - found
            found |= below
            waiting += below
    return found


def _until(holds: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.02)


def _workers(run: subprocess.Popen[str]) -> list[int]:
    """Workers that have begun to write a shard's records."""
    commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in _children(run.pid)}
    return [pid for pid, command in commands.items() if b"spawn_main" in command or b"forkserver" in command]


def test_the_same_root_as_one_process(stock: Stock, seaweed: S3Server, tmp_path: Path) -> None:
    yard = _yard(tmp_path, stock, seaweed, "--processes", "2")
    run = _start(yard)
    out, err = run.communicate(timeout=120)
    assert run.returncode == 0, err
    report = json.loads(out)
    assert report["source_root"] == report["target_root"] == stock[3]
    assert report["copied"] == report["objects"] == len(stock[2])
    yard.equal()
    again = yard.run().document
    assert (again["copied"], again["unchanged"]) == (0, len(stock[2]))


@pytest.mark.parametrize("engine", ENGINES, ids=NAMES)
def test_a_worker_that_dies_loses_nothing(
    engine: tuple[str, ...], stock: Stock, seaweed: S3Server, tmp_path: Path
) -> None:
    with FaultProxy(seaweed.endpoint) as proxy:
        proxy.add(Fault("delay", kind="put", seconds=0.05))
        yard = _yard(tmp_path, stock, seaweed, *engine, via_target=proxy.endpoint)
        run = _start(yard)
        begun = yard.here.state
        _until(lambda: list(begun.glob("jobs/*/passes/*/begun/*.log")), "no worker has begun a shard")
        os.kill(_workers(run)[0], signal.SIGKILL)
        out, err = run.communicate(timeout=120)
    assert run.returncode == 0, err
    assert json.loads(out)["source_root"] == json.loads(out)["target_root"] == stock[3]
    yard.equal()


def test_killed_with_all_its_workers_it_goes_on(stock: Stock, seaweed: S3Server, tmp_path: Path) -> None:
    with FaultProxy(seaweed.endpoint) as proxy:
        proxy.add(Fault("delay", kind="put", seconds=0.05))
        yard = _yard(tmp_path, stock, seaweed, "--processes", "2", via_target=proxy.endpoint)
        run = _start(yard)
        _until(lambda: list(yard.here.state.glob("jobs/*/passes/*/*.seg")), "no shard is whole")
        below = _children(run.pid)
        os.kill(run.pid, signal.SIGKILL)  # only the conductor: its workers have to notice
        run.communicate()
        _until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in below), "workers outlive their conductor")
        proxy.clear()
        done = yard.run()
    assert done.code == 0, done.err
    assert done.document["source_root"] == done.document["target_root"] == stock[3]
    assert done.document["unchanged"] >= 20, "what a whole shard recorded is known"
    yard.equal()


def test_asked_to_stop_it_stops_and_goes_on(stock: Stock, seaweed: S3Server, tmp_path: Path) -> None:
    with FaultProxy(seaweed.endpoint) as proxy:
        proxy.add(Fault("delay", kind="put", seconds=0.05))
        yard = _yard(tmp_path, stock, seaweed, "--processes", "2", via_target=proxy.endpoint)
        run = _start(yard)
        _until(lambda: list(yard.here.state.glob("jobs/*/passes/*/begun/*.log")), "no worker has begun a shard")
        run.send_signal(signal.SIGTERM)
        out, err = run.communicate(timeout=120)
        assert run.returncode == 4, err
        assert json.loads(out)["interrupted"]
        proxy.clear()
        assert yard.proven(stock[3])


def test_a_target_that_goes_away_ends_the_run(stock: Stock, seaweed: S3Server, tmp_path: Path) -> None:
    with FaultProxy(seaweed.endpoint) as proxy:
        proxy.add(Fault("status", kind="put", status=403, skip=40))
        yard = _yard(tmp_path, stock, seaweed, "--processes", "2", via_target=proxy.endpoint)
        assert yard.run().code in (3, 6)
        proxy.clear()
        assert yard.proven(stock[3])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--scheduler", "tcp://127.0.0.1:1"), "--engine dask"),
        (("--engine", "dask", "--state", "memory://state"), "a directory that every worker shares"),
    ],
)
def test_what_cannot_go_together(
    options: tuple[str, ...], words: str, stock: Stock, seaweed: S3Server, tmp_path: Path
) -> None:
    yard = _yard(tmp_path, stock, seaweed, *options)
    refused = yard.here.portabl("migrate", f"old:{yard.bucket}", f"new:{yard.into}", *options)
    refused.clear(2, words)


@pytest.mark.parametrize("store", ["moto", "seaweed2"])
def test_ranges_listed_side_by_side_are_the_same_listing(
    store: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """SeaweedFS lists out of byte order, which shows where two ranges do not meet; then it is sorted as ever."""
    server: S3Server = request.getfixturevalue(store)
    names = [f"{a}{b}{n}" for a in "ab" for b in ("/", "-", "") for n in range(3)]
    bucket = make_bucket(server, [Item(name.encode(), name.encode(), {}) for name in names])
    target = tmp_path / "out"
    yard = Yard.at(tmp_path, server, bucket, server, aim=str(target), options=("--listers", "4"))
    done = yard.run()
    assert done.code == 0, done.err
    assert done.document["objects"] == len(names)
    assert done.document["source_root"] == done.document["target_root"]
