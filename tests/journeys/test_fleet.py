"""Further processes and a Dask cluster do what one process does, also when workers die under them."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from journeys.yard import MIB, Yard, large_items, make_bucket, small_items
from kit.dask_cluster import Cluster, Scheduler
from kit.hazards import Item, Seen, differences, snapshot
from kit.proxy import Fault, FaultProxy
from kit.servers import S3Server

from portabl import desk, providers, registry, worklog
from portabl.desk import Ticket
from portabl.errors import ConfigError, Interrupted, StorageError
from portabl.fleet import SHARDS_PER_WORKER, Lot
from portabl.folder import Folder
from portabl.leases import lease_from
from portabl.model import Entry
from portabl.plan import Action, Step
from portabl.remote_state import RemoteState
from portabl.shared_reading import Place, SharedReader
from portabl.worker import Orders, Workplace
from portabl.worklog import BEGUN

SHARDS_OF_20 = "import portabl.fleet; portabl.fleet.SHARD_STEPS = 20; from portabl.cli import main; main()"
ENGINES = [("--processes", "2"), ("--engine", "dask", "--processes", "2")]
NAMES = ["processes", "dask"]
PATIENCE = 240

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


def test_a_cluster_outlives_the_command_grows_under_it_and_is_never_flooded(
    stock: Stock, seaweed: S3Server, tmp_path: Path
) -> None:
    with FaultProxy(seaweed.endpoint) as proxy:
        proxy.add(Fault("delay", kind="put", seconds=0.05))
        yard = _yard(tmp_path, stock, seaweed, via_target=proxy.endpoint)
        with Cluster(1, yard.here.environment, yard.here.folder) as cluster:
            yard.options = ("--engine", "dask", "--scheduler", cluster.address)
            run = _start(yard)
            _until(lambda: list(yard.here.state.glob("jobs/*/passes/*/*.seg")), "no shard is whole")
            os.kill(run.pid, signal.SIGKILL)
            run.communicate()
            run = _start(yard)  # the same command finds the same cluster
            _until(lambda: list(yard.here.state.glob("jobs/*/passes/0002/*.seg")), "the second run does nothing")
            assert cluster.say("scale 2") == 2
            out, err = run.communicate(timeout=PATIENCE)
            assert run.returncode == 0, err
            assert cluster.say("end") <= 100 * SHARDS_PER_WORKER
    done = json.loads(out)
    assert done["source_root"] == done["target_root"] == stock[3]
    assert done["unchanged"] >= 20, "what a whole shard recorded is known"
    yard.equal()


def test_a_cluster_that_adapts_grows_from_nothing_and_shrinks_to_nothing(
    stock: Stock, seaweed: S3Server, tmp_path: Path
) -> None:
    with FaultProxy(seaweed.endpoint) as proxy:
        proxy.add(Fault("delay", kind="put", seconds=0.05))
        yard = _yard(tmp_path, stock, seaweed, via_target=proxy.endpoint)
        with Cluster(0, yard.here.environment, yard.here.folder) as cluster:
            assert cluster.say("adapt 0 3") == 0
            yard.options = ("--engine", "dask", "--scheduler", cluster.address)
            out, err = _start(yard).communicate(timeout=PATIENCE)
            assert cluster.say("peak") >= 2
            _until(lambda: cluster.say("count") == 0, "workers stay that have nothing to do")
    done = json.loads(out)
    assert done["source_root"] == done["target_root"] == stock[3], err
    yard.equal()


def test_a_scheduler_that_dies_and_is_started_anew_is_found_again(
    stock: Stock, seaweed: S3Server, tmp_path: Path
) -> None:
    with FaultProxy(seaweed.endpoint) as proxy:
        proxy.add(Fault("delay", kind="put", seconds=0.05))
        yard = _yard(tmp_path, stock, seaweed, via_target=proxy.endpoint)
        with Scheduler(yard.here.environment, yard.here.folder) as scheduler:
            yard.options = ("--engine", "dask", "--scheduler", scheduler.address, "--requests-per-second", "5000")
            run = _start(yard)
            _until(lambda: list(yard.here.state.glob("jobs/*/passes/*/*.seg")), "no shard is whole")
            scheduler.kill()
            before = run.poll()
            scheduler.start()
            out, err = run.communicate(timeout=PATIENCE)
    assert before is None, "the run was over before the scheduler died"
    assert run.returncode == 0, err
    done = json.loads(out)
    assert done["source_root"] == done["target_root"] == stock[3]
    assert done["objects"] == len(stock[2])
    yard.equal()


def test_a_state_at_a_store_takes_what_workers_send_there_and_another_machine_goes_on(
    stock: Stock, seaweed: S3Server, tmp_path: Path
) -> None:
    store, state = stock[0], stock[0].bucket("state")
    with FaultProxy(seaweed.endpoint) as proxy:
        proxy.add(Fault("delay", kind="put", seconds=0.05))
        yard = _yard(tmp_path, stock, seaweed, via_target=proxy.endpoint)
        with Cluster(2, yard.here.environment, yard.here.folder) as cluster:
            yard.options = ("--engine", "dask", "--scheduler", cluster.address, "--state", f"old:{state}/portabl")
            run = _start(yard)
            _until(lambda: _sent(store, state, "0001"), "no segment was sent")
            os.kill(run.pid, signal.SIGKILL)
            run.communicate()
            shutil.rmtree(yard.here.state)  # the other machine has nothing but the state at the store
            run = _start(yard)
            _until(lambda: _sent(store, state, "0002"), "the second run does nothing")
            cluster.say("kill 1")
            out, err = run.communicate(timeout=PATIENCE)
    assert run.returncode == 0, err
    done = json.loads(out)
    assert done["source_root"] == done["target_root"] == stock[3]
    assert done["unchanged"] >= 20, "what was sent to the store is known"
    left = {name.split("/")[3] for name in store.keys(state)}
    assert left == {"job.json", "journal.sqlite3", "manifests", "stamp.json"}, "workers left something behind"
    assert not list(yard.here.state.rglob("begun"))
    yard.equal()


def _sent(store: S3Server, state: str, run: str) -> list[str]:
    return [key for key in store.keys(state) if f"/passes/{run}/begun/" in key and key.endswith(".seg")]


def test_a_shard_carried_out_twice_at_once_is_as_good_as_once(
    stock: Stock, seaweed: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Schedulers may do that when they lose sight of a worker; and once more later, when all is there."""
    seen = stock[2]
    yard = _yard(tmp_path, stock, seaweed)
    Ticket(Folder.at(tmp_path / BEGUN), "going on").issue()
    orders, steps = _orders(yard, monkeypatch, records=str(tmp_path), uploads=str(tmp_path / "uploads"))
    workers = [Workplace(orders, lease_from) for _ in range(2)]
    lot = Lot(7, steps, frozenset())
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda worker: worker.work(lot), workers))
    done.append(workers[0].work(lot))
    for worker in workers:
        worker.close()
    assert {(one.number, one.first, one.last, one.objects) for one in done} == {
        (7, steps[0].entry.key, steps[-1].entry.key, len(steps))
    }
    assert done[2].copied == 0, "what was recorded is not done again"
    recorded = {record.key: record for _, record in worklog.of_file(tmp_path / "000007.seg")}
    assert list(recorded) == [step.entry.key for step in steps]
    assert all(record.target and not record.losses for record in recorded.values())
    assert not differences({key: seen[key] for key in recorded}, snapshot(seaweed, yard.into))
    assert not yard.uploads()


def _orders(yard: Yard, monkeypatch: pytest.MonkeyPatch, **more: str) -> tuple[Orders, tuple[Step, ...]]:
    """What workers in this process are told, and the steps for all but the unusual keys."""
    for name, value in (yard.source.environment | yard.target.environment).items():
        monkeypatch.setenv(name, value)
    config = providers.load(str(yard.here.folder / "portabl.toml"))
    places = (f"old:{yard.bucket}", f"new:{yard.into}")
    with registry.open_location(places[0], config) as source, registry.open_location(places[1], config) as target:
        steps = tuple(Step(Action.COPY, entry) for entry in source.entries() if not entry.key.startswith(b"Odd"))
        there = (source.place, target.place)
    return Orders(*places, config.path, there, ticket="going on", threads=8, workers=2, **more), steps


def test_a_worker_that_stops_has_sent_its_records_and_only_a_whole_segment_is_believed(
    stock: Stock, seaweed: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "BEAT_SECONDS", 0.05)
    with FaultProxy(seaweed.endpoint) as proxy, ThreadPoolExecutor(1) as pool:
        proxy.add(Fault("delay", kind="put", seconds=0.05))
        yard = _yard(tmp_path, stock, seaweed, via_target=proxy.endpoint)
        store, bucket = stock[0], stock[0].bucket("state")
        records, state = "jobs/x/passes/0001/", f"old:{bucket}"
        orders, steps = _orders(yard, monkeypatch, records=records, uploads="jobs/x/uploads/", state=state)
        steps = steps[-60:]
        with pytest.raises(ConfigError, match="does not see"):
            Workplace(orders, lease_from)
        files = registry.files(state, providers.load(orders.config))
        ticket = Ticket(Folder(files, f"{records}begun/"), "going on")
        ticket.issue()
        first, second = (Workplace(orders, lease_from) for _ in range(2))
        stopped = pool.submit(first.work, Lot(7, steps, frozenset()))
        _until(lambda: _pieces(store, bucket), "no record was sent")
        ticket.withdraw()
        with pytest.raises(Interrupted):
            stopped.result(PATIENCE)
        proxy.clear()
        ticket.issue()
        done = second.work(Lot(7, steps, frozenset()))
        first.close(), second.close()
    assert done.objects == len(steps)
    assert 0 < done.copied < len(steps), "what was sent is not copied again"
    assert done.held is not None
    remote = RemoteState(files, "x", tmp_path / "near")
    data = remote.segment("0001", done.held.name, done.held.size, done.held.sha256)
    (tmp_path / "000007.seg").write_bytes(data)
    keys = [line[1].key for line in worklog.of_file(tmp_path / "000007.seg")]
    assert sorted(keys) == [step.entry.key for step in steps]
    files.write(f"{records}begun/{done.held.name}", data[:-1])
    with pytest.raises(StorageError, match="not what a worker sent") as damaged:
        remote.segment("0001", done.held.name, done.held.size, done.held.sha256)
    files.delete(f"{records}begun/{done.held.name}")
    with pytest.raises(StorageError, match="the state of the job") as gone:
        remote.segment("0001", done.held.name, done.held.size, done.held.sha256)
    assert damaged.value.exit_code == gone.value.exit_code == 6, "no object is at fault"
    assert not [key for key in store.keys(bucket) if "/uploads/" in key]


def _pieces(store: S3Server, state: str) -> list[str]:
    return [key for key in store.keys(state) if key.endswith(".log")]


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
        (("--engine", "dask", "--state", "memory://me:word@state"), "holds a secret"),
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


def test_large_objects_are_read_back_by_other_processes(
    stock: Stock, seaweed: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    yard = _yard(tmp_path, stock, seaweed, "--processes", "2", "--proof", "readback")
    done = yard.run()
    assert done.code == 0, done.err
    assert done.document["target_root"] == stock[3]
    words = ("verify", done.document["manifest"], "--processes", "2", "--requests-per-second", "500", "--json")
    whole = yard.here.portabl(*words)
    assert whole.code == 0, whole.err
    assert whole.document["root_proven"] == stock[3]
    seaweed.client().put_object(Bucket=yard.into, Key="large/1", Body=bytes(25 * MIB))
    spoiled = yard.here.portabl(*words)
    assert spoiled.code == 3
    assert [issue["key"] for issue in spoiled.document["issues"]] == ["large/1"]
    for name, value in seaweed.environment.items():
        monkeypatch.setenv(name, value)
    config = providers.load(str(yard.here.folder / "portabl.toml"))
    with registry.open_location(f"new:{yard.into}", config) as storage:
        entry = storage.listed(b"large/0")
        assert isinstance(entry, Entry)
        place = Place.of(storage, f"new:{yard.into}", config.path, {}, 2)
        with SharedReader(storage, place, None) as reader:
            first = reader.read(entry)
            for child in multiprocessing.active_children():
                child.kill()
                child.join()
            assert reader.read(entry) == first, "what a dead worker was to read is read here"
