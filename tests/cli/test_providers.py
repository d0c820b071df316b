"""``portabl providers`` as a person meets it: on a terminal, in a script, and against real servers."""

from __future__ import annotations

import os
import sys
import tomllib
from pathlib import Path

import pytest
from kit.servers import S3Server
from kit.terminal import Terminal
from shell import Shell, shell

from portabl import catalogue

SECRET = "wEeDsEcReT/that+is=hidden"


@pytest.fixture
def here(tmp_path: Path) -> Shell:
    return shell(tmp_path)


def _terminal(here: Shell, *arguments: str, **more: str) -> Terminal:
    return Terminal(here.command("providers", *arguments), here.folder, {**here.environment, "TERM": "dumb", **more})


def _written(here: Shell) -> dict[str, object]:
    path = here.folder / "home" / "config" / "portabl" / "portabl.toml"
    assert path.stat().st_mode & 0o777 == 0o600
    tables: dict[str, object] = tomllib.loads(path.read_text())["providers"]
    return tables


def test_add_asks_step_by_step(here: Shell) -> None:
    terminal = _terminal(here, "add")
    terminal.answer("Name of the provider", "my ovh")
    terminal.answer("a name consists of", "ovh")
    terminal.answer("Provider (part of its name", "object storage")
    assert "scaleway" in terminal.expect("Provider (part of its name")
    terminal.type("numergy")
    terminal.answer("is closed: taken over by SFR", "OVHc")
    assert "Gravelines" in terminal.expect("\nRegion")
    terminal.type("atlantis")
    terminal.answer("one of the list", "gra")
    terminal.answer("Number", "7")
    terminal.answer("a number from 1 to 5", "1")
    terminal.answer("holds the access key id [OVH_ACCESS_KEY_ID]", "")
    terminal.answer("holds the secret access key [OVH_SECRET_ACCESS_KEY]", "OVH_SECRET")
    assert "region = gra" in terminal.expect("Write this to")
    terminal.type("y")
    terminal.expect("next: portabl providers test ovh")
    assert terminal.end() == 0
    keys = {"access_key_id": "env:OVH_ACCESS_KEY_ID", "secret_access_key": "env:OVH_SECRET"}
    assert _written(here) == {"ovh": {"catalogue": "ovhcloud", "region": "gra", **keys}}


RING = """
import json, os
from keyring.backend import KeyringBackend

class Keyring(KeyringBackend):
    priority = 1
    def get_password(self, service, username):
        return json.load(open(os.environ["RING"])).get(f"{service} {username}")
    def set_password(self, service, username, password):
        json.dump({f"{service} {username}": password}, open(os.environ["RING"], "w"))
"""


def test_a_secret_is_typed_unseen_into_the_keyring_and_works(here: Shell, seaweed: S3Server) -> None:
    (here.folder / "ring_of_a_test.py").write_text(RING)
    path = os.pathsep.join(filter(None, [str(here.folder), here.environment.get("PYTHONPATH", "")]))
    ring = {"PYTHON_KEYRING_BACKEND": "ring_of_a_test.Keyring", "PYTHONPATH": path, "RING": str(here.folder / "ring")}
    terminal = _terminal(here, "add", "weed", **ring)
    terminal.answer("Provider (part of its name", "seaweed")
    terminal.answer("Endpoint", seaweed.endpoint)
    terminal.answer("Region for signatures [us-east-1]", "")
    terminal.answer("Number", "3")
    terminal.answer("Access key id", seaweed.access_key)
    terminal.answer("Secret access key (unseen", seaweed.secret_key)
    terminal.answer("Write this to", "y")
    assert terminal.end() == 0
    assert seaweed.secret_key not in terminal.shown
    secret = f"keyring:portabl-weed/{seaweed.access_key}"
    assert _written(here)["weed"] == {
        "catalogue": "seaweedfs",
        "endpoint": seaweed.endpoint,
        "region": "us-east-1",
        "access_key_id": seaweed.access_key,
        "secret_access_key": secret,
    }
    bucket = seaweed.bucket()
    tried = here.portabl("providers", "test", f"weed:{bucket}", **ring)
    assert tried.code == 0, tried.err
    assert seaweed.keys(bucket) == []


def test_add_may_be_left_at_any_question(here: Shell) -> None:
    for leave in (b"\x03", b"\x04"):
        terminal = _terminal(here, "add")
        terminal.answer("Name of the provider", "x")
        terminal.expect("Provider (part of its name")
        assert terminal.leave(leave) == 4
        assert "Traceback" not in terminal.shown
    assert not (here.folder / "home" / "config").exists()


def test_what_options_say_is_not_asked(here: Shell) -> None:
    terminal = _terminal(here, "add", "aws", "--catalogue", "aws", "--region", "eu-west-3", "--profile", "work")
    terminal.answer("Write this to", "n")
    assert terminal.end() == 4
    assert "Number" not in terminal.shown
    terminal = _terminal(here, "add", "aws", "--catalogue", "aws", "--region", "eu-west-3", "--no-input")
    assert terminal.end() == 0
    assert _written(here) == {"aws": {"catalogue": "aws", "region": "eu-west-3"}}


def test_flags_where_nobody_can_be_asked(here: Shell) -> None:
    here.configure("# mine")
    keys = ("--access-key-id", "env:A", "--secret-access-key", "env:S")
    added = here.portabl("providers", "add", "ovh", "--catalogue", "ovhcloud", "--region", "gra", *keys)
    assert added.code == 0, added.err
    assert added.out == ""
    text = (here.folder / "portabl.toml").read_text()
    assert text.startswith("# mine")
    assert (here.folder / "portabl.toml").stat().st_mode & 0o777 == 0o600
    disk = here.portabl("providers", "add", "disk", "--type", "file", "--path", ".", "--json")
    assert disk.document["file"] == str(here.folder / "portabl.toml")
    sftp = (
        "--type",
        "fsspec",
        "--url",
        "sftp://h/p",
        "--set",
        "options.username=me",
        "--set",
        "options.password=env:P",
    )
    assert here.portabl("providers", "add", "far", *sftp).code == 0
    other = ("--type", "s3", "--endpoint", "http://127.0.0.1:1", "--set", "insecure=true", "--set", "parts_max=100")
    assert here.portabl("providers", "add", "other", *other).code == 0
    tables = tomllib.loads((here.folder / "portabl.toml").read_text())["providers"]
    assert tables["far"]["options"] == {"username": "me", "password": "env:P"}
    assert (tables["other"]["insecure"], tables["other"]["parts_max"]) == (True, 100)

    listed = here.portabl("providers", "list", "--json").document["providers"]
    assert [row["name"] for row in listed] == ["ovh", "disk", "far", "other"]
    assert listed[0] == {
        "name": "ovh",
        "type": "s3",
        "place": "https://s3.gra.io.cloud.ovh.net",
        "region": "gra",
        "country": "FR",
        "catalogue": "ovhcloud",
    }
    edited = here.portabl(
        "providers", "edit", "ovh", "--region", "rbx", "--unset", "access_key_id", "--unset", "secret_access_key"
    )
    assert edited.code == 0, edited.err
    assert "https://s3.rbx.io" in here.portabl("providers", "list").out
    here.portabl("providers", "remove", "ovh").clear(2, "--yes")
    assert here.portabl("providers", "remove", "ovh", "--yes").code == 0
    assert "ovh" not in here.portabl("providers", "list").out


def test_a_file_named_by_config_is_made(here: Shell) -> None:
    disk = ("--type", "file", "--path", ".", "--config", "own/places.toml")
    added = here.portabl("providers", "add", "disk", *disk)
    assert added.code == 0, added.err
    assert (here.folder / "own" / "places.toml").stat().st_mode & 0o777 == 0o600
    assert "disk" in here.portabl("providers", "list", "--config", "own/places.toml").out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("add",), ("neither --catalogue nor --type", "--catalogue ENTRY")),
        (("add", "--catalogue", "ovhcloud"), ("has no name",)),
        (("add", "x", "--catalogue", "ovh"), ("has no `ovh`", "did you mean `ovhcloud`?")),
        (("add", "x", "--catalogue", "ovhcloud"), ("region: is missing", "one of gra")),
        (("add", "x", "--type", "s4"), ("`--type s4` is unknown", "s3, file, fsspec")),
        (
            ("add", "x", "--type", "s3", "--set", "adressing=path"),
            ("no field `adressing`", "did you mean `addressing`?"),
        ),
        (("add", "x", "--type", "s3", "--set", "adressing"), ("has no `=`",)),
        (("add", "x", "--type", "s3", "--set", "parts_max=many"), ("parts_max: must be a whole number, not `many`",)),
        (("add", "x", "--type", "s3", "--set", "insecure=yes"), ("insecure: must be true or false",)),
        (("add", "x", "--type", "file"), ("path: is missing",)),
        (
            ("add", "x", "--type", "s3", "--access-key-id", "k", "--secret-access-key", SECRET),
            ("command line", "env:NAME"),
        ),
        (("add", "x", "--type", "fsspec", "--url", f"ftp://me:{SECRET}@h/"), ("command line",)),
        (
            ("add", "x", "--type", "fsspec", "--url", "ftp://h/", "--set", f"options.password={SECRET}"),
            ("command line",),
        ),
        (("edit", "x"), ("nothing says what to change",)),
        (("edit", "x", "--region", "y"), ("unknown provider `x`", "portabl providers add x")),
        (("remove", "x", "--yes"), ("unknown provider `x`",)),
        (("show", "ovhcluod"), ("unknown provider `ovhcluod`", "did you mean `ovhcloud`?")),
        (("test", "x"), ("unknown provider `x`",)),
        (("test", "x:bucket"), ("unknown provider `x`",)),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(
    here: Shell, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    result = here.portabl("providers", *arguments)
    result.clear(2, *words)
    assert SECRET not in result.err
    assert not (here.folder / "home" / "config").exists()


def test_the_editor_gets_the_file_and_a_mistake_is_not_taken_over(here: Shell) -> None:
    here.configure('[providers.disk]\ntype = "file"  # old\npath = "/data"\n')
    editor = here.folder / "editor.py"
    editor.write_text(
        "import pathlib, sys\nfile = pathlib.Path(sys.argv[1])\ntext = file.read_text()\n"
        "file.write_text(text.replace('type =', 'typo =') if 'path' in text and 'typo' not in text "
        "else text.replace('typo =', 'type =').replace('/data', '/other'))\n"
    )
    terminal = _terminal(here, "edit", EDITOR=f"{sys.executable} {editor}")
    terminal.answer("Edit again?", "y")
    assert terminal.end() == 0
    assert "type: is missing" in terminal.shown
    assert (here.folder / "portabl.toml").read_text() == '[providers.disk]\ntype = "file"  # old\npath = "/other"\n'
    terminal = _terminal(here, "edit", EDITOR=f"{sys.executable} {editor}")
    terminal.answer("Edit again?", "n")
    assert terminal.end() == 2
    assert "/other" in (here.folder / "portabl.toml").read_text()


def test_remove_asks_on_a_terminal(here: Shell) -> None:
    here.configure('[providers.disk]\ntype = "file"\npath = "/data"\n')
    terminal = _terminal(here, "remove", "disk")
    terminal.answer("Remove provider `disk`", "n")
    assert terminal.end() == 4
    terminal = _terminal(here, "remove", "disk")
    terminal.answer("Remove provider `disk`", "y")
    assert terminal.end() == 0
    assert "disk" not in (here.folder / "portabl.toml").read_text()


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_show_never_shows_a_secret(here: Shell, arguments: tuple[str, ...]) -> None:
    here.configure(
        f'[providers.ovh]\ncatalogue = "ovhcloud"\nregion = "gra"\n'
        f'access_key_id = "AKIDHIDDEN"\nsecret_access_key = "{SECRET}"\n'
        f'session_token = "env:TOKEN"\n[providers.far]\ntype = "fsspec"\nurl = "ftp://me:{SECRET}@host/x?sig={SECRET}"\n'
        f'options = {{ password = "{SECRET}", inner = {{ token = "{SECRET}" }}, key = "env:TOKEN", port = 21 }}\n'
    )
    shown = here.portabl("providers", "show", "ovh", *arguments, TOKEN=SECRET)
    assert shown.code == 0, shown.err
    for words in (
        "hidden",
        "env:TOKEN (found)",
        "https://s3.gra.io.cloud.ovh.net",
        "Gravelines",
        "2026-11-23",
        "reversibility",
    ):
        assert words in shown.out, words
    assert "env:TOKEN (NOT FOUND" in here.portabl("providers", "show", "ovh", *arguments).out
    far = here.portabl("providers", "show", "far", *arguments, TOKEN=SECRET)
    assert "env:TOKEN" in far.out
    assert "ftp://host/x?..." in far.out
    listed = here.portabl("providers", "list", *arguments, "-v", TOKEN=SECRET)
    for result in (shown, far, listed):
        assert SECRET not in result.out + result.err
        assert "AKIDHIDDEN" not in result.out + result.err


def test_every_entry_can_be_shown(
    here: Shell, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from portabl.cli.app import run

    monkeypatch.chdir(here.folder)
    for name in catalogue.names():
        assert run(["providers", "show", name]) == 0
        shown = capsys.readouterr().out
        assert catalogue.entry(name).name in shown
        for hazard in catalogue.entry(name).hazards:
            assert hazard.what in shown
    rows = here.portabl("providers", "list", "--catalogue", "--json").document["providers"]
    assert [row["name"] for row in rows] == list(catalogue.names())
    assert "DE FR GB PL" not in here.portabl("providers", "list").out


def _weed(server: S3Server, *lines: str) -> str:
    return server.provider_toml("weed") + "\n".join(lines) + "\n"


def test_test_tries_everything_and_leaves_nothing(tmp_path: Path, seaweed: S3Server) -> None:
    here = shell(tmp_path, seaweed.environment)
    here.configure(_weed(seaweed), '[providers.disk]\ntype = "file"\npath = "disk"\n')
    bucket = seaweed.bucket()
    seaweed.client().put_object(Bucket=bucket, Key="kept", Body=b"x")
    done = here.portabl("providers", "test", f"weed:{bucket}/prefix", "--json")
    assert done.code == 0, done.err
    assert [step["step"] for step in done.document["steps"]] == ["list", "put", "read", "delete"]
    assert all(step["passed"] for step in done.document["steps"])
    assert seaweed.keys(bucket) == ["kept"]
    alone = here.portabl("providers", "test", "weed")
    assert alone.code == 0, alone.err
    assert bucket in alone.out or "..." in alone.out
    assert "weed:BUCKET" in alone.err
    (here.folder / "disk").mkdir()
    assert here.portabl("providers", "test", "disk").code == 0
    assert os.listdir(here.folder / "disk") == []


@pytest.mark.parametrize("place", ["weed", "weed:bucket"])
def test_test_says_what_is_wrong(tmp_path: Path, seaweed: S3Server, place: str) -> None:
    access, secret = seaweed.environment
    here = shell(tmp_path, seaweed.environment)
    here.configure(_weed(seaweed))
    wrong = here.portabl("providers", "test", place, **{secret: "no-such-secret"})
    assert wrong.code == 6
    assert "BAD" in wrong.out
    assert "SignatureDoesNotMatch" in wrong.out
    assert "no-such-secret" not in wrong.out + wrong.err
    assert "hint: " in wrong.err
    here.configure(_weed(seaweed).replace(f"env:{access}", "env:NOT_SET_HERE"))
    unset = here.portabl("providers", "test", place, "--json")
    assert unset.code == 2
    assert "NOT_SET_HERE" in unset.out
    dead = _weed(seaweed).replace(seaweed.endpoint, "http://127.0.0.1:1")
    here.configure(dead)
    nobody = here.portabl("providers", "test", place)
    assert nobody.code == 6
    assert "no answer" in nobody.out


def test_test_names_the_permission_that_is_missing(tmp_path: Path, seaweed_guest: S3Server, seaweed: S3Server) -> None:
    """Somebody who may list and read, and not write."""
    here = shell(tmp_path, seaweed_guest.environment)
    here.configure(_weed(seaweed_guest).replace("seaweed_guest", "weed"))
    bucket = seaweed.bucket()
    result = here.portabl("providers", "test", f"weed:{bucket}")
    assert result.code == 6
    assert result.out.splitlines()[0].startswith("ok  list")
    assert result.out.splitlines()[1].startswith("BAD put")
    assert "allow `s3:PutObject`" in result.err
    assert seaweed.keys(bucket) == []
