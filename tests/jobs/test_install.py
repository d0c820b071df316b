"""What other schedulers read, held against their own tools and rules."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import types
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from cronsim import CronSim
from jobs.place import NIGHTLY, Place
from shell import Shell, shell

from portabl.errors import UsageError
from portabl.jobs.config import Jobs
from portabl.jobs.install import airflow, common, cron, kubernetes, systemd
from portabl.jobs.schedule import Schedule

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
BERLIN = 'timezone = "Europe/Berlin"\n'
ODD = "per%cent $dollar 'quote\" and space"
needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")


def _jobs(folder: Path, schedule: str = "30 4 * * *", more: str = BERLIN, name: str = "nightly") -> Jobs:
    folder.mkdir(exist_ok=True)
    return Place(folder).write(NIGHTLY.replace("nightly", name) + f'schedule = "{schedule}"\n{more}')


def _verified(folder: Path, made: list[common.Artifact]) -> None:
    for one in made:
        (folder / one.name).write_text(one.text)
    paths = [str(folder / one.name) for one in made]
    done = subprocess.run(["systemd-analyze", "verify", *paths], capture_output=True, text=True)
    assert not [line for line in done.stderr.splitlines() if "portabl" in line], done.stderr  # other units may be odd


@needs_systemd
@pytest.mark.parametrize("system", [True, False])
@pytest.mark.parametrize("more", [BERLIN, BERLIN + 'timeout = "90m"\n'])
def test_units_pass_systemds_own_check(tmp_path: Path, system: bool, more: str) -> None:
    jobs = _jobs(tmp_path / ODD, more=more)
    made = systemd.units(jobs, jobs.job("nightly"), NOW, system=system)
    assert [one.name for one in made] == ["portabl-nightly.service", "portabl-nightly.timer"]
    _verified(tmp_path, made)


@needs_systemd
def test_a_wrong_unit_does_not_pass(tmp_path: Path) -> None:
    jobs = _jobs(tmp_path / "x")
    service, timer = systemd.units(jobs, jobs.job("nightly"), NOW, system=True)
    wrong = common.Artifact(timer.name, timer.text.replace("OnCalendar=*-*-* 04", "OnCalendar=*-*-* 94"))
    with pytest.raises(AssertionError):
        _verified(tmp_path, [service, wrong])


def _next_by_systemd(lines: list[str], after: datetime, count: int) -> list[datetime]:
    """The next times by systemd's own calendar."""
    found: set[datetime] = set()
    for line in lines:
        command = ["systemd-analyze", "calendar", f"--iterations={count}", line]
        command.append(f"--base-time={after:%Y-%m-%d %H:%M:%S} UTC")
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TZ": "UTC"}, check=True)
        times = re.findall(r"(?:Next elapse|Iter\. #\d+): \w+ (\S+ \S+) UTC", done.stdout)
        found |= {datetime.fromisoformat(time).replace(tzinfo=UTC) for time in times}
    return sorted(found)[:count]


@needs_systemd
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
@pytest.mark.parametrize(
    "expression",
    [
        *("30 4 * * *", "0 6 * * 1-5", "0 5 1,15 * *", "0 5 13 * 5", "15,45 4-6 * 3-9 *", "0 7 * * 0", "0 7 * * 7"),
        *("0 4 L * *", "*/20 * * * *", "0 4 */10 * *", "5 4 * 1 */2"),
    ],
)
def test_systemd_reads_the_same_times(expression: str, zone: str) -> None:
    schedule = Schedule.of(expression, zone)
    lines, if_due = systemd.calendars(schedule, NOW)
    assert not if_due
    moment, ours = NOW, []
    for _ in range(20):
        moment = schedule.after(moment)
        ours.append(moment)
    assert _next_by_systemd(lines, NOW, 20) == ours


@needs_systemd
@pytest.mark.parametrize(
    ("expression", "first", "days"),
    [
        ("30 2 * * *", "2027-03-26", 5),
        ("30 2 * * *", "2026-10-23", 5),
        ("0 2 * * 1#2", "2026-11-01", 35),
        ("0 2 LW * *", "2026-11-01", 35),
        ("0 2 * * 5L", "2026-11-01", 35),
    ],
)
def test_where_systemd_cannot_say_it_the_job_is_asked_at_every_due_time(expression: str, first: str, days: int) -> None:
    """Each due time must be among those at which systemd asks; `--if-due` makes the others harmless."""
    schedule = Schedule.of(expression, "Europe/Berlin")
    lines, if_due = systemd.calendars(schedule, NOW)
    assert if_due
    start = datetime.fromisoformat(first).replace(tzinfo=UTC)
    moment = schedule.after(start)
    while moment < start + timedelta(days=days):
        assert moment in _next_by_systemd(lines, moment - timedelta(minutes=50), 3)
        moment = schedule.after(moment)


def test_a_unit_calls_exactly_this_program(tmp_path: Path) -> None:
    jobs = _jobs(tmp_path / ODD)
    service = systemd.units(jobs, jobs.job("nightly"), NOW, system=True)[0].text
    (line,) = re.findall("^ExecStart=(.*)$", service, re.MULTILINE)
    words = [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(line)]
    config = str(tmp_path / ODD / "portabl.toml")
    assert words == [sys.executable, "-m", "portabl", "jobs", "run", "nightly", "--config", config, "--quiet"]


def _crontab(text: str) -> tuple[str, list[str]]:
    """The schedule and the command of the one line of a crontab, as cron understands it (crontab(5))."""
    (line,) = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    *fields, command = line.split(None, 5)
    before, mark, _ = re.sub(r"\\%", "\0", command).partition("%")
    assert not mark, "a bare % would cut the command"
    return " ".join(fields), shlex.split(before.replace("\0", "%"))


def test_a_crontab_line_in_the_machines_own_zone(tmp_path: Path) -> None:
    jobs = _jobs(tmp_path / ODD, "30 2 * * 1-5")
    schedule, command = _crontab(cron.line(jobs, jobs.job("nightly"), zone="Europe/Berlin").text)
    assert schedule == "30 2 * * 1-5"
    assert command[-4:] == ["nightly", "--config", str(tmp_path / ODD / "portabl.toml"), "--quiet"]


@pytest.mark.parametrize(("expression", "zone"), [("30 2 * * *", "UTC"), ("0 2 L * *", "Europe/Berlin")])
def test_what_cron_cannot_say_is_asked_often(tmp_path: Path, expression: str, zone: str) -> None:
    jobs = _jobs(tmp_path / "x", expression)
    schedule, command = _crontab(cron.line(jobs, jobs.job("nightly"), zone=zone).text)
    assert (schedule, command[-1]) == ("*/5 * * * *", "--if-due")
    CronSim(schedule, NOW)


def test_the_command_of_a_crontab_really_runs_the_job(tmp_path: Path) -> None:
    here = shell(tmp_path / ODD)
    (here.folder / "data").mkdir()
    (here.folder / "data" / "a").write_text("1")
    jobs = _jobs(here.folder, "0 * * * *")
    for zone, results in (("UTC", "no run is due"), ("Europe/Berlin", "")):
        line = next(x for x in cron.line(jobs, jobs.job("nightly"), zone=zone).text.splitlines() if x[0] != "#")
        command = line.split(None, 5)[5].replace("\\%", "%")  # what cron hands to the shell
        done = subprocess.run(["/bin/sh", "-c", command], cwd="/", env=dict(here.environment), capture_output=True)
        assert done.returncode == 0, done.stderr
        assert results in done.stderr.decode()
    assert (here.folder / "copy" / "a").read_text() == "1"


CRONTAB = """#!/bin/sh
# Behaves as crontab(1): -l lists, - installs what comes on stdin.
table="$HOME/crontab"
case "$1" in
  -l) [ -f "$table" ] || { echo "no crontab for me" >&2; exit 1; }; cat "$table" ;;
  -) cat > "$table.new" && mv "$table.new" "$table" ;;
esac
"""


def test_the_users_crontab_keeps_everything_else(tmp_path: Path) -> None:
    here = shell(tmp_path)
    program = tmp_path / "bin" / "crontab"
    program.parent.mkdir()
    program.write_text(CRONTAB)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    path = f"{program.parent}:{os.environ['PATH']}"
    table = tmp_path / "home" / "crontab"
    here.configure(
        NIGHTLY + 'schedule = "30 4 * * *"\n' + NIGHTLY.replace("nightly", "other") + 'schedule = "@daily"\n'
    )
    run = lambda name: here.portabl("jobs", "install", name, "--cron", "--write", PATH=path, TZ="UTC")  # noqa: E731
    assert run("nightly").code == 0
    first = table.read_text()
    table.write_text(f"MAILTO=me\n# mine\n5 5 * * * true\n{first}6 6 * * * false")
    assert run("other").code == 0
    here.configure(
        NIGHTLY + 'schedule = "15 3 * * *"\n' + NIGHTLY.replace("nightly", "other") + 'schedule = "@daily"\n'
    )
    assert run("nightly").code == 0
    lines = [
        line for line in table.read_text().splitlines() if not line.startswith("# portabl") and "end of" not in line
    ]
    assert [line.partition(" /")[0] for line in lines] == [
        "MAILTO=me", "# mine", "5 5 * * * true", "15 3 * * *", "6 6 * * * false", "0 0 * * *",
    ]  # fmt: skip
    program.write_text("#!/bin/sh\necho broken >&2; exit 1\n")
    run("nightly").clear(2, "`crontab -l` fails: broken")


SCHEMA = json.loads((Path(__file__).parent / "cronjob.schema.json").read_text())


def _cronjob(jobs: Jobs, name: str = "nightly") -> Any:
    text = kubernetes.cronjob(jobs, jobs.job(name), NOW, image="registry.example.org/portabl:1").text
    document = yaml.safe_load(text)
    jsonschema.validate(document, SCHEMA)
    return document


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires"])
@pytest.mark.parametrize("timeout", ["", 'timeout = "90m"\n'])
def test_a_cronjob_fits_the_schema_of_kubernetes(tmp_path: Path, zone: str, timeout: str) -> None:
    jobs = _jobs(tmp_path / ODD, "30 2 * * 1-5,7", f'timezone = "{zone}"\n{timeout}')
    spec = _cronjob(jobs)["spec"]
    assert (spec["schedule"], spec["timeZone"]) == ("30 2 * * 0,1,2,3,4,5", "Etc/UTC" if zone == "UTC" else zone)
    assert (spec["concurrencyPolicy"], spec["startingDeadlineSeconds"]) == ("Forbid", 3600)
    job = spec["jobTemplate"]["spec"]
    assert (job["backoffLimit"], job.get("activeDeadlineSeconds")) == (0, 5700 if timeout else None)
    container = job["template"]["spec"]["containers"][0]
    assert container["command"] == ["portabl", "jobs", "run", "nightly", "--config", kubernetes.CONFIG, "--quiet"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {
        volume["name"] for volume in job["template"]["spec"]["volumes"]
    }


def test_names_fit_kubernetes(tmp_path: Path) -> None:
    for name in ("Photos_of.2026", "A" * 63, "x-._9"):
        jobs = _jobs(tmp_path / "x", name=name if name.isalnum() else f'"{name}"')
        assert _cronjob(jobs, name)["metadata"]["name"].startswith("portabl-")


def test_the_schema_finds_mistakes(tmp_path: Path) -> None:
    document = _cronjob(_jobs(tmp_path / "x"))
    document["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["comand"] = []
    with pytest.raises(jsonschema.ValidationError, match="comand"):
        jsonschema.validate(document, SCHEMA)


def test_kubernetes_is_told_of_the_night_it_would_leave_out(tmp_path: Path) -> None:
    jobs = _jobs(tmp_path / "x", "30 2 * * *")
    assert "leaves out 2027-03-28" in kubernetes.cronjob(jobs, jobs.job("nightly"), NOW, image="i").text
    jobs = _jobs(tmp_path / "x", "30 4 * * *")
    assert "leaves out" not in kubernetes.cronjob(jobs, jobs.job("nightly"), NOW, image="i").text


@pytest.mark.parametrize("expression", ["0 2 L * *", "0 2 * * 5#1", "0 2 */2 * 1", "0 2 1 * */2"])
def test_what_others_would_read_differently_is_refused(tmp_path: Path, expression: str) -> None:
    jobs = _jobs(tmp_path / "x", expression)
    with pytest.raises(UsageError, match="in another way than cron"):
        kubernetes.cronjob(jobs, jobs.job("nightly"), NOW, image="i")
    with pytest.raises(UsageError, match="in another way than cron"):
        airflow.dag(jobs, jobs.job("nightly"), NOW)


class _Recorder:
    """Stands for Airflow's classes and keeps what they are given."""

    made: list[tuple[str, tuple[Any, ...], dict[str, Any]]]

    def __init_subclass__(cls) -> None:
        cls.made = _Recorder.made

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.made.append((type(self).__name__, arguments, named))

    def __enter__(self) -> _Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        return


@pytest.mark.parametrize("version", [2, 3])
def test_the_dag_compiles_and_says_what_is_meant(tmp_path: Path, version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = _jobs(tmp_path / ODD, "30 2 * * *", BERLIN + 'timeout = "90m"\n')
    made = airflow.dag(jobs, jobs.job("nightly"), NOW)
    assert made.name == "portabl_nightly.py"
    code = compile(made.text, made.name, "exec")
    _Recorder.made = []
    names = ("DAG", "BashOperator", "CronTriggerTimetable")
    dag, bash, timetable = (type(name, (_Recorder,), {}) for name in names)
    modules: dict[str, dict[str, Any]] = {
        "pendulum": {"datetime": lambda *a, **k: (a, k)},
        "airflow.timetables.trigger": {"CronTriggerTimetable": timetable},
    }
    if version == 3:
        modules |= {"airflow": {}, "airflow.sdk": {"DAG": dag}}
        modules["airflow.providers.standard.operators.bash"] = {"BashOperator": bash}
    else:
        modules |= {"airflow": {"DAG": dag}, "airflow.operators.bash": {"BashOperator": bash}}
    for name, content in modules.items():
        module = types.ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    exec(code, {})
    (_, cron_arguments, cron_named), (_, _, of_dag), (_, _, of_task) = _Recorder.made
    assert (cron_arguments, cron_named) == (("30 2 * * *",), {"timezone": "Europe/Berlin"})
    assert (of_dag["dag_id"], of_dag["catchup"], of_dag["max_active_runs"]) == ("portabl_nightly", False, 1)
    assert of_dag["start_date"] == ((2026, 11, 30), {"tz": "Europe/Berlin"})
    assert (of_task["retries"], of_task["execution_timeout"]) == (0, timedelta(minutes=95))
    command = of_task["bash_command"]
    assert command.startswith("{% raw %}")
    assert command.endswith("{% endraw %}")
    words = shlex.split(command[len("{% raw %}") : -len("{% endraw %}")])
    assert words == ["portabl", "jobs", "run", "nightly", "--config", str(tmp_path / ODD / "portabl.toml"), "--quiet"]


def test_variables_that_are_needed_are_named_and_secrets_are_not(tmp_path: Path) -> None:
    provider = '[providers.old]\ntype = "s3"\naccess_key_id = "env:OLD_KEY"\nsecret_access_key = "tokentoken"\n'
    provider += '[providers.box]\ntype = "fsspec"\nurl = "memory://x"\noptions = {password = "env:BOX_WORD"}\n'
    alert = '[alerts.ops]\ntype = "webhook"\nurl = "https://hook.example/tokentoken"\nsecret = "env:HOOK_SECRET"\n'
    jobs = Place(tmp_path).write(
        provider + alert + NIGHTLY + 'schedule = "@daily"\nping = "env:PING"\non_failure = ["ops"]\n'
    )
    job = jobs.job("nightly")
    assert common.variables(jobs) == ["BOX_WORD", "HOOK_SECRET", "OLD_KEY", "PING"]
    for made in (
        *systemd.units(jobs, job, NOW, system=True),
        cron.line(jobs, job),
        kubernetes.cronjob(jobs, job, NOW, image="i"),
        airflow.dag(jobs, job, NOW),
    ):
        assert "tokentoken" not in made.text
        if made.name.endswith((".service", ".cron", ".yaml")):
            assert "HOOK_SECRET" in made.text


@pytest.fixture
def here(tmp_path: Path) -> Shell:
    made = shell(tmp_path)
    made.configure(NIGHTLY + 'schedule = "30 4 * * *"\n')
    return made


def test_the_command_prints_or_writes(here: Shell) -> None:
    printed = here.portabl("jobs", "install", "nightly", "--kubernetes", "--image", "img:1")
    assert yaml.safe_load(printed.out)["kind"] == "CronJob"
    assert "kubectl apply -f portabl-nightly.yaml" in printed.err
    assert not list(here.folder.glob("*.yaml"))
    written = here.portabl("jobs", "install", "nightly", "--systemd", "--into", "units", "--json").document
    assert written["written"] == ["units/portabl-nightly.service", "units/portabl-nightly.timer"]
    for one in written["files"]:
        assert (here.folder / "units" / one["name"]).read_text() == one["text"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nightly",), "no scheduler is named"),
        (("nobody", "--cron"), "no job `nobody`"),
        (("nightly", "--airflow", "--into", "portabl.toml/x"), "cannot be written"),
    ],
)
def test_mistakes(here: Shell, arguments: tuple[str, ...], words: str) -> None:
    here.portabl("jobs", "install", *arguments).clear(2, words)


def test_without_a_schedule_there_is_nothing_to_install(tmp_path: Path) -> None:
    jobs = Place(tmp_path).write(NIGHTLY)
    with pytest.raises(UsageError, match="nothing to install"):
        cron.line(jobs, jobs.job("nightly"))
