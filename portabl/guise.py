"""How a run is told where what it carries goes by other names on its way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from portabl.model import Record


@dataclass(frozen=True, slots=True)
class Guise:
    """``tell``: the record as the manifest has it, in the same order.

    ``document``: fields of manifest.json that replace the run's own.
    """

    tell: Callable[[Record], Record]
    document: Mapping[str, object]
