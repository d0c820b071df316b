"""Estimates: what they are made from, and the price table they are made with."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from portabl import prices
from portabl.errors import UsageError
from portabl.forecast import Cost, Requests, Speed, costs, duration, requests
from portabl.preflight import Survey

EXAMPLE = Path(__file__).parents[2] / "docs" / "prices.example.toml"
SURVEY = Survey(
    objects=2_500,
    bytes=300 * 10**9,
    classes={"": (2_400, 200 * 10**9), "GLACIER": (100, 100 * 10**9)},
    looked_at=1_000,
    parts=40,
    in_parts=4,
    byte_days={"GLACIER": 60 * 100 * 10**9},
)


def test_requests_are_counted_by_kind() -> None:
    assert requests(SURVEY) == (Requests(3, 2_496 + 40 + 1_000, 0), Requests(6, 0, 2_496 + 40 + 8))
    assert requests(Survey()) == (Requests(1, 0, 0), Requests(2, 0, 0))


def test_the_example_of_prices_is_valid_and_adds_up() -> None:
    table = prices.load(EXAMPLE)
    assert (table.looked_up, table.currency, set(table.providers)) == ("2026-11-30", "EUR", {"old", "new"})
    bill = {cost.what: round(cost.amount, 6) for cost in costs(SURVEY, table, ("old", "new"))}
    assert bill == {
        "egress from old": 16.0,  # 200 of 300 GB at 0.08
        "requests to old": round(3 * 0.005 / 1000 + 3_536 * 0.0004 / 1000, 6),
        "requests to new": round(6 * 0.005 / 1000 + 2_544 * 0.005 / 1000, 6),
        "retrieval from GLACIER": 1.0,
        "early deletion in GLACIER, if deleted at the source today": 0.8,  # 100 GB, 60 days, 0.004 a month
    }


def test_what_has_no_price_costs_nothing() -> None:
    table = prices.from_document({"looked_up": date(2026, 11, 30), "currency": "EUR", "providers": {}}, "p")
    assert costs(SURVEY, table, ("old", "new")) == ()
    assert Cost("x", 1.0) != Cost("x", 2.0)


@pytest.mark.parametrize(
    "text",
    [
        "currency = 'EUR'\n[providers]",
        "looked_up = 'today'\ncurrency = 'EUR'\n[providers]",
        "looked_up = 2026-11-30\ncurrency = 'EUR'\nproviders = 1",
        "looked_up = 2026-11-30\ncurrency = 'EUR'\n[providers.a]\negress_gb = -1",
        "looked_up = 2026-11-30\ncurrency = 'EUR'\n[providers.a]\negress_gb = true",
        "looked_up = 2026-11-30\ncurrency = 'EUR'\n[providers.a]\negress_gb = nan",
        "looked_up = 2026-11-30\ncurrency = 'EUR'\n[providers.a]\nfree = 1",
        "looked_up = 2026-11-30\ncurrency = 'EUR'\n[providers.a.classes.G]\nretrieval = 1",
        "looked_up = 2026-11-30\ncurrency = 'EUR'\n[providers.a]\nclasses = 1",
        "looked_up = ",
    ],
)
def test_a_wrong_price_table_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"prices\.toml"):
        prices.load(path)


@pytest.mark.parametrize(
    ("bandwidth", "speed", "seconds"),
    [
        ("100MB", None, 3_000.0),
        ("", None, None),
        ("", Speed(0.05, None, 4), 2_500 * 0.05 / 50),
        ("", Speed(0.05, 1e8, 2**20), 2_500 * 0.05 / 50 + 3_000),
    ],
)
def test_time_comes_from_the_bandwidth_or_from_what_was_measured(bandwidth: str, speed: Any, seconds: Any) -> None:
    found, basis = duration(SURVEY, bandwidth, speed, 50)
    assert found == pytest.approx(seconds) if seconds is not None else found is None
    assert basis
