"""What further processes bring: over a slow network, and on one and two cores of this machine.

python tests/benchmarks/scaling.py                       # a look
python tests/benchmarks/scaling.py --publish             # and into docs/scale-out.md

*Network*: two synthetic servers (tests/kit/synthetic.py) hold every answer back; 1 to 16 processes have 8 requests
under way each, and 2,000 objects each to copy. So few that it is waiting, not the machine, that takes the time: with
nothing but waiting, N processes copy N times as many objects a second.

*Cores*: between two directories, so that no server takes part of the processor; `taskset` gives portabl one core or
two.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from kit import synthetic

from benchmarks import data, measure, report
from benchmarks.tools import TOOLS, Place, Verb, environment, program

PAGE = report.PAGE.with_name("scale-out.md")
BEGIN = "<!-- figures: written by tests/benchmarks/scaling.py --publish -->"
END = "<!-- end of figures -->"
THREADS, OBJECTS_EACH = 8, 2_000
REQUESTS_EACH = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and publish when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", default="1,2,4,8,16", metavar="N,N", help="default %(default)s")
    parser.add_argument("--latency", type=float, default=0.08, metavar="SECONDS", help="default %(default)s")
    parser.add_argument("--files", type=int, default=20_000, help="small files for the cores (default %(default)s)")
    parser.add_argument(
        "--large-mib", type=int, default=256, help="size of each of 6 large files (default %(default)s)"
    )
    parser.add_argument("--publish", action="store_true", help="put the tables into docs/scale-out.md")
    options = parser.parse_args(arguments)
    where = report.machine()
    lines = [
        f"Measured {report.now()} UTC on {where['cores']} cores ({where['cpu']}), load {where['load_at_start']}.",
        *(
            "",
            f"Copying from and to servers that answer {options.latency * 1000:.0f} ms later, 8 requests a process:",
            "",
        ),
        *_network([int(word) for word in options.processes.split(",")], options.latency),
        *("", "Between two directories, on one core and on two:", ""),
        *_cores(options.files, options.large_mib),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.publish:
        _publish(text)
    return 0


def _network(counts: Sequence[int], latency: float) -> Iterator[str]:
    yield "| processes | objects | wall, s | objects a second | of what waiting allows | CPU, µs an object |"
    yield "|---" * 6 + "|"
    for count in counts:
        objects = OBJECTS_EACH * count
        cost = _over_network(count, objects, latency)
        pace, bound = objects / cost.wall, count * THREADS / (REQUESTS_EACH * latency)
        figures = f"{cost.wall:.1f} | {pace:.0f} | {pace / bound:.2f} | {cost.cpu * 1e6 / objects:.0f}"
        yield f"| {count} | {objects:,} | {figures} |"


def _over_network(count: int, objects: int, latency: float) -> measure.Cost:
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="portabl-scaling-")))
        servers = [
            synthetic.start(objects, full=full, latency=latency, name=name) for full, name in ((1, "a"), (0, "b"))
        ]
        for server in servers:
            stack.callback(server.stop)
        source, target = (Place(server, "bucket") for server in servers)
        run = TOOLS["portabl"].start(Verb.COPY, source, target, scratch)
        more = ("--processes", str(count), "--threads", str(THREADS * count))
        return _right(measure.run((*run.command, *more), environment(run.environment), scratch))


def _cores(files: int, large_mib: int) -> Iterator[str]:
    small = data.works(files, 1)["small"]
    large = data.Work("large", f"6 files of {large_mib} MiB, read back", (large_mib * data.MIB,) * 6)
    yield "| work | processes | cores | wall, s | CPU, s | times as fast |"
    yield "|---" * 6 + "|"
    for work, more in ((small, ()), (large, ("--proof", "readback"))):
        with tempfile.TemporaryDirectory(prefix="portabl-scaling-") as kept:
            data.fill_folder(Path(kept) / "source", work)
            first = 0.0
            for processes, cores in ((1, 1), (1, 2), (2, 2)):
                cost = _between_directories(Path(kept), processes, cores, more)
                first = first or cost.wall
                figures = f"{cost.wall:.1f} | {cost.cpu:.1f} | {first / cost.wall:.2f}"
                yield f"| {work.title.replace('objects', 'files')} | {processes} | {cores} | {figures} |"


def _between_directories(folder: Path, processes: int, cores: int, more: tuple[str, ...]) -> measure.Cost:
    pinned = ("taskset", "-c", ",".join(map(str, sorted(os.sched_getaffinity(0))[:cores])))
    here = Path(tempfile.mkdtemp(dir=folder))  # not removed yet: files are slow to make beside ones just removed (ext4)
    options = ("--processes", str(processes), "--json", *more)
    command = (*pinned, program("portabl"), "migrate", str(folder / "source"), str(here / "target"), *options)
    return _right(measure.run(command, environment({"XDG_STATE_HOME": str(here / "state")}), here))


def _right(cost: measure.Cost) -> measure.Cost:
    if cost.status:
        raise SystemExit(f"exit {cost.status}: {cost.output[-2000:]}")
    return cost


def _publish(text: str) -> None:
    before, begin, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{PAGE} lacks the markers for the figures")
    PAGE.write_text(f"{before}{BEGIN}\n{text}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
