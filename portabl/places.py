"""Places that do not go together: one within the other, or one that cannot do what is asked of it."""

from __future__ import annotations

from portabl import registry
from portabl.errors import ConfigError, UsageError
from portabl.providers import Config, S3Provider
from portabl.storage import Storage


def apart(source: Storage, target: Storage) -> None:
    """Refuse a target inside the source or the other way round. Raises UsageError."""
    (here, above), (there, below) = source.place, target.place
    if here == there and (above.startswith(below) or below.startswith(above)):
        raise UsageError(
            f"source and target overlap: {source.name} and {target.name}",
            hint="choose a target outside the source",
        )


def can_lock(target: Storage) -> None:
    """Refuse a target bucket that cannot lock objects, where locks are to be carried. Raises ConfigError."""
    if target.capabilities.locks and target.locks_objects() is False:
        raise ConfigError(
            f"{target.name}: the bucket has no object lock",
            hint="create the bucket with object lock enabled, or leave locks behind with `--lock none`",
        )


def classes(target: str, config: Config, wanted: str) -> str:
    """Storage classes as the source is to name them (``wanted``: "", "keep" or "map"): as they are, or as the table of
    the target's provider has them. Raises UsageError.
    """
    if wanted != "map":
        return wanted
    provider = registry.parse(target, config).provider
    table = provider.storage_classes if isinstance(provider, S3Provider) else None
    if not table:
        hint = 'add `storage_classes = { STANDARD_IA = "COLD" }` to its table in portabl.toml'
        raise UsageError(f"{target}: its provider has no table of storage classes", hint=hint)
    return ",".join(f"{old}={new}" for old, new in table.items())


def outside(place: Storage, source: Storage) -> None:
    """Refuse a place below the source, which would then be a part of it. Raises UsageError."""
    (here, below), (there, above) = place.place, source.place
    if here == there and below.startswith(above):
        raise UsageError(f"{place.name} lies within the source {source.name}", hint="choose a place outside the source")


def not_mirrored_away(target: Storage, config: Config, *locations: str | None) -> None:
    """Refuse to mirror over state and manifest: they are nothing the source holds, and would be deleted."""
    there, below = target.place
    for location in locations:
        if location is None:
            continue
        with registry.open_location(location, config) as kept:
            here, above = kept.place
        if here == there and above.startswith(below):
            raise UsageError(
                f"--mirror would delete {kept.name} at {target.name}",
                hint="keep state and manifest outside the target (`--state`, `--manifest`)",
            )
