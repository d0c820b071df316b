"""Part sizes: within every limit of the target, or refused."""

from __future__ import annotations

import pytest

from portabl.errors import Refused
from portabl.large import PART_SIZE, part_size
from portabl.storage import Capabilities

TIB = 2**40


@pytest.mark.parametrize("limits", [Capabilities(), Capabilities(parts_max=1000), Capabilities(part_size_min=2**24)])
@pytest.mark.parametrize("size", [2**24 + 1, 8 * 2**30, 80 * 2**30 + 1, 640 * 2**30, 4 * TIB])
def test_parts_fit_the_limits(size: int, limits: Capabilities) -> None:
    chosen = part_size(size, limits)
    assert -(-size // chosen) <= limits.parts_max
    assert max(PART_SIZE, limits.part_size_min) <= chosen <= limits.part_size_max


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(Refused):
        part_size(51 * TIB, Capabilities())
    with pytest.raises(Refused):
        part_size(2**30, Capabilities(object_size_max=2**30 - 1))
