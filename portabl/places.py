"""Places that must not lie within each other."""

from __future__ import annotations

from portabl import registry
from portabl.errors import UsageError
from portabl.providers import Config
from portabl.storage import Storage


def apart(source: Storage, target: Storage) -> None:
    """Refuse a target inside the source or the other way round. Raises UsageError."""
    (here, above), (there, below) = source.place, target.place
    if here == there and (above.startswith(below) or below.startswith(above)):
        raise UsageError(
            f"source and target overlap: {source.name} and {target.name}",
            hint="choose a target outside the source",
        )


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
