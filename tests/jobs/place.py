"""A folder with portabl.toml, data to move, a clock that is set by hand, and servers that are told things."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from portabl import providers
from portabl.jobs.config import Jobs, load
from portabl.jobs.run import Runner
from portabl.jobs.store import Run, Store

NIGHTLY = '[jobs.nightly]\nkind = "migrate"\nsource = "data"\ntarget = "copy"\nstate = "state"\n'


@dataclass
class Clock:
    """A clock that stands still until it is moved."""

    moment: datetime

    def __call__(self) -> datetime:
        return self.moment

    def set(self, text: str) -> None:
        """Set it to a time in UTC."""
        self.moment = datetime.fromisoformat(text).replace(tzinfo=UTC)

    def forward(self, **span: float) -> None:
        """Move it on."""
        self.moment += timedelta(**span)


@dataclass
class Place:
    """``told`` is what was said to people, ``slept`` how long alerts would have waited."""

    folder: Path
    clock: Clock = field(default_factory=lambda: Clock(datetime(2026, 6, 1, 12, tzinfo=UTC)))
    told: list[str] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)

    def write(self, text: str) -> Jobs:
        """Write portabl.toml and read it."""
        (self.folder / "portabl.toml").write_text(text, encoding="utf-8")
        return self.jobs

    @property
    def jobs(self) -> Jobs:
        """The jobs in portabl.toml."""
        return load(providers.load(str(self.folder / "portabl.toml")))

    def data(self, **files: str) -> None:
        """Put files into ./data."""
        for name, text in files.items():
            path = self.folder / "data" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)

    @contextlib.contextmanager
    def runner(self) -> Iterator[Runner]:
        """What runs the jobs here."""
        with Store(self.folder / "records") as store:
            yield Runner(self.jobs, store, self.clock, self.told.append, self.slept.append)

    def run(self, name: str = "nightly", **more: str) -> Run:
        """Run a job; its record."""
        with self.runner() as runner:
            return runner.run(runner.jobs.job(name), **more)[0]


@dataclass
class Receiver:
    """An HTTP server that keeps what it is told and answers with the next of ``answers``, else 204."""

    url: str
    answers: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    seen: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)


@contextlib.contextmanager
def receiver() -> Iterator[Receiver]:
    """A server for webhooks and pings."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            told.seen.append((self.command, self.path, dict(self.headers), body))
            self.send_response(told.answers.pop(0) if told.answers else 204)
            for name, value in told.headers.items():
                self.send_header(name, value)
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *_: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        told = Receiver(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield told
        finally:
            server.shutdown()
            thread.join()
