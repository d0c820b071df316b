"""A Dask cluster of this machine in a process of its own, so that whoever uses it may die.

As a script it obeys lines on its standard input ("scale 3", "kill", "end") and answers each: how many workers there
are, or were killed; at the end, the most tasks of portabl that were there at once, in hundredths of a task for each
worker.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

PATIENCE_SECONDS = 120


class Cluster:
    """Context manager; ``address`` of its scheduler. Workers have ``environment``."""

    def __init__(self, workers: int, environment: Mapping[str, str], folder: Path) -> None:
        self._child = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), str(workers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=dict(environment),
            cwd=folder,
            text=True,
        )
        self.address = self._answer()

    def _answer(self) -> str:
        assert self._child.stdout is not None
        return self._child.stdout.readline().strip()

    def say(self, words: str) -> int:
        """Have it do something; its answer."""
        assert self._child.stdin is not None
        self._child.stdin.write(words + "\n")
        self._child.stdin.flush()
        return int(self._answer())

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.kill()
        self._child.communicate()


def main() -> None:
    """The cluster."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=int(sys.argv[1]), threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        print(cluster.scheduler_address, flush=True)
        most = [0.0]
        threading.Thread(target=_watch, args=(cluster, most), daemon=True).start()
        for line in sys.stdin:
            words = line.split()
            if words[0] == "end":
                print(int(most[0] * 100), flush=True)
                continue
            if words[0] == "kill":
                os.kill(next(iter(cluster.workers.values())).pid, signal.SIGKILL)  # its nanny starts another
                print(1, flush=True)
                continue
            cluster.scale(int(words[1]))
            deadline = time.monotonic() + PATIENCE_SECONDS
            while len(cluster.scheduler.workers) != int(words[1]) and time.monotonic() < deadline:
                time.sleep(0.05)
            print(len(cluster.scheduler.workers), flush=True)


def _watch(cluster: object, most: list[float]) -> None:
    scheduler = cluster.scheduler  # type: ignore[attr-defined]
    while True:
        tasks = [key for key in list(scheduler.tasks) if str(key).startswith("portabl-")]
        most[0] = max(most[0], len(tasks) / max(1, len(scheduler.workers)))
        time.sleep(0.01)


if __name__ == "__main__":
    main()
