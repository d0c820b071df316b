"""From where to where a tool is sent, and what is asked of it: one run of one tool on one leg."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kit.servers import S3Server

from benchmarks import data, measure
from benchmarks.report import Sample
from benchmarks.tools import Place, Spot, Tool, Verb, environment


@dataclass(frozen=True)
class Leg:
    """``source`` and ``target`` are "s3" or "local". For anything but a copy, the tool has copied everything before.
    ``changed``: one in a hundred objects is another since then.
    """

    name: str
    title: str
    works: tuple[str, ...]
    verb: Verb = Verb.COPY
    source: str = "s3"
    target: str = "s3"
    changed: bool = False

    def takes(self, tool: Tool) -> bool:
        """Whether a tool can do this."""
        side = "local" if "local" in (self.source, self.target) else "s3"
        return self.verb in tool.does and side in tool.sides


ALL = ("small", "mixed", "medium", "large", "huge")
LEGS = {
    leg.name: leg
    for leg in (
        Leg("s3-s3", "S3 to S3", ALL),
        Leg("local-s3", "a directory to S3", ("small",), source="local"),
        Leg("s3-local", "S3 to a directory", ("small",), target="local"),
        Leg("unchanged", "S3 to S3 again, nothing changed", ("small",), Verb.AGAIN),
        Leg("changed", "S3 to S3 again, one object in a hundred changed", ("small",), Verb.AGAIN, changed=True),
        Leg("readback", "everything read back and compared", ("small", "large"), Verb.CHECK),
    )
}


class Ground:
    """Two servers and a directory for the data of one leg and work; a context manager."""

    def __init__(
        self, leg: Leg, work: data.Work, servers: tuple[S3Server, S3Server], endpoints: tuple[str, str]
    ) -> None:
        self._leg = leg
        self._work = work
        self._servers = servers
        self._endpoints = endpoints
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Ground:
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="portabl-bench-")))
        if self._leg.source == "local":
            self._source: Spot = self._folder / "source"
            self.stored = data.fill_folder(self._source, self._work)
        else:
            server = self._servers[0]
            self._source = Place(server, server.bucket("bench"), self._endpoints[0])
            self._stack.callback(data.remove, server, self._source.bucket)
            self.stored = data.fill(server, self._source.bucket, self._work)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, tool: Tool, number: int) -> Sample:
        """One run of a tool into a new target, and a look at what it left there."""
        with self._target() as target, tempfile.TemporaryDirectory(dir=self._folder) as kept:
            scratch = Path(kept)
            if self._leg.verb is not Verb.COPY:
                cost = self._once(tool, Verb.COPY, target, scratch)
                if cost.status:
                    raise SystemExit(f"{tool.name} could not make the first copy: {cost.output[-2000:]}")
            with self._changed() as expected:
                cost = self._once(tool, self._leg.verb, target, scratch)
                wrong = self._wrong(target, expected)
        if cost.status:
            wrong = f"exit {cost.status}; {wrong}"
            print(cost.output[-2000:], file=sys.stderr)
        figures = (cost.wall, cost.cpu, cost.memory, wrong)
        return Sample(self._leg.name, self._work.name, tool.name, number, *figures)

    def _once(self, tool: Tool, verb: Verb, target: Spot, scratch: Path) -> measure.Cost:
        run = tool.start(verb, self._source, target, scratch)
        return measure.run(run.command, environment(run.environment), scratch)

    @contextlib.contextmanager
    def _target(self) -> Iterator[Spot]:
        if self._leg.target == "local":
            folder = self._folder / "target"
            folder.mkdir()
            yield folder
            shutil.rmtree(folder)
            return
        server = self._servers[1]
        place = Place(server, server.bucket("bench"), self._endpoints[1])
        yield place
        data.remove(server, place.bucket)

    @contextlib.contextmanager
    def _changed(self) -> Iterator[data.Stored]:
        """What the source holds for the measured run; for the next tool it is as it was."""
        if not self._leg.changed:
            yield self.stored
            return
        assert isinstance(self._source, Place)
        yield data.change(self._source.server, self._source.bucket, self.stored)
        data.restore(self._source.server, self._source.bucket, self.stored)

    def _wrong(self, target: Spot, expected: data.Stored) -> str:
        if isinstance(target, Path):
            return data.wrong_folder(target, expected)
        return data.wrong(target.server, target.bucket, expected)
