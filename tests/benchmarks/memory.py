"""Peak memory of portabl by number of objects: a dry run against a target that has them all, which lists both and
plans; a copy of all of them; and the same command again with nothing changed.

python tests/benchmarks/memory.py                           # 10,000, 100,000 and 1,000,000 objects; about half an hour
python tests/benchmarks/memory.py --publish --objects 1000000 --kinds dry

Objects of 1 to 64 bytes come from and go to synthetic servers (tests/kit/synthetic.py). After each run the target is
asked for all of them. ``--publish`` puts every number as soon as it is measured into docs/performance-memory.json and
.svg, where the other numbers stay as they are.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from kit import synthetic
from kit.servers import S3Server

from benchmarks import measure, report
from benchmarks.figures import KINDS
from benchmarks.tools import TOOLS, Place, Verb, environment

TIMEOUT_SECONDS = 3 * 3600


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure one number after the other; 1 when a run went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", default="10000,100000,1000000", metavar="N,N", help="default %(default)s")
    parser.add_argument("--kinds", default="dry,copy,again", metavar="KINDS", help="default %(default)s")
    parser.add_argument("--publish", action="store_true", help="put the figures into docs/")
    options = parser.parse_args(arguments)
    kinds = options.kinds.split(",")
    if set(kinds) - set(KINDS) or ("again" in kinds and "copy" not in kinds):
        parser.error(f"kinds are {', '.join(KINDS)}; `again` comes after `copy`")
    for count in map(int, options.objects.split(",")):
        for point in _measured(count, kinds):
            print(json.dumps(point), flush=True)
            if point["wrong"]:
                return 1
            if options.publish:
                _publish(point)
    return 0


def _measured(count: int, kinds: Sequence[str]) -> Iterator[dict[str, Any]]:
    """A point for each kind; what is copied has a target that is empty at first."""
    for own in (["dry"], ["copy", "again"]):
        asked = [kind for kind in own if kind in kinds]
        with contextlib.ExitStack() as stack:
            if not asked:
                continue
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="portabl-memory-")))
            full = (True, "dry" in asked)
            servers = [synthetic.start(count, full=one, name=name) for one, name in zip(full, "ab", strict=True)]
            for server in servers:
                stack.callback(server.stop)
            for kind in asked:
                yield _point(kind, count, servers, scratch)


def _point(kind: str, count: int, servers: Sequence[S3Server], scratch: Path) -> dict[str, Any]:
    source, target = (Place(server, "bucket") for server in servers)
    run = TOOLS["portabl"].start(Verb.COPY, source, target, scratch)
    command = (*run.command, *["--dry-run"] * (kind == "dry"))
    cost = measure.run(command, environment(run.environment), scratch, TIMEOUT_SECONDS)
    figures = {"kind": kind, "objects": count, "memory": cost.memory, "wall": cost.wall, "cpu": cost.cpu}
    wrong = "" if not cost.status else f"exit {cost.status}: {cost.output[-1000:]}"
    return {"date": report.now(), **figures, "wrong": wrong or _wrong(cost.output, kind, count)}


def _wrong(output: str, kind: str, count: int) -> str:
    said = json.loads(output[output.index("{") :])
    done = said["unchanged" if kind == "again" else "copied"]  # a dry run does not know what is there already
    return "" if (said["objects"], done) == (count, count) else f"{said['objects']} objects, {done} {kind}"


def _publish(point: dict[str, Any]) -> None:
    path = report.PAGE.with_name(report.CURVE)
    doc = json.loads(path.read_text()) if path.exists() else {"points": []}
    points = [one for one in doc["points"] if (one["kind"], one["objects"]) != (point["kind"], point["objects"])]
    points = sorted([*points, point], key=lambda one: (one["kind"], one["objects"]))
    report.write_json({"machine": report.machine(), "points": points}, path)
    report.render(report.PAGE)


if __name__ == "__main__":
    sys.exit(main())
