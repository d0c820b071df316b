"""portabl.toml changed in place: comments and order stay, nobody else may read it, and nobody ever sees half of it.

Every change is checked as a whole configuration before it is written, so a file that can be read stays one.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from portabl import providers, toml_text
from portabl.errors import ConfigError
from portabl.keys import plain

_FAMILY = "providers"


@dataclass(frozen=True)
class ProvidersFile:
    """One portabl.toml, which need not exist yet."""

    path: str

    def text(self) -> str:
        """What is in it now, "" when there is no such file. Raises ConfigError."""
        try:
            with open(self.path, encoding="utf-8", newline="") as stream:
                return stream.read()
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise ConfigError(f"{self.path}: cannot be read: {reason}") from error

    def tables(self) -> Mapping[str, Any]:
        """The providers it holds, as they are written. Raises ConfigError."""
        return _tables(self.text(), self.path)

    def add(self, name: str, values: Mapping[str, Any]) -> None:
        """Write a new table. Raises ConfigError, also when there is one of that name."""
        before = self.text()
        if name in _tables(before, self.path):
            hint = f"`portabl providers edit {plain(name)}` changes it"
            raise ConfigError(f"{providers.where(self.path, name)}: is there already", hint=hint)
        self._change(before, lambda: toml_text.add_table(before, _FAMILY, name, values))

    def edit(self, name: str, values: Mapping[str, Any], unset: tuple[str, ...] = ()) -> None:
        """Set and unset fields of a table. Raises ConfigError."""
        before = self.text()
        table = self._existing(before, name)
        for field in unset:
            if field not in table:
                raise ConfigError(f"{providers.where(self.path, name, field)}: is not set, so it cannot be taken away")
        self._change(before, lambda: toml_text.change_table(before, _FAMILY, name, values, unset))

    def remove(self, name: str) -> None:
        """Delete a table. Raises ConfigError."""
        before = self.text()
        self._existing(before, name)
        self._change(before, lambda: toml_text.remove_table(before, _FAMILY, name))

    def replace(self, before: str, after: str) -> None:
        """Put ``after`` in the place of ``before``. Raises ConfigError when it is no configuration, or not there."""
        providers.from_document(providers.parse_document(after, self.path), self.path)
        if self.text() != before:
            raise ConfigError(f"{self.path}: has changed meanwhile", hint="run the same command again")
        _write_atomically(os.path.realpath(self.path), after.encode("utf-8"))

    def _change(self, before: str, change: Callable[[], str]) -> None:
        try:
            after = change()
        except ValueError as error:  # of tomlkit, too
            raise ConfigError(f"{self.path}: cannot be changed without breaking it", hint="edit it by hand") from error
        self.replace(before, after)

    def _existing(self, text: str, name: str) -> Mapping[str, Any]:
        found = _tables(text, self.path)
        if name not in found:
            raise providers.from_document(providers.parse_document(text, self.path), self.path).unknown(name)
        table = found[name]
        return table if isinstance(table, dict) else {}


def default_path(config: providers.Config, environ: Mapping[str, str] | None = None) -> str:
    """The file in use; when there is none, the one in the user's configuration directory."""
    env = os.environ if environ is None else environ
    return config.path or os.path.join(providers.user_directory(env), providers.FILE_NAME)


def _tables(text: str, path: str) -> Mapping[str, Any]:
    found = providers.parse_document(text, path).get(_FAMILY, {})
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: `{_FAMILY}` must be a table", hint="write `[providers.NAME]`")
    return found


def _write_atomically(path: str, data: bytes) -> None:
    """A new file beside the old one, synced, then renamed over it."""
    folder = os.path.dirname(path)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        handle, temporary = tempfile.mkstemp(".tmp", f".{os.path.basename(path)}.", folder)  # mode 0600
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            _keep_owner(path, temporary)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        _sync_folder(folder)
    except OSError as error:
        hint = "name another file with `--config FILE`"
        raise ConfigError(f"{path}: cannot be written: {error.strerror}", hint=hint) from error


def _keep_owner(path: str, temporary: str) -> None:
    """Somebody else's file stays theirs when root edits it."""
    if hasattr(os, "geteuid") and os.geteuid() == 0 and os.path.exists(path):
        there = os.stat(path)
        os.chown(temporary, there.st_uid, there.st_gid)


def _sync_folder(folder: str) -> None:
    if os.name == "nt":  # directories cannot be opened there
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
