"""A line for crontab(5)."""

from __future__ import annotations

import shlex

from portabl.jobs.config import Jobs, ScheduledJob
from portabl.jobs.install.common import (
    Artifact,
    Fields,
    command,
    machine_zone,
    scheduled,
    this_program,
    variables,
    word,
)

OFTEN = "*/5 * * * *"


def line(jobs: Jobs, job: ScheduledJob, *, zone: str | None = None, program: list[str] | None = None) -> Artifact:
    """A block for a crontab, between marks by which it can be replaced. Raises UsageError for a job without schedule.

    cron knows only the machine's own time zone (``zone``), and only plain days. For any other schedule the job is
    called often and says itself whether it is due.
    """
    schedule = scheduled(job)
    here = machine_zone() if zone is None else zone
    own = here == schedule.zone.key and Fields(schedule).plain
    call = command(program or this_program(), job, jobs.config.path, *([] if own else ["--if-due"]))
    text = shlex.join(call).replace("%", "\\%")  # cron makes a bare % a line break
    why = "" if own else f"# {schedule.expression} in {schedule.zone.key}: asked often, it runs when that is due\n"
    names = variables(jobs)
    needs = (
        f"# portabl.toml refers to the variables {', '.join(names)}: set them above, or use file:PATH\n"
        if names
        else ""
    )
    head, foot = marks(job.name)
    when = schedule.expression if own else OFTEN
    note = f"crontab -l | cat - portabl-{word(job.name)}.cron | crontab -"
    return Artifact(f"portabl-{word(job.name)}.cron", f"{head}\n{needs}{why}{when} {text}\n{foot}\n", note)


def marks(name: str) -> tuple[str, str]:
    """The lines around a job's block."""
    return f"# portabl job {name} (made by `portabl jobs install`)", f"# end of portabl job {name}"


def merged(crontab: str, block: str, name: str) -> str:
    """A crontab in which the job's block is the new one; all other lines stay as they are."""
    head, foot = marks(name)
    before, found, rest = f"\n{crontab}".partition(f"\n{head}\n")
    _, ended, after = rest.partition(f"{foot}\n")
    kept = before[1:] + ("\n" if found and before else "") if found and ended else crontab
    return (kept if not kept or kept.endswith("\n") else kept + "\n") + block + (after if found and ended else "")
