"""Prices as the user wrote them down, in TOML: portabl knows none of its own (docs/plan.md)."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date
from pathlib import Path
from typing import Any

from portabl.errors import UsageError

GB = 10**9
"""Providers bill by powers of ten."""


@dataclass(frozen=True, slots=True)
class ClassPrices:
    """One storage class: ``retrieval_gb`` a GB read, ``storage_gb_month`` a GB a month, ``minimum_days`` to pay for."""

    retrieval_gb: float = 0.0
    storage_gb_month: float = 0.0
    minimum_days: int = 0


@dataclass(frozen=True, slots=True)
class ProviderPrices:
    """One provider. ``*_1000``: a thousand requests; ``egress_gb``: a GB that leaves, after ``egress_free_gb``."""

    egress_gb: float = 0.0
    egress_free_gb: float = 0.0
    list_1000: float = 0.0
    read_1000: float = 0.0
    write_1000: float = 0.0
    classes: Mapping[str, ClassPrices] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prices:
    """A price table: when the prices were looked up, in which currency, and the providers by their names."""

    looked_up: str
    currency: str
    providers: Mapping[str, ProviderPrices]


def load(path: Path) -> Prices:
    """Read a price table. Raises UsageError that names file, table and field."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the prices {path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not valid TOML: {error}") from None
    return from_document(document, str(path))


def from_document(document: Mapping[str, Any], origin: str) -> Prices:
    """Check a parsed table. Raises UsageError."""
    _known(document, ("looked_up", "currency", "providers"), origin)
    looked_up, currency, tables = document.get("looked_up"), document.get("currency"), document.get("providers")
    if not isinstance(looked_up, date) or not isinstance(currency, str) or not isinstance(tables, dict):
        hint = 'write `looked_up = 2026-11-30`, `currency = "EUR"` and a table `[providers.NAME]`'
        raise UsageError(f"{origin}: looked_up, currency and providers are needed", hint=hint)
    providers = {name: _provider(table, f"{origin}: [providers.{name}]") for name, table in tables.items()}
    return Prices(looked_up.isoformat(), currency, providers)


def _provider(table: object, where: str) -> ProviderPrices:
    values = _table(table, where, [one.name for one in fields(ProviderPrices)])
    classes = values.pop("classes", {})
    if not isinstance(classes, dict):
        raise UsageError(f"{where} classes: must be a table")
    named = {name: _class(inner, f"{where[:-1]}.classes.{name}]") for name, inner in classes.items()}
    return ProviderPrices(**_numbers(values, where), classes=named)


def _class(table: object, where: str) -> ClassPrices:
    values = _numbers(_table(table, where, [one.name for one in fields(ClassPrices)]), where)
    days = values.pop("minimum_days", 0.0)
    return ClassPrices(**values, minimum_days=int(days))


def _table(value: object, where: str, known: list[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{where}: must be a table")
    _known(value, known, where)
    return dict(value)


def _known(table: Mapping[str, Any], known: tuple[str, ...] | list[str], where: str) -> None:
    for name in table:
        if name not in known:
            raise UsageError(f"{where}: unknown field `{name}`", hint=f"known: {', '.join(known)}")


def _numbers(values: Mapping[str, Any], where: str) -> dict[str, float]:
    for name, value in values.items():
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 10**9:
            raise UsageError(f"{where} {name}: must be a number from 0 on")
    return {name: float(value) for name, value in values.items()}
