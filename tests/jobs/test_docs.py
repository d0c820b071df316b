"""docs/jobs.md says what is there, and its example works."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from jobs.place import NIGHTLY, Place

from portabl.jobs import endpoint
from portabl.jobs.alert_config import TYPES
from portabl.jobs.config import COMMON, KINDS, RETENTION, load
from portabl.jobs.run import message_of
from portabl.providers import from_document

PAGE = (Path(__file__).parents[2] / "docs" / "jobs.md").read_text()


def test_the_example_is_valid_and_warns_of_nothing() -> None:
    example = re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert example
    config = from_document(tomllib.loads(example[1]), "/etc/portabl/portabl.toml")
    jobs = load(config)
    assert {name: job.kind for name, job in jobs.jobs.items()} == {"nightly": "export", "reread": "snapshots-verify"}
    assert set(jobs.alerts) == {"ops", "mail"}
    assert not config.warnings


def test_every_field_is_on_the_page() -> None:
    fields = {*COMMON, *RETENTION}.union(*(kind.fields for kind in KINDS.values()))
    fields |= set(KINDS) | set(TYPES) | {name for _, known in TYPES.values() for name in known}
    assert not [name for name in fields if not re.search(rf"\b{name}\b", PAGE)]


def test_every_field_of_an_alert_is_on_the_page(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.data(a="1")
    place.write(NIGHTLY)
    message = message_of(place.jobs.job("nightly"), place.run(), "ok")
    assert not [name for name in message if f"`{name}`" not in PAGE]


def test_every_metric_is_on_the_page() -> None:
    source = Path(endpoint.__file__).read_text()
    names = set(re.findall(r'"(portabl_[a-z_]+)"', source))
    assert len(names) >= 10
    shortened = {name.replace("portabl_job_last_run_", "..._") for name in names}
    page = {f"{name}_total" if name == "portabl_job_runs" else name for name in shortened}
    assert not [name for name in page if name not in PAGE and name.replace("..._", "portabl_job_last_run_") not in PAGE]


@pytest.mark.parametrize("name", ["list", "run", "history", "check", "serve", "install", "test-alerts"])
def test_the_page_leads_to_the_commands(name: str) -> None:
    assert f"jobs {name}" in PAGE
