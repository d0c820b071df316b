"""A package as one stream: .tar, .tar.zst or .zip, written member by member, with no second copy of the payload.

The payload comes first, in the order of the manifest; what describes it last, package.json at the very end. So a
reader that hashes what passes has the same lines as SHA256SUMS when SHA256SUMS comes by, and a stream that was cut
short has no package.json and is no package. Nothing in a stream can be taken back: an archive that is interrupted
starts anew.
"""

from __future__ import annotations

import contextlib
import os
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator
from typing import IO, Any, Protocol, cast

from portabl.errors import (
    ConfigError,
    Corrupt,
    ManifestError,
    UsageError,
)

KINDS = (".tar", ".tar.zst", ".zip")
_TAR_BLOCK, _TAR_RECORD = 512, 10240


def kind_of(location: str) -> str:
    """The ending that makes a location an archive, "" for any other."""
    return next((kind for kind in sorted(KINDS, key=len, reverse=True) if location.lower().endswith(kind)), "")


def top_of(location: str) -> str:
    """The one directory in an archive: its own name without the ending."""
    base = location.replace("\\", "/").rpartition("/")[2].rpartition(":")[2]
    return base[: len(base) - len(kind_of(base))] or "package"


# --- writing members --------------------------------------------------------------------------------------------------


class Archive(Protocol):
    """An archive being written to a stream."""

    def begin(self, name: str, size: int) -> None:
        """Begin a member of exactly ``size`` bytes."""

    def write(self, data: bytes | memoryview) -> None:
        """The next bytes of the member."""

    def end(self) -> None:
        """The member is complete."""

    def finish(self) -> None:
        """The archive is complete."""


class Tar:
    """POSIX.1-2001 (pax), which names of any length in UTF-8, and sizes of any size."""

    def __init__(self, out: IO[bytes], moment: int) -> None:
        self._out = out
        self._moment = moment
        self._size = 0
        self._written = 0

    def begin(self, name: str, size: int) -> None:
        """See `Archive`."""
        info = tarfile.TarInfo(name)
        info.size, info.mtime, info.mode = size, self._moment, 0o644
        self._put(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict"))
        self._size = size

    def write(self, data: bytes | memoryview) -> None:
        """See `Archive`."""
        self._put(data)
        self._size -= len(data)

    def end(self) -> None:
        """See `Archive`. Raises Corrupt when the member has another size than it began with."""
        if self._size:
            raise Corrupt(f"{self._size} bytes of a member are missing")
        self._put(bytes(-self._written % _TAR_BLOCK))

    def finish(self) -> None:
        """Two empty blocks, and whole records as tape drives had them."""
        self._put(bytes(2 * _TAR_BLOCK))
        self._put(bytes(-self._written % _TAR_RECORD))

    def _put(self, data: bytes | memoryview) -> None:
        self._out.write(data)
        self._written += len(data)


class Zip:
    """Deflated at the fastest level, Zip64 where it is needed."""

    def __init__(self, out: IO[bytes], moment: int) -> None:
        self._zip = zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, allowZip64=True, compresslevel=1)
        self._date = max(time.gmtime(moment)[:6], (1980, 1, 1, 0, 0, 0))
        self._member: IO[bytes] | None = None

    def begin(self, name: str, size: int) -> None:
        """See `Archive`."""
        info = zipfile.ZipInfo(name, self._date)
        info.compress_type, info.external_attr, info.file_size = zipfile.ZIP_DEFLATED, 0o100644 << 16, size
        self._member = self._zip.open(info, "w", force_zip64=size >= 2**31)

    def write(self, data: bytes | memoryview) -> None:
        """See `Archive`."""
        assert self._member is not None
        self._member.write(data)

    def end(self) -> None:
        """See `Archive`."""
        assert self._member is not None
        self._member.close()

    def finish(self) -> None:
        """The central directory."""
        self._zip.close()


@contextlib.contextmanager
def opened(out: IO[bytes], kind: str, moment: int) -> Iterator[Archive]:
    """An archive on a stream. Raises ConfigError when what compresses is not installed."""
    if kind == ".zip":
        yield Zip(out, moment)
    elif kind == ".tar":
        yield Tar(out, moment)
    else:
        with _compressor().stream_writer(out, closefd=False) as packed:
            yield Tar(cast("IO[bytes]", packed), moment)


def _compressor() -> Any:
    try:
        import zstandard
    except ImportError:
        raise ConfigError(
            "`.tar.zst` needs the package zstandard", hint="`pip install 'portabl[zstd]'`, or write a `.tar`"
        ) from None
    return zstandard.ZstdCompressor(level=3, write_checksum=True)


def split(location: str) -> tuple[str, str]:
    """The location of the directory that holds an archive, and its file name. Raises UsageError."""
    folder, slash, name = location.rpartition("/")
    if not slash:
        before, colon, rest = location.rpartition(":")
        if colon:
            raise UsageError(f"no container is named for {rest}", hint=f"write `{before}:container/{rest}`")
        return ".", location
    return folder or "/", name


# --- reading ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def readable(location: str) -> Iterator[str]:
    """A location below which the files of an archive of this machine are found; others are passed through.

    A ``.tar.zst`` is unpacked to a temporary ``.tar`` for that: it can be read from its beginning only.
    Raises ManifestError for what is no archive.
    """
    kind, path = kind_of(location), location.removeprefix("file://")
    if not kind or not os.path.isfile(path):
        yield location
        return
    with contextlib.ExitStack() as stack:
        if kind == ".tar.zst":
            path = stack.enter_context(_unpacked(path))
        scheme = kind.removesuffix(".zst")[1:]
        yield f"{scheme}://{_top_in(path, scheme)}::file://{os.path.abspath(path)}"


@contextlib.contextmanager
def _unpacked(path: str) -> Iterator[str]:
    _compressor()
    import zstandard

    with tempfile.NamedTemporaryFile(suffix=".tar") as plain, open(path, "rb") as packed:
        try:
            zstandard.ZstdDecompressor().copy_stream(packed, plain)
        except zstandard.ZstdError as error:
            raise ManifestError(f"{path} is damaged: {error}", hint="take an intact copy") from None
        plain.flush()
        yield plain.name


def _top_in(path: str, scheme: str) -> str:
    """The one directory in an archive."""
    try:
        if scheme == "zip":
            with zipfile.ZipFile(path) as packed:
                first = next(iter(packed.namelist()), "")
        else:
            with tarfile.open(path, "r:") as tar:
                first = ""
                for member in tar:  # to the end: one that is cut short is found now
                    first = first or member.name
    except (tarfile.TarError, zipfile.BadZipFile, OSError) as error:
        why = "cut short or damaged" if not isinstance(error, OSError) else error.strerror
        raise ManifestError(f"{path} cannot be read: {why}", hint="take an intact copy") from None
    return first.partition("/")[0]
