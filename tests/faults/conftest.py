"""One SeaweedFS for all cells, small limits so that little data goes every way, and no long waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faults.bench import MIB, MIXED_ITEMS, SMALL_ITEMS, Bench, Stock
from kit.hazards import Item, fill, snapshot
from kit.proxy import FaultProxy
from kit.servers import S3Server


@pytest.fixture(scope="module")
def little(seaweed: S3Server) -> Iterator[None]:
    """Limits and waits made small; the provider's credentials in the environment."""
    smaller: dict[str, Any] = {
        "portabl.transfer.SINGLE_MAX": 4 * MIB,
        "portabl.copying.SINGLE_MAX": 4 * MIB,
        "portabl.large.PART_SIZE": 5 * MIB,
        "portabl.checker.PATIENCE_SECONDS": 0.2,
        "portabl_adapters.s3.calls.WAIT_FIRST_SECONDS": 0.001,
        "portabl_adapters.s3.calls.WAIT_MOST_SECONDS": 0.02,
        "portabl_adapters.s3.upload.time": SimpleNamespace(sleep=lambda _: None),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in smaller.items():
            patch.setattr(name, value)
        for name, text in seaweed.environment.items():
            patch.setenv(name, text)
        yield


@pytest.fixture(scope="session")
def proxies(seaweed: S3Server) -> Iterator[tuple[FaultProxy, FaultProxy]]:
    """In front of the source and of the target."""
    with FaultProxy(seaweed.endpoint) as source, FaultProxy(seaweed.endpoint) as target:
        yield source, target


Benches = Callable[..., Bench]


@pytest.fixture
def bench(
    seaweed: S3Server,
    proxies: tuple[FaultProxy, FaultProxy],
    stocks: Callable[[str], Stock],
    tmp_path: Path,
) -> Iterator[Benches]:
    """Makes a bench over a stock ("small" or "mixed"), or over a bucket of its own (``items``)."""
    source, target = proxies

    def make(kind: str = "small", items: tuple[Item, ...] = (), **more: Any) -> Bench:
        source.mend()
        target.mend()
        stock = _stock(seaweed, items) if items else stocks(kind)
        return Bench(tmp_path, seaweed, source, target, stock, **more)

    yield make
    source.mend()
    target.mend()


@pytest.fixture(scope="module")
def stocks(
    little: None, seaweed: S3Server, proxies: tuple[FaultProxy, FaultProxy], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Stock]:
    """The two shared sources, each with the root of an undisturbed run."""
    kept: dict[str, Stock] = {}

    def stock(kind: str) -> Stock:
        if kind not in kept:
            kept[kind] = _stock(seaweed, SMALL_ITEMS if kind == "small" else MIXED_ITEMS)
            first = Bench(tmp_path_factory.mktemp(kind), seaweed, *proxies, kept[kind])
            end = first.run()
            assert end.code == 0, end
            assert not first.wrong()
            kept[kind].root = end.root
        return kept[kind]

    return stock


def _stock(server: S3Server, items: tuple[Item, ...]) -> Stock:
    bucket = server.bucket("s")
    assert len(fill(server, bucket, items)) == len(items)
    return Stock(bucket, snapshot(server, bucket))
