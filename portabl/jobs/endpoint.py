"""What `portabl jobs serve` answers on a local port: ``/healthz``, ``/check`` and ``/metrics``."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from portabl import __version__
from portabl.errors import PortablError, UsageError
from portabl.jobs import check, clock
from portabl.jobs.daemon import WATCH_SECONDS, Daemon
from portabl.jobs.store import ENDED, Run

STALE = timedelta(seconds=WATCH_SECONDS * 5)
"""A daemon that has not looked after its jobs for so long is ill."""


class JobsCollector(Collector):
    """Prometheus metrics, made from the records whenever they are asked for."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def collect(self) -> Iterator[Any]:
        """All metrics; names and labels are in docs/jobs.md."""
        with self._daemon.runner() as runner:
            found = check.check(runner.jobs, runner.store, runner.now())
            totals = runner.store.totals()
        yield from _gauges(found)
        runs = CounterMetricFamily("portabl_job_runs", "Runs that are remembered, by result", labels=["job", "result"])
        known = {one.job for one in found}
        for (job, result), count in totals.items():
            if job in known and result in ENDED:
                runs.add_metric([job, result], count)
        yield runs
        status = self._daemon.status
        yield GaugeMetricFamily(
            "portabl_config_reload_failed", "1 when the last reload of the configuration failed", status.reload_failed
        )
        info = GaugeMetricFamily("portabl_build_info", "Version", labels=["version"])
        info.add_metric([__version__], 1)
        yield info


def _seconds(run: Run | None) -> float | None:
    return clock.moment(run.started).timestamp() if run else None


_OF_RUN: Mapping[str, tuple[str, Callable[[Run], float | None]]] = {
    "portabl_job_last_run_duration_seconds": ("How long the last run took", lambda run: run.duration_seconds),
    "portabl_job_last_run_exit_code": ("Exit code of the last run", lambda run: run.exit_code),
    "portabl_job_last_run_objects": ("Objects of the last run", lambda run: run.objects),
    "portabl_job_last_run_bytes": ("Bytes of the last run", lambda run: run.bytes),
    "portabl_job_last_run_changes": ("Changes of the last run", lambda run: run.changes),
    "portabl_job_last_run_timestamp_seconds": ("When the last run began", _seconds),
}


def _gauges(found: list[check.Health]) -> Iterator[GaugeMetricFamily]:
    def gauge(name: str, text: str, values: list[tuple[str, float | None]]) -> GaugeMetricFamily:
        made = GaugeMetricFamily(name, text, labels=["job"])
        for job, value in values:
            if value is not None:
                made.add_metric([job], value)
        return made

    for name, (text, value) in _OF_RUN.items():
        yield gauge(name, text, [(one.job, value(one.last) if one.last else None) for one in found])
    ok = [(one.job, _seconds(one.last_ok)) for one in found]
    yield gauge("portabl_job_last_success_timestamp_seconds", "When the last run that ended well began", ok)
    due = [(one.job, one.due.timestamp() if one.due else None) for one in found]
    yield gauge("portabl_job_next_due_timestamp_seconds", "When the job is due next", due)
    for state in ("late", "failed", "running", "disabled"):
        values: list[tuple[str, float | None]] = [(one.job, one.state == state) for one in found]
        yield gauge(f"portabl_job_{state}", f"1 when the job is {state}", values)


class _Handler(http.server.BaseHTTPRequestHandler):
    daemon_served: Daemon
    registry: CollectorRegistry
    server_version = f"portabl/{__version__}"

    def do_GET(self) -> None:
        """Answer one of three paths."""
        answers = {"/healthz": self._health, "/check": self._check, "/metrics": self._metrics}
        answer = answers.get(self.path.partition("?")[0])
        if answer is None:
            self._send(404, "text/plain", b"/healthz, /check, /metrics\n")
            return
        try:
            answer()
        except PortablError as error:
            self._send(503, "text/plain; charset=utf-8", f"{error}\n".encode())

    def _health(self) -> None:
        status = self.daemon_served.status
        well = self.daemon_served.now() - status.watched < STALE
        document = {
            "status": "ok" if well else "stuck",
            "since": clock.text(status.started),
            "watched": clock.text(status.watched),
            "config_reloaded": clock.text(status.reloaded),
            "config_reload_failed": status.reload_failed,
            "jobs": len(status.jobs.jobs),
            "running": sorted(status.running),
        }
        self._send(200 if well else 503, "application/json", json.dumps(document).encode())

    def _check(self) -> None:
        with self.daemon_served.runner() as runner:
            found = check.check(runner.jobs, runner.store, runner.now())
        document = {"well": all(one.well for one in found), "jobs": [check.document(one) for one in found]}
        self._send(200 if document["well"] else 503, "application/json", json.dumps(document).encode())

    def _metrics(self) -> None:
        self._send(200, "text/plain; version=0.0.4; charset=utf-8", generate_latest(self.registry))

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing: scrapes are no news."""


@contextmanager
def answering(daemon: Daemon, host: str, port: int) -> Iterator[int]:
    """Answer in a thread of its own; yields the port. Raises UsageError when the port cannot be had."""
    registry = CollectorRegistry()
    registry.register(JobsCollector(daemon))
    handler = type("Handler", (_Handler,), {"daemon_served": daemon, "registry": registry, "timeout": 30})
    try:
        server = http.server.ThreadingHTTPServer((host, port), handler)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot listen on {host}:{port}: {reason}", hint="choose another with `--listen`") from error
    thread = threading.Thread(target=server.serve_forever, name="portabl-http", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
