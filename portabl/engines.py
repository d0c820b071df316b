"""Which workers copy: threads of this process, further processes of this machine, or a Dask cluster."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from portabl.errors import UsageError
from portabl.plan import Action, Step

if TYPE_CHECKING:
    from portabl.fleet import Crew, Fleet
    from portabl.state import Pass
    from portabl.throttle import Throttle
    from portabl.worker import Orders

MANY_STEPS = 50_000
"""Objects to be copied from which on a run is worth further processes."""
CORES_MIN = 4
PROCESSES_MAX = 8
"""With fewer cores, or beyond so many processes, the stores are what a run waits for."""


@dataclass(frozen=True, slots=True)
class Engine:
    """What the user asked for. ``kind``: "local" or "dask"; ``processes``: 0 lets the plan and the machine decide;
    ``scheduler``: address of a Dask scheduler, "" for a cluster of this machine's processes.
    """

    kind: str = "local"
    processes: int = 0
    scheduler: str = ""

    def check(self) -> None:
        """Raises UsageError for what cannot go together."""
        if self.scheduler and self.kind != "dask":
            raise UsageError("--scheduler names a Dask scheduler", hint="add `--engine dask`")

    def workers(self, steps: Iterable[Step]) -> tuple[int, Iterator[Step]]:
        """How many processes a plan is worth (1: only this one), and the plan, of which a beginning was looked at."""
        cores = os.cpu_count() or 1
        if self.kind == "dask":
            return self.processes or cores, iter(steps)
        if self.processes or cores < CORES_MIN:
            return self.processes or 1, iter(steps)
        plan = iter(steps)
        begun = list(itertools.islice(plan, MANY_STEPS))
        worth = sum(step.action is not Action.KEEP for step in begun) >= MANY_STEPS // 2
        return min(cores // 2, PROCESSES_MAX) if worth else 1, itertools.chain(begun, plan)

    def run(self, workers: int, plan: Iterable[Step], crew: Crew) -> Pass:
        """The copy stage with a fleet. Raises as `CopyStage.run` does."""
        from portabl.desk import Ticket
        from portabl.fleet import FleetStage

        ticket = Ticket(crew.begun, crew.orders.ticket)
        ticket.issue()
        fleet = self._fleet(replace(crew.orders, workers=workers), crew.throttle)
        try:
            stage = FleetStage(crew.own, fleet, crew.run, crew.closed, crew.tally, crew.progress, ticket.withdraw)
            return stage.run(plan)
        finally:
            ticket.withdraw()
            fleet.close()

    def _fleet(self, orders: Orders, throttle: Throttle | None) -> Fleet:
        if self.kind == "dask":
            from portabl.executor_dask import DaskFleet

            return DaskFleet(orders, self.scheduler, throttle)
        from portabl.executor_processes import ProcessFleet

        return ProcessFleet(orders, throttle)
