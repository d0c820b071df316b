"""What a run is asked to do: everything a command line says, checked and frozen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from portabl import places, registry
from portabl import policy as policies
from portabl.checker import looked_at
from portabl.engines import Engine
from portabl.errors import UsageError
from portabl.model import Proof
from portabl.plan import Line
from portabl.policy import Decision, Policy
from portabl.providers import Config
from portabl.storage import Storage


@dataclass(frozen=True, slots=True)
class Migration:
    """What is to be done. ``source``, ``target``, ``state``, ``manifest`` and ``restore`` are locations as typed.

    ``mirror`` deletes what is only at the target, once everything else is proven. ``restore`` names the manifest
    whose headers, metadata and tags belong to the bodies in ``source``; with ``only_named`` what it does not name is no
    part of it and is reported. ``storage_class``: "", "keep" or "map".
    ``symlinks``: report, follow or keep. ``threads``: objects under way at once. ``forget``: keep no state of a run
    that is complete, because its ``manifest`` lies where the next one looks for it.
    ``bandwidth`` and ``requests_per_second`` limit the run (see `portabl.throttle`); "" and None are no limit.
    ``policy``: rules besides those of the configuration. ``policy_override``: why to go on although one is broken.
    ``versions``: "current", or "all" to carry every version and delete marker of each key, oldest first.
    ``engine``: which processes copy. ``listers``: ranges of keys that are listed side by side.
    ``accept``: losses that do not stop the run before it copies, by name (see `portabl.gate`). ``card``: the target's
    capability card, a file or one that comes with portabl; None for the one measured there, if any.
    ``acl``: none, report, canned or full. ``lock``: none, report or keep. ``restore_archived``: days for which archived
    objects are to be restored, 0 to report them only (docs/fidelity.md).
    """

    source: str
    target: str
    config: Config
    proof: Proof = Proof.INGEST
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    dry_run: bool = False
    mirror: bool = False
    threads: int = 64
    state: str | None = None
    manifest: str | None = None
    restore: str | None = None
    only_named: bool = False
    storage_class: str = ""
    symlinks: str = "report"
    bandwidth: str = ""
    requests_per_second: float | None = None
    policy: Policy = field(default_factory=Policy)
    policy_override: str = ""
    versions: str = "current"
    engine: Engine = field(default_factory=Engine)
    listers: int = 1
    forget: bool = False
    accept: tuple[str, ...] = ()
    card: str | None = None
    acl: str = "report"
    lock: str = "report"
    restore_archived: int = 0

    @property
    def all_versions(self) -> bool:
        """Whether histories are carried, not only what is current."""
        return self.versions == "all"

    def check(self) -> None:
        """Refuse options that contradict each other. Raises UsageError."""
        if self.all_versions and self.mirror:
            raise UsageError("`--mirror` deletes, and a history is never changed", hint="leave one of both options out")
        if self.all_versions and self.restore:
            raise UsageError("`--restore` puts back one version of each object", hint="leave `--versions all` out")
        if self.all_versions and (self.engine.processes > 1 or self.engine.kind != "local" or self.listers > 1):
            raise UsageError(
                "`--versions all` copies in one process", hint="leave --processes, --engine, --listers out"
            )
        self.engine.check()
        if self.engine.kind == "dask":
            self._check_told()

    def _check_told(self) -> None:
        for place in (self.source, self.target, self.state or ""):
            if registry.holds_secret(place):
                raise UsageError(
                    f"workers are told {registry.safe_url(place)}, and the URL as it was typed holds a secret",
                    hint="name it as a provider in portabl.toml, with a reference to the secret",
                )

    def identity(self, source: Storage, target: Storage) -> dict[str, object]:
        """What makes a run the same job as an earlier one: the places themselves too, for names can be given anew."""
        return {
            "places": [[where, prefix.hex()] for where, prefix in (source.place, target.place)],
            "source": source.name,  # what was typed, without the secrets a URL may hold
            "target": target.name,
            "include": list(self.include),
            "exclude": list(self.exclude),
            "restore": registry.safe_url(self.restore or ""),
            "storage_class": self.storage_class,
            "symlinks": self.symlinks,
            "versions": self.versions,
            "acl": self.acl,
            "lock": self.lock,
        }

    def decide(self) -> Decision:
        """Whether the rules allow this run. Raises PolicyRefused when they do not; no place is touched."""
        source, target = (registry.parse(where, self.config) for where in (self.source, self.target))
        decision = policies.decide(
            self.policy, source, target, self.config, proof=self.proof, override=self.policy_override
        )
        decision.enforce()
        return decision

    def source_options(self) -> dict[str, str]:
        """What the command asks of the source. Raises UsageError."""
        asked = {
            "acl": self.acl,
            "lock": self.lock,
            "storage_class": places.classes(self.target, self.config, self.storage_class),
        }
        if self.restore_archived:
            asked["restore_archived"] = str(self.restore_archived)
        return self._options(asked)

    def target_options(self) -> dict[str, str]:
        """What it asks of the target: to show what it was given."""
        return self._options(looked_at(self.acl, self.lock, self.storage_class))

    def _options(self, more: Mapping[str, str]) -> dict[str, str]:
        wanted = {"symlinks": self.symlinks, "versions": self.versions, **more}
        return {name: value for name, value in wanted.items() if value}


@dataclass(frozen=True, slots=True)
class Earlier:
    """An earlier snapshot: its records in order (read once a pass), and the storage of its bodies."""

    records: Callable[[], Iterator[Line]]
    storage: Storage
