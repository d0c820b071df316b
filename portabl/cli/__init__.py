"""The command line: one file a command, and the only place that prints."""

from __future__ import annotations

import gc
import sys


def main() -> None:
    """Entry point of the ``portabl`` command."""
    # No cycle holds what is loaded and what a run makes, values by the ten thousand. To look for cycles as often as
    # Python does by itself costs a twentieth of the CPU of a short run, and 2 to 3 % of a long one's.
    gc.set_threshold(50_000, 20, 100)
    from portabl.cli.app import run

    sys.exit(run(sys.argv[1:]))
