"""From where to where a tool is sent, and what is asked of it: one run of one tool on one leg."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from kit.distance import Distance
from kit.proxy import Fault, FaultProxy
from kit.servers import S3Server

from benchmarks import data, measure
from benchmarks.figures import Sample
from benchmarks.tools import Place, Spot, Tool, Verb, environment


@dataclass(frozen=True)
class Leg:
    """``source`` and ``target`` are "s3" or "local". For anything but a copy, the tool has copied everything before.

    ``changed``: one object in a hundred is another than when it was copied. ``latency``: seconds that every answer
    comes later; ``rate``: bytes a second of one connection; ``slow_down``: share of requests answered with 503.
    """

    name: str
    title: str
    works: tuple[str, ...]
    verb: Verb = Verb.COPY
    source: str = "s3"
    target: str = "s3"
    changed: bool = False
    latency: float = 0.0
    rate: float = 0.0
    slow_down: float = 0.0

    @property
    def far(self) -> bool:
        """Whether something stands between tools and servers."""
        return bool(self.latency or self.slow_down)

    def takes(self, tool: Tool) -> bool:
        """Whether a tool can do this."""
        side = "local" if "local" in (self.source, self.target) else "s3"
        return self.verb in tool.does and side in tool.sides and (tool.tuned or not self.far)

    def proxy(self, endpoint: str) -> FaultProxy | Distance:
        """What stands in front of a server, or counts."""
        if self.latency:
            return Distance(endpoint, seconds=self.latency, rate=self.rate)
        proxy = FaultProxy(endpoint)
        if self.slow_down:
            proxy.add(Fault("status", status=503, share=self.slow_down))
        return proxy


COPIED = ("small", "mixed", "medium", "large", "huge")
FAR = ("small", "medium")
LEGS = {
    leg.name: leg
    for leg in (
        Leg("s3-s3", "S3 to S3", COPIED),
        Leg("local-s3", "a directory to S3", ("small",), source="local"),
        Leg("s3-local", "S3 to a directory", ("small",), target="local"),
        Leg("unchanged", "S3 to S3 again, nothing changed", ("many",), Verb.AGAIN),
        Leg("changed", "S3 to S3 again, one object in a hundred changed", ("small",), Verb.AGAIN, changed=True),
        Leg("readback", "everything read back and compared", ("small", "large"), Verb.CHECK),
        Leg("far-20", "S3 to S3, every answer 20 ms later", ("few",), latency=0.02),
        Leg(
            "far-80", "S3 to S3, every answer 80 ms later, 16 MiB/s a connection", FAR, latency=0.08, rate=16 * data.MIB
        ),
        Leg("busy", "S3 to S3, one request in ten answered with 503", ("few",), slow_down=0.1),
    )
}


@dataclass(frozen=True)
class _Aim:
    """Where a tool writes to, and its own directory for as long."""

    target: Spot
    scratch: Path


class Ground:
    """Two servers and a directory for the data of one leg and work; a context manager.

    Tools that copy get a new target for every run. The others keep theirs for all rounds; where nothing is changed
    all share what the first of them copied. ``counted``: requests pass a proxy that counts them, which slows.
    ``endpoints``: URLs of source and target as tools are given them.
    """

    def __init__(self, leg: Leg, work: data.Work, servers: tuple[S3Server, S3Server], *, counted: bool = False) -> None:
        self._leg = leg
        self._work = work
        self._servers = servers
        self._counted = counted
        self._stack = contextlib.ExitStack()
        self._proxies: list[FaultProxy | Distance] = []
        self.kept: dict[str, _Aim] = {}

    def __enter__(self) -> Ground:
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="portabl-bench-")))
        endpoints = [server.endpoint for server in self._servers]
        if self._leg.far or self._counted:
            self._proxies = [self._stack.enter_context(self._leg.proxy(endpoint)) for endpoint in endpoints]
            endpoints = [proxy.endpoint for proxy in self._proxies]
        self.endpoints = endpoints
        if self._leg.source == "local":
            self._source: Spot = self._folder / "source"
            self.stored = data.fill_folder(self._source, self._work)
        else:
            self._source = self._bucket(0, self._stack)
            self.stored = data.fill(self._servers[0], self._source.bucket, self._work)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def begin(self, tools: list[Tool], number: int) -> None:
        """A round begins: every tool has copied, and then something may have changed."""
        if self._leg.verb is not Verb.COPY and not self.kept:
            for tool in tools:
                shared = None if self._leg.changed else next(iter(self.kept.values()), None)
                self.kept[tool.name] = shared or self._copied(tool)
        if self._leg.changed:
            assert isinstance(self._source, Place)
            self.stored = data.change(self._source.server, self._source.bucket, self.stored, number)

    def run(self, tool: Tool, number: int) -> Sample:
        """One run of a tool, and a look at what it left at the target."""
        with contextlib.ExitStack() as stack:
            aim = self.kept.get(tool.name) or self._aim(stack)
            cost = self._once(tool, self._leg.verb, aim)
            wrong = self._wrong(aim.target)
        if cost.status:
            wrong = f"exit {cost.status}; {wrong}"
            print(cost.output[-2000:], file=sys.stderr)
        return Sample(tool.name, number, cost.wall, cost.cpu, cost.memory, wrong)

    def count(self, tool: Tool) -> tuple[Counter[str], Sample]:
        """Requests of one run of a tool by kind, at both servers together."""
        with contextlib.ExitStack() as stack:
            aim = self.kept.get(tool.name) or self._aim(stack)
            before = self._seen()
            cost = self._once(tool, self._leg.verb, aim)
            found = self._seen() - before
            wrong = self._wrong(aim.target) or (f"exit {cost.status}" if cost.status else "")
        return found, Sample(tool.name, 0, cost.wall, cost.cpu, cost.memory, wrong)

    def _seen(self) -> Counter[str]:
        return sum((proxy.counts for proxy in self._proxies if isinstance(proxy, FaultProxy)), Counter[str]())

    def _copied(self, tool: Tool) -> _Aim:
        aim = self._aim(self._stack)
        cost = self._once(tool, Verb.COPY, aim)
        if cost.status:
            raise SystemExit(f"{tool.name} could not make the first copy: {cost.output[-2000:]}")
        return aim

    def _once(self, tool: Tool, verb: Verb, aim: _Aim) -> measure.Cost:
        run = tool.start(verb, self._source, aim.target, aim.scratch)
        return measure.run(run.command, environment(run.environment), aim.scratch)

    def _aim(self, stack: contextlib.ExitStack) -> _Aim:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=self._folder)))
        if self._leg.target == "local":
            # not removed before the end: ext4 steps over every inode that was freed in the last seconds, one by one, so
            # that whoever makes files next to ten thousand removed ones pays up to 0.4 ms more for each
            return _Aim(Path(tempfile.mkdtemp(prefix="target-", dir=self._folder)), scratch)
        return _Aim(self._bucket(1, stack), scratch)

    def _bucket(self, which: int, stack: contextlib.ExitStack) -> Place:
        server = self._servers[which]
        place = Place(server, server.bucket("bench"), self.endpoints[which])
        stack.callback(data.remove, server, place.bucket)
        return place

    def _wrong(self, target: Spot) -> str:
        if isinstance(target, Path):
            return data.wrong_folder(target, self.stored)
        return data.wrong(target.server, target.bucket, self.stored)
