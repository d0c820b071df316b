"""The flags that make the rules of a run stricter, shared by the commands that move data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from portabl.policy import Policy

F = TypeVar("F", bound=Callable[..., Any])
_NAMES = ("require_label", "require_criteria", "jurisdictions", "min_proof", "tls", "allow_providers")


def policy_options(function: F) -> F:
    """``--require-label`` and its kin; `policy_of` reads them."""
    for option in reversed(
        (
            click.option(
                "--require-label",
                multiple=True,
                metavar="[SIDE=]LEVEL",
                help="Gaia-X label of both sides, or of SIDE (source, target): SC, L1, L2 or L3.",
            ),
            click.option(
                "--require-criteria",
                multiple=True,
                metavar="[SIDE=]ID",
                help="And this criterion is among the validated ones, such as P4.1.1.",
            ),
            click.option(
                "--jurisdiction",
                "jurisdictions",
                multiple=True,
                metavar="AREA",
                help="Region and owner of both sides are in EU, EEA or a country; several widen it.",
            ),
            click.option(
                "--min-proof", type=click.Choice(["size", "ingest", "readback"]), help="--proof at least this."
            ),
            click.option("--require-tls", "tls", is_flag=True, help="Both sides are spoken to over TLS, checked."),
            click.option(
                "--allow-provider", "allow_providers", multiple=True, metavar="NAME", help="No other provider."
            ),
            click.option(
                "--policy-override",
                default="",
                metavar="REASON",
                help="Go on although a rule is broken; recorded in manifest and report.",
            ),
        )
    ):
        function = option(function)
    return function


def policy_of(options: dict[str, Any]) -> Policy:
    """Take the flags out of a command's options, as rules. Raises ConfigError for levels and areas that are none."""
    from portabl.policy import of_table

    values = {name: options.pop(name) for name in _NAMES}
    table: dict[str, object] = {
        "jurisdictions": list(values["jurisdictions"]),
        "min_proof": values["min_proof"] or "",
        "tls": "required" if values["tls"] else "",
    }
    if values["allow_providers"]:
        table["allow_providers"] = list(values["allow_providers"])
    labels = _by_side("--require-label", values["require_label"])
    if labels:
        table["require_label"] = {side: _strongest(found) for side, found in labels.items()}
    criteria = _by_side("--require-criteria", values["require_criteria"])
    if criteria:
        table["require_criteria"] = _asked(criteria, labels, values["require_criteria"])
    return of_table(table, "the flags:")


def _strongest(levels: list[str]) -> str:
    from portabl.policy import LEVELS

    unknown = [level for level in levels if level not in LEVELS]
    return unknown[0] if unknown else max(levels, key=LEVELS.index)


def _by_side(flag: str, values: tuple[str, ...]) -> dict[str, list[str]]:
    from portabl.errors import UsageError

    found: dict[str, list[str]] = {}
    for text in values:
        side, equals, value = text.rpartition("=")
        if equals and side not in ("source", "target"):
            raise UsageError(f"`{flag} {text}`: no side `{side}`", hint="write `source=...` or `target=...`")
        for one in [side] if equals else ["source", "target"]:
            found.setdefault(one, []).append(value)
    return found


def _asked(
    criteria: Mapping[str, list[str]], labels: Mapping[str, object], texts: tuple[str, ...]
) -> Mapping[str, list[str]]:
    """Without a side, criteria are asked of the sides that need a label."""
    if labels and not any("=" in text for text in texts):
        return {side: found for side, found in criteria.items() if side in labels}
    return criteria
