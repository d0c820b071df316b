"""The command line: one file a command, and the only place that prints."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the ``portabl`` command."""
    from portabl.cli.app import run

    sys.exit(run(sys.argv[1:]))
