"""The policy flags of a command, as rules."""

from __future__ import annotations

from typing import Any

import pytest

from portabl.cli.policy import policy_of
from portabl.errors import ConfigError, UsageError
from portabl.policy import Policy

EMPTY: dict[str, Any] = {
    "require_label": (),
    "require_criteria": (),
    "jurisdictions": (),
    "min_proof": None,
    "tls": False,
    "allow_providers": (),
}


def flags(**more: Any) -> Policy:
    options = {**EMPTY, **more, "other": 1}
    found = policy_of(options)
    assert options == {"other": 1}, "taken out of the command's options"
    return found


def test_no_flag_no_rule() -> None:
    assert flags() == Policy()


def test_flags_are_rules() -> None:
    found = flags(jurisdictions=("EU", "CH"), min_proof="readback", tls=True, allow_providers=("a", "b"))
    assert found == Policy(jurisdictions=(("EU", "CH"),), min_proof="readback", tls=True, allow=("a", "b"))


@pytest.mark.parametrize(
    ("labels", "criteria", "expected"),
    [
        (("L1",), (), (("L1", "L1"), ((), ()))),
        (("target=L2",), (), (("", "L2"), ((), ()))),
        (("SC", "target=L2"), (), (("SC", "L2"), ((), ()))),
        (("target=L2",), ("P4.1.1", "P4.1.2"), (("", "L2"), ((), ("P4.1.1", "P4.1.2")))),
        ((), ("P4.1.1",), (("", ""), (("P4.1.1",), ("P4.1.1",)))),
        (("target=L2",), ("source=P4.1.1",), (("", "L2"), (("P4.1.1",), ()))),
    ],
)
def test_sides(labels: tuple[str, ...], criteria: tuple[str, ...], expected: Any) -> None:
    found = flags(require_label=labels, require_criteria=criteria)
    assert (found.labels, found.criteria) == expected


def test_the_strongest_of_several_levels_is_meant() -> None:
    assert flags(require_label=("L3", "SC")).labels == ("L3", "L3")


def test_mistakes() -> None:
    for bad in ({"require_label": ("left=L1",)}, {"require_criteria": ("up=P1",)}):
        with pytest.raises(UsageError, match="no side"):
            flags(**bad)
    for bad in ({"require_label": ("L9",)}, {"jurisdictions": ("Atlantis",)}):
        with pytest.raises(ConfigError):
            flags(**bad)
