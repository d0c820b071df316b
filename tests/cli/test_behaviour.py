"""The command line as a program among others: streams, JSON, signals, encodings, speed."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from kit.proxy import Fault, FaultProxy
from kit.servers import S3Server
from shell import Shell, shell

EVIL = b"evil\x1b[31m\x07\n\xff"


@pytest.fixture
def here(tmp_path: Path) -> Shell:
    made = shell(tmp_path)
    (tmp_path / "data").mkdir()
    for name in ("a.txt", "gr\u00fcn.txt", "\u6f22.txt"):
        (tmp_path / "data" / name).write_text(name)
    return made


def _migrate(here: Shell, *more: str) -> Any:
    done = here.portabl("migrate", "./data", "./target", "--manifest", "./manifest", "--json", *more)
    assert done.code == 0, done.err
    return done.document


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import sys, portabl.cli.app as a; a.run(['--help']); heavy = {'boto3','botocore','fsspec','tqdm','pycurl'}\n"
    )
    code += "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    times = []
    for _ in range(3):
        began = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        times.append(time.perf_counter() - began)
        assert done.stderr.strip() == "[]"
    assert min(times) < 0.6, "0.08 s on an idle machine; the limit leaves room for a busy one"


def test_version_and_no_arguments(here: Shell) -> None:
    from portabl import __version__

    assert here.portabl("--version").out == f"portabl {__version__}\n"
    assert here.portabl().code == 2
    assert here.portabl("-h").out == here.portabl("--help").out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("migrat",), ("no command `migrat`", "did you mean `migrate`?")),
        (("zzz",), ("known: plan, migrate",)),
        (("migrate",), ("Missing argument", "SRC", "portabl migrate --help")),
        (("migrate", "a", "b", "--proof", "psychic"), ("psychic", "size", "readback")),
        (("migrate", "a", "b", "--threads", "0"), ("threads", "1<=x<=512")),
        (("migrate", "a", "b", "--bad"), ("--bad",)),
        (("manifest", "show"), ("MANIFEST",)),
        (("manifest", "views", "./m"), ("DIRECTORY", "--as")),
        (("ls", "x", "--config", "missing.toml"), ("missing.toml", "No such file")),
    ],
)
def test_usage_errors(here: Shell, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    found = here.portabl(*arguments)
    assert found.code == 2, found.err
    assert "Traceback" not in found.err
    assert found.err.startswith("error: ")
    for word in words:
        assert word in found.err
    assert found.out == ""
    in_json = here.portabl(*arguments, "--json")
    assert in_json.document["error"]["exit_code"] == 2
    assert in_json.code == 2


def test_json_is_one_document_and_errors_are_documents_too(here: Shell) -> None:
    assert _migrate(here)["copied"] == 3
    for arguments, code in (
        (("ls", "./data"), 0),
        (("ls", "./missing"), 6),
        (("verify", "./manifest"), 0),
        (("verify", "./missing"), 3),
        (("fingerprint", "./data"), 0),
        (("status",), 0),
        (("manifest", "show", "./manifest", "--records"), 0),
        (("manifest", "views", "./manifest", "./views"), 0),
    ):
        found = here.portabl(*arguments, "--json")
        assert found.code == code, (arguments, found.err)
        document = found.document
        assert (document["error"] if code else document)["exit_code"] == code


def test_the_commands_agree(here: Shell) -> None:
    report = _migrate(here)
    assert here.portabl("fingerprint", "./target", "--json").document["root"] == report["source_root"]
    job = here.portabl("status", "--json").document["jobs"][0]
    assert (job["source"], job["target"], job["objects"]) == ("./data", "./target", 3)
    assert "./data -> ./target" in here.portabl("status").out
    again = _migrate(here)
    assert (again["copied"], again["unchanged"]) == (0, 3)
    shown = here.portabl("manifest", "show", "./manifest/manifest.json", "--records").out
    assert report["source_root"] in shown
    assert '"a.txt"' in shown


def test_views(here: Shell) -> None:
    _migrate(here)
    printed = here.portabl("manifest", "views", "./manifest", "--as", "sha256sums")
    assert printed.code == 0
    (here.folder / "SHA256SUMS").write_text(printed.out)
    subprocess.run(
        ["sha256sum", "--strict", "-c", "../SHA256SUMS"], cwd=here.folder / "data", check=True, capture_output=True
    )
    done = here.portabl("manifest", "views", "./manifest", "./views", "--bucket", "photos")
    assert done.code == 0, done.err
    assert sorted(os.listdir(here.folder / "views")) == ["SHA256SUMS", "manifest-sha256.txt", "s3-batch.csv"]
    assert (here.folder / "views" / "SHA256SUMS").read_text() == printed.out
    assert "photos,a.txt" in (here.folder / "views" / "s3-batch.csv").read_text()


def test_keys_never_reach_the_terminal_raw(here: Shell) -> None:
    raw = os.path.join(os.fsencode(here.folder), b"data", EVIL)
    with open(raw, "wb") as stream:
        stream.write(b"x")
    listed = here.portabl("ls", "./data")
    assert "\x1b" not in listed.out
    assert r'"evil\x1b[31m\x07\x0a\xff"' in listed.out
    document = here.portabl("ls", "./data", "--json").document
    assert {"base64": "ZXZpbBtbMzFtBwr/"} in [entry["key"] for entry in document["entries"]]
    os.chmod(os.path.join(os.fsencode(here.folder), b"data"), 0o755)
    os.remove(raw)
    os.mkfifo(raw)
    done = here.portabl("migrate", "./data", "./target")
    assert done.code == 3
    assert "\x1b" not in done.out + done.err
    assert r"\x1b[31m" in done.out


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8"])
def test_any_terminal_encoding(here: Shell, encoding: str) -> None:
    found = subprocess.run(
        here.command("ls", "./data"),
        cwd=here.folder,
        env={**here.environment, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=True,
    )
    text = found.stdout.decode(encoding)
    assert ("\u6f22" in text) == (encoding == "utf-8")
    assert ("\\u6f22" in text) == (encoding != "utf-8")


def test_a_reader_that_goes_away_is_no_drama(here: Shell) -> None:
    for number in range(3000):
        (here.folder / "data" / f"{number:0100}").touch()
    process = subprocess.Popen(
        here.command("ls", "./data"),
        cwd=here.folder,
        env=here.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(30) == 1


def test_an_unforeseen_error_is_short_and_says_where_to_go(here: Shell) -> None:
    program = "import portabl.registry as r, portabl.cli.app as a, sys\n"
    program += "def broken(*_, **__): raise RuntimeError('bro\\x1bken')\n"
    program += "r.open_location = broken\nsys.exit(a.run(sys.argv[1:]))"
    for more in ((), ("-v",)):
        command = [sys.executable, "-c", program, "ls", "./data", "--json", *more]
        done = subprocess.run(
            command, cwd=here.folder, env=here.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert ("Traceback" in done.stderr) == bool(more)
        assert "error: unexpected RuntimeError: bro\\x1bken\nhint: " in done.stderr
        assert json.loads(done.stdout)["error"]["kind"] == "unexpected"


def test_secrets_of_a_url_are_kept_nowhere(here: Shell) -> None:
    """Not even the ones that a user types into the command itself."""
    url = "memory://me:hushhush@place/x?token=hushhush"
    for arguments in (
        ("migrate", "./data", url, "--manifest", "./manifest"),
        ("migrate", "./data", url, "--json", "-v"),
    ):
        done = here.portabl(*arguments)
        assert done.code == 0, done.err
        assert "hushhush" not in done.out + done.err
    kept = [path for path in here.folder.rglob("*") if path.is_file()]
    assert any(path.name == "job.json" for path in kept)
    for path in kept:
        assert b"hushhush" not in path.read_bytes(), path


def test_quiet_is_quiet(here: Shell) -> None:
    done = here.portabl("migrate", "./data", "./target", "-q")
    assert done.err == ""
    assert here.portabl("-q", "migrate", "./data", "./target").err == ""


def _on_a_terminal(here: Shell, *arguments: str, **more: str) -> tuple[int, str]:
    """Run portabl with stderr on a pseudo terminal; exit code and what was drawn."""
    master, slave = pty.openpty()
    environment = {**here.environment, "TERM": "xterm", **more}
    process = subprocess.Popen(
        here.command(*arguments), cwd=here.folder, env=environment, stdout=subprocess.DEVNULL, stderr=slave
    )
    os.close(slave)
    drawn = b""
    try:
        while piece := os.read(master, 4096):
            drawn += piece
    except OSError:  # how Linux says that the other end has gone
        pass
    os.close(master)
    return process.wait(30), drawn.decode()


def test_bars_on_a_terminal(here: Shell) -> None:
    code, drawn = _on_a_terminal(here, "migrate", "./data", "./target")
    assert code == 0
    assert "objects" in drawn
    assert "\r" in drawn


def test_no_colour_is_obeyed(here: Shell) -> None:
    assert "\x1b[31merror:" in _on_a_terminal(here, "ls", "nope:x")[1]
    assert "\x1b" not in _on_a_terminal(here, "ls", "nope:x", NO_COLOR="1")[1]


@pytest.mark.parametrize("shell_name", ["bash", "zsh", "fish"])
def test_completion(here: Shell, shell_name: str) -> None:
    assert "_PORTABL_COMPLETE" in here.portabl("completion", shell_name).out


def test_completion_knows_providers(here: Shell) -> None:
    here.configure('[providers.photos]\ntype = "file"\npath = "."')
    found = here.portabl(_PORTABL_COMPLETE="bash_complete", COMP_WORDS="portabl ls pho", COMP_CWORD="2")
    assert found.out == "plain,photos:\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_and_the_same_command_goes_on(tmp_path: Path, moto: S3Server, number: signal.Signals) -> None:
    bucket = moto.bucket()
    keys = [f"k{n:03}" for n in range(60)]
    for key in keys:
        moto.client().put_object(Bucket=bucket, Key=key, Body=key.encode())
    with FaultProxy(moto.endpoint) as proxy:
        proxy.add(Fault("delay", seconds=0.3, kind="get"))
        here = shell(tmp_path, moto.environment)
        here.configure(moto.provider_toml("slow", proxy.endpoint))
        arguments = ("migrate", f"slow:{bucket}", "./target", "--threads", "2", "--json")
        process = subprocess.Popen(
            here.command(*arguments),
            cwd=here.folder,
            env=here.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        _wait_for(lambda: (tmp_path / "target").exists() and len(os.listdir(tmp_path / "target")) >= 3)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 4, err
        assert json.loads(out)["interrupted"] is True
        assert b"stopping: finishing what is in flight" in err
        copied = len(os.listdir(tmp_path / "target"))
        assert copied < len(keys)
        proxy.clear()
        again = here.portabl(*arguments)
        assert again.code == 0, again.err
        assert again.document["objects"] == len(keys)
        assert again.document["copied"] == len(keys) - copied


def test_a_second_signal_ends_at_once(tmp_path: Path, moto: S3Server) -> None:
    bucket = moto.bucket()
    moto.client().put_object(Bucket=bucket, Key="k", Body=b"x")
    with FaultProxy(moto.endpoint) as proxy:
        stalled = proxy.add(Fault("delay", seconds=30, kind="get"))
        here = shell(tmp_path, moto.environment)
        here.configure(moto.provider_toml("slow", proxy.endpoint))
        process = subprocess.Popen(
            here.command("migrate", f"slow:{bucket}", "./target"),
            cwd=here.folder,
            env=here.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        _wait_for(lambda: stalled.fired > 0)
        began = time.monotonic()
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            time.sleep(0.5)
        process.communicate(timeout=20)
        assert process.returncode == 4
        assert time.monotonic() - began < 10


def _wait_for(ready: Any, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
