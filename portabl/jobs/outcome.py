"""What a run is told, and what comes of it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from portabl.jobs.config import Jobs, ScheduledJob
from portabl.jobs.store import Store
from portabl.progress import Progress
from portabl.throttle import Throttle


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run in figures. ``changes``: objects copied and deleted, or found different. ``text`` and ``document`` are the
    kind's own report, for people and for programs.
    """

    exit_code: int
    objects: int = 0
    bytes: int = 0
    changes: int = 0
    manifest: str = ""
    message: str = ""
    text: str = ""
    document: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    """One run to be done. ``stop`` asks for an orderly end."""

    job: ScheduledJob
    jobs: Jobs
    store: Store
    now: datetime
    progress: Progress
    stop: threading.Event

    @property
    def pacer(self) -> Throttle | None:
        """The limit of speed that the job's table sets."""
        values = self.job.values
        return Throttle.of(values.get("bandwidth", ""), values.get("requests_per_second"))
