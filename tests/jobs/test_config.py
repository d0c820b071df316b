"""The tables of portabl.toml: what is understood, and that every mistake is named."""

from __future__ import annotations

import tomllib
from datetime import timedelta
from pathlib import Path

import pytest
from jobs.place import NIGHTLY, Place

from portabl.errors import ConfigError
from portabl.jobs.config import Jobs, load
from portabl.jobs.fields import span_text
from portabl.model import Proof
from portabl.providers import from_document


def _jobs(text: str, origin: str = "/etc/portabl.toml") -> Jobs:
    return load(from_document(tomllib.loads(text), origin))


def test_a_full_table() -> None:
    jobs = _jobs(
        '[alerts.ops]\ntype = "webhook"\nurl = "env:HOOK"\n'
        '[jobs.nightly]\nkind = "migrate"\nsource = "old:photos"\ntarget = "./copy"\nschedule = "30 2 * * 1-5"\n'
        'timezone = "Europe/Berlin"\nproof = "readback"\ninclude = ["*.jpg"]\nthreads = 8\ndeadline = "6h"\n'
        'timeout = "90m"\ngrace = "2d"\non_failure = ["ops"]\nping = "https://ping.example/1"\n'
    )
    job = jobs.job("nightly")
    assert job.schedule
    assert (job.schedule.expression, job.schedule.zone.key) == ("30 2 * * 1-5", "Europe/Berlin")
    assert (job.deadline, job.timeout, job.grace) == (timedelta(hours=6), timedelta(minutes=90), timedelta(days=2))
    assert job.values == {
        "source": "old:photos",
        "target": "/etc/copy",
        "proof": Proof.READBACK,
        "include": ("*.jpg",),
        "threads": 8,
    }
    assert (job.on_failure, job.ping_url(), job.enabled) == (("ops",), "https://ping.example/1", True)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("data", "/etc/data"),
        ("./data", "/etc/data"),
        ("../data", "/data"),
        ("/data", "/data"),
        ("~/data", "~/data"),
        ("old:data/x", "old:data/x"),
        ("s3://data/x", "s3://data/x"),
        ("./a:b", "/etc/a:b"),
        ("a/b:c", "/etc/a/b:c"),
    ],
)
def test_relative_paths_start_at_the_file(written: str, meant: str) -> None:
    text = f'[jobs.a]\nkind = "migrate"\nsource = "{written}"\ntarget = "x:y"\n'
    assert _jobs(text).job("a").values["source"] == meant


VERIFY = '[jobs.check]\nkind = "verify"\n'
EXPORT = '[jobs.out]\nkind = "export"\nsource = "data"\ntarget = "backup"\n'
HOOK = '[alerts.ops]\ntype = "webhook"\nurl = "https://x.example"\n'
MAIL = '[alerts.ops]\ntype = "email"\nhost = "mail"\nfrom = "a@b"\nto = ["c@d"]\n'


@pytest.mark.parametrize(
    ("text", "words", "hint"),
    [
        ("jobs = 1", "`jobs` must be a table", "[jobs.NAME]"),
        ("[jobs]\nnightly = 1", "[jobs.nightly]: must be a table", "kind = ..."),
        ('[jobs."a b"]\nkind = "migrate"', "[jobs.a b]: names consist", ""),
        ('[jobs."../x"]\nkind = "migrate"', "names consist", ""),
        ("[jobs.a]", "[jobs.a] kind: is missing", "one of migrate, export, snapshots-verify, verify"),
        ('[jobs.a]\nkind = "copy"', "[jobs.a] kind: `copy` is unknown", "migrate"),
        ('[jobs.a]\nkind = "migrate"', "[jobs.a] source: is missing", ""),
        (NIGHTLY + 'shedule = "@daily"', "[jobs.nightly] shedule: unknown field", "did you mean `schedule`?"),
        (NIGHTLY + 'within = "30d"', "within: unknown field for kind `migrate`", ""),
        (NIGHTLY + 'schedule = "@fortnightly"', "schedule: `@fortnightly` is none of", "half past two"),
        (NIGHTLY + 'schedule = "61 * * * *"', "schedule: Bad minute", "minute, hour"),
        (NIGHTLY + 'schedule = "@daily"\ntimezone = "Europe/Bärlin"', "timezone: no time zone", "Europe/Berlin"),
        (NIGHTLY + 'deadline = "6 hours"', "deadline: must be a time such as", ""),
        (NIGHTLY + 'deadline = "0h"', "deadline: must be a time", ""),
        (NIGHTLY + "deadline = 6", "deadline: must be a time", ""),
        (NIGHTLY + 'threads = "8"', "threads: must be a whole number", ""),
        (NIGHTLY + "threads = true", "threads: must be a whole number", ""),
        (NIGHTLY + 'proof = "psychic"', "proof: must be `size`", ""),
        (NIGHTLY + "requests_per_second = 0", "requests_per_second: must be a number above 0", ""),
        (NIGHTLY + 'bandwidth = "fast"', "[jobs.nightly] bandwidth: ", ""),
        (NIGHTLY + 'accept = ["everything"]', "[jobs.nightly] accept: ", "tags"),
        (NIGHTLY + 'versions = "some"', "versions: `some` is unknown", "one of current, all"),
        (EXPORT + "retention = { dayly = 3 }", "retention.dayly: unknown rule", "did you mean `daily`?"),
        (EXPORT + "retention = 3", "retention: must be a table of whole numbers", ""),
        (EXPORT + "retention = { daily = 0 }", "retention: must be a table of whole numbers", ""),
        (EXPORT + 'layout = "tar"', "layout: `tar` is unknown", "one of mirror, bag"),
        (EXPORT + VERIFY + 'manifest_of = "out"', "no job `out` writes a manifest", "snapshots-verify"),
        (NIGHTLY + 'mirror = "yes"', "mirror: must be true or false", ""),
        (NIGHTLY + 'include = "*.jpg"', "include: must be a list of strings", ""),
        (NIGHTLY + 'symlinks = "eat"', "symlinks: `eat` is unknown", "report, follow, keep"),
        (NIGHTLY + 'on_failure = ["ops"]', "on_failure: no alert `ops`", "[alerts.ops]"),
        (NIGHTLY + 'on_failure = ["opps"]\n' + HOOK, "no alert `opps`", "did you mean `ops`?"),
        (NIGHTLY + 'ping = "ftp://x"', "ping: must be a URL", ""),
        (VERIFY, "either `manifest` or `manifest_of`", "exactly one"),
        (VERIFY + 'manifest = "m"\nmanifest_of = "x"', "either `manifest` or `manifest_of`", "exactly one"),
        (VERIFY + 'manifest_of = "nightli"\n' + NIGHTLY, "no job `nightli`", "did you mean `nightly`?"),
        (VERIFY + 'manifest_of = "check"', "no job `check` writes a manifest", ""),
        ("[alerts.ops]", "[alerts.ops] type: is missing", "webhook, email, command"),
        ('[alerts.ops]\ntype = "pigeon"', "type: `pigeon` is unknown", ""),
        ('[alerts.ops]\ntype = "webhook"', "url: is missing", ""),
        ('[alerts.ops]\ntype = "webhook"\nurl = "file:///etc/passwd"', "url: must be a URL", "https://"),
        ('[alerts.ops]\ntype = "webhook"\nurl = "https://"', "url: must be a URL", ""),
        (HOOK + 'seecret = "x"', "seecret: unknown field", "did you mean `secret`?"),
        (MAIL + 'security = "magic"', "security: `magic` is unknown", "starttls"),
        (MAIL + 'username = "me"', "password: is missing", ""),
        (MAIL + 'username = "me"\npassword = "env:P"\nsecurity = "none"', "not sent in the clear", "starttls"),
        (MAIL + "port = 70000", "port: must be a port number", ""),
        (MAIL.replace("c@d", "c@d\\nBcc: x@y"), "is no mail address", ""),
        ('[alerts.ops]\ntype = "command"\ncommand = "logger x"', "command: must be a list of strings", ""),
        ('[alerts.ops]\ntype = "command"\ncommand = []', "command: is missing", ""),
    ],
)
def test_mistakes_are_named(text: str, words: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _jobs(text)
    assert words in str(caught.value)
    assert hint in caught.value.hint


def test_an_unknown_job_is_an_error_that_helps(tmp_path: Path) -> None:
    place = Place(tmp_path)
    jobs = place.write(NIGHTLY)
    with pytest.raises(ConfigError, match="no job `nightyl`") as caught:
        jobs.job("nightyl")
    assert caught.value.hint == "did you mean `nightly`?"
    with pytest.raises(ConfigError) as caught:
        _jobs("").job("x")
    assert "[jobs.NAME]" in caught.value.hint


def test_secrets_are_not_in_representations() -> None:
    jobs = _jobs(
        HOOK.replace("https://x.example", "https://x.example/tokentoken") + NIGHTLY + 'ping = "https://tokentoken"'
    )
    assert "tokentoken" not in repr(jobs.alerts) + repr(jobs.jobs) + repr(jobs)


def test_spans_are_written_as_they_are_read() -> None:
    for text in ("90s", "15m", "6h", "7d", "2w"):
        job = _jobs(NIGHTLY + f'deadline = "{text}"').job("nightly")
        assert job.deadline
        assert span_text(job.deadline) in (text, "1w")
