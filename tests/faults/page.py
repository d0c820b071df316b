"""docs/faults.md: what became of every fault at every step, held against the tests and, on request, written by them.

``PORTABL_WRITE_FAULTS=1 pytest tests/faults tests/journeys/test_kill.py`` writes what the tests see into the page.
Otherwise every test compares what it sees with what the page says.
"""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
Cells = dict[tuple[str, str, str], str]

_CELL = re.compile(r"(?<!\\)\|")


def read() -> Cells:
    """Every cell by (section, row, column)."""
    found: Cells = {}
    section, columns = "", []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            section, columns = line[3:], []
        elif line.startswith("|"):
            words = [word.strip() for word in _CELL.split(line)[1:-1]]
            if not columns:
                columns = words
            elif not set(line) <= set("|- "):
                found.update(
                    ((section, words[0], column), word) for column, word in zip(columns[1:], words[1:], strict=True)
                )
    return found


def check(section: str, row: str, column: str, outcome: str, *others: str) -> None:
    """What a test saw must be what the page says; ``others`` are as good, where chance decides."""
    if os.environ.get("PORTABL_WRITE_FAULTS") == "1":
        with PAGE.open("rb") as page:
            fcntl.flock(page, fcntl.LOCK_EX)  # tests may run in several processes
            _write(section, row, column, outcome)
        return
    said = read().get((section, row, column))
    assert outcome == said or {said, outcome} <= set(others), (
        f"docs/faults.md says {said!r}, seen: {outcome!r} (see tests/faults/page.py)"
    )


def _write(section: str, row: str, column: str, outcome: str) -> None:
    """Put one cell into its table; rows that are new go to the end of it."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    start = lines.index(f"## {section}")
    head = next(n for n in range(start, len(lines)) if lines[n].startswith("|"))
    columns = [word.strip() for word in _CELL.split(lines[head])[1:-1]]
    end = next((n for n in range(head, len(lines)) if not lines[n].startswith("|")), len(lines))
    for number in range(head + 2, end):
        words = [word.strip() for word in _CELL.split(lines[number])[1:-1]]
        if words[0] == row:
            break
    else:
        number, words = end, [row, *[""] * (len(columns) - 1)]
        lines.insert(end, "")
    words[columns.index(column)] = outcome
    lines[number] = f"| {' | '.join(words)} |"
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")
