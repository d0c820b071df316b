"""``portabl labels``: what it prints, its exit codes, the evidence it keeps, and that --offline means it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from kit.clearing_house import House, Web
from shell import Shell, shell

REAL = Path(__file__).parents[1] / "labels" / "real"
ENDPOINT = "https://s3.cloud.example"


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    server = Web(tmp_path_factory.mktemp("web"))
    yield server
    server.stop()


@pytest.fixture
def here(tmp_path: Path) -> Shell:
    made = shell(tmp_path, {"XDG_CACHE_HOME": str(tmp_path / "cache")})
    House().trust(tmp_path)
    return made


PROVIDER = f"""
[providers.ovh]
type = "s3"
endpoint = "{ENDPOINT}"
region = "gra"
labels = ["kept/ovh.jwt"]

[providers.bare]
type = "s3"
endpoint = "https://s3.bare.example"
region = "x"

[labels]
trust = "trust.toml"
"""


def test_step_by_step_for_people_and_programs(here: Shell) -> None:
    House().case().write(here.folder, "ovh")
    done = here.portabl("labels", "verify", "ovh.jwt", "--offline", "--trust", "trust.toml")
    assert done.code == 0, done.out + done.err
    assert "warning: trust.toml: labels of did:web:localhost%3A443:v2 (test house) are accepted" in done.err
    lines = done.out.splitlines()
    assert lines[0] == "passed       token      compact JWS of 2,549 characters" or lines[0].startswith(
        "passed       token "
    )
    assert "[RFC 7515 section 7.1, RFC 8259 section 4]" in lines[1]
    assert "portability  P4.1.1, P4.1.2, P3.1.11" in done.out
    assert "European     none (not: P5.1.1" in done.out
    assert lines[-1].startswith("ovh.jwt: labelled L1 at 20")
    document = here.portabl("labels", "verify", "ovh.jwt", "--offline", "--trust", "trust.toml", "--json").document
    assert (document["labelled"], document["exit_code"], document["labels"]) == (True, 0, "service")
    assert document["services"][0]["provider"] == "Test Cloud SAS"
    assert document["portability"] == {"P4.1.1": True, "P4.1.2": True, "P3.1.11": True}
    assert {step["outcome"] for step in document["steps"]} == {"passed"}


def test_everything_else_is_not_labelled(here: Shell) -> None:
    path = House().case().write(here.folder, "ovh")
    for arguments, words in (
        (("ovh.jwt",), "none of the 6 clearing houses"),
        (("ovh.jwt", "--trust", "trust.toml", "--at", "2020-01-01"), "not valid before"),
        (("ovh.jwt", "--trust", "trust.toml", "--at", "2099-01-01T00:00:00Z"), "expired"),
        (
            (str(REAL / "label.jwt"), "--presentation", str(REAL / "presentation.jwt"), "--at", "2026-04-01"),
            "participant",
        ),
        ((str(REAL / "vatID.jwt"),), "not a gx:LabelCredential"),
        ((__file__,), "three parts"),
    ):
        done = here.portabl("labels", "verify", *arguments, "--offline")
        assert done.code == 3, done.err
        assert "NOT labelled" in done.out.splitlines()[-1]
        assert words in done.out
    path.write_bytes(b"\xff\x00\x1b[31m" + b"a" * 10_000_000)
    done = here.portabl("labels", "verify", "ovh.jwt", "--offline")
    assert done.code == 3
    assert "\x1b" not in done.out


def test_the_real_label_says_that_no_key_is_at_hand(here: Shell) -> None:
    arguments = ("--presentation", str(REAL / "presentation.jwt"), "--at", "2026-04-01", "--offline")
    done = here.portabl("labels", "verify", str(REAL / "label.jwt"), *arguments)
    assert done.code == 3
    assert "not checked  signature  no key at hand" in done.out
    assert "passed       digests    3 credentials have the digests" in done.out


def test_standard_input(here: Shell) -> None:
    case = House().case()
    case.write(here.folder, "ovh")
    files = [name for name in sorted(os.listdir(here.folder)) if name.endswith(".did.json")]
    more = [part for name in files for part in ("--did-document", name)]
    more += ["--chain", "ovh.chain.pem", "--presentation", "ovh.vp.jwt", "--trust", "trust.toml", "--offline"]
    done = subprocess.run(
        here.command("labels", "verify", "-", *more),
        cwd=here.folder,
        env=here.environment,
        input=case.label().encode() + b"\n",
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout.decode().splitlines()[-1].startswith("-: labelled L1")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("verify", "none.jwt"), ("none.jwt", "cannot be read")),
        (("verify", "-", "--keep"), ("--keep",)),
        (("verify", "trust.toml", "--at", "soon"), ("--at soon", "2026-04-01")),
        (("verify", "trust.toml", "--trust", "none.toml"), ("none.toml",)),
        (("verify", "trust.toml", "--chain", "none.pem"), ("none.pem",)),
        (("verify", "trust.toml", "--provider", "nobody"), ("unknown provider `nobody`",)),
    ],
)
def test_mistakes(here: Shell, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    here.portabl("labels", *arguments).clear(2, *words)


def test_missing_packages_are_named(here: Shell) -> None:
    House().case().write(here.folder, "ovh")
    program = (
        "import sys; sys.modules['cryptography'] = None\nimport portabl.cli.app as a; sys.exit(a.run(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "labels", "verify", "ovh.jwt", "--offline"],
        cwd=here.folder,
        env=here.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "pip install 'portabl[labels]'" in done.stderr


def test_what_was_fetched_is_kept_and_is_enough_later(here: Shell, web: Web) -> None:
    case = web.house.case(endpoint=ENDPOINT)
    web.publish(case)
    web.house.trust(here.folder, private_hosts=["localhost"], ca_bundle=str(web.ca_file))
    (here.folder / "kept").mkdir()
    (here.folder / "kept" / "ovh.jwt").write_text(case.label())
    (here.folder / "vp.jwt").write_text(case.presentation())
    here.configure(PROVIDER)
    first = here.portabl("labels", "verify", "kept/ovh.jwt", "--presentation", "vp.jwt", "--provider", "ovh", "--keep")
    assert first.code == 0, first.out + first.err
    assert "warning: " in first.err
    assert "private addresses are allowed for localhost" in first.err
    kept = sorted(os.listdir(here.folder / "kept"))
    assert len([name for name in kept if name.endswith(".did.json")]) == 3
    assert len([name for name in kept if name.endswith((".chain.pem", ".vp.jwt"))]) == 2
    asked = len(web.asked)
    again = here.portabl(
        "labels", "verify", "kept/ovh.jwt", "--provider", "ovh", "--keep", XDG_CACHE_HOME=str(here.folder / "empty")
    )
    assert again.code == 0, again.out
    assert "\nkept " not in again.err
    assert len(web.asked) == asked, "everything was at hand"
    assert here.portabl("labels", "status", XDG_CACHE_HOME=str(here.folder / "empty")).out.startswith(
        "ovh              L1  test house "
    )


def test_offline_opens_no_socket(here: Shell, web: Web) -> None:
    """A guard in the interpreter ends the command at the first attempt to open a socket or to resolve a name."""
    case = web.house.case()
    web.publish(case)
    web.house.trust(here.folder, private_hosts=["localhost"], ca_bundle=str(web.ca_file))
    (here.folder / "ovh.jwt").write_text(case.label())
    guard = (
        "import sys, os\n"
        "def watch(event, args):\n"
        "    if event.startswith('socket.') or event.startswith('urllib'): os._exit(99)\n"
        "sys.addaudithook(watch)\n"
        "import pycurl\n"
        "class NoCurl:\n"
        "    def __init__(self): os._exit(98)\n"
        "pycurl.Curl = NoCurl\n"
        "import portabl.cli.app as a; sys.exit(a.run(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", guard, "labels", "verify", "ovh.jwt", "--trust", "trust.toml"]
    web.asked.clear()
    for more, code in ((["--offline"], 3), ([], 98)):
        done = subprocess.run(
            [*command, *more], cwd=here.folder, env=here.environment, capture_output=True, check=False
        )
        assert done.returncode == code, done.stderr
    assert web.asked == []
    case.write(here.folder, "ovh")
    done = subprocess.run(
        [*command, "--offline"], cwd=here.folder, env=here.environment, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_status_of_all_providers(here: Shell) -> None:
    here.configure(PROVIDER)
    case = House().case(endpoint=ENDPOINT, level="L2", days=30)
    case.write(here.folder / "kept", "ovh")
    done = here.portabl("labels", "status")
    assert done.code == 0, done.out + done.err
    assert done.out.startswith(
        f"ovh              L2  test house       until {case.payload['validUntil'][:10]}, 29 days left"
    )
    assert "no label: bare" in done.err
    later = (case.at + timedelta(days=31)).isoformat()
    done = here.portabl("labels", "status", "--at", later)
    assert done.code == 3
    assert "NOT labelled, until " in done.out
    assert "expired: dates failed: expired on" in done.out
    (one,) = here.portabl("labels", "status", "--json").document["labels"]
    assert (one["provider"], one["level"], one["days_left"], one["labelled"]) == ("ovh", "L2", 29, True)
    House().case(endpoint="https://s3.other.example").write(here.folder / "kept", "ovh")
    done = here.portabl("labels", "status")
    assert done.code == 3
    assert "provider failed: the label is for another service" in done.out
    os.remove(here.folder / "kept" / "ovh.jwt")
    here.portabl("labels", "status").clear(2, "ovh.jwt")


def test_json_on_mistakes_is_a_document_too(here: Shell) -> None:
    assert json.loads(here.portabl("labels", "verify", "none", "--json").out)["error"]["exit_code"] == 2
