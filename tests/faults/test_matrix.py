"""Every fault at every step that talks to a store: absorbed or named, never silent (docs/faults.md)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from faults import page
from faults.bench import ABSORBED, Bench
from faults.conftest import Benches
from kit.proxy import Fault, Request

SECTION = "Every fault at every step"


@dataclass(frozen=True)
class Step:
    """A kind of request on one side; ``stage``: only in that stage of a run; ``body``: where its bytes travel."""

    side: str
    kind: str
    stock: str = "small"
    stage: str = ""
    ranged: bool = False
    down: bool = False
    up: bool = False
    key: str = ""

    def matches(self, bench: Bench) -> Callable[[Request], bool]:
        def match(request: Request) -> bool:
            staged = not self.stage or bench.stage.now == self.stage
            return staged and (not self.ranged or "range" in request.headers) and self.key in request.target

        return match


STEPS = {
    "list page": Step("source", "list", down=True, key="max-keys=1000"),
    "head": Step("target", "head"),
    "get": Step("source", "get", down=True, key="k-4"),
    "get range": Step("source", "get", "mixed", ranged=True, down=True),
    "put": Step("target", "put", up=True, key="k-5"),
    "create upload": Step("target", "create", "mixed", down=True),
    "upload part": Step("target", "part", "mixed", up=True),
    "complete upload": Step("target", "complete", "mixed", down=True),
    "final list": Step("target", "list", stage="prove", down=True),
}

FAULTS = {
    "connection refused from here on": Fault("down"),
    "reset in the middle of the headers, twice": Fault("behead", times=2),
    "answer lost after it was carried out, twice": Fault("lose", times=2),
    "body cut by a reset, twice": Fault("cut", after=60, times=2),
    "body shorter than its Content-Length, twice": Fault("cut", after=60, times=2, gently=True),
    "body shorter than its Content-Length, always": Fault("cut", after=60, gently=True),
    "body cut with a Content-Length to match, twice": Fault("rewrite", rewrite=lambda body: body[:60], times=2),
    "body cut with a Content-Length to match, always": Fault("rewrite", rewrite=lambda body: body[:60]),
    "no further byte, twice": Fault("stall", times=2),
    "no further byte, for ever": Fault("stall"),
    "one bit flipped, twice": Fault("flip", after=40, times=2),
    "one bit flipped, always": Fault("flip", after=40),
    "429 for 30%": Fault("status", status=429, share=0.3),
    "500 for 30%": Fault("status", status=500, share=0.3),
    "503 SlowDown for 30%": Fault("status", status=503, share=0.3),
    "500 always": Fault("status", status=500),
    "200 with an error document, once": Fault("status", status=200, times=1),
    "200 with an error document, always": Fault("status", status=200),
    "403 credentials expired": Fault("status", status=403, code="ExpiredToken"),
    "403 clock 20 minutes off": Fault("status", status=403, code="RequestTimeTooSkewed"),
    "404 bucket deleted": Fault("status", status=404, code="NoSuchBucket"),
    "507 no room left": Fault("status", status=507),
}
BODIES = ("body ", "one bit")
STALLS = ("no further",)


def _applies(fault: str, step: Step) -> bool:
    """A body can only be spoiled where there is one; an error document only where a body is read for it."""
    if fault.startswith("body cut with a Content-Length to match"):
        return step.down
    if fault.startswith(BODIES):
        return step.down or step.up
    return "error document" not in fault or step.down


CELLS = [
    pytest.param(fault, step, marks=[pytest.mark.slow] if fault == "no further byte, for ever" else [])
    for fault in FAULTS
    for step in STEPS
    if _applies(fault, STEPS[step])
]


@pytest.mark.parametrize(("fault", "step"), CELLS)
def test_cell(fault: str, step: str, bench: Benches, monkeypatch: pytest.MonkeyPatch) -> None:
    where = STEPS[step]
    if fault == "no further byte, for ever":
        monkeypatch.setattr("portabl_adapters.s3.storage.ATTEMPTS", 2)  # up to 7 s each: libcurl averages over 5
    place = bench(where.stock, settings="stall_seconds = 1\n" if fault.startswith(STALLS) else "")
    up = where.up and not where.down and fault.startswith(BODIES)
    injected = replace(FAULTS[fault], kind=where.kind, match=where.matches(place), up=up)
    (place.source if where.side == "source" else place.target).add(injected)
    outcome = place.outcome()
    if "30%" not in fault:
        assert injected.fired, "the fault never happened"
    by_chance = "30%" in fault or fault.startswith(STALLS)  # a slow machine is a stalled server, too
    others = [ABSORBED, "named (3)", "named (6)"] if by_chance else []
    page.check(SECTION, fault, step, outcome, *others)


def _blocks(body: bytes) -> list[bytes]:
    return re.findall(rb"<Contents>.*?</Contents>", body, re.DOTALL)


def _repeated(body: bytes) -> bytes:
    blocks = _blocks(body)
    return body.replace(blocks[1], blocks[1] + blocks[1]) if len(blocks) > 1 else body


def _dropped(body: bytes) -> bytes:
    blocks = _blocks(body)
    return body.replace(blocks[1], b"") if len(blocks) > 1 else body


def _reordered(body: bytes) -> bytes:
    blocks = _blocks(body)
    return body.replace(blocks[0] + blocks[1], blocks[1] + blocks[0]) if len(blocks) > 1 else body


def _truncated(body: bytes, token: bytes = b"") -> bytes:
    body = re.sub(rb"<NextContinuationToken>.*?</NextContinuationToken>", b"", body)
    return body.replace(b"<IsTruncated>false</IsTruncated>", b"<IsTruncated>true</IsTruncated>" + token)


def _looping(body: bytes) -> bytes:
    return _truncated(body, b"<NextContinuationToken>again</NextContinuationToken>")


def _without_all(body: bytes) -> bytes:
    body = re.sub(rb"<Contents>.*</Contents>", b"", body, flags=re.DOTALL)
    return re.sub(rb"<KeyCount>\d+</KeyCount>", b"<KeyCount>0</KeyCount>", body)


LISTS = {
    "a key twice": _repeated,
    "a key left out": _dropped,
    "two keys in the wrong order": _reordered,
    "says there is more, and not where": _truncated,
    "a token that leads back to the first page": _looping,
}


@pytest.mark.parametrize("step", ["list page", "final list"])
@pytest.mark.parametrize("how", LISTS)
def test_listing(how: str, step: str, bench: Benches) -> None:
    place = bench()
    where = STEPS[step]
    fault = Fault("rewrite", kind="list", match=where.matches(place), rewrite=LISTS[how])
    (place.source if where.side == "source" else place.target).add(fault)
    outcome = place.outcome()
    assert fault.fired
    page.check("Listings that lie", how, step, outcome)


@pytest.mark.parametrize("times", [1, None], ids=["once", "for ever"])
def test_stale_listing(times: int | None, bench: Benches) -> None:
    """The target's listing shows the state before the writes."""
    place = bench()
    match = STEPS["final list"].matches(place)
    place.target.add(fault := Fault("rewrite", kind="list", match=match, rewrite=_without_all, times=times))
    outcome = place.outcome()
    assert fault.fired
    page.check(
        "Listings that lie", f"the state before the writes, {'once' if times else 'for ever'}", "final list", outcome
    )
