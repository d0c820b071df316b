"""A migration in this process, with a proxy on either side, and what may be said of its end.

An outcome is *absorbed* (exit 0, the root and every object right) or *named* (another exit code, every object that
differs is named or one clear error tells why the place failed, and the same call without the fault ends in the same
root). There is no third one: `Bench.outcome` fails on it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kit.hazards import Item, Seen, differences, snapshot
from kit.proxy import FaultProxy
from kit.servers import S3Server

from portabl import manifest, providers
from portabl.cli.output import hint_of
from portabl.errors import PortablError
from portabl.files import Files
from portabl.migrate import migrate
from portabl.migration import Migration
from portabl.progress import NoProgress

MIB = 2**20
LARGE = b"k-large"
ABSORBED = "absorbed"
THREADS = 4

SMALL_ITEMS = tuple(
    Item(
        b"k-%d" % number,
        random.Random(number).randbytes(200 * number),
        {"ContentType": "text/plain"} if number % 2 else {},
        {"number": str(number)},
        {"kind": "x"} if number == 3 else {},
    )
    for number in range(6)
)
LARGE_ITEM = Item(LARGE, random.Random(99).randbytes(10 * MIB + 5), {"ContentType": "image/png"}, {"n": "1"})
MIXED_ITEMS = (*SMALL_ITEMS[:2], LARGE_ITEM)


class Stage(NoProgress):
    """Knows which stage a run is in, so that a fault can strike in that stage only."""

    now = ""

    def stage(self, name: str, total: int | None) -> None:
        self.now = name


@dataclass(frozen=True)
class End:
    """How one run ended. ``named``: keys with a loss in its manifest; ``said``: the error, "" without one."""

    code: int
    root: str = ""
    target_root: str = ""
    named: frozenset[bytes] = frozenset()
    said: str = ""


def _failed(error: PortablError) -> End:
    assert hint_of(error) or "again" in str(error), f"nothing says what to do: {error}"
    return End(error.exit_code, said=str(error))


@dataclass
class Stock:
    """A source bucket and what is in it; ``root`` of an undisturbed run."""

    bucket: str
    seen: dict[bytes, Seen]
    root: str = ""


@dataclass
class Bench:
    """One source bucket, one new target bucket, two proxies that break things."""

    folder: Path
    server: S3Server
    source: FaultProxy
    target: FaultProxy
    stock: Stock
    options: Mapping[str, object] = field(default_factory=dict)
    settings: str = ""
    same: bool = False

    def __post_init__(self) -> None:
        self.into = self.server.bucket("t")
        self.stage = Stage()
        self.toml = self.folder / "portabl.toml"
        tables = (("old", self.target if self.same else self.source), ("new", self.target))
        text = "".join(self.server.provider_toml(n, p.endpoint) + self.settings for n, p in tables)
        self.toml.write_text(text, encoding="utf-8")

    @property
    def migration(self) -> Migration:
        """The same job at every call."""
        places = (f"old:{self.stock.bucket}", f"new:{self.into}")
        config, state = providers.load(str(self.toml)), str(self.folder / "state")
        return Migration(*places, config, threads=THREADS, state=state, **self.options)  # type: ignore[arg-type]

    def run(self) -> End:
        """One run. Whatever is no error of portabl's own is raised, and fails the test."""
        self.stage.now = ""
        try:
            report = migrate(self.migration, progress=self.stage)
        except PortablError as error:
            return _failed(error)
        named: frozenset[bytes] = frozenset()
        if report.manifest:
            lines = manifest.load(Files.at(report.manifest)).records()
            named = frozenset(record.key for _, record in lines if record.losses)
        return End(report.exit_code, report.source_root, report.target_root, named)

    def wrong(self) -> set[bytes]:
        """Keys that differ between source and target, as boto3 sees both."""
        return set(differences(self.stock.seen, snapshot(self.server, self.into)))

    def outcome(self, again: Callable[[], object] = lambda: None) -> str:
        """Run, judge, mend both sides (and call ``again``), run once more: it must end proven, with the right root."""
        end = self.run()
        if end.code == 0:
            assert not self.wrong(), f"SILENT: exit 0, but {self.wrong()} differ"
            assert end.root == end.target_root
            assert self.stock.root in ("", end.root), "SILENT: exit 0 with another root"
            return ABSORBED
        if end.code == 3 and not end.said:
            assert self.wrong() <= end.named, f"SILENT: {self.wrong() - end.named} differ and are not named"
        else:
            assert end.code in (3, 4, 6), (end.code, end.said)
            assert end.said, "no word of what happened"
        self.source.mend()
        self.target.mend()
        again()
        self.proven()
        return f"named ({end.code})"

    def proven(self) -> None:
        """A run without faults ends with everything in place."""
        end = self.run()
        assert end.code == 0, (end.code, end.said, end.named)
        assert end.root == end.target_root
        assert self.stock.root in ("", end.root), "another root"
        assert not self.wrong()
        uploads = self.server.client().list_multipart_uploads(Bucket=self.into).get("Uploads", ())
        assert not uploads, "an upload was left behind"
