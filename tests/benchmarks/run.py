"""portabl beside rclone and juicefs, SeaweedFS to SeaweedFS, in one run: each tool in turn, several rounds.

python tests/benchmarks/run.py                                  # a look; writes nothing into docs/
python tests/benchmarks/run.py --publish                        # the official figures of docs/performance.md
python tests/benchmarks/run.py --rounds 9 --works small --tools portabl,juicefs
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from kit.servers import S3Server, start_seaweed

from benchmarks import data, measure, report
from benchmarks.report import Sample
from benchmarks.tools import TOOLS, Place, Tool, environment, program

PAGE = Path(__file__).resolve().parents[2] / "docs" / "performance.md"
VOLUMES = 7
"""What SeaweedFS writes to at once by itself; fewer would measure the server's queue."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and publish when asked; 1 when a tool gave a wrong answer."""
    options = _options(arguments)
    works = [
        work for name, work in data.works(options.small_objects, options.large_mib).items() if name in options.works
    ]
    start = report.machine()
    samples: list[Sample] = []
    servers = [start_seaweed("weed-a", VOLUMES), start_seaweed("weed-b", VOLUMES)]
    try:
        for work in works:
            samples += _measure(servers[0], servers[1], work, options.tools, options.rounds)
    finally:
        for server in servers:
            server.stop()
    doc = report.document(samples, works, options.rounds, measure.help_seconds(program("portabl"))) | {"machine": start}
    print(report.tables(doc))
    if options.json:
        report.write_json(doc, options.json)
    if options.publish:
        report.publish(doc, PAGE)
    return int(any(sample.wrong for sample in samples))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="times every tool is run on every work (default 3)")
    parser.add_argument("--works", type=_names("small", "large"), default=("small", "large"), metavar="NAMES")
    parser.add_argument("--tools", type=_names(*TOOLS), default=tuple(TOOLS), metavar="NAMES", help=",".join(TOOLS))
    parser.add_argument("--small-objects", type=int, default=10_000, metavar="N")
    parser.add_argument("--large-mib", type=int, default=256, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--publish", action="store_true", help="write them into docs/performance.md and .json")
    return parser.parse_args(arguments)


def _names(*known: str) -> Callable[[str], tuple[str, ...]]:
    def split(text: str) -> tuple[str, ...]:
        names = tuple(text.split(","))
        if unknown := set(names) - set(known):
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; there is {', '.join(known)}")
        return names

    return split


def _measure(source: S3Server, target: S3Server, work: data.Work, names: Sequence[str], rounds: int) -> list[Sample]:
    """Every tool on one work, in turn; who goes first changes from round to round."""
    origin = Place(source, source.bucket("bench"))
    expected = data.fill(source, origin.bucket, work)
    samples = []
    for number in range(rounds):
        turn = number % len(names)
        for name in (*names[turn:], *names[:turn]):
            samples.append(_once(TOOLS[name], origin, target, expected, work.name, number))
            _say(samples[-1])
    data.remove(source, origin.bucket)
    return samples


def _once(
    tool: Tool, origin: Place, server: S3Server, expected: Mapping[str, tuple[int, str]], work: str, number: int
) -> Sample:
    """One run into a new bucket, and a look at what it left there."""
    target = Place(server, server.bucket("bench"))
    with tempfile.TemporaryDirectory(prefix="portabl-bench-") as scratch:
        planned = tool.start(origin, target, Path(scratch))
        cost = measure.run(planned.command, environment(planned.environment), Path(scratch))
    wrong = data.wrong(server, target.bucket, expected)
    if cost.status:
        wrong = f"exit {cost.status}; {wrong}"
        print(cost.output[-2000:], file=sys.stderr)
    data.remove(server, target.bucket)
    return Sample(work, tool.name, number, cost.wall, cost.cpu, cost.memory, wrong)


def _say(sample: Sample) -> None:
    figures = f"{sample.wall:7.2f} s wall {sample.cpu:7.2f} s CPU {sample.memory / data.MIB:5.0f} MiB"
    print(f"{sample.work} {sample.round} {sample.tool:13}{figures}  {sample.wrong}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
