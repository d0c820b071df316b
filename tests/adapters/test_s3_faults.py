"""S3 under trouble: lost answers, wrong bytes, lying listings. Real servers behind a proxy that breaks one thing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from kit.proxy import Fault, FaultProxy
from kit.s3_opened import body, opened
from kit.servers import S3Server

from portabl.errors import (
    AccessDenied,
    Changed,
    ContainerMissing,
    Corrupt,
    ListingBroken,
    ListingDisordered,
    NotFound,
    PortablError,
    Throttled,
    Unreachable,
)
from portabl.model import Entry, Metadata


@pytest.fixture
def proxy(seaweed: S3Server) -> Iterator[FaultProxy]:
    """A proxy in front of SeaweedFS."""
    with FaultProxy(seaweed.endpoint) as it:
        yield it


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries at once: the waits are not what is tested."""
    monkeypatch.setattr(time, "sleep", lambda _: None)


def test_a_lost_answer_to_a_put_is_looked_up_not_written_again(seaweed: S3Server, proxy: FaultProxy) -> None:
    with opened(seaweed, seaweed.bucket(), endpoint=proxy.endpoint) as storage:
        storage.write(b"first", body(b"opens the connection"), Metadata())
        proxy.add(Fault("lose", kind="put", times=1))
        before = proxy.counts["put"]
        written = storage.write(b"k", body(b"data"), Metadata({"content-type": "text/plain"}, {"a": "b"}))
        assert written.etag == body(b"data").md5
        assert proxy.counts["put"] - before == 1, "the PUT was sent again without looking"
        assert proxy.counts["head"] == 1


def test_a_lost_answer_does_not_take_an_older_object_for_ours(seaweed: S3Server, proxy: FaultProxy) -> None:
    with opened(seaweed, seaweed.bucket(), endpoint=proxy.endpoint) as storage:
        storage.write(b"k", body(b"data"), Metadata({}, {"colour": "old"}))
        proxy.add(Fault("cut", kind="put", up=True, after=0, times=1))
        storage.write(b"k", body(b"data"), Metadata({}, {"colour": "new"}))
        assert storage.stat(b"k").metadata.user == {"colour": "new"}


def test_a_lost_answer_does_not_take_older_tags_for_ours(seaweed: S3Server, proxy: FaultProxy) -> None:
    with opened(seaweed, seaweed.bucket(), endpoint=proxy.endpoint) as storage:
        storage.write(b"k", body(b"data"), Metadata(tags={"team": "old"}))
        proxy.add(Fault("cut", kind="put", up=True, after=0, times=1))
        storage.write(b"k", body(b"data"), Metadata(tags={"team": "new"}))
        assert storage.stat(b"k").metadata.tags == {"team": "new"}


@pytest.mark.parametrize("server", ["seaweed", "moto", "rgw"])
@pytest.mark.parametrize(
    "fault", [Fault("cut", kind="complete", up=True, times=1), Fault("lose", kind="complete", times=1)]
)
def test_a_lost_completion_does_not_take_an_older_object_of_the_same_parts_for_ours(
    server: str, fault: Fault, request: pytest.FixtureRequest
) -> None:
    it: S3Server = request.getfixturevalue(server)
    data = b"p" * (5 * 2**20 + 1)
    with FaultProxy(it.endpoint) as proxy, opened(it, it.bucket(), endpoint=proxy.endpoint) as storage:
        for colour in ("old", "new"):
            upload = storage.upload(b"big", len(data), Metadata({}, {"colour": colour}, {"t": colour}), 5 * 2**20)
            tags = [upload.part(1, body(data[: 5 * 2**20]), 0), upload.part(2, body(data[5 * 2**20 :]), 5 * 2**20)]
            if colour == "new":
                proxy.add(replace(fault))
            upload.finish(tags, body(data).sha256)
        found = storage.stat(b"big").metadata
        assert (found.user, found.tags) == ({"colour": "new"}, {"t": "new"})
        assert not storage.abandoned(b"big")
        completions = proxy.counts["complete"] - 1
        assert completions == (2 if fault.action == "cut" else 1)


def test_a_lost_answer_to_complete_is_looked_up(seaweed: S3Server, proxy: FaultProxy) -> None:
    data = b"p" * (5 * 2**20 + 1)
    with opened(seaweed, seaweed.bucket(), endpoint=proxy.endpoint) as storage:
        upload = storage.upload(b"big", len(data), Metadata(), 5 * 2**20)
        tags = [upload.part(1, body(data[: 5 * 2**20]), 0), upload.part(2, body(data[5 * 2**20 :]), 5 * 2**20)]
        proxy.add(Fault("lose", kind="complete", times=1))
        written = upload.finish(tags, body(data).sha256)
        assert written.etag.endswith("-2")
        content = storage.read(Entry(b"big", len(data), written.etag))
        assert bytes(content.data) == data


def test_an_error_inside_a_successful_completion_is_no_success(seaweed: S3Server, proxy: FaultProxy) -> None:
    data = b"p" * (5 * 2**20)
    with opened(seaweed, seaweed.bucket(), endpoint=proxy.endpoint) as storage:
        upload = storage.upload(b"big", len(data), Metadata(), 5 * 2**20)
        tags = [upload.part(1, body(data), 0)]
        proxy.add(Fault("status", kind="complete", status=200, times=1))
        upload.finish(tags, body(data).sha256)
        assert storage.stat(b"big").size == len(data)


def test_flipped_bits_on_the_way_up_never_arrive(seaweed: S3Server, proxy: FaultProxy) -> None:
    with opened(seaweed, seaweed.bucket(), endpoint=proxy.endpoint) as storage:
        proxy.add(Fault("flip", kind="put", up=True, after=2))
        with pytest.raises(PortablError):
            storage.write(b"k", body(b"data"), Metadata())
        proxy.clear()
        assert list(storage.entries()) == []


def test_a_body_cut_once_is_read_again(seaweed: S3Server, proxy: FaultProxy) -> None:
    data = bytes(range(256)) * 16384
    with opened(seaweed, seaweed.bucket(), endpoint=proxy.endpoint) as storage:
        etag = storage.write(b"k", body(data), Metadata()).etag
        proxy.add(Fault("cut", kind="get", after=1_000_000, times=1))
        assert bytes(storage.read(Entry(b"k", len(data), etag)).data) == data
        assert bytes(storage.read(Entry(b"k", len(data), etag), 1000, 3_000_000).data) == data[1000:3_001_000]


def test_a_server_that_ignores_ranges_still_gives_the_right_bytes(seaweed: S3Server, proxy: FaultProxy) -> None:
    data = bytes(range(256)) * 40960
    with opened(seaweed, seaweed.bucket(), endpoint=proxy.endpoint) as storage:
        etag = storage.write(b"k", body(data), Metadata()).etag
        entry = Entry(b"k", len(data), etag)
        plain = storage._read_headers
        storage._read_headers = lambda e, start, want, whole: plain(e, 0, e.size, True)  # type: ignore[method-assign]
        assert bytes(storage.read(entry, 5_000_000, 1000).data) == data[5_000_000:5_001_000]
        assert bytes(storage.read(entry, len(data) - 7, 7).data) == data[-7:]


def test_a_changed_object_is_reported_as_changed(seaweed: S3Server) -> None:
    with opened(seaweed, seaweed.bucket()) as storage:
        old = storage.write(b"k", body(b"old bytes"), Metadata()).etag
        storage.write(b"k", body(b"new bytes"), Metadata())
        for start, length in ((0, None), (2, 3)):
            with pytest.raises(Changed):
                storage.read(Entry(b"k", 9, old), start, length)


@pytest.mark.parametrize("want", [100, 2**20])
def test_an_error_is_no_piece_of_an_object(want: int, seaweed: S3Server) -> None:
    """Whether or not it is longer than what was asked for."""
    with opened(seaweed, seaweed.bucket()) as storage:
        written = storage.write(b"k", body(bytes(2**21)), Metadata())
        entry = Entry(b"k", 2**21, written.etag)
        assert bytes(storage.read(entry, 2**20, want).data) == bytes(want)
        storage.delete(b"k")
        with pytest.raises(NotFound):
            storage.read(entry, 2**20, want)


@pytest.mark.parametrize("want", [100, 2**20])
def test_more_bytes_than_were_asked_for_are_not_taken(want: int, seaweed: S3Server, proxy: FaultProxy) -> None:
    with opened(seaweed, seaweed.bucket(), endpoint=proxy.endpoint) as storage:
        written = storage.write(b"k", body(bytes(2**21)), Metadata())
        entry = Entry(b"k", 2**21, written.etag)
        proxy.add(Fault("rewrite", kind="get", rewrite=lambda data: data + b"more"))
        assert bytes(storage.read(entry, 2**20, want).data) == bytes(want)


def test_slow_down_shrinks_the_pace_and_every_write_arrives(
    seaweed: S3Server, proxy: FaultProxy, no_waiting: None
) -> None:
    with opened(seaweed, seaweed.bucket(), endpoint=proxy.endpoint, threads=8) as storage:
        proxy.add(Fault("status", kind="put", status=503, share=0.4))
        for number in range(20):
            storage.write(b"%d" % number, body(b"x"), Metadata())
        assert storage.calls.pace.limit < 8
        assert len(list(storage.entries())) == 20


def test_slow_down_without_end_is_throttled(seaweed: S3Server, proxy: FaultProxy, no_waiting: None) -> None:
    with opened(seaweed, seaweed.bucket(), endpoint=proxy.endpoint) as storage:
        proxy.add(Fault("status", kind="put", status=503))
        with pytest.raises(Throttled):
            storage.write(b"k", body(b"x"), Metadata())
        assert proxy.counts["put"] == 8


BROKEN_PAGES = {
    "cut short": lambda page: page[: len(page) // 2],
    "empty": lambda page: b"",
    "another document": lambda page: b"<html><body>OK</body></html>",
    "truncated without token": lambda page: page.replace(b"<IsTruncated>false", b"<IsTruncated>true"),
    "does not say whether complete": lambda page: page.replace(b"<IsTruncated>false</IsTruncated>", b""),
    "size is no number": lambda page: page.replace(b"<Size>1</Size>", b"<Size>many</Size>"),
    "key outside the prefix": lambda page: page.replace(b"<Key>p/b", b"<Key>q/b").replace(b"<Key>p%2Fb", b"<Key>q%2Fb"),
    "entity bomb": lambda page: page.replace(b"?>", b'?><!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>', 1),
}


@pytest.mark.parametrize("broken", BROKEN_PAGES.values(), ids=BROKEN_PAGES)
def test_a_broken_page_is_never_an_empty_or_a_short_listing(
    seaweed: S3Server, proxy: FaultProxy, broken: object
) -> None:
    with opened(seaweed, seaweed.bucket(), b"p/", endpoint=proxy.endpoint) as storage:
        for key in (b"a", b"b", b"c"):
            storage.write(key, body(b"x"), Metadata())
        assert [entry.key for entry in storage.entries()] == [b"a", b"b", b"c"]
        fault = proxy.add(Fault("rewrite", kind="list", rewrite=broken))  # type: ignore[arg-type]
        with pytest.raises(ListingBroken):
            list(storage.entries())
        assert fault.fired


def test_a_page_out_of_order_is_disordered(seaweed: S3Server) -> None:
    with opened(seaweed, seaweed.bucket()) as storage:
        for key in (b"dir/x", b"dir-x"):
            storage.write(key, body(b"x"), Metadata())
        with pytest.raises(ListingDisordered):
            list(storage.entries())


def test_refused_credentials_a_missing_bucket_and_no_server_are_told_apart(
    seaweed: S3Server, proxy: FaultProxy
) -> None:
    wrong = {
        "access_key_id": seaweed.access_key,
        "secret_access_key": "wr0ng-s3cret-value",
        "session_token": "t0ken-value",
    }
    with opened(seaweed, seaweed.bucket(), secrets=wrong) as storage, pytest.raises(AccessDenied) as refused:
        storage.check(write=True)
    with opened(seaweed, "no-such-bucket") as storage, pytest.raises(ContainerMissing):
        storage.check(write=True)
    proxy.down()
    begun = time.monotonic()
    with opened(seaweed, "b", endpoint=proxy.endpoint, secrets=wrong) as storage, pytest.raises(Unreachable) as dead:
        storage.check(write=False)
    proxy.up()
    assert time.monotonic() - begun < 10
    for error in (refused.value, dead.value):
        told = f"{error} {error!r} {error.hint} {storage!r} {storage.__dict__}"
        assert "wr0ng-s3cret-value" not in told
        assert "t0ken-value" not in told


def test_a_wrong_digest_of_the_store_is_corrupt_after_one_more_try(seaweed: S3Server, proxy: FaultProxy) -> None:
    right = body(b"data")
    wrong = type(right)(right.data, right.sha256, "0" * 32)
    with opened(seaweed, seaweed.bucket(), endpoint=proxy.endpoint) as storage:
        with pytest.raises(Corrupt):
            storage.write(b"k", wrong, Metadata())
        assert proxy.counts["put"] == 2
