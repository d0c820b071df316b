"""``portabl jobs serve``."""

from __future__ import annotations

import os
import queue
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import click

from portabl.cli.options import common
from portabl.cli.output import Session
from portabl.errors import Interrupted, UsageError
from portabl.keys import plain

if TYPE_CHECKING:
    from portabl.jobs.config import Jobs

_SERVE = """Run all jobs on their schedules, in the foreground, until SIGTERM or Ctrl-C.

Each run is a process of its own. What was due while nobody served is run once, if it is not older than the job's
`grace`, and told as missed otherwise. SIGHUP reads portabl.toml again; if it is broken, the one before stays. A stop
lets runs finish what is in flight; they go on with the next start. Needs `pip install 'portabl[jobs]'`.

\b
Over HTTP: /healthz (is the daemon alive), /check (are the jobs well; 503 if not), /metrics (for Prometheus).

\b
Example
  portabl jobs serve --config /etc/portabl.toml --listen 127.0.0.1:9733
"""


@click.command("serve", help=_SERVE)
@click.option("--listen", default="127.0.0.1:9733", show_default=True, metavar="HOST:PORT", help="Or `off`.")
@click.option("--parallel", type=click.IntRange(1, 64), default=2, show_default=True, help="Runs at once.")
@click.option(
    "--stop-seconds",
    type=click.FloatRange(0, 86_400),
    default=120.0,
    show_default=True,
    help="How long runs have to stop in order when this is stopped; then they are killed.",
)
@common
@click.pass_obj
def serve_command(session: Session, /, listen: str, parallel: int, stop_seconds: float) -> int:
    """See _SERVE."""
    from portabl import providers
    from portabl.jobs.config import load
    from portabl.jobs.store import default_place

    try:
        from portabl.jobs.daemon import Daemon, Settings, serve
        from portabl.jobs.endpoint import answering
    except ImportError as error:
        hint = "pip install 'portabl[jobs]'"
        what = f"`portabl jobs serve` needs a package that is not installed: {error.name}"
        raise UsageError(what, hint=hint) from error
    jobs = load(session.config())
    jobs.required()
    path = jobs.config.path

    def again() -> Jobs:
        return load(providers.load(path))

    settings = Settings(default_place(path), parallel, stop_seconds)
    daemon = Daemon(again, settings, tell=lambda line: session.tell(plain(line)))
    address = _address(listen)
    with answering(daemon, *address) if address else nullcontext(0) as port, _signals(daemon.kill) as events:
        session.tell(f"serving {len(jobs.jobs)} jobs{f' on http://{address[0]}:{port}' if address else ''}")
        serve(daemon, events)
    session.tell("stopped")
    return 0


def _address(text: str) -> tuple[str, int] | None:
    if text == "off":
        return None
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise UsageError(f"`{plain(text)}` is no HOST:PORT", hint="such as `127.0.0.1:9733`, or `off`")
    return host.strip("[]"), int(port)


@contextmanager
def _signals(kill: Callable[[], object]) -> Iterator[queue.SimpleQueue[str]]:
    """A queue of what signals ask for; a second stop ends everything at once."""
    events: queue.SimpleQueue[str] = queue.SimpleQueue()
    stopping = False

    def stop(_number: int, _frame: object) -> None:
        nonlocal stopping
        if stopping:
            kill()
            os._exit(Interrupted.exit_code)
        stopping = True
        events.put("stop")

    def reload(_number: int, _frame: object) -> None:
        events.put("reload")

    wanted = {"SIGTERM": stop, "SIGINT": stop, "SIGHUP": reload}
    numbers = {getattr(signal, name): handler for name, handler in wanted.items() if hasattr(signal, name)}
    before = {number: signal.signal(number, handler) for number, handler in numbers.items()}
    try:
        yield events
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
