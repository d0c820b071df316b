"""portabl.toml changed in place: comments stay, nobody else reads it, nobody sees half of it."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portabl import toml_text
from portabl.errors import ConfigError
from portabl.providers import Config, load
from portabl.providers_file import ProvidersFile, default_path

TEXT = """# my places, made in 2026

[providers.old]  # the one we leave
type = "s3"      # what else
endpoint = "https://s3.old.example"  # by contract

# region = "eu-2"

# the disk in the cellar
[providers.disk]
type = "file"
path = "/data"

# one day: [policy]
"""


@pytest.fixture
def file(tmp_path: Path) -> ProvidersFile:
    path = tmp_path / "portabl.toml"
    path.write_text(TEXT)
    path.chmod(0o644)
    return ProvidersFile(str(path))


def _comments(text: str) -> list[str]:
    return [line.partition("#")[2] for line in text.splitlines() if "#" in line]


def _mode(file: ProvidersFile) -> int:
    return os.stat(file.path).st_mode & 0o777


def test_a_new_table_goes_to_the_end(file: ProvidersFile) -> None:
    file.add("new", {"catalogue": "ovhcloud", "region": "gra"})
    assert file.text() == TEXT + '\n[providers.new]\ncatalogue = "ovhcloud"\nregion = "gra"\n'
    assert load(file.path).provider("new").type == "s3"
    assert _mode(file) == 0o600


def test_a_change_stays_in_its_table(file: ProvidersFile) -> None:
    file.edit("old", {"endpoint": "https://s3.new.example", "region": "eu-3", "parts_max": 1000})
    expected = TEXT.replace("s3.old", "s3.new").replace(
        "# by contract\n", '# by contract\nregion = "eu-3"\nparts_max = 1000\n'
    )
    assert file.text() == expected
    assert _mode(file) == 0o600
    file.edit("old", {}, ("region", "parts_max"))
    assert file.text() == TEXT.replace("s3.old", "s3.new")


def test_what_is_removed_takes_no_comment_of_others_along(file: ProvidersFile) -> None:
    file.remove("old")
    assert "providers.old" not in file.text()
    assert "# the disk in the cellar\n[providers.disk]" in file.text()
    assert "# my places" in file.text()
    file.remove("disk")
    assert load(file.path).providers == {}
    assert "one day" in file.text()


def test_a_file_that_is_not_there_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    file = ProvidersFile(str(tmp_path / "config" / "portabl" / "portabl.toml"))
    file.add("disk", {"type": "file", "path": "/data"})
    assert file.text() == '[providers.disk]\ntype = "file"\npath = "/data"\n'
    assert _mode(file) == 0o600
    assert os.stat(os.path.dirname(file.path)).st_mode & 0o777 == 0o700


def test_the_file_in_use_is_the_one_that_changes(tmp_path: Path) -> None:
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert default_path(Config(), environ) == str(tmp_path / "portabl" / "portabl.toml")
    assert default_path(Config(path="/x/portabl.toml"), environ) == "/x/portabl.toml"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.add("old", {"type": "s3"}), "is there already"),
        (lambda file: file.add("a b", {"type": "s3"}), "names consist of"),
        (lambda file: file.add("x", {"type": "s3", "endpont": "y"}), "endpont: unknown field"),
        (lambda file: file.add("x", {"catalogue": "ovhcloud", "region": "nowhere"}), "no region `nowhere`"),
        (lambda file: file.edit("old", {"addressing": "dns"}), "addressing: must be"),
        (lambda file: file.edit("olt", {"region": "x"}), "unknown provider `olt`"),
        (lambda file: file.edit("old", {}, ("region",)), "region: is not set"),
        (lambda file: file.edit("disk", {}, ("path",)), "path: is missing"),
        (lambda file: file.remove("nobody"), "unknown provider `nobody`"),
    ],
)
def test_what_would_be_no_configuration_is_not_written(file: ProvidersFile, change: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        change(file)
    assert message in str(caught.value)
    assert file.text() == TEXT
    assert _mode(file) == 0o644, "not touched at all"


def test_a_change_in_between_is_not_lost(file: ProvidersFile) -> None:
    before = file.text()
    file.edit("disk", {"path": "/other"})
    with pytest.raises(ConfigError, match="has changed meanwhile"):
        file.replace(before, TEXT + "\n")
    assert load(file.path).provider("disk").settings() == {"path": "/other"}


def test_a_crash_leaves_the_old_file_whole(file: ProvidersFile, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for call in ("replace", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(os, call, crash)
            with pytest.raises(ConfigError, match="cannot be written: No space left"):
                file.add("new", {"type": "file", "path": "/x"})
        assert file.text() == TEXT
        assert os.listdir(os.path.dirname(file.path)) == ["portabl.toml"], "no rest is left"


def test_a_link_stays_one(file: ProvidersFile, tmp_path: Path) -> None:
    link = tmp_path / "link.toml"
    link.symlink_to(file.path)
    ProvidersFile(str(link)).add("new", {"type": "file", "path": "/x"})
    assert link.is_symlink()
    assert "new" in load(file.path).providers


def test_broken_files_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "portabl.toml"
    path.write_text("[providers.old\n")
    with pytest.raises(ConfigError, match="not valid TOML"):
        ProvidersFile(str(path)).add("new", {"type": "file", "path": "/x"})
    path.write_bytes(b"# \xe9\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        ProvidersFile(str(path)).add("new", {"type": "file", "path": "/x"})
    assert path.read_bytes() == b"# \xe9\n"


SHAPES = [
    "",
    "# only a comment",
    TEXT,
    TEXT.replace("\n", "\r\n"),
    'providers = { old = { type = "file", path = "." } }\n',
    "[providers]\nold = { type = 'file', path = '.' } # inline\n",
    "[providers]\n[providers.old]\ntype = 'file'\npath = '.'\n# end",
    """[providers.'old']\ntype = 'fsspec'\nurl = 'memory://x'\n# c
[providers."old".options]\na = 1\n\n# policy\n[policy]\n""",
    "[providers.old]\ntype='file'\npath='.'\n[policy] # p\nmin_proof = 'size'\n[providers.z]\ntype='file'\npath='.'\n",
    "[providers.old]\ntype = 'file'\npath = '''\n[not.a.header]\n'''\n",
]


@pytest.mark.parametrize("text", SHAPES)
def test_whatever_the_file_looks_like(text: str) -> None:
    """Each change does exactly what it says, whatever way the tables are written, and keeps every comment."""
    here = tomllib.loads(text)
    added = toml_text.add_table(text, "providers", "new.one", {"type": "s3", "list": ["a"], "n": 5})
    wanted = {**here, "providers": {**here.get("providers", {}), "new.one": {"type": "s3", "list": ["a"], "n": 5}}}
    assert tomllib.loads(added) == wanted
    assert _comments(added) == _comments(text)
    if "old" in here.get("providers", {}):
        changed = toml_text.change_table(text, "providers", "old", {"region": "x", "type": "s3", "options": {"b": 2}})
        table = tomllib.loads(changed)["providers"]["old"]
        options = here["providers"]["old"].get("options", {}) | {"b": 2}
        assert table == here["providers"]["old"] | {"region": "x", "type": "s3", "options": options}
        assert set(_comments(changed)) == set(_comments(text))
        removed = tomllib.loads(toml_text.remove_table(text, "providers", "old"))
        assert "old" not in removed.get("providers", {})
        assert removed.get("policy") == here.get("policy")


def test_what_cannot_be_changed_safely_is_left_to_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "portabl.toml"
    path.write_text("providers.old.type = 'fsspec'\nproviders.old.url = 'memory://x'\n")
    with pytest.raises(ConfigError, match="cannot be changed") as caught:
        ProvidersFile(str(path)).edit("old", {"url": "memory://y", "country": "FR", "options": {"b": "2"}})
    assert caught.value.hint == "edit it by hand"


@settings(max_examples=25, deadline=None)
@given(
    st.dictionaries(
        st.from_regex(r"[a-z_]{1,9}", fullmatch=True), st.text() | st.booleans() | st.integers(-(2**60), 2**60)
    )
)
def test_any_value_comes_back(values: dict[str, Any]) -> None:
    text = toml_text.add_table(TEXT, "providers", "x", {"type": "s3", **values})
    assert tomllib.loads(text)["providers"]["x"] == {"type": "s3", **values}
    text = toml_text.change_table(text, "providers", "old", values)
    assert tomllib.loads(text)["providers"]["old"].items() >= values.items()
