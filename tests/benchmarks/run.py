"""portabl beside its peers in one run: two SeaweedFS servers, each tool in turn, several rounds.

python tests/benchmarks/run.py                          # a look at everything; writes nothing into docs/
python tests/benchmarks/run.py --publish --rounds 2     # everything into docs/performance.*
python tests/benchmarks/run.py --publish --legs s3-s3 --works small,large     # these parts; the others stay as they are
python tests/benchmarks/run.py --rounds 9 --legs s3-s3 --works small --tools portabl,juicefs
python tests/benchmarks/run.py --render                 # measures nothing: page and pictures anew from figures

Then, once for every leg and work, every tuned tool is run behind a proxy that counts its requests, with a part of the
data. Figures mean something on a quiet machine only: look at `uptime` first.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from kit.servers import S3Server, start_seaweed

from benchmarks import data, measure, report
from benchmarks.figures import Sample
from benchmarks.legs import LEGS, Ground, Leg
from benchmarks.tools import TOOLS, Tool, program

WORKS = tuple(data.works(1, 1))
NOT_COUNTED = "huge"
"""The proxy would carry all its bytes to find what `large` shows."""
VOLUMES = 7
"""What SeaweedFS writes to at once by itself; fewer would measure the server's queue."""

Servers = tuple[S3Server, S3Server]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and publish when asked; 1 when portabl gave a wrong answer."""
    options = _options(arguments)
    if options.render:
        report.render(report.PAGE)
        return 0
    works = data.works(options.small_objects, options.large_mib)
    pairs = [(LEGS[name], works[w]) for name in options.legs for w in LEGS[name].works if w in options.works]
    name = report.now()
    run = {"machine": report.machine(), "versions": report.versions(), "rounds": options.rounds}
    servers = (start_seaweed("weed-a", VOLUMES), start_seaweed("weed-b", VOLUMES))
    try:
        parts = [_part(leg, work, servers, options) | {"run": name} for leg, work in pairs]
    finally:
        for server in servers:
            server.stop()
    doc = {"runs": {name: run}, "help_seconds": measure.help_seconds(program("portabl")), "parts": parts}
    print(report.tables(doc, report.PAGE))
    if options.json:
        report.write_json(doc, options.json)
    if options.publish:
        report.publish(doc, report.PAGE)
    return int(any(s["wrong"] for part in parts for s in part["samples"] if s["tool"] == "portabl"))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="legs and their works:\n" + "\n".join(f"  {_shown(leg)}" for leg in LEGS.values()),
    )
    parser.add_argument("--rounds", type=int, default=2, help="times every tuned tool is run (default %(default)s)")
    parser.add_argument("--legs", type=_names(*LEGS), default=tuple(LEGS), metavar="NAMES", help=",".join(LEGS))
    parser.add_argument("--works", type=_names(*WORKS), default=WORKS, metavar="NAMES", help=",".join(WORKS))
    parser.add_argument("--tools", type=_names(*TOOLS), default=tuple(TOOLS), metavar="NAMES", help=",".join(TOOLS))
    parser.add_argument("--small-objects", type=int, default=10_000, metavar="N", help="default %(default)s")
    parser.add_argument("--large-mib", type=int, default=256, metavar="N", help="default %(default)s")
    parser.add_argument("--no-requests", action="store_true", help="do not count requests")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--publish", action="store_true", help="put what was measured into docs/performance.*")
    parser.add_argument("--render", action="store_true", help="only write the page and the pictures anew")
    options = parser.parse_args(arguments)
    if options.publish and set(options.tools) != set(TOOLS):
        parser.error("--publish takes all tools: they are compared within one run")
    return options


def _shown(leg: Leg) -> str:
    return f"{leg.name:10} {', '.join(leg.works)}: {leg.title}"


def _names(*known: str) -> Callable[[str], tuple[str, ...]]:
    def split(text: str) -> tuple[str, ...]:
        names = tuple(text.split(","))
        if unknown := set(names) - set(known):
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; there is {', '.join(known)}")
        return tuple(name for name in known if name in names)

    return split


def _part(leg: Leg, work: data.Work, servers: Servers, options: argparse.Namespace) -> dict[str, Any]:
    """One work on one leg with every tool that can do it."""
    tools = [TOOLS[name] for name in options.tools if leg.takes(TOOLS[name])]
    samples = _timed(leg, work, servers, tools, options.rounds)
    counted = not (options.no_requests or leg.far or work.name in NOT_COUNTED)
    return {
        "leg": leg.name,
        "work": work.name,
        "title": f"{work.title}: {leg.title}",
        "objects": len(work.sizes),
        "bytes": work.size,
        "latency": leg.latency,
        "samples": [asdict(sample) for sample in samples],
        "requests": _counted(leg, work, servers, [tool for tool in tools if tool.tuned]) if counted else {},
    }


def _timed(leg: Leg, work: data.Work, servers: Servers, tools: list[Tool], rounds: int) -> list[Sample]:
    """Every tool in turn; who goes first changes from round to round."""
    samples = []
    with Ground(leg, work, servers) as ground:
        for number in range(rounds):
            taking = [tool for tool in tools if tool.tuned or number == 0]
            turn = number % len(taking)
            ground.begin(taking, number)
            for tool in (*taking[turn:], *taking[:turn]):
                samples.append(ground.run(tool, number))
                _say(leg, work, samples[-1])
    return samples


def _counted(leg: Leg, work: data.Work, servers: Servers, tools: list[Tool]) -> dict[str, Any]:
    """Requests by tool and kind, with a part of the work."""
    part = work.part()
    kinds = {}
    with Ground(leg, part, servers, counted=True) as ground:
        ground.begin(tools, 0)
        for tool in tools:
            found, sample = ground.count(tool)
            _say(leg, part, sample, f"requests {dict(found)}")
            kinds[tool.name] = dict(sorted(found.items()))
    return {"objects": len(part.sizes), "kinds": kinds}


def _say(leg: Leg, work: data.Work, sample: Sample, more: str = "") -> None:
    figures = f"{sample.wall:7.2f} s wall {sample.cpu:7.2f} s CPU {sample.memory / data.MIB:5.0f} MiB"
    line = f"{leg.name} {work.name} {sample.round} {sample.tool:13}{figures}  {more}{sample.wrong}"
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
