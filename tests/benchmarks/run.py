"""portabl beside its peers, SeaweedFS to SeaweedFS, in one run: each tool in turn, several rounds.

python tests/benchmarks/run.py                                  # a look; writes nothing into docs/
python tests/benchmarks/run.py --publish                        # the official figures of docs/performance.md
python tests/benchmarks/run.py --rounds 9 --legs s3-s3 --works small --tools portabl,juicefs
python tests/benchmarks/run.py --latency 0.08 --legs s3-s3 --works small --small-objects 4000
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from kit.proxy import Fault, FaultProxy
from kit.servers import S3Server, start_seaweed

from benchmarks import data, measure, report
from benchmarks.legs import ALL, LEGS, Ground, Leg
from benchmarks.report import Sample
from benchmarks.tools import TOOLS, program

PAGE = Path(__file__).resolve().parents[2] / "docs" / "performance.md"
VOLUMES = 7
"""What SeaweedFS writes to at once by itself; fewer would measure the server's queue."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and publish when asked; 1 when a tool gave a wrong answer."""
    options = _options(arguments)
    works = data.works(options.small_objects, options.large_mib)
    pairs = [(LEGS[name], works[w]) for name in options.legs for w in LEGS[name].works if w in options.works]
    start = report.machine()
    samples: list[Sample] = []
    servers = (start_seaweed("weed-a", VOLUMES), start_seaweed("weed-b", VOLUMES))
    try:
        with _endpoints(servers, options) as endpoints:
            for leg, work in pairs:
                samples += _measure(leg, work, servers, endpoints, options)
    finally:
        for server in servers:
            server.stop()
    doc = report.document(samples, pairs, options, measure.help_seconds(program("portabl"))) | {"machine": start}
    print(report.tables(doc))
    if options.json:
        report.write_json(doc, options.json)
    if options.publish:
        report.publish(doc, PAGE)
    return int(any(sample.wrong for sample in samples))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="times every tool is run on every work (default 3)")
    parser.add_argument("--legs", type=_names(*LEGS), default=tuple(LEGS), metavar="NAMES", help=",".join(LEGS))
    parser.add_argument("--works", type=_names(*ALL), default=ALL, metavar="NAMES", help=",".join(ALL))
    parser.add_argument("--tools", type=_names(*TOOLS), default=tuple(TOOLS), metavar="NAMES", help=",".join(TOOLS))
    parser.add_argument("--small-objects", type=int, default=10_000, metavar="N")
    parser.add_argument("--large-mib", type=int, default=256, metavar="N")
    parser.add_argument(
        "--latency", type=float, default=0.0, metavar="SECONDS", help="every answer comes so much later"
    )
    parser.add_argument("--slow-down", type=float, default=0.0, metavar="SHARE", help="so many requests answer 503")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--publish", action="store_true", help="write them into docs/performance.md and .json")
    return parser.parse_args(arguments)


@contextlib.contextmanager
def _endpoints(servers: tuple[S3Server, S3Server], options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Where tools find the servers: directly, or behind a proxy that is late or asks to slow down."""
    if not (options.latency or options.slow_down):
        yield servers[0].endpoint, servers[1].endpoint
        return
    with contextlib.ExitStack() as stack:
        proxies = [stack.enter_context(FaultProxy(server.endpoint)) for server in servers]
        for proxy in proxies:
            if options.slow_down:
                proxy.add(Fault("status", status=503, share=options.slow_down))
            if options.latency:
                proxy.add(Fault("delay", seconds=options.latency))
        yield proxies[0].endpoint, proxies[1].endpoint


def _names(*known: str) -> Callable[[str], tuple[str, ...]]:
    def split(text: str) -> tuple[str, ...]:
        names = tuple(text.split(","))
        if unknown := set(names) - set(known):
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; there is {', '.join(known)}")
        return names

    return split


def _measure(
    leg: Leg,
    work: data.Work,
    servers: tuple[S3Server, S3Server],
    endpoints: tuple[str, str],
    options: argparse.Namespace,
) -> list[Sample]:
    """Every tool that can do it, in turn; who goes first changes from round to round."""
    names = [name for name in options.tools if leg.takes(TOOLS[name])]
    samples = []
    with Ground(leg, work, servers, endpoints) as ground:
        for number in range(options.rounds):
            turn = number % len(names)
            for name in (*names[turn:], *names[:turn]):
                samples.append(ground.run(TOOLS[name], number))
                _say(samples[-1])
    return samples


def _say(sample: Sample) -> None:
    figures = f"{sample.wall:7.2f} s wall {sample.cpu:7.2f} s CPU {sample.memory / data.MIB:5.0f} MiB"
    print(
        f"{sample.leg} {sample.work} {sample.round} {sample.tool:13}{figures}  {sample.wrong}",
        file=sys.stderr,
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
