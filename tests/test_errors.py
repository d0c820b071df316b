"""The tree drawn in the docstring of `portabl.errors` is the tree in the code, exit codes included."""

from __future__ import annotations

import pickle
import re

import pytest

from portabl import errors
from portabl.errors import NotFound, PortablError

CLASSES = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, PortablError)
}


def drawn() -> dict[str, tuple[str, int]]:
    """The docstring's tree: name -> (name of the base class, exit code)."""
    found: dict[str, tuple[str, int]] = {}
    above: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^([│├└─ ]*)(\w+) +(\d)  ", line + "  ")
        if match:
            depth, name, code = len(match[1]), match[2], int(match[3])
            above = [(d, n) for d, n in above if d < depth]
            found[name] = (above[-1][1] if above else "Exception", code)
            above.append((depth, name))
    return found


def test_the_drawing_is_the_tree() -> None:
    actual = {name: (kind.__bases__[0].__name__, kind.exit_code) for name, kind in CLASSES.items()}
    assert drawn() == actual


@pytest.mark.parametrize("kind", CLASSES.values())
def test_every_class_says_what_it_means(kind: type[PortablError]) -> None:
    assert (kind.__doc__ or "").strip().endswith(".")
    assert 1 <= kind.exit_code <= 6
    assert not (kind.transient and kind.per_object)


def test_only_errors_about_one_object_let_a_run_go_on() -> None:
    per_object = {name for name, kind in CLASSES.items() if kind.per_object}
    assert per_object == {
        name for name in ("NotFound", "Changed", "Corrupt", "Refused", "Archived") if CLASSES[name].exit_code == 3
    }


def test_an_error_says_where_what_and_which_key_on_one_line() -> None:
    error = NotFound("no such object", key=b'a\nb"\xff', storage="old:bucket", hint="look elsewhere")
    assert str(error) == 'old:bucket: no such object (key "a\\x0ab\\"\\xff")'
    assert isinstance(error, FileNotFoundError)


@pytest.mark.parametrize("kind", CLASSES.values())
def test_errors_travel_between_processes(kind: type[PortablError]) -> None:
    error = kind("what", key=b"k", storage="s", hint="h")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.key, again.hint) == (kind, str(error), b"k", "h")
