"""Capability cards for people: one as a table, several side by side as the matrix of docs/capabilities.md. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from portabl.capability import KEPT, UNKNOWN, Card
from portabl.features import CHARACTERS
from portabl.keys import plain
from portabl.model import Fact

_CHARACTERS = "key: the other ASCII characters"
_TITLES: Mapping[str, str] = {
    "key": "Keys",
    "header": "Headers",
    "user": "User metadata",
    "tags": "Tags",
    "upload": "Uploads in parts",
    "storage class": "Storage classes",
    "limit": "Limits",
    "checksum": "Checksums: is a wrong one refused?",
    "write": "Conditional writes",
    "read": "Reading",
    "copy": "Server-side copies",
    "list": "Listing",
    "bucket": "The bucket it was measured in",
    "lock": "Object lock",
}


def card_text(card: Card) -> str:
    """One card for people; details only where something is not kept."""
    return "\n".join(_lines(card)) + "\n"


def _lines(card: Card) -> Iterator[str]:
    yield f"{plain(card.service)}: {plain(card.server) or 'a server that does not say what it is'}"
    yield f"  measured {card.measured} at {plain(card.location)} by {plain(card.tool)}"
    for section, names in _by_section((card,)):
        yield f"{_TITLES.get(section, section)}"
        for name in names:
            fact = _fact(card, name)
            detail = f"  {plain(fact.detail)[:150]}" if fact.detail and fact.outcome != KEPT else ""
            yield f"  {name.partition(': ')[2]:<32} {plain(fact.outcome)}{detail}"


def matrix(cards: Mapping[str, Card]) -> str:
    """Cards side by side in Markdown, a table a section; columns are the names given."""
    return "\n".join(_matrix(cards)) + "\n"


def _matrix(cards: Mapping[str, Card]) -> Iterator[str]:
    yield "| | " + " | ".join(cards) + " |"
    yield "|---|" + "---|" * len(cards)
    yield "| server | " + " | ".join(_cell(card.server) for card in cards.values()) + " |"
    yield "| measured | " + " | ".join(card.measured for card in cards.values()) + " |"
    for section, names in _by_section(tuple(cards.values())):
        yield f"\n### {_TITLES.get(section, section)}\n"
        yield "| | " + " | ".join(cards) + " |"
        yield "|---|" + "---|" * len(cards)
        for name in names:
            cells = [_cell(_fact(card, name).outcome) for card in cards.values()]
            yield f"| {_cell(name.partition(': ')[2])} | " + " | ".join(cells) + " |"


def _by_section(cards: Sequence[Card]) -> Iterator[tuple[str, list[str]]]:
    """Sections and the facts in each; characters that all cards keep are one line."""
    names = sorted({name for card in cards for name in card.facts}, key=str.casefold)
    ordinary = {name for name in CHARACTERS if all(card.outcome(name) == KEPT for card in cards)}
    for section in _sections(names):
        inside = [name for name in names if name.startswith(f"{section}: ") and name not in ordinary]
        if section == "key" and ordinary:
            inside.append(_CHARACTERS)
        yield section, inside


def _sections(names: Sequence[str]) -> list[str]:
    present = {name.partition(": ")[0] for name in names}
    return [section for section in _TITLES if section in present] + sorted(present - set(_TITLES))


def _fact(card: Card, name: str) -> Fact:
    if name == _CHARACTERS:
        return Fact(name, KEPT)
    return card.facts.get(name) or Fact(name, UNKNOWN)


def _cell(text: str) -> str:
    return plain(text).replace("|", "\\|").replace("<", "&lt;")
