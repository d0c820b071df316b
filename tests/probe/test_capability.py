"""Cards: read without trust, found by name, believed in one direction only."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from portabl import capability
from portabl.capability import Card
from portabl.cli import matrix
from portabl.errors import UsageError
from portabl.model import Fact
from portabl.probe.trying import largest, most, worst
from portabl.storage import Capabilities

DOCS = Path(__file__).parents[2] / "docs"


def card(**facts: str) -> Card:
    named = {name.replace("__", ": ").replace("_", " "): outcome for name, outcome in facts.items()}
    made = {name: Fact(name, outcome) for name, outcome in named.items()}
    return Card("s3 http://here", "new:b", "a server", "2026-11-30", "portabl", made)


def test_a_card_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "cards" / "one.json"
    capability.write(card(limit__parts="1000"), path)
    assert capability.read(path) == card(limit__parts="1000")
    assert [file.name for file in path.parent.iterdir()] == ["one.json"]


@pytest.mark.parametrize("change", [{"document": "x"}, {"facts": []}, {"facts": {"a": {}}}, {"measured": "today"}])
def test_what_is_no_card_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "card.json"
    path.write_text(json.dumps(capability.document(card()) | change))
    with pytest.raises(UsageError):
        capability.read(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00", '"x"'])
def test_damaged_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "card.json"
    path.write_text(text)
    with pytest.raises(UsageError):
        capability.read(path)


def test_the_card_of_a_service_is_found_and_a_named_one_goes_first(tmp_path: Path) -> None:
    assert capability.find(None, "s3 http://here", tmp_path) is None
    capability.write(card(), capability.place_of("s3 http://here", tmp_path))
    assert capability.find(None, "s3 http://here", tmp_path) == card()
    assert capability.find(None, "s3 http://there", tmp_path) is None
    named = capability.find("swift", "s3 http://here", tmp_path)
    assert named is not None
    assert "Swift" in named.server
    with pytest.raises(UsageError, match="no card"):
        capability.find("nobody", "s3 http://here", tmp_path)


def test_a_damaged_card_of_the_service_is_no_missing_card(tmp_path: Path) -> None:
    path = capability.place_of("s3 http://here", tmp_path)
    path.parent.mkdir()
    path.write_text("{")
    with pytest.raises(UsageError):
        capability.find(None, "s3 http://here", tmp_path)


def test_a_card_only_ever_makes_capabilities_stricter() -> None:
    plain = Capabilities(ordered=True)
    strict = card(limit__parts="1000", limit__part_size=str(2**23), list__byte_order="broken").fit(plain)
    assert (strict.parts_max, strict.part_size_min, strict.ordered) == (1000, 2**23, False)
    loose = card(limit__parts="100000", limit__part_size="1", list__byte_order="kept").fit(Capabilities())
    assert (loose.parts_max, loose.part_size_min, loose.ordered) == (10_000, 5 * 2**20, False)
    assert card(limit__parts="none found").fit(plain) == plain


def test_what_was_not_measured_is_unknown_and_no_limit() -> None:
    assert card().outcome("tags: plain") == "unknown"
    assert card().limit("parts") is None
    assert card().age_days(date(2026, 12, 2)) == 2


def test_the_worst_of_several_tries_counts() -> None:
    assert worst("x", [("kept", ""), ("refused", "no"), ("changed", "")]) == Fact("x", "refused", "no")


@pytest.mark.parametrize("limit", [1, 7, 8, 255, 1023])
def test_limits_are_found_to_the_byte(limit: int) -> None:
    assert most(lambda size: size <= limit, 1, 1024) == limit
    assert most(lambda _: True, 1, 1024) is None
    assert most(lambda _: False, 1, 1024) == 0
    assert largest(lambda size: size <= limit, (1, 7, 8, 255)) == min(limit, 255)


def test_the_matrix_on_the_page_is_that_of_the_cards() -> None:
    made = matrix.text()
    assert (DOCS / "capabilities.md").read_text() == made, "python -m portabl.cli.matrix > docs/capabilities.md"
    assert set(capability.shipped()) == {"ceph-rgw", "moto", "seaweedfs", "swift"}
