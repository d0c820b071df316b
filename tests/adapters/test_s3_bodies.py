"""Bodies of objects that come into reused memory: what else a server may answer, word for word."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from portabl.errors import Changed, Corrupt, StorageError
from portabl.model import Entry
from portabl.storage import Opening
from portabl_adapters.s3.storage import S3Storage

SIZE = 300_000
HALF = SIZE // 2
ENTRY = Entry(b"k", SIZE)
BUSY = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n"


class Script:
    """A server that gives these answers, one after the other, and nothing after the last."""

    def __init__(self) -> None:
        self.answers: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        with client, client.makefile("rb") as requests:
            try:
                while requests.readline() and self.answers:
                    while requests.readline().strip():
                        pass
                    client.sendall(self.answers.pop(0))
            except OSError:
                return  # the client has seen enough

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def script() -> Iterator[Script]:
    it = Script()
    yield it
    it.close()


@pytest.fixture
def storage(script: Script, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Storage]:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    settings = {"endpoint": script.endpoint, "region": "r"}
    keys = {"access_key_id": "a", "secret_access_key": "b"}
    with S3Storage(Opening("x:b", "b", b"", settings, keys.get, 4)) as it:
        yield it


def _whole(data: bytes, status: bytes = b"200 OK", headers: bytes = b"") -> bytes:
    return b"HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n%s" % (status, headers, len(data), data)


def _piece(data: bytes, start: int) -> bytes:
    where = b"Content-Range: bytes %d-%d/%d\r\n" % (start, start + len(data) - 1, SIZE)
    return _whole(data, b"206 Partial Content", where)


def _chunked(data: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(data), data)


def test_an_error_without_a_body_leaves_the_memory_free_for_the_next_try(
    script: Script, storage: S3Storage, capfd: pytest.CaptureFixture[str]
) -> None:
    script.answers = [BUSY, BUSY, _piece(b"a" * HALF, HALF)]
    assert storage.read(ENTRY, HALF, HALF).data == b"a" * HALF
    assert "BufferError" not in capfd.readouterr().err


@pytest.mark.parametrize("start", [0, 10_000])
def test_an_object_that_has_grown_is_not_cut_to_its_listed_size(start: int, script: Script, storage: S3Storage) -> None:
    script.answers = [_chunked(b"a" * (SIZE + 1))] * 2  # the length is not said before
    with pytest.raises(Changed):
        storage.read(ENTRY, start, SIZE - start)


def test_a_range_of_a_whole_object_is_taken_out_of_it(script: Script, storage: S3Storage) -> None:
    script.answers = [_chunked(b"a" * 10_000 + b"b" * (SIZE - 20_000) + b"c" * 10_000)] * 2
    assert storage.read(ENTRY, 10_000, SIZE - 20_000).data == b"b" * (SIZE - 20_000)


def test_nothing_of_an_earlier_body_fills_up_a_later_one(script: Script, storage: S3Storage) -> None:
    script.answers = [_piece(b"a" * (SIZE - 1), 1), *[_piece(b"b" * HALF, 1)] * 2]
    storage.read(ENTRY, 1, SIZE - 1)
    with pytest.raises(StorageError):
        storage.read(ENTRY, 1, SIZE - 1)


def test_a_piece_that_does_not_say_where_it_belongs_is_not_taken(script: Script, storage: S3Storage) -> None:
    script.answers = [_whole(b"a" * HALF, b"206 Partial Content")] * 2
    with pytest.raises(Corrupt):
        storage.read(ENTRY, HALF, HALF)


def test_an_interim_answer_is_not_the_answer(script: Script, storage: S3Storage) -> None:
    script.answers = [b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + _piece(b"a" * HALF, HALF)]
    assert storage.read(ENTRY, HALF, HALF).data == b"a" * HALF
