"""The conductor of `portabl plan`: one pass over SRC, held against DST; nothing is written at either."""

from __future__ import annotations

import dataclasses
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from portabl import bucket_config, capability, histories, places, prices, registry
from portabl import manifest as manifests
from portabl.bucket_config import Change
from portabl.capability import Card
from portabl.checker import looked_at
from portabl.errors import ContainerMissing, StorageError, UsageError
from portabl.forecast import Forecast, costs, duration, measure, requests
from portabl.gate import source_names_losses
from portabl.judge import Foreseen, Judge, readable
from portabl.listing import Filter, Listing, Spooled, VersionListing
from portabl.preflight import HEADS, Item, Survey, Surveyor, record_items
from portabl.progress import NoProgress, Progress
from portabl.providers import Config
from portabl.state import default_root
from portabl.storage import Storage
from portabl.surroundings import LeftBehind, older_versions, unfinished


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to look at. Locations as typed. ``manifest``: go by it instead of a listing and HEADs. ``heads``: objects
    whose metadata is looked at, None for all. ``bandwidth`` as in `portabl.throttle`; ``prices``: a price table.
    ``versions``, ``acl``, ``lock``, ``storage_class`` and ``symlinks``: what the migration would be asked for.
    """

    source: str
    target: str
    config: Config
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    manifest: str | None = None
    heads: int | None = HEADS
    card: str | None = None
    storage_class: str = ""
    symlinks: str = "report"
    threads: int = 64
    bandwidth: str = ""
    prices: Path | None = None
    versions: str = "current"
    acl: str = "report"
    lock: str = "report"

    def source_options(self) -> dict[str, str]:
        """What is asked of the source; what a migration counts as it reads, HEADs count here. Raises UsageError."""
        acl = "report-all" if self.acl == "report" and self.heads is None else self.acl
        classes = places.classes(self.target, self.config, self.storage_class)
        return self._options({"acl": acl, "lock": self.lock, "storage_class": classes, "counts": "heads"})

    def target_options(self) -> dict[str, str]:
        """What is asked of the target."""
        return self._options(looked_at(self.acl, self.lock, self.storage_class))

    def _options(self, more: Mapping[str, str]) -> dict[str, str]:
        wanted = {"symlinks": self.symlinks, "versions": self.versions, **more}
        return {name: value for name, value in wanted.items() if value}


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a migration would find. ``card``: the one that was gone by, None when nothing was measured at the target.

    ``settings``: how the bucket's configuration would travel (`portabl bucket-config`), where both are buckets; a
    migration leaves it alone, so it is no loss. ``left``: what the options leave behind, ``notes``: what else was seen
    at the source, ``unfinished``: uploads there; none of it is a loss of an object.
    """

    source: str
    target: str
    survey: Survey
    forecast: Forecast
    card: Card | None = None
    looked_by: str = "listing"
    settings: tuple[Change, ...] = ()
    warnings: tuple[str, ...] = ()
    left: tuple[LeftBehind, ...] = ()
    notes: tuple[str, ...] = ()
    unfinished: int = 0

    @property
    def exit_code(self) -> int:
        """3 when something would be lost, as the migration's would be; 0 says that nothing is foreseen, no more."""
        return 3 if self.survey.ahead else 0


def foresee(
    wanted: Wanted,
    *,
    hear: Callable[[bytes, Foreseen], None] = lambda _key, _foreseen: None,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> Outlook:
    """Look at everything and tell. ``hear`` is told every loss of every object.

    Raises UsageError, ConfigError, StorageError, ManifestError, Interrupted.
    """
    progress, stop = progress or NoProgress(), stop or threading.Event()
    table = prices.load(wanted.prices) if wanted.prices else None
    duration(Survey(), wanted.bandwidth, None, 1)  # a bandwidth that is none is told before the work
    with (
        _opened(wanted, wanted.source, wanted.source_options()) as source,
        _opened(wanted, wanted.target, wanted.target_options()) as target,
    ):
        places.apart(source, target)
        source.check(write=False)
        warnings = _check(wanted, source, target)
        card = capability.find(wanted.card, target.service, default_root())
        judge = Judge(target, card or _nothing_known(target), readable(source))
        names = tuple(registry.parse(text, wanted.config).provider.name for text in (wanted.source, wanted.target))
        days = {}
        if table is not None:
            warnings += [f"the prices have no table for {name}" for name in names if name not in table.providers]
            known = table.providers.get(names[0])
            days = {name: one.minimum_days for name, one in known.classes.items()} if known else {}

        asks = source_names_losses(source, wanted.acl, wanted.lock)
        surveyor = Surveyor(judge, heads=wanted.heads, asks=asks, minimum_days=days, hear=hear)
        progress.stage("plan", None)
        with tempfile.TemporaryDirectory(prefix="portabl-") as scratch:
            items = _items(wanted, source, scratch, stop)
            found = surveyor.run(_counted(items, progress), source, wanted.threads, stop)
        outlook = _outlook(wanted, source, target, found, card, table, (names[0], names[1]), warnings)
        return _beside(outlook, wanted, source, stop)


def _beside(outlook: Outlook, wanted: Wanted, source: Storage, stop: threading.Event) -> Outlook:
    """The same with what lies at the source beside the objects that would be carried."""
    if wanted.manifest is not None:
        return outlook
    left: tuple[LeftBehind, ...] = ()
    count, text = unfinished(source)
    notes = [*source.notes(), text]
    if wanted.versions == "current":
        left, unknown = older_versions(source, Filter.of(wanted.include, wanted.exclude), stop)
        notes.append(unknown)
    return dataclasses.replace(outlook, left=left, notes=tuple(filter(None, notes)), unfinished=count)


def _opened(wanted: Wanted, location: str, options: Mapping[str, str]) -> Storage:
    return registry.open_location(location, wanted.config, threads=wanted.threads, options=options)


def _check(wanted: Wanted, source: Storage, target: Storage) -> list[str]:
    """Refuses what the migration would refuse. Raises UsageError, ConfigError."""
    try:
        target.check(write=False)
    except ContainerMissing:
        return [f"{target.name} does not exist yet"]
    if wanted.versions == "all":
        histories.check(source, target)
    if wanted.lock == "keep":
        places.can_lock(target)
    return []


def _nothing_known(target: Storage) -> Card:
    """The card of a place nobody measured: every feature is unknown."""
    return Card(target.service, target.name, "", datetime.now(UTC).date().isoformat(), "", {})


def _items(wanted: Wanted, source: Storage, scratch: str, stop: threading.Event) -> Iterable[Item]:
    keep = Filter.of(wanted.include, wanted.exclude)
    if wanted.manifest is not None:
        loaded = manifests.load(registry.files(wanted.manifest, wanted.config))
        return record_items(record for _, record in loaded.records() if keep.admits(record.key))
    kind = VersionListing if wanted.versions == "all" else Listing
    listing = Spooled(kind(source, keep, scratch), scratch)
    listing.fill(stop)
    return ((entry, None) for entry in listing)


def _settings(source: Storage, target: Storage, warnings: list[str]) -> tuple[Change, ...]:
    try:
        return tuple(bucket_config.compare(source, target))
    except UsageError:
        return ()  # one of the two is no bucket
    except StorageError as error:
        warnings.append(f"the buckets' configuration could not be compared: {error.message}")
        return ()


def _counted(items: Iterable[Item], progress: Progress) -> Iterator[Item]:
    for entry, metadata in items:
        progress.advance(1, entry.size)
        yield entry, metadata


def _outlook(
    wanted: Wanted,
    source: Storage,
    target: Storage,
    found: Survey,
    card: Card | None,
    table: prices.Prices | None,
    names: tuple[str, str],
    warnings: list[str],
) -> Outlook:
    speed = measure(source, found.largest) if not wanted.bandwidth else None
    seconds, basis = duration(found, wanted.bandwidth, speed, wanted.threads)
    forecast = Forecast(*requests(found), seconds, basis)
    if table is not None:
        bill = costs(found, table, names)
        forecast = dataclasses.replace(forecast, currency=table.currency, prices_of=table.looked_up, costs=bill)
    settings = _settings(source, target, warnings)
    if card is not None and (age := card.age_days(datetime.now(UTC).date())) > capability.FRESH_DAYS:
        warnings.append(f"the card is {age} days old; `portabl probe` makes a new one")
    return Outlook(
        source.name,
        target.name,
        found,
        forecast,
        card,
        "manifest" if wanted.manifest else "listing",
        settings,
        tuple(warnings),
    )
