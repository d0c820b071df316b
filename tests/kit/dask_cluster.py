"""A Dask cluster of this machine in a process of its own, so that whoever uses it may die.

As a script it obeys lines on its standard input ("scale 3", "adapt 0 3", "kill", "count", "peak", "end") and answers
each: how many workers there are, were killed, or were there at most; at the end, the most tasks of portabl that were
there at once, in hundredths of a task for each worker. Once told to adapt it has between so many workers, as Dask sees
need.
"""

from __future__ import annotations

import json
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


class Scheduler:
    """A scheduler and one worker, each a process of its own as `dask scheduler` and `dask worker` start it.

    Context manager; `kill` and `start` them anew, at the same address.
    """

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        self._environment = dict(environment)
        self._folder = folder
        self._running: list[subprocess.Popen[bytes]] = []
        self.address = ""
        self.start()

    def start(self) -> None:
        """Both; returns when the scheduler can be reached."""
        file = self._folder / "scheduler.json"
        file.unlink(missing_ok=True)
        port = self.address.rpartition(":")[2] or "0"
        self._begin("scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard", "--scheduler-file", str(file))
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not file.exists():
            assert time.monotonic() < deadline, "the scheduler does not start"
            time.sleep(0.05)
        self.address = json.loads(file.read_text())["address"]
        self._begin("worker", self.address, "--nthreads", "1", "--no-nanny", "--no-dashboard")

    def _begin(self, what: str, *options: str) -> None:
        command = [sys.executable, "-m", "dask", what, *options]
        log = (self._folder / f"{what}.log").open("ab")
        with log:
            self._running.append(
                subprocess.Popen(command, env=self._environment, cwd=self._folder, stdout=log, stderr=log)
            )

    def kill(self) -> None:
        """The scheduler dies; its worker notices by itself."""
        self._running[-2].kill()

    def __enter__(self) -> Scheduler:
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._running:
            one.kill()
            one.wait()


def main() -> None:
    """The cluster."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=int(sys.argv[1]), threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        print(cluster.scheduler_address, flush=True)
        most = [0.0, 0.0]
        threading.Thread(target=_watch, args=(cluster, most), daemon=True).start()
        for line in sys.stdin:
            words = line.split()
            if words[0] == "end":
                print(int(most[0] * 100), flush=True)
                continue
            if words[0] in ("count", "peak"):
                print(int(most[1]) if words[0] == "peak" else len(cluster.scheduler.workers), flush=True)
                continue
            if words[0] == "adapt":
                cluster.adapt(minimum=int(words[1]), maximum=int(words[2]), interval="100 ms", target_duration="100 ms")
                print(len(cluster.scheduler.workers), flush=True)
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
        most[1] = max(most[1], len(scheduler.workers))
        time.sleep(0.01)


if __name__ == "__main__":
    main()
