"""The ``jobs`` and ``alerts`` tables of portabl.toml as frozen values, every mistake named by file, table and field."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from portabl import credentials
from portabl.errors import ConfigError, UsageError
from portabl.jobs.alert_config import Alert, alert_of, check_url
from portabl.jobs.fields import Field, checked, where
from portabl.jobs.schedule import Schedule, ScheduleError
from portabl.keys import plain
from portabl.model import NOTHING
from portabl.providers import Config
from portabl.tables import suggest
from portabl.throttle import Throttle

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_PLACES = ("source", "target", "manifest", "state", "restore")

COMMON = {
    "schedule": Field.TEXT,
    "timezone": Field.TEXT,
    "enabled": Field.BOOL,
    "deadline": Field.SPAN,
    "timeout": Field.SPAN,
    "grace": Field.SPAN,
    "on_failure": Field.TEXTS,
    "on_success": Field.TEXTS,
    "ping": Field.TEXT,
}
"""Fields every kind of job has."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a kind of job is told: fields it must have, and fields it may have."""

    needs: Mapping[str, Field]
    may: Mapping[str, Field]

    @property
    def fields(self) -> dict[str, Field]:
        """All of its fields, the common ones too."""
        return {**self.needs, **self.may, **COMMON}


_PACE = {"threads": Field.COUNT, "bandwidth": Field.TEXT, "requests_per_second": Field.NUMBER}
KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "migrate": Kind(
            {"source": Field.TEXT, "target": Field.TEXT},
            {
                "proof": Field.PROOF,
                "include": Field.TEXTS,
                "exclude": Field.TEXTS,
                "mirror": Field.BOOL,
                "manifest": Field.TEXT,
                "restore": Field.TEXT,
                "state": Field.TEXT,
                "storage_class": Field.TEXT,
                "symlinks": Field.TEXT,
                "versions": Field.TEXT,
                "accept": Field.TEXTS,
                "card": Field.TEXT,
                "listers": Field.COUNT,
                **_PACE,
            },
        ),
        "export": Kind(
            {"source": Field.TEXT, "target": Field.TEXT},
            {
                "retention": Field.COUNTS,
                "layout": Field.TEXT,
                "versions": Field.TEXT,
                "proof": Field.PROOF,
                "include": Field.TEXTS,
                "exclude": Field.TEXTS,
                "state": Field.TEXT,
                "storage_class": Field.TEXT,
                "symlinks": Field.TEXT,
                "evidence": Field.TEXTS,
                "accept": Field.TEXTS,
                **_PACE,
            },
        ),
        "snapshots-verify": Kind({"source": Field.TEXT}, {"within": Field.SPAN, **_PACE}),
        "verify": Kind(
            {},
            {
                "manifest": Field.TEXT,
                "manifest_of": Field.TEXT,
                "target": Field.TEXT,
                "proof": Field.PROOF,
                "within": Field.SPAN,
                **_PACE,
            },
        ),
    }
)
RETENTION = ("last", "daily", "weekly", "monthly")
CHOICES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "layout": ("mirror", "bag"),
        "storage_class": ("", "keep"),
        "symlinks": ("report", "follow", "keep"),
        "versions": ("current", "all"),
    }
)
GRACE = timedelta(hours=1)


@dataclass(frozen=True)
class ScheduledJob:
    """One ``[jobs.NAME]`` table.

    ``schedule`` is None for a job that only runs by hand. ``deadline``: how long after it was due a run must have
    ended well; None means until the next one is due. ``timeout``: a run is stopped, to go on with the next one, after
    this long. ``grace``: how late the daemon may still start what was missed. ``ping``: URL or reference.
    ``values``: the fields of its kind.
    """

    name: str
    kind: str
    origin: str = field(default="", repr=False)
    schedule: Schedule | None = None
    enabled: bool = True
    deadline: timedelta | None = None
    timeout: timedelta | None = None
    grace: timedelta = GRACE
    on_failure: tuple[str, ...] = ()
    on_success: tuple[str, ...] = ()
    ping: str = field(default="", repr=False)
    values: Mapping[str, Any] = NOTHING

    def where(self, name: str = "") -> str:
        """File, table and field, the way every configuration error begins."""
        return where(self.origin, "jobs", self.name, name)

    def ping_url(self) -> str:
        """The dead man's switch, "" for none. Raises ConfigError when its reference cannot be resolved."""
        return credentials.resolve(self.ping, self.where("ping"), os.path.dirname(self.origin)) if self.ping else ""


@dataclass(frozen=True)
class Jobs:
    """All scheduled jobs and alerts of one configuration."""

    config: Config
    jobs: Mapping[str, ScheduledJob]
    alerts: Mapping[str, Alert]

    def job(self, name: str) -> ScheduledJob:
        """The job of that name. Raises ConfigError that lists the known ones."""
        if name in self.jobs:
            return self.jobs[name]
        looked = self.config.path or " and ".join(self.config.searched) or "no configuration file"
        hint = suggest(name, self.jobs) if self.jobs else "add a table `[jobs.NAME]`, see docs/jobs.md"
        raise ConfigError(f"no job `{plain(name)}` in {looked}", hint=hint)

    def required(self) -> None:
        """No job at all is an error: a check of nothing would always be well. Raises ConfigError."""
        if not self.jobs:
            looked = self.config.path or " and ".join(self.config.searched) or "no configuration file"
            raise ConfigError(f"no job is configured in {looked}", hint="add a table `[jobs.NAME]`, see docs/jobs.md")


def load(config: Config) -> Jobs:
    """Read the tables of a configuration. Raises ConfigError."""
    alerts = {
        name: alert_of(name, table, config.path)
        for name, table in _tables(config, "alerts", "type").items()
        if _named(name, "alerts", config.path)
    }
    jobs = {
        name: _job(name, table, config.path)
        for name, table in _tables(config, "jobs", "kind").items()
        if _named(name, "jobs", config.path)
    }
    for job in jobs.values():
        _check_references(job, jobs, alerts)
    return Jobs(config, MappingProxyType(jobs), MappingProxyType(alerts))


def _tables(config: Config, group: str, first: str) -> dict[str, dict[str, Any]]:
    tables = config.sections.get(group, {})
    if not isinstance(tables, dict):
        raise ConfigError(f"{config.path}: `{group}` must be a table", hint=f"write `[{group}.NAME]`")
    for name, table in tables.items():
        if not isinstance(table, dict):
            hint = f"write `[{group}.{plain(name)}]` and `{first} = ...`"
            raise ConfigError(f"{where(config.path, group, name)}: must be a table", hint=hint)
    return tables


def _named(name: str, group: str, origin: str) -> bool:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{where(origin, group, name)}: names consist of up to 63 letters, digits, `_`, `.` and `-`")
    return True


def _job(name: str, table: Mapping[str, Any], origin: str) -> ScheduledJob:
    def wrong(field_name: str, message: str, hint: str = "") -> ConfigError:
        return ConfigError(f"{where(origin, 'jobs', name, field_name)}: {message}", hint=hint)

    kind = table.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        given = "is missing" if kind is None else f"`{plain(str(kind))}` is unknown"
        raise wrong("kind", given, f"one of {', '.join(KINDS)}")
    values = {key: value for key, value in table.items() if key != "kind"}
    found = checked(values, KINDS[kind].fields, lambda key: where(origin, "jobs", name, key), f"kind `{kind}`")
    _check_values(kind, found, wrong)
    if found.get("ping"):
        check_url(found["ping"], where(origin, "jobs", name, "ping"))
    common = {key: found.pop(key) for key in COMMON if key in found}
    common["schedule"] = _schedule(common, wrong)
    common.pop("timezone", None)
    own = _anchored_values(found, os.path.dirname(origin))
    return ScheduledJob(name, kind, origin, values=MappingProxyType(own), **common)


def _check_values(kind: str, found: Mapping[str, Any], wrong: Callable[..., ConfigError]) -> None:
    """What the form of a single value does not say. Raises ConfigError."""
    for needed in KINDS[kind].needs:
        if not found.get(needed):
            raise wrong(needed, f"is missing; kind `{kind}` needs it")
    for key, allowed in CHOICES.items():
        if found.get(key, allowed[0]) not in allowed:
            raise wrong(key, f"`{plain(str(found[key]))}` is unknown", f"one of {', '.join(filter(None, allowed))}")
    for rule in found.get("retention", {}):
        if rule not in RETENTION:
            raise wrong(f"retention.{rule}", "unknown rule", suggest(rule, RETENTION))
    if kind == "verify" and bool(found.get("manifest")) == bool(found.get("manifest_of")):
        raise wrong("manifest", "either `manifest` or `manifest_of` says what to verify", "set exactly one of the two")
    try:
        Throttle.of(found.get("bandwidth", ""), found.get("requests_per_second"))
    except UsageError as error:
        raise wrong("bandwidth", error.message, error.hint) from error
    if found.get("accept"):
        _check_accepted(found["accept"], wrong)


def _check_accepted(names: tuple[str, ...], wrong: Callable[..., ConfigError]) -> None:
    from portabl import gate

    try:
        gate.accepted(names)
    except UsageError as error:
        raise wrong("accept", error.message, error.hint) from error


def _schedule(common: Mapping[str, Any], wrong: Callable[..., ConfigError]) -> Schedule | None:
    if not common.get("schedule"):
        return None
    try:
        return Schedule.of(common["schedule"], common.get("timezone", "UTC"))
    except ScheduleError as error:
        name = "timezone" if "time zone" in str(error) else "schedule"
        hint = "an IANA name such as `Europe/Berlin`; where the system has no zones: `pip install tzdata`"
        cron = "minute, hour, day of month, month, day of week: `30 2 * * *` is every night at half past two"
        raise wrong(name, str(error), hint if name == "timezone" else cron) from None


def _anchored_values(found: Mapping[str, Any], folder: str) -> dict[str, Any]:
    own = {key: _anchored(value, folder) if key in _PLACES else value for key, value in found.items()}
    if "/" in own.get("card", ""):  # else one of the cards that come with portabl
        own["card"] = _anchored(own["card"], folder)
    if "evidence" in own:
        own["evidence"] = tuple(_anchored(path, folder) for path in own["evidence"])
    return own


def _anchored(location: str, folder: str) -> str:
    """A relative path starts at the configuration file: a scheduler's working directory is anywhere."""
    if location.startswith(("/", "~")) or ":" in location.partition("/")[0]:
        return location
    return os.path.normpath(os.path.join(folder, location))


def _check_references(job: ScheduledJob, jobs: Mapping[str, ScheduledJob], alerts: Mapping[str, Alert]) -> None:
    for field_name in ("on_failure", "on_success"):
        for name in getattr(job, field_name):
            if name not in alerts:
                hint = suggest(name, alerts) if alerts else f"add a table `[alerts.{plain(name)}]`"
                raise ConfigError(f"{job.where(field_name)}: no alert `{plain(name)}`", hint=hint)
    other = job.values.get("manifest_of")
    writers = [name for name, one in jobs.items() if one.kind == "migrate"]
    if other is not None and other not in writers:
        hint = suggest(other, writers) if writers else "add a job of kind `migrate`; exports have `snapshots-verify`"
        raise ConfigError(f"{job.where('manifest_of')}: no job `{plain(other)}` writes a manifest", hint=hint)
