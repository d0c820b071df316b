"""docs/faults.md holds a cell for every fault that is tested, no other, and none of them is silent."""

from __future__ import annotations

import re

from faults import page, test_changes, test_matrix
from journeys import test_kill

OUTCOME = re.compile(r"(absorbed|named \(\d+\)|refused)( or (absorbed|named \(\d+\)|refused))*")


def test_no_cell_is_silent() -> None:
    cells = {place: said for place, said in page.read().items() if said}
    assert len(cells) > 200
    assert not {place: said for place, said in cells.items() if not OUTCOME.fullmatch(said)}


def test_every_fault_at_every_step_is_there() -> None:
    cells = {place for place, text in page.read().items() if text}
    said = {(row, column) for section, row, column in cells if section == test_matrix.SECTION}
    assert said == {(str(one.values[0]), str(one.values[1])) for one in test_matrix.CELLS}


def test_every_listing_copy_and_death_is_there() -> None:
    rows: dict[str, set[str]] = {}
    for (section, row, _), text in page.read().items():
        if text:
            rows.setdefault(section, set()).add(row)
    assert rows["Listings that lie"] >= set(test_matrix.LISTS)
    assert rows["Server-side copies"] == set(test_changes.COPY_FAULTS)
    assert len(rows["kill -9"]) == len(set(test_kill.PLACES))
