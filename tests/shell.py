"""The real command line in a process of its own, with a home directory of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KILLED = str(Path(__file__).with_name("journeys") / "killed.py")


@dataclass(frozen=True)
class Result:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The JSON document on stdout; fails when there is any other thing."""
        return json.loads(self.out)

    def clear(self, code: int, *words: str) -> Result:
        """Check that this is one clear error: exit code, one line with these words, at most a hint, no traceback."""
        assert "Traceback" not in self.err + self.out, self.err
        assert self.code == code, (self.code, self.err, self.out)
        errors = [line for line in self.err.splitlines() if line.startswith("error:")]
        assert len(errors) == 1, self.err
        rest = [line for line in self.err.splitlines() if not line.startswith(("error:", "hint:", "warning:"))]
        assert not rest, rest
        assert "\nhint: " in self.err, "nothing says what to do"
        for word in words:
            assert word in self.err, (word, self.err)
        return self


@dataclass(frozen=True)
class Shell:
    """A place to run portabl in: ``folder`` is the working directory and holds portabl.toml, the state and the rest."""

    folder: Path
    environment: Mapping[str, str]

    @property
    def state(self) -> Path:
        """Where portabl keeps its state here."""
        return self.folder / "home" / "state" / "portabl"

    def configure(self, *tables: str) -> None:
        """Write portabl.toml."""
        (self.folder / "portabl.toml").write_text("\n".join(tables), encoding="utf-8")

    def command(self, *arguments: str) -> list[str]:
        """The command line that runs portabl."""
        return [sys.executable, "-m", "portabl", *arguments]

    def portabl(self, *arguments: str, prefix: tuple[str, ...] = (), timeout: float = 120, **more: str) -> Result:
        """Run portabl; ``prefix`` is put before the command (such as another user), ``more`` into the environment."""
        done = subprocess.run(
            [*prefix, *self.command(*arguments)],
            cwd=self.folder,
            env={**self.environment, **more},
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        return Result(done.returncode, done.stdout.decode("utf-8"), done.stderr.decode("utf-8"))


@dataclass(frozen=True)
class Impatient(Shell):
    """The same command line, which waits for 0.3 s at most before it asks a store again, and not for 10."""

    def command(self, *arguments: str) -> list[str]:
        """The command line that runs portabl."""
        return [sys.executable, KILLED, "portabl_adapters.s3.calls:WAIT_MOST_SECONDS=0.3", "--", *arguments]


def shell(folder: Path, *environments: Mapping[str, str]) -> Shell:
    """A shell in ``folder`` that sees nothing of the user's own configuration and state."""
    home = folder / "home"
    home.mkdir(parents=True, exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "XDG_", "PORTABL"))}
    own = {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_STATE_HOME": str(home / "state"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    for environment in environments:
        own.update(environment)
    return Shell(folder, {**kept, **own})
