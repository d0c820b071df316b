"""What the journeys through trouble share: data, a place to run in, and what must hold in the end."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from kit.hazards import Item, Seen, differences, fill, snapshot
from kit.servers import S3Server
from shell import Result, Shell, shell

MIB = 2**20


def small_items(count: int) -> list[Item]:
    """Small objects with headers, metadata and tags on some."""
    dice = random.Random(11)
    headers = ({}, {"ContentType": "text/plain"}, {"CacheControl": "no-store", "ContentType": "image/png"})
    return [
        Item(
            f"small/{number:04d}".encode(),
            dice.randbytes(dice.choice((0, 1, 100, 5_000))),
            headers[number % 3],
            {"number": str(number)} if number % 2 else {},
            {"kind": f"tag {number}"} if number % 5 == 0 else {},
        )
        for number in range(count)
    ]


def large_items(sizes: list[int], name: str = "large") -> list[Item]:
    """Objects that go in parts."""
    return [
        Item(f"{name}/{n}".encode(), random.Random(n).randbytes(size), {"ContentType": "application/x-tar"}, {"n": "1"})
        for n, size in enumerate(sizes)
    ]


def make_bucket(server: S3Server, items: list[Item]) -> str:
    """A new bucket that holds ``items``."""
    bucket = server.bucket()
    assert len(fill(server, bucket, items)) == len(items)
    return bucket


@dataclass
class Yard:
    """One source bucket, one target bucket and a shell; ``via_*`` are endpoints of proxies in front.

    ``origin`` and ``aim`` are other locations to migrate from and to.
    """

    here: Shell
    source: S3Server
    bucket: str
    target: S3Server
    via_source: str = ""
    via_target: str = ""
    settings: str = ""
    options: tuple[str, ...] = ()
    seen: dict[bytes, Seen] | None = None
    into: str = ""
    origin: str = ""
    aim: str = ""

    def __post_init__(self) -> None:
        self.into = self.into or self.target.bucket("t")
        self.here.configure(
            self.source.provider_toml("old", self.via_source) + self.settings,
            self.target.provider_toml("new", self.via_target) + self.settings,
        )

    @classmethod
    def at(cls, folder: Path, source: S3Server, bucket: str, target: S3Server, **more: Any) -> Yard:
        """A yard with a shell of its own in ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        return cls(shell(folder, source.environment, target.environment), source, bucket, target, **more)

    @property
    def arguments(self) -> tuple[str, ...]:
        """The command, always the same: only so is it the same job."""
        places = (self.origin or f"old:{self.bucket}", self.aim or f"new:{self.into}")
        return ("migrate", *places, "--json", "--threads", "8", *self.options)

    def run(self, **more: Any) -> Result:
        """Run it to its end."""
        done = self.here.portabl(*self.arguments, **more)
        assert "Traceback" not in done.err, done.err
        return done

    @cached_property
    def expected(self) -> dict[bytes, Seen]:
        """The source, read by boto3."""
        return self.seen or snapshot(self.source, self.bucket)

    def equal(self) -> None:
        """Source and target are the same to boto3, and no upload is left."""
        assert not differences(self.expected, snapshot(self.target, self.into))
        assert not self.uploads()

    def uploads(self) -> list[str]:
        """Keys of unfinished uploads at the target."""
        return [u["Key"] for u in self.target.client().list_multipart_uploads(Bucket=self.into).get("Uploads", ())]

    def proven(self, root: str = "") -> str:
        """One more run ends well, with the same root, and everything is there."""
        done = self.run()
        assert done.code == 0, (done.err, done.out)
        assert done.document["source_root"] == done.document["target_root"]
        assert not root or done.document["source_root"] == root, "another root"
        self.equal()
        return str(done.document["source_root"])
