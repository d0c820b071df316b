"""What a fleet is made of, without one: a Dask client that fails, tickets, desks, and notes in a state in trouble."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future
from dataclasses import replace
from pathlib import Path

import pytest
from manifest_samples import record

from portabl import desk, records, worklog
from portabl.desk import RemoteDesk, Ticket
from portabl.errors import AccessDenied, ConfigError, CredentialsRefused, NotFound, StorageError, Unreachable
from portabl.executor_dask import DaskFleet, _hand_over, _Lessor
from portabl.files import Files
from portabl.fleet import Done, Lot
from portabl.folder import Folder
from portabl.throttle import Throttle
from portabl.upload_notes import UploadNotes
from portabl.worker import Orders, workplace

ORDERS = Orders("a", "b", None, (("", b""), ("", b"")), "records", "ticket", "uploads", threads=1, workers=1)
LOT = Lot(0, (), frozenset())
DONE = Done(0, b"a", b"b", 2)


class GivenUp:
    """What is left of a Dask client that has tried in vain to reach its scheduler again."""

    def scheduler_info(self, n_workers: int) -> dict[str, object]:
        return {}

    def submit(self, *_: object, **__: object) -> object:
        raise RuntimeError("Client is closed. Can't send update-graph message.")

    def close(self) -> None:
        raise TimeoutError


class Task:
    """A Dask task that has ended; ``outcome`` is what asking for it says or raises."""

    def __init__(self, status: str, outcome: object) -> None:
        self.status = status
        self._outcome = outcome

    def result(self) -> object:
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome

    exception = result


def test_a_client_that_has_given_up_loses_shards_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DaskFleet, "_connected", lambda _: GivenUp())
    fleet = DaskFleet(ORDERS, "tcp://127.0.0.1:1", None)
    assert fleet.workers == 1
    with pytest.raises(BrokenExecutor, match="Client is closed"):
        fleet.submit(LOT).result(timeout=0)
    fleet.renew()
    fleet.close()


@pytest.mark.parametrize(
    ("status", "outcome", "kind"),
    [
        ("finished", OSError("the connection broke"), BrokenExecutor),
        ("finished", TypeError("a figure of another release"), BrokenExecutor),
        ("finished", Unreachable("no answer"), Unreachable),
        ("error", OSError("the connection broke"), BrokenExecutor),
        ("lost", None, BrokenExecutor),
    ],
)
def test_a_task_whose_outcome_cannot_be_had_is_settled(status: str, outcome: object, kind: type[BaseException]) -> None:
    answer: Future[Done] = Future()
    _hand_over(Task(status, outcome), answer)
    assert type(answer.exception(timeout=0)) is kind


def test_a_task_that_is_done_says_so() -> None:
    answer: Future[Done] = Future()
    _hand_over(Task("finished", DONE), answer)
    assert answer.result(timeout=0) == DONE


def test_leases_are_granted_again_after_a_connection_was_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def get(self) -> object:
            raise OSError("the connection broke")

    queues = iter([Broken(), queue.Queue()])
    monkeypatch.setattr(DaskFleet, "_connected", lambda _: GivenUp())
    monkeypatch.setattr(_Lessor, "_queue", lambda *_: next(queues))
    fleet = DaskFleet(ORDERS, "tcp://127.0.0.1:1", Throttle(requests_per_second=1))
    first = fleet._lessor
    assert first is not None
    first._thread.join(60)
    assert not first.alive
    fleet.submit(LOT)
    assert fleet._lessor is not first
    assert fleet._lessor is not None
    assert fleet._lessor.alive
    fleet.close()
    assert not fleet._lessor.alive


def test_a_worker_of_another_release_does_not_begin() -> None:
    with pytest.raises(ConfigError, match=r"this worker has portabl .* 0\.0\.9") as refused:
        workplace(replace(ORDERS, release="0.0.9"), lambda _: pytest.fail("it has begun"))
    assert "same version" in refused.value.hint


@pytest.fixture
def begun(tmp_path: Path) -> Folder:
    return Folder(Files.at(str(tmp_path / "state")), "begun/")


def test_time_in_which_nobody_looks_is_no_blindness(begun: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    ticket = Ticket(begun, "going on")
    ticket.issue()
    ticket.check()
    with monkeypatch.context() as trouble:
        trouble.setattr(Files, "read", _refuse(Unreachable))
        now[0] += 10 * desk.BLIND_SECONDS  # between two shards
        assert not ticket.is_set()
        now[0] += desk.BLIND_SECONDS / 2
        assert not ticket.is_set()
        now[0] += desk.BLIND_SECONDS
        assert ticket.is_set(), "nobody can say that the run goes on"
    ticket.look()
    assert not ticket.is_set()


def _refuse(kind: type[StorageError]) -> Callable[..., object]:
    def refuse(*_: object) -> object:
        raise kind("the state says no", storage="state")

    return refuse


def test_threads_that_read_earlier_attempts_at_once_do_not_meet(begun: Folder) -> None:
    for number in range(2):
        lines = [worklog.sealed(records.encode(record(b"%d/%d" % (number, n)))) for n in range(100)]
        begun.write(f"{number:06d}/going on-1.log", b"".join(lines) + b"torn")
    with pytest.MonkeyPatch.context() as patch:
        both, read = threading.Barrier(2), Files.read

        def together(files: Files, name: str) -> bytes:
            data = read(files, name)
            both.wait(60)
            return data

        patch.setattr(Files, "read", together)
        place = RemoteDesk(begun, "going on")
        found: dict[int, set[bytes]] = {}
        threads = [threading.Thread(target=lambda n=n: found.update({n: set(place.earlier(n))})) for n in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        place.close()
    assert found == {n: {b"%d/%d" % (n, m) for m in range(100)} for n in range(2)}


@pytest.mark.parametrize(
    ("said", "ends"),
    [(AccessDenied, StorageError), (Unreachable, StorageError), (CredentialsRefused, CredentialsRefused)],
)
def test_a_state_in_trouble_ends_the_run_and_is_no_loss_of_an_object(
    said: type[StorageError], ends: type[StorageError], begun: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = UploadNotes(begun, "me")
    notes.intend_upload(b"key", "etag", 8, [])
    for name in ("read", "write", "names", "delete"):
        monkeypatch.setattr(Files, name, _refuse(said))
    calls: tuple[Callable[[], object], ...] = (
        lambda: notes.intend_upload(b"key", "etag", 8, []),
        lambda: notes.name_upload(b"key", "token"),
        lambda: notes.open_upload(b"key"),
        lambda: notes.rivals(b"key"),
        lambda: notes.end_upload(b"key"),
        notes.open_keys,
    )
    for call in calls:
        with pytest.raises(StorageError) as refused:
            call()
        assert type(refused.value) is ends
        assert not refused.value.passable
        assert refused.value.exit_code == 6


def test_a_note_that_is_gone_is_no_trouble(begun: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = UploadNotes(begun, "me")
    notes.intend_upload(b"key", "etag", 8, [])
    monkeypatch.setattr(Files, "read", _refuse(NotFound))
    assert notes.open_upload(b"key") is None
