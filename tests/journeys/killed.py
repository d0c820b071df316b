"""Runs the command line and kills its own process at a named call: ``killed.py [SETTING...] PLACE... -- ARGUMENTS``.

PLACE is ``MODULE:FUNCTION@N,before`` or ``...,after``: SIGKILL to this process before or after the N-th call, the first
place that is reached. SETTING is ``MODULE:NAME=NUMBER`` and makes a constant smaller, so that little data shows much.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import os
import signal
import sys
from typing import Any


def _owner(dotted: str) -> tuple[Any, str]:
    module, _, path = dotted.partition(":")
    *outer, name = path.split(".")
    owner = importlib.import_module(module)
    for part in outer:
        owner = getattr(owner, part)
    return owner, name


def _die_at(place: str) -> None:
    dotted, _, moment = place.partition("@")
    number, _, when = moment.partition(",")
    owner, name = _owner(dotted)
    original = getattr(owner, name)
    calls = itertools.count(1)

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        fatal = next(calls) == int(number)
        if fatal and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, call)


def main() -> int:
    """See above."""
    split = sys.argv.index("--")
    for word in sys.argv[1:split]:
        if "=" in word:
            dotted, _, value = word.partition("=")
            owner, name = _owner(dotted)
            setattr(owner, name, type(getattr(owner, name))(float(value)))
        else:
            _die_at(word)
    from portabl.cli.app import run

    return run(sys.argv[split + 1 :])


if __name__ == "__main__":
    sys.exit(main())
