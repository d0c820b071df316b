"""One folder at a place where files are kept: what a job and its workers write notes into, near or far."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from portabl.errors import StorageError
from portabl.files import Files


@dataclass(frozen=True, slots=True)
class Folder:
    """The files whose names begin with ``prefix``, which is "" or ends with a slash. Methods raise as `Files` does."""

    files: Files
    prefix: str = ""

    @classmethod
    def at(cls, path: Path) -> Folder:
        """A directory of this machine."""
        return cls(Files.at(str(path)))

    @property
    def url(self) -> str:
        """Where it is, for people."""
        return f"{self.files.url}/{self.prefix}".rstrip("/")

    def below(self, name: str) -> Folder:
        """A folder in this one."""
        return Folder(self.files, f"{self.prefix}{name}/")

    def read(self, name: str) -> bytes:
        """All bytes of a file."""
        return self.files.read(self.prefix + name)

    def write(self, name: str, data: bytes) -> None:
        """Make or replace a file, whole and durably."""
        self.files.write(self.prefix + name, data)

    def delete(self, name: str) -> None:
        """Remove a file, if it is there."""
        self.files.delete(self.prefix + name)

    def names(self, start: str = "") -> list[str]:
        """Names of the files that begin with ``start``, sorted."""
        return [name[len(self.prefix) :] for name in self.files.names(self.prefix + start)]


@contextlib.contextmanager
def state_trouble() -> Iterator[None]:
    """Where the state is in trouble no object is at fault: whatever a place says of it ends the run."""
    try:
        yield
    except StorageError as error:
        if not error.passable:
            raise
        raise StorageError(
            f"the state of the job: {error.message}",
            storage=error.storage,
            hint=error.hint or "look at that store, then run the same command again",
        ) from error
