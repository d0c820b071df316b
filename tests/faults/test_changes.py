"""What changes under a run: objects, the bucket, credentials; copies, signals and the disk (docs/faults.md)."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from faults import page
from faults.bench import ABSORBED, LARGE, LARGE_ITEM, MIXED_ITEMS, SMALL_ITEMS, Bench
from faults.conftest import Benches
from kit.hazards import Item, snapshot
from kit.proxy import Fault

from portabl import copying, journal, local_files, providers, shards
from portabl.cli.output import hint_of
from portabl.errors import PortablError
from portabl.migrate import migrate
from portabl.migration import Migration

CHANGES = "What changes under a run"


def _after(place: Bench) -> Callable[[], None]:
    """The source as it is now is what the target has to hold; its root is another one."""

    def look() -> None:
        place.stock.seen = snapshot(place.server, place.stock.bucket)
        place.stock.root = ""

    return look


def _changing(place: Bench, key: bytes, body: bytes, **fault: Any) -> Fault:
    """Overwrites ``key`` at the source when the fault strikes."""

    def overwrite() -> None:
        place.server.client().put_object(
            Bucket=place.stock.bucket, Key=key.decode(), Body=body, Metadata={"now": "new"}
        )
        _after(place)()

    return place.source.add(Fault("call", call=overwrite, times=1, **fault))


@pytest.mark.parametrize("size", [800, 801], ids=["as long", "longer"])
def test_object_replaced_between_list_and_get(size: int, bench: Benches) -> None:
    place = bench(items=SMALL_ITEMS)
    where = {"kind": "get", "match": lambda request: "k-4" in request.target}
    fault = _changing(place, b"k-4", bytes(size), **where)
    outcome = place.outcome(_after(place))
    assert fault.fired
    length = "the same length" if size == 800 else "another length"
    page.check(CHANGES, f"an object is replaced by one of {length} between list and get", "outcome", outcome)


def test_object_deleted_between_list_and_get(bench: Benches) -> None:
    place = bench(items=SMALL_ITEMS)

    def delete() -> None:
        place.server.client().delete_object(Bucket=place.stock.bucket, Key="k-4")
        _after(place)()

    place.source.add(Fault("call", kind="get", match=lambda request: "k-4" in request.target, call=delete, times=1))
    outcome = place.outcome(_after(place))
    page.check(CHANGES, "an object is deleted between list and get", "outcome", outcome)


@pytest.mark.parametrize("skip", [0, 1, 2])
def test_object_replaced_between_two_ranges(skip: int, bench: Benches) -> None:
    place = bench(items=MIXED_ITEMS)
    body = bytes(len(LARGE_ITEM.body))
    fault = _changing(place, LARGE, body, kind="get", match=lambda request: "range" in request.headers, skip=skip)
    outcome = place.outcome(_after(place))
    assert fault.fired
    page.check(CHANGES, f"a large object is replaced before its range {skip + 1}", "outcome", outcome)


@pytest.mark.parametrize(("kind", "stock"), [("put", "small"), ("part", "mixed"), ("complete", "mixed")])
def test_target_bucket_deleted_half_way(kind: str, stock: str, bench: Benches) -> None:
    """Really deleted, with what was in it."""
    place = bench(stock)
    s3 = place.server.client()

    def delete() -> None:
        for key in place.server.keys(place.into):
            s3.delete_object(Bucket=place.into, Key=key)
        s3.delete_bucket(Bucket=place.into)

    skip = 0 if kind == "complete" else 1
    # Alone: SeaweedFS confirms a write that crosses the deletion, lists the object, and cannot read it.
    fault = place.target.add(Fault("call", kind=kind, skip=skip, times=1, call=delete, alone=True))

    def create() -> None:  # SeaweedFS makes it again for a write that follows
        with contextlib.suppress(s3.exceptions.BucketAlreadyOwnedByYou):
            s3.create_bucket(Bucket=place.into)

    outcome = place.outcome(create)
    assert fault.fired
    row = f"the target bucket is deleted before a {kind} request"
    page.check(CHANGES, row, "outcome", outcome, ABSORBED, "named (3)", "named (6)")


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("code", ["ExpiredToken", "RequestTimeTooSkewed", "InvalidAccessKeyId"])
def test_refused_from_the_middle_on(code: str, side: str, bench: Benches) -> None:
    place = bench()
    proxy = place.source if side == "source" else place.target
    proxy.add(fault := Fault("status", status=403, code=code, skip=5))
    outcome = place.outcome()
    assert fault.fired
    page.check(CHANGES, f"403 {code} at the {side} after five requests", "outcome", outcome)


MANY = tuple(Item(b"k-%03d" % number, b"%d" % number) for number in range(120))


def test_denied_without_a_reason_from_the_middle_on(bench: Benches, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some stores say no more of expired credentials: after many refusals in a row the place is asked, and refuses."""
    monkeypatch.setattr(copying, "FAILURES_IN_A_ROW", 8)
    place = bench(items=MANY)
    place.source.add(Fault("status", status=403, code="AccessDenied", kind="get", skip=20))
    place.source.add(Fault("status", status=403, code="AccessDenied", kind="list", skip=2))
    assert place.run().code == 6
    assert 28 <= place.source.counts["get"] < len(MANY), "each object was asked for, one by one"
    page.check(CHANGES, "403 AccessDenied at the source from the 21st object on", "outcome", place.outcome())


def test_denied_objects_where_the_place_is_fine(bench: Benches, monkeypatch: pytest.MonkeyPatch) -> None:
    """More of them in a row than what is taken for a place in trouble: each is named, and the others arrive."""
    monkeypatch.setattr(copying, "FAILURES_IN_A_ROW", 8)
    place = bench(items=MANY)
    denied = {f"/k-{number:03d}" for number in range(50, 90)}
    where = {"kind": "get", "match": lambda request: request.target.partition("?")[0][-6:] in denied}
    place.source.add(Fault("status", status=403, code="AccessDenied", **where))
    assert place.run().named == {key[1:].encode() for key in denied} == place.wrong()
    page.check(CHANGES, "403 AccessDenied for many objects in a row", "outcome", place.outcome())


def test_a_signature_may_be_refused_for_one_key(bench: Benches) -> None:
    place = bench(items=SMALL_ITEMS)
    where = {"kind": "get", "match": lambda request: "k-4" in request.target}
    place.source.add(Fault("status", status=403, code="SignatureDoesNotMatch", **where))
    assert place.run().named == {b"k-4"}
    page.check(CHANGES, "403 SignatureDoesNotMatch for one object", "outcome", place.outcome())


COPY_FAULTS = {
    "200 with an error document": Fault("status", status=200),
    "500 always": Fault("status", status=500),
    "501 not implemented": Fault("status", status=501, code="NotImplemented"),
    "answer lost after it was carried out": Fault("lose", times=2),
    "reset in the middle of the headers": Fault("behead", times=2),
    "ETag of the answer damaged": Fault("flip", after=150, times=1),
}


@pytest.mark.parametrize("name", COPY_FAULTS)
def test_server_side_copy(name: str, bench: Benches) -> None:
    place = bench(same=True)
    place.target.add(fault := replace(COPY_FAULTS[name], kind="copy"))
    outcome = place.outcome()
    assert fault.fired, "no server-side copy was tried"
    page.check("Server-side copies", name, "copy", outcome)


DISK = "A full disk"


class FullDisk:
    """Lets ``room`` writes of state through; every later one finds no space. Counts them, by what was written."""

    def __init__(self, room: float, state: str) -> None:
        self.room = room
        self.state = os.path.abspath(state)
        self.count = 0
        self.refused: list[str] = []

    def write(self, what: str) -> None:
        self.count += 1
        if self.count > self.room:
            self.refused.append(what)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def counted(self, what: str, original: Callable[..., Any]) -> Callable[..., Any]:
        """``original``, which finds no space when its first argument lies in the state directory."""

        def call(where: Any, *args: Any, **kwargs: Any) -> Any:
            path = os.readlink(f"/proc/self/fd/{where}") if isinstance(where, int) else os.fsdecode(where)
            if os.path.abspath(path).startswith(self.state):
                self.write(what)
            return original(where, *args, **kwargs)

        return call

    @contextmanager
    def mounted(self) -> Iterator[FullDisk]:
        """Every way in which state reaches the disk goes through `write`."""
        disk = self

        def record(file: Any, data: bytes) -> None:
            disk.write("record of an object")
            write_all(file, data)

        class Database(sqlite3.Connection):
            def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:  # type: ignore[override]
                if statement.split(None, 1)[0] in ("INSERT", "UPDATE", "DELETE"):
                    try:
                        disk.write("journal commit")
                    except OSError:
                        raise sqlite3.OperationalError("database or disk is full") from None
                return super().execute(statement, *values)

        def connect(*args: Any, **kwargs: Any) -> sqlite3.Connection:
            return sqlite3.connect(*args, **kwargs, factory=Database)

        write_all = shards._write_all
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shards, "_write_all", record)
            patch.setattr(journal, "sqlite3", _Sqlite(connect))
            patch.setattr(os, "fsync", disk.counted("sync of a file or directory", os.fsync))
            patch.setattr(os, "replace", disk.counted("rename of a finished file", os.replace))
            patch.setattr(os, "mkdir", disk.counted("new directory", os.mkdir))
            patch.setattr(io, "open", disk.counted("new file", io.open))  # pathlib's
            patch.setattr(local_files, "open", disk.counted("file of the manifest", open), raising=False)
            yield disk


class _Sqlite:
    """The module, with another connect."""

    def __init__(self, connect: Callable[..., sqlite3.Connection]) -> None:
        self.connect = connect

    def __getattr__(self, name: str) -> Any:
        return getattr(sqlite3, name)


def _local(folder: Path) -> Migration:
    source = folder / "source"
    source.mkdir()
    for number in range(5):
        (source / f"k-{number}").write_bytes(bytes(number))
    target, state = str(folder / "target"), str(folder / "state")
    return Migration(str(source), target, providers.Config(), threads=2, state=state)


def test_disk_full_at_any_write_of_state(tmp_path: Path) -> None:
    """Write after write, from the first to the last: the run says so, and goes on when there is room again."""

    def job(name: str) -> Migration:
        (tmp_path / name).mkdir()
        return _local(tmp_path / name)

    first = job("all")
    with FullDisk(float("inf"), str(first.state)).mounted() as roomy:
        root = migrate(first).source_root
    assert roomy.count > 25, "the disk is not asked where it should be"
    outcomes: dict[str, set[str]] = {}
    for room in range(roomy.count):
        migration = job(str(room))
        with FullDisk(room, str(migration.state)).mounted() as disk:
            outcome = _outcome(migration, root)
        outcomes.setdefault(disk.refused[0] if disk.refused else "none", set()).add(outcome)
        report = migrate(migration)
        assert (report.exit_code, report.source_root, report.target_root) == (0, root, root), room
        assert sorted(os.listdir(migration.target)) == sorted(os.listdir(migration.source))
    for what, seen in outcomes.items():
        page.check(DISK, what, "outcome", " or ".join(sorted(seen)))


def _outcome(migration: Migration, root: str) -> str:
    try:
        report = migrate(migration)
    except PortablError as error:
        said, code = f"{error} {hint_of(error)}", error.exit_code
    else:
        assert (report.exit_code, report.source_root, report.target_root) == (0, root, root)
        return ABSORBED
    assert "room" in said or "space" in said, said
    return f"named ({code})"


SIGNALS = "Signals"


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("SIGINT", (signal.SIGINT,)),
        ("SIGTERM", (signal.SIGTERM,)),
        ("SIGHUP", (signal.SIGHUP,)),
        ("SIGINT, then SIGTERM", (signal.SIGINT, signal.SIGTERM)),
        ("SIGINT, ignored from the start", (signal.SIGINT,)),
        ("SIGHUP, ignored from the start", (signal.SIGHUP,)),
    ],
)
def test_signals(name: str, numbers: tuple[signal.Signals, ...], bench: Benches) -> None:
    """Sent while the third object is on its way: it still arrives; a second one ends at once; `nohup` is respected."""
    items = tuple(Item(b"k-%03d" % number, b"%d" % number) for number in range(40))
    place = bench(items=items)
    handler = signal.SIG_IGN if "ignored" in name else signal.SIG_DFL
    process: list[subprocess.Popen[str]] = []

    def send() -> None:
        for number in numbers:
            process[0].send_signal(number)

    def dispose() -> None:  # a run in the background of a shell is started with SIGINT ignored, so say what is wanted
        for number in numbers:
            signal.signal(number, handler)

    place.target.add(fault := Fault("call", kind="put", skip=2, times=1, call=send))
    for _ in range(2):
        place.target.add(Fault("delay", kind="put", seconds=0.3))
    words = ["migrate", f"old:{place.stock.bucket}", f"new:{place.into}", "--threads", "1", "--config", str(place.toml)]
    words += ["--state", str(place.folder / "state")]
    command = [sys.executable, "-m", "portabl", *words]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes, preexec_fn=dispose) as run:
        process.append(run)
        _, err = run.communicate(timeout=120)
    assert fault.fired
    assert "Traceback" not in err
    there = len(snapshot(place.server, place.into))
    if "ignored" in name:
        assert run.returncode == 0, err
        outcome = ABSORBED
        assert not place.wrong()
    else:
        assert run.returncode == 4, err
        assert "stopping" in err
        assert there < len(items)
        outcome = "named (4)"
    place.target.mend()
    place.proven()
    page.check(SIGNALS, name, "outcome", outcome)
