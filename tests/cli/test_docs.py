"""The pages about the command line say what the command line does."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click
import pytest

from portabl import errors, report, verification
from portabl.cli import providers_page, reference
from portabl.cli.app import COMMANDS, cli
from portabl.provider_types import DERIVED
from portabl.providers import S3Provider, from_document

DOCS = Path(__file__).parents[2] / "docs"


def _commands(command: click.Command, context: click.Context) -> Iterator[tuple[str, click.Command]]:
    yield context.command_path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _commands(inner, click.Context(inner, parent=context, info_name=name))


ALL = dict(_commands(cli, click.Context(cli, info_name="portabl")))


def test_reference_is_what_the_commands_say() -> None:
    assert (DOCS / "cli.md").read_text() == reference.text(), "run `python -m portabl.cli.reference > docs/cli.md`"


@pytest.mark.parametrize("path", ALL)
def test_every_command_teaches(path: str) -> None:
    command = ALL[path]
    assert command.help
    assert all(p.help for p in command.params if isinstance(p, click.Option)), path
    if not isinstance(command, click.Group) and path != "portabl demo":
        assert "Example" in command.help
        assert f"  {path} " in command.help, "an example begins with the command itself"


def test_overview_is_what_the_commands_say() -> None:
    for name, line in COMMANDS.items():
        assert (ALL[f"portabl {name}"].help or "").startswith(line)


def _exit_codes() -> dict[int, str]:
    rows = re.findall(r"^\| (\d+) \| (.+?) \|", (DOCS / "exit-codes.md").read_text(), re.MULTILINE)
    return {int(code): meaning for code, meaning in rows}


def _errors(kind: type[errors.PortablError]) -> Iterator[type[errors.PortablError]]:
    yield kind
    for inner in kind.__subclasses__():
        yield from _errors(inner)


def test_every_exit_code_is_in_the_table() -> None:
    raised = {kind.exit_code for kind in _errors(errors.PortablError)}
    reported = {report.COMPLETE, report.INCOMPLETE, report.INTERRUPTED}
    assert raised | reported == set(_exit_codes())


def test_help_lists_the_codes_of_the_table() -> None:
    said = set(map(int, re.findall(r"(\d) ", re.search(r"Exit codes: (.*)", cli.help or "", re.DOTALL)[1])))  # type: ignore[index]
    assert said == set(_exit_codes())


def test_configuration_page_has_every_field_and_its_example_is_valid() -> None:
    text = (DOCS / "configuration.md").read_text()
    for field in fields(S3Provider):
        if field.name not in DERIVED:
            assert f"`{field.name}`" in text
    example = re.search(r"```toml\n(.*?)```", text, re.DOTALL)
    assert example
    config = from_document(tomllib.loads(example[1]))
    assert set(config.providers) == {"old", "disk", "archive"}
    assert not config.warnings


def test_every_field_of_the_documents_is_on_the_page() -> None:
    text = (DOCS / "cli.md").read_text()
    documents = (
        report.report_document(report.Report("a", "b", "size")),
        verification.verification_document(verification.Verification("m", "l", "size")),
    )
    for document in documents:
        for name in document:
            assert name in ("document", "version") or f"`{name}`" in text, name


def test_page_about_providers_is_what_the_catalogue_says() -> None:
    wanted = providers_page.text()
    assert (DOCS / "providers.md").read_text() == wanted, (
        "run `python -m portabl.cli.providers_page > docs/providers.md`"
    )
    example = re.search(r"```toml\n(.*?)```", wanted, re.DOTALL)
    assert example
    assert from_document(tomllib.loads(example[1])).provider("ovh").country == "FR"
