"""Capability cards: what a provider really does, measured by `portabl probe`, with the date; kept per provider.

A card is believed in one direction only: it may warn of a loss before anything is copied and tighten limits. It never
takes the place of a proof, so a card that is old or wrong costs time, not data. What no card says is unknown, and a
migration then finds it out as it goes (keys are watched, metadata is proven by shape).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from portabl.errors import UsageError
from portabl.model import Fact
from portabl.storage import Capabilities

FORMAT = "portabl capability card 1"
LOST = frozenset({"changed", "dropped", "refused", "merged"})
"""Outcomes that mean: an object or field of this kind does not arrive as it was."""
KEPT = "kept"
UNKNOWN = "unknown"
CARD_BYTES_MAX = 2**20
FRESH_DAYS = 90
"""From this age on a card is called old."""


@dataclass(frozen=True, slots=True)
class Card:
    """What was found out about one service. ``measured``: the date, UTC, ISO 8601. ``server``: name and version.

    ``service`` is `Storage.service` of where it was measured, ``location`` that place as typed, without secrets;
    versions, lock and the like are those of its bucket.
    """

    service: str
    location: str
    server: str
    measured: str
    tool: str
    facts: Mapping[str, Fact]

    def outcome(self, name: str) -> str:
        """The outcome of a fact, `UNKNOWN` when it was not measured."""
        fact = self.facts.get(name)
        return fact.outcome if fact else UNKNOWN

    def limit(self, name: str) -> int | None:
        """A limit that was measured (fact ``limit: NAME``), None when none was found."""
        outcome = self.outcome(f"limit: {name}")
        return int(outcome) if outcome.isascii() and outcome.isdigit() else None

    def age_days(self, today: date) -> int:
        """How old the card is."""
        return (today - date.fromisoformat(self.measured)).days

    def fit(self, capabilities: Capabilities) -> Capabilities:
        """The capabilities with what was measured where that is stricter; never the other way."""
        parts, least = self.limit("parts"), self.limit("part size")
        return replace(
            capabilities,
            ordered=capabilities.ordered and self.outcome("list: byte order") != "broken",
            parts_max=min(capabilities.parts_max, parts or capabilities.parts_max),
            part_size_min=max(capabilities.part_size_min, least or 0),
        )


def document(card: Card) -> dict[str, Any]:
    """The card as JSON; `parse` is the inverse."""
    facts = {name: {"outcome": fact.outcome, "detail": fact.detail} for name, fact in sorted(card.facts.items())}
    about = {name: getattr(card, name) for name in ("service", "location", "server", "measured", "tool")}
    return {"document": FORMAT, **about, "facts": facts}


def parse(value: object, origin: str) -> Card:
    """Read a card's document. ``origin`` names it in errors. Raises UsageError for anything that is no card."""
    if not isinstance(value, dict) or value.get("document") != FORMAT or not isinstance(value.get("facts"), dict):
        raise UsageError(f"{origin} is no capability card", hint="make one with `portabl probe LOCATION --output FILE`")
    try:
        facts = {name: Fact(name, str(said["outcome"]), str(said["detail"])) for name, said in value["facts"].items()}
        about = {name: str(value[name]) for name in ("service", "location", "server", "measured", "tool")}
        date.fromisoformat(about["measured"])
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{origin} is a damaged capability card: {error}", hint="measure it again") from None
    return Card(facts=facts, **about)


def read(path: Path) -> Card:
    """A card from a file. Raises UsageError."""
    try:
        with path.open("rb") as file:
            data = file.read(CARD_BYTES_MAX + 1)
        if len(data) > CARD_BYTES_MAX:
            raise ValueError("too large")
        return parse(json.loads(data), str(path))
    except OSError as error:
        raise UsageError(f"cannot read the card {path}: {error.strerror or error}") from None
    except ValueError:
        raise UsageError(f"{path} is no capability card: not JSON", hint="measure it again") from None


def write(card: Card, path: Path) -> None:
    """Put a card into a file, whole or not at all. Raises UsageError."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(document(card), indent=1) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise UsageError(f"cannot write the card {path}: {error.strerror or error}") from None


def place_of(service: str, root: Path) -> Path:
    """Where the card of a service is kept below a state directory."""
    return root / "cards" / f"{hashlib.sha256(service.encode()).hexdigest()[:16]}.json"


def shipped() -> tuple[str, ...]:
    """Names of the cards that come with portabl, measured on servers anybody can run."""
    from importlib import resources

    files = resources.files("portabl").joinpath("cards").iterdir()
    return tuple(sorted(file.name.removesuffix(".json") for file in files if file.name.endswith(".json")))


def find(named: str | None, service: str, root: Path) -> Card | None:
    """The card to go by: the one ``named`` (a file or one of `shipped`), else the one measured for ``service``, if any.

    Raises UsageError for a named one that is not there, and for a measured one that is damaged.
    """
    if named is None:
        kept = place_of(service, root)
        return read(kept) if kept.exists() else None
    if "/" not in named and named in shipped():
        from importlib import resources

        text = resources.files("portabl").joinpath("cards", f"{named}.json").read_text(encoding="utf-8")
        return parse(json.loads(text), named)
    if not Path(named).exists():
        raise UsageError(f"no card {named}", hint=f"a file, or one of {', '.join(shipped())}")
    return read(Path(named))
