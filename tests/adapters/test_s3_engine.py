"""One thread, many requests: the same answers and the same care as request by request, against real servers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from kit.proxy import Fault, FaultProxy
from kit.s3_opened import body, opened
from kit.servers import S3Server

from portabl.errors import AccessDenied, Corrupt, NotFound, Throttled, Unreachable
from portabl.executors import Driven
from portabl.model import Entry, Metadata, Written
from portabl.tasks import Task
from portabl_adapters.s3.engine import AVAILABLE, CurlEngine
from portabl_adapters.s3.storage import S3Storage

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="there is no engine on this system")
CARED_FOR = Metadata({"content-type": "text/plain"}, {"a": "b"})


@pytest.fixture
def proxy(seaweed: S3Server) -> Iterator[FaultProxy]:
    """A proxy in front of SeaweedFS."""
    with FaultProxy(seaweed.endpoint) as it:
        yield it


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries at once: the waits are not what is tested."""
    monkeypatch.setattr(time, "sleep", lambda _: None)


def carried(tasks: list[Callable[[], Task[object]]], threads: int = 8) -> list[object]:
    """What each task returned or raised, all of them driven by one engine; checks that no thread is left behind."""
    results: list[object] = [None] * len(tasks)

    def work(number: int) -> Task[None]:
        try:
            results[number] = yield from tasks[number]()
        except Exception as error:
            results[number] = error

    with CurlEngine() as engine:
        driven = Driven(threads, work, engine)
        for number in range(len(tasks)):
            driven.put(number)
        driven.finish()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("portabl")]
    return results


def written(storage: S3Storage, key: bytes, data: bytes, metadata: Metadata = CARED_FOR) -> object:
    return carried([lambda: storage.writing(key, body(data), metadata)])[0]


def warm(storage: S3Storage) -> None:
    """Credentials known and a connection open, as in the middle of a run."""
    storage.check(write=True)
    assert isinstance(written(storage, b"warm", b"w"), Written)


def test_many_objects_there_and_back(seaweed: S3Server) -> None:
    with opened(seaweed, seaweed.bucket()) as storage:
        warm(storage)
        keys = [b"a+b %%/k%03d" % number for number in range(300)]
        bodies = {key: body(key * (number % 50)) for number, key in enumerate(keys)}
        wrote = carried([lambda key=key: storage.writing(key, bodies[key], CARED_FOR) for key in keys])
        assert [getattr(one, "etag", one) for one in wrote] == [bodies[key].md5 for key in keys]
        listed = [entry for entry in storage.entries() if entry.key != b"warm"]
        assert sorted(entry.key for entry in listed) == keys
        read = carried([lambda entry=entry: storage.reading(entry) for entry in listed])
        for entry, content in zip(listed, read, strict=True):
            assert bytes(content.data) == bodies[entry.key].data
            assert content.info.metadata == CARED_FOR
        assert carried([lambda: storage.stating(keys[7])])[0].metadata == CARED_FOR


def test_a_lost_answer_to_a_put_is_looked_up_not_written_again(seaweed: S3Server, proxy: FaultProxy) -> None:
    with opened(seaweed, seaweed.bucket(), endpoint=proxy.endpoint) as storage:
        warm(storage)
        proxy.add(Fault("lose", kind="put", times=1))
        before = proxy.counts["put"]
        assert written(storage, b"k", b"data").etag == body(b"data").md5
        assert proxy.counts["put"] - before == 1, "the PUT was sent again without looking"
        assert proxy.counts["head"] == 1


def test_a_lost_answer_does_not_take_an_older_object_for_ours(seaweed: S3Server, proxy: FaultProxy) -> None:
    with opened(seaweed, seaweed.bucket(), endpoint=proxy.endpoint) as storage:
        warm(storage)
        storage.write(b"k", body(b"data"), Metadata({}, {"colour": "old"}))
        proxy.add(Fault("cut", kind="put", up=True, after=0, times=1))
        assert isinstance(written(storage, b"k", b"data", Metadata({}, {"colour": "new"})), Written)
        assert storage.stat(b"k").metadata.user == {"colour": "new"}


@pytest.mark.usefixtures("no_waiting")
def test_busy_and_broken_answers_are_tried_again(seaweed: S3Server, proxy: FaultProxy) -> None:
    with opened(seaweed, seaweed.bucket(), endpoint=proxy.endpoint) as storage:
        warm(storage)
        proxy.add(Fault("status", kind="put", status=503, code="SlowDown", times=5))
        proxy.add(Fault("cut", kind="get", after=3, times=2))
        proxy.add(Fault("cut", kind="get", after=3, times=2, gently=True))
        keys = [b"k%02d" % number for number in range(30)]
        wrote = carried([lambda key=key: storage.writing(key, body(key * 9), CARED_FOR) for key in keys])
        assert [getattr(one, "etag", one) for one in wrote] == [body(key * 9).md5 for key in keys]
        assert storage.calls.pace._shrunk > 0, "a store that asked to slow down is not obeyed"
        entries = [entry for entry in storage.entries() if entry.key != b"warm"]
        read = carried([lambda entry=entry: storage.reading(entry) for entry in entries])
        assert [bytes(content.data) for content in read] == [key * 9 for key in keys]


@pytest.mark.usefixtures("no_waiting")
def test_trouble_without_end_has_the_error_it_always_has(seaweed: S3Server, proxy: FaultProxy) -> None:
    with opened(seaweed, seaweed.bucket(), endpoint=proxy.endpoint) as storage:
        warm(storage)
        entry = next(iter(storage.entries()))
        fault = proxy.add(Fault("status", kind="get", status=503, code="SlowDown"))
        assert isinstance(carried([lambda: storage.reading(entry)])[0], Throttled)
        assert fault.fired == 8
        proxy.clear()
        proxy.add(Fault("cut", kind="get", after=0))
        assert isinstance(carried([lambda: storage.reading(entry)])[0], Unreachable)
        proxy.clear()
        proxy.add(Fault("status", kind="get", status=403, code="AccessDenied"))
        assert isinstance(carried([lambda: storage.reading(entry)])[0], AccessDenied)
        proxy.clear()
        assert isinstance(carried([lambda: storage.reading(Entry(b"none", 1))])[0], NotFound)
        assert bytes(carried([lambda: storage.reading(entry)])[0].data) == b"w"


def test_a_body_damaged_on_the_way_is_refused(seaweed: S3Server, proxy: FaultProxy) -> None:
    with opened(seaweed, seaweed.bucket(), endpoint=proxy.endpoint) as storage:
        warm(storage)
        once = proxy.add(Fault("flip", kind="put", up=True, after=1, times=1))
        assert isinstance(written(storage, b"k", b"data"), Written)
        assert once.fired == 1
        proxy.add(Fault("flip", kind="put", up=True, after=1))
        assert isinstance(written(storage, b"l", b"data"), Corrupt)
        assert storage.listed(b"l") is None


def test_what_libcurl_does_not_carry_goes_another_way(moto: S3Server) -> None:
    """Dot segments (libcurl resolves them) and objects too big to be collected in pieces."""
    with opened(moto, moto.bucket()) as storage:
        warm(storage)
        objects = {b"a/../b": b"dots", b"big": b"x" * (2**20 + 1), b"small": b"s"}
        wrote = carried([lambda k=k, d=d: storage.writing(k, body(d), CARED_FOR) for k, d in objects.items()])
        assert [getattr(one, "etag", one) for one in wrote] == [body(data).md5 for data in objects.values()]
        entries = [entry for entry in storage.entries() if entry.key in objects]
        assert len(entries) == len(objects)
        read = carried([lambda entry=entry: storage.reading(entry) for entry in entries])
        assert {e.key: bytes(content.data) for e, content in zip(entries, read, strict=True)} == objects


def test_expired_credentials_are_renewed(proxy: FaultProxy, seaweed: S3Server) -> None:
    secrets = {"access_key_id": seaweed.access_key, "secret_access_key": seaweed.secret_key}
    with opened(seaweed, seaweed.bucket(), endpoint=proxy.endpoint, secrets=secrets) as storage:
        warm(storage)
        asked = storage.calls.credentials
        refused = asked.current()
        secrets["session_token"] = "another"
        fault = proxy.add(Fault("status", kind="put", status=400, code="ExpiredToken", times=1))
        written(storage, b"k", b"data")
        assert fault.fired == 1
        assert asked.current() is not refused
