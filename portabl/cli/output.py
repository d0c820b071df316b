"""What one call of the command line shares: its options, its streams, and how errors look."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

from portabl.errors import (
    AccessDenied,
    ConfigError,
    ContainerMissing,
    CredentialsRefused,
    ListingBroken,
    ManifestError,
    PortablError,
    Throttled,
    Unreachable,
    UsageError,
)
from portabl.keys import plain, to_json

if TYPE_CHECKING:
    from portabl.progress import Progress
    from portabl.providers import Config


_HINTS: tuple[tuple[type[PortablError], str], ...] = (
    (CredentialsRefused, "renew or correct the credentials, then run the same command again: it goes on from there"),
    (AccessDenied, "check the provider's credentials, and that they may list, read and (at a target) write there"),
    (Unreachable, "check the endpoint, the network and the proxy settings, then run the same command again"),
    (Throttled, "run the same command again later, or with fewer `--threads`"),
    (ContainerMissing, "correct the name, or create it first: portabl creates no buckets"),
    (ListingBroken, "nothing can be concluded from such a listing; ask the provider"),
    (ConfigError, "correct it there and run the same command again"),
    (UsageError, "`portabl COMMAND --help` explains what goes where"),
    (ManifestError, "a manifest is a directory with a manifest.json; take an intact copy"),
)
"""What to do, for errors that do not say it themselves."""


@dataclass
class Session:
    """Options common to all commands. Data goes to stdout, everything else to stderr."""

    json: bool = False
    quiet: bool = False
    verbose: bool = False
    config_path: str | None = None
    printed: bool = field(default=False, init=False)

    def prepare_streams(self) -> None:
        """A character the terminal's encoding lacks is escaped; it never ends the run."""
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")

    def config(self) -> Config:
        """The configuration; its warnings are printed, once per call."""
        from portabl import providers

        config = providers.load(self.config_path)
        for line in config.warnings:
            self.tell(f"warning: {plain(line)}")
        if self.verbose:
            self.tell(f"configuration: {plain(config.path) or 'none found'}")
        return config

    def progress(self) -> Progress:
        """Bars on a terminal, lines elsewhere, nothing with --quiet."""
        from portabl.progress import BarProgress, LineProgress, NoProgress

        if self.quiet:
            return NoProgress()
        return BarProgress(sys.stderr) if is_terminal(sys.stderr) else LineProgress(sys.stderr)

    def tell(self, line: str) -> None:
        """A line for people."""
        print(line, file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """Text that was asked for."""
        self.printed = True
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
        sys.stdout.flush()

    def document(self, document: object) -> None:
        """The one JSON document of this call; ASCII, so that every terminal and every reader takes it."""
        self.say(json.dumps(document, indent=2))

    def fail(self, error: PortablError) -> int:
        """Tell an error in one line and a hint; returns the exit code."""
        if self.verbose:
            self.tell(_trace(error))
        return self._fail(plain(str(error)), hint_of(error), error_document(error))

    def fail_unexpectedly(self, error: Exception, hint: str) -> int:
        """Tell an error nobody foresaw; returns the exit code 1."""
        if self.verbose:
            self.tell(_trace(error))
        text = plain(f"unexpected {type(error).__name__}: {error}"[:500])
        document = {"kind": "unexpected", "message": text, "hint": hint, "exit_code": 1}
        return self._fail(text, hint, document)

    def _fail(self, message: str, hint: str, document: dict[str, object]) -> int:
        self.tell(f"{_red('error:')} {message}")
        if hint:
            self.tell(f"hint: {plain(hint)}")
        if self.json and not self.printed:
            self.document({"error": document})
        code = document["exit_code"]
        assert isinstance(code, int)
        return code


def hint_of(error: PortablError) -> str:
    """What to do next: the error's own hint, else the one for its kind."""
    return error.hint or next((hint for kind, hint in _HINTS if isinstance(error, kind)), "")


def error_document(error: PortablError) -> dict[str, object]:
    """An error for programs."""
    document: dict[str, object] = {
        "kind": type(error).__name__,
        "message": plain(str(error)),
        "hint": plain(hint_of(error)),
        "exit_code": error.exit_code,
    }
    if error.key is not None:
        document["key"] = to_json(error.key)
    return document


def is_terminal(stream: TextIO) -> bool:
    """Whether a person is likely to be watching."""
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def _red(text: str) -> str:
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not is_terminal(sys.stderr):
        return text
    return f"\x1b[31m{text}\x1b[0m"


def _trace(error: BaseException) -> str:
    import traceback

    lines = "".join(traceback.format_exception(error)).splitlines()
    return "\n".join(plain(line) for line in lines)
