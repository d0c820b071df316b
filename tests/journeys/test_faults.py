"""Fails closed: whatever a network or a store does, a run either proves everything or names what it could not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from journeys.yard import MIB, Yard, large_items, make_bucket, small_items
from kit.hazards import Seen, differences, snapshot
from kit.proxy import Fault, FaultProxy
from kit.servers import S3Server
from shell import Result

from portabl import manifest
from portabl.files import Files

Stock = tuple[S3Server, str, dict[bytes, Seen]]


@pytest.fixture(scope="module")
def stock(moto: S3Server) -> Stock:
    """A source with 40 small objects and one that goes in parts."""
    bucket = make_bucket(moto, small_items(40) + large_items([17 * MIB + 3]))
    return moto, bucket, snapshot(moto, bucket)


@dataclass
class Two:
    """A yard with a proxy on either side."""

    yard: Yard
    source: FaultProxy
    target: FaultProxy


@pytest.fixture
def two(stock: Stock, seaweed: S3Server, tmp_path: Path) -> Iterator[Two]:
    source, bucket, seen = stock
    with FaultProxy(source.endpoint) as old, FaultProxy(seaweed.endpoint) as new:
        more = {"via_source": old.endpoint, "via_target": new.endpoint, "settings": "stall_seconds = 2\n"}
        yield Two(Yard.at(tmp_path, source, bucket, seaweed, seen=seen, **more), old, new)


def _named(done: Result) -> set[bytes]:
    """Keys that the manifest of a finished run names, with what was lost of them."""
    records = manifest.load(Files.at(done.document["manifest"])).records()
    return {record.key for _, record in records if record.losses}


def _no_silence(two: Two, done: Result) -> None:
    """Exit 0 means equal; exit 3 names every object that differs; all else is one clear error. Then all goes well."""
    yard = two.yard
    if done.code == 0:
        yard.equal()
    elif done.code == 3:
        wrong = differences(yard.expected, snapshot(yard.target, yard.into))
        assert set(wrong) <= _named(done), (wrong, done.out)
    else:
        assert done.code in (4, 6), (done.code, done.err)
        assert "error:" in done.err
        assert "hint:" in done.err or "again" in done.err, done.err
    two.source.clear()
    two.target.clear()
    yard.proven()


def _error_200(body: bytes) -> bytes:
    return b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>InternalError</Code><Message>x</Message></Error>'


SMALL = b"/small/0002"
LARGE = b"/large/0"


def _of(key: bytes) -> Callable[..., bool]:
    return lambda request: key.decode() in request.target


# name: (side, faults, exit codes that are right)
CELLS: dict[str, tuple[str, list[Fault], set[int]]] = {
    "lost PUT answers": ("target", [Fault("lose", kind="put", share=0.3)], {0}),
    "lost part answers": ("target", [Fault("lose", kind="part", times=2)], {0}),
    "lost complete answer": ("target", [Fault("lose", kind="complete", times=1)], {0}),
    "lost create answer": ("target", [Fault("lose", kind="create", times=1)], {0}),
    "cut PUT bodies": ("target", [Fault("cut", kind="put", up=True, after=10, share=0.3)], {0}),
    "cut part body": ("target", [Fault("cut", kind="part", up=True, after=MIB, times=2)], {0}),
    "cut GET bodies": ("source", [Fault("cut", kind="get", after=50, share=0.3)], {0}),
    "gently cut GET bodies": ("source", [Fault("cut", kind="get", after=50, share=0.3, gently=True)], {0}),
    "slow down": ("target", [Fault("status", status=503, share=0.3)], {0, 3, 6}),
    "burst of 500": ("target", [Fault("status", status=500, times=25)], {0, 3, 6}),
    "burst of 500 at the source": ("source", [Fault("status", status=500, times=25)], {0, 3, 6}),
    "stalled GETs": ("source", [Fault("stall", kind="get", after=20, times=3)], {0}),
    "stalled listing": ("source", [Fault("stall", kind="list", after=200, skip=1, times=1)], {0}),
    "stalled PUT answers": ("target", [Fault("stall", kind="put", times=3)], {0}),
    "200 with an error on complete": (
        "target",
        [Fault("rewrite", kind="complete", rewrite=_error_200, times=1)],
        {0},
    ),
    "complete always 200 with an error": (
        "target",
        [Fault("status", kind="complete", status=200)],
        {3},
    ),
    "listing cut": ("source", [Fault("cut", kind="list", after=900, skip=1, gently=True)], {6}),
    "listing cut well-formed": (
        "source",
        [Fault("rewrite", kind="list", rewrite=lambda body: body[: len(body) // 2], skip=1)],
        {6},
    ),
    "listing answers with an error": ("source", [Fault("rewrite", kind="list", rewrite=_error_200, skip=1)], {6}),
    "target listing cut": ("target", [Fault("cut", kind="list", after=300, skip=1, gently=True)], {6}),
    "target listing fails when proving": ("target", [Fault("status", kind="list", status=500, skip=2)], {3, 6}),
    "403 from the middle on": ("target", [Fault("status", status=403, skip=25)], {6}),
    "403 at the source from the middle on": ("source", [Fault("status", status=403, skip=25)], {3, 6}),
    "403 for one object": ("source", [Fault("status", status=403, kind="get", match=_of(SMALL))], {3}),
    "404 for one object": ("source", [Fault("status", status=404, kind="get", match=_of(SMALL))], {3}),
    "bit flipped in small GETs": ("source", [Fault("flip", kind="get", match=_of(b"/small/"), times=3)], {0}),
    "bit always flipped in a small GET": ("source", [Fault("flip", kind="get", match=_of(SMALL), after=40)], {0, 3}),
    "bit flipped in PUTs": ("target", [Fault("flip", kind="put", up=True, times=3)], {0, 3}),
    "bit flipped in a part": ("target", [Fault("flip", kind="part", up=True, after=99, times=1)], {0, 3}),
    "the server goes away for good": ("target", [Fault("cut", skip=30)], {6, 3}),
    "no room left": ("target", [Fault("status", kind="put", status=507, skip=10)], {3, 6}),
}


@pytest.mark.parametrize("name", CELLS)
def test_fault(name: str, two: Two) -> None:
    side, faults, codes = CELLS[name]
    injected = [(two.source if side == "source" else two.target).add(replace(fault)) for fault in faults]
    done = two.yard.run()
    assert all(fault.fired for fault in injected), "the fault never happened"
    print(name, done.code, done.err[-300:])
    assert done.code in codes, (done.code, done.err, done.out)
    _no_silence(two, done)
