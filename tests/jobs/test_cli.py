"""The commands: what they print, for people and for programs, and their exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from jobs.place import NIGHTLY, Clock, receiver

from portabl.cli.app import run
from portabl.jobs import clock

SCHEDULED = NIGHTLY + 'schedule = "30 2 * * *"\ntimezone = "Europe/Berlin"\ndeadline = "6h"\n'
BY_HAND = NIGHTLY.replace("nightly", "by-hand").replace('"copy"', '"copy2"')


class Here:
    """The command line in this process, in a folder of its own, by a clock that is set by hand."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.clock = Clock(datetime(2026, 6, 1, 12, tzinfo=UTC))
        self._capture = capture

    def configure(self, text: str) -> None:
        (self.folder / "portabl.toml").write_text(text)

    def portabl(self, *arguments: str, code: int = 0) -> str:
        """Run `portabl jobs ...`; its stdout, and stderr in ``err``."""
        self._capture.readouterr()
        found = run(["jobs", *arguments])
        out, self.err = self._capture.readouterr()
        assert found == code, (found, out, self.err)
        return out

    def json(self, *arguments: str, code: int = 0) -> Any:
        document = json.loads(self.portabl(*arguments, "--json", code=code))
        assert (document.get("error") or document)["exit_code"] == code
        return document


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    made = Here(tmp_path, capsys)
    monkeypatch.setattr(clock, "now", lambda: made.clock())
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").write_text("1")
    made.configure(SCHEDULED + BY_HAND)
    return made


def test_list(here: Here) -> None:
    lines = here.portabl("list").splitlines()
    assert lines[0].split() == ["JOB", "KIND", "SCHEDULE", "NEXT", "STATE", "LAST", "RUN"]
    assert "30 2 * * * (Europe/Berlin)  Tue 2026-06-02 02:30 CEST  waiting" in lines[1]
    assert lines[2].split() == ["by-hand", "migrate", "by", "hand", "-", "waiting", "-"]
    here.portabl("run", "nightly")
    assert "ok       2026-06-01 12:00:00Z ok" in here.portabl("list")
    first = here.json("list")["jobs"][0]
    assert (first["name"], first["timezone"], first["deadline"]) == ("nightly", "Europe/Berlin", "6h")
    assert first["health"]["last"]["result"] == "ok"


def test_show(here: Here) -> None:
    here.configure(SCHEDULED + 'ping = "https://ping.example/tokentoken"\n')
    text = here.portabl("show", "nightly")
    assert f"source    {here.folder}/data" in text
    assert "deadline  6h" in text
    assert "tokentoken" not in text + json.dumps(here.json("show", "nightly"))
    assert here.json("show", "nightly")["job"]["ping"] is True
    here.configure(SCHEDULED)
    here.portabl("run", "nightly", "-q")
    assert "last run  1: ok, began 2026-06-01 12:00:00Z, 0.0 s" in here.portabl("show", "nightly")
    assert here.json("show", "nightly")["health"]["state"] == "ok"
    here.portabl("show", "nightyl", code=2)
    assert "did you mean `nightly`?" in here.err


def test_next_over_a_change_of_the_clocks(here: Here) -> None:
    here.clock.set("2026-03-28T12:00")
    assert here.portabl("next", "nightly", "--count", "2").splitlines() == [
        "nightly  Sun 2026-03-29 03:00 CEST  2026-03-29 01:00Z",
        "nightly  Mon 2026-03-30 02:30 CEST  2026-03-30 00:30Z",
    ]
    assert [one["due"] for one in here.json("next", "--count", "1")["times"]] == ["2026-03-29T01:00:00.000Z"]
    assert here.portabl("next", "by-hand") == ""
    assert "no schedule" in here.err


def test_run_and_history(here: Here) -> None:
    assert "no run is recorded yet" in (here.portabl("history") + here.err)
    text = here.portabl("run", "nightly")
    assert text.startswith("job nightly, run 1: ok\n")
    assert "complete, every object is proven" in text
    (here.folder / "data" / "a").unlink()
    (here.folder / "data").rmdir()
    failed = here.json("run", "nightly", code=6)
    assert failed["error"]["kind"] == "ContainerMissing"
    lines = here.portabl("history", "nightly").splitlines()
    assert lines[1].split()[:7] == ["2", "nightly", "2026-06-01", "12:00:00Z", "0.0", "s", "failed"]
    assert lines[2].split()[:11] == ["1", "nightly", "2026-06-01", "12:00:00Z", "0.0", "s", "ok", "0", "1", "1", "B"]
    assert lines[2].endswith("manifests/0001")
    runs = here.json("history", "--count", "1")["runs"]
    assert [(one["id"], one["exit_code"], one["duration_seconds"]) for one in runs] == [(2, 6, 0.0)]
    here.portabl("history", "nobody", code=2)


def test_check_for_monitoring(here: Here) -> None:
    assert here.portabl("check").splitlines() == ["nightly: waiting", "by-hand: waiting"]
    assert here.portabl("check", "--nagios") == "PORTABL OK - 2 jobs are well | jobs=2 not_well=0;;0\n"
    here.clock.set("2026-06-02T08:00")
    late = "nightly: late: was due at 2026-06-02T00:30:00.000Z, no run has ended well since then"
    assert here.portabl("check", code=3).splitlines() == [late, "by-hand: waiting"]
    assert here.portabl("check", "--nagios", code=2).startswith(f"PORTABL CRITICAL - {late}")
    assert here.portabl("check", "by-hand") == "by-hand: waiting\n"
    document = here.json("check", code=3)
    assert [(one["job"], one["state"], one["well"]) for one in document["jobs"]] == [
        ("nightly", "late", False),
        ("by-hand", "waiting", True),
    ]
    assert document["jobs"][0]["missing"] == "2026-06-02T00:30:00.000Z"
    here.portabl("run", "nightly", "--if-due")
    here.portabl("check")
    assert here.portabl("run", "nightly", "--if-due") == ""
    assert "no run is due" in here.err
    assert here.json("run", "nightly", "--if-due")["run"] is None


def test_check_alerts_of_what_is_late_once(here: Here) -> None:
    with receiver() as hook:
        here.configure(SCHEDULED + f'on_failure = ["ops"]\n[alerts.ops]\ntype = "webhook"\nurl = "{hook.url}"\n')
        here.portabl("check", "--alert")
        here.clock.set("2026-06-02T08:00")
        for _ in range(3):
            here.portabl("check", "--alert", code=3)
        assert [json.loads(body)["event"] for _, _, _, body in hook.seen] == ["late"]


def test_a_check_of_nothing_is_not_well(here: Here) -> None:
    here.configure("")
    for command in ("check", "list", "next", "serve"):
        here.portabl(command, code=2)
        assert "no job is configured" in here.err


def test_disable_and_enable(here: Here) -> None:
    here.portabl("disable", "nightly")
    here.clock.forward(days=3)
    assert here.portabl("check").splitlines()[0].startswith("nightly: disabled: disabled since 2026-06-01T12:00")
    here.portabl("run", "nightly", code=5)
    assert "hint: `portabl jobs enable nightly`" in here.err
    here.portabl("run", "nightly", "--if-due")
    assert here.json("enable", "nightly")["enabled"] is True
    assert here.portabl("check", "nightly") == "nightly: waiting\n"
    here.portabl("run", "nightly")
    here.configure(SCHEDULED + "enabled = false\n")
    here.portabl("run", "nightly", code=5)
    here.portabl("enable", "nightly", code=2)
    assert "[jobs.nightly] enabled" in here.err


def test_alerts_can_be_tried(here: Here) -> None:
    with receiver() as hook:
        alert = (
            f'[alerts.ops]\ntype = "webhook"\nurl = "{hook.url}"\n[alerts.bad]\ntype = "command"\ncommand = ["/no"]\n'
        )
        here.configure(SCHEDULED + 'on_failure = ["ops"]\nping = "https://ping.invalid"\n' + alert)
        assert here.portabl("test-alerts", "nightly") == "ops: delivered\n"
        assert json.loads(hook.seen[0][3])["event"] == "test"
        here.configure(SCHEDULED + 'on_failure = ["ops", "bad"]\n' + alert)
        assert here.json("test-alerts", "nightly", code=3)["alerts"]["bad"].startswith("the command cannot be run")
    here.configure(SCHEDULED)
    here.portabl("test-alerts", "nightly", code=3)
    assert "tells nobody" in here.err


def test_secrets_are_nowhere_on_disk(here: Here) -> None:
    hook = '[alerts.ops]\ntype = "webhook"\nurl = "http://127.0.0.1:1/tokentoken"\nsecret = "tokentoken"\n'
    here.configure(SCHEDULED + 'on_success = ["ops"]\nping = "http://127.0.0.1:1/tokentoken"\n' + hook)
    import portabl.jobs.alerts as sending

    sending.FIRST_PAUSE_SECONDS, before = 0.001, sending.FIRST_PAUSE_SECONDS
    try:
        here.portabl("run", "nightly")
    finally:
        sending.FIRST_PAUSE_SECONDS = before
    assert "could not be delivered: ops: no answer" in here.err
    assert "tokentoken" not in here.err
    files = [path for path in (here.folder / "state").rglob("*") if path.is_file()]
    assert len(files) > 3
    assert not [path for path in files if b"tokentoken" in path.read_bytes()]


def test_without_the_extra_all_but_serve_works(here: Here) -> None:
    code = "import sys; sys.modules['apscheduler'] = sys.modules['prometheus_client'] = None\n"
    code += "from portabl.cli.app import run\n"
    code += "codes = [run(['jobs', *words.split()]) for words in sys.argv[1:]]\n"
    code += "print(codes, file=sys.stderr)"
    commands = ["list", "next", "run nightly -q", "history", "check", "install nightly --systemd", "serve"]
    environment = {**os.environ, "XDG_STATE_HOME": str(here.folder / "state")}
    done = subprocess.run([sys.executable, "-c", code, *commands], capture_output=True, text=True, env=environment)
    assert done.stderr.splitlines()[-1] == "[0, 0, 0, 0, 0, 0, 2]", done.stderr
    assert "pip install 'portabl[jobs]'" in done.stderr


def test_the_daemons_packages_are_loaded_by_nothing_else(here: Here) -> None:
    code = "import sys\nfrom portabl.cli.app import run\nrun(['jobs', 'list'])\nrun(['jobs', '--help'])\n"
    code += "print({'apscheduler', 'prometheus_client', 'smtplib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
