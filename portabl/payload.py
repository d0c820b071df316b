"""The payload of a package as a storage: keys outside, harmless names and bare bodies inside.

Headers, metadata and tags of a payload stay in the package's manifest, wherever the package lies: a body stored with
``Content-Encoding: gzip`` would be unpacked by some tools on its way, and then no checksum fits any more.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace

from portabl.listing import Filter, Listing
from portabl.model import Body, Content, Entry, Metadata, ObjectInfo, Written
from portabl.package_names import Names
from portabl.storage import Capabilities, Storage, Upload
from portabl.tasks import Carrier, Task
from portabl.wrappers import Around

FOREIGN_KEPT = 20
"""Names of files that belong to no package, kept as examples."""


class Payload(Storage):
    """Bodies below one location, named by `package_names`. ``learn``: take over how names found there are spelled.

    ``foreign``: after a listing, the first files found there that no package holds; ``foreign_total`` counts them.
    """

    def __init__(self, inner: Storage, names: Names, *, learn: bool = False) -> None:
        self.inner = inner
        self.name = inner.name
        self.names = names
        self.foreign: list[bytes] = []
        self.foreign_total = 0
        self._learn = learn
        self.capabilities = replace(inner.capabilities, ordered=False, after=False, metadata_in_manifest=True)

    @property
    def place(self) -> tuple[str, bytes]:
        """The inner storage's."""
        return self.inner.place

    def check(self, *, write: bool) -> None:
        """The inner storage's."""
        self.inner.check(write=write)

    def entries(self, after: bytes | None = None) -> Iterator[Entry]:
        """Every body by its key, in the order of the names. Directory markers that consoles make are passed over."""
        self.foreign.clear()
        self.foreign_total = 0
        for entry in self.inner.entries():
            if entry.key.endswith(b"/") and not entry.size:
                continue
            if not self.names.canonical(entry.key):
                self.stranger(entry.key)
                continue
            found = self._entry(entry)
            if after is None or found.key > after:
                yield found

    def stranger(self, name: bytes) -> None:
        """A file was found that no package holds."""
        self.foreign_total += 1
        if len(self.foreign) < FOREIGN_KEPT:
            self.foreign.append(name)

    def _entry(self, entry: Entry) -> Entry:
        names = self.names if self._learn else type(self.names)()
        return replace(entry, key=names.learn(entry.key))

    def listed(self, key: bytes) -> Entry | None:
        """What a fresh listing shows under the key's name."""
        found = self.inner.listed(self.names.of(key))
        return replace(found, key=key) if found else None

    def stat(self, key: bytes) -> ObjectInfo:
        """Size and identity of a body; it has no metadata here."""
        return _bare(self.inner.stat(self.names.of(key)))

    def read(self, entry: Entry, start: int = 0, length: int | None = None) -> Content:
        """Bytes of a body."""
        content = self.inner.read(replace(entry, key=self.names.of(entry.key)), start, length)
        return Content(_bare(content.info), content.data)

    def write(self, key: bytes, body: Body, metadata: Metadata) -> Written:  # noqa: ARG002 - kept in the manifest
        """Store a body."""
        return self.inner.write(self.names.of(key), body, Metadata())

    def writing(self, key: bytes, body: Body, metadata: Metadata) -> Task[Written]:  # noqa: ARG002
        """The same as a task of the inner storage."""
        return self.inner.writing(self.names.of(key), body, Metadata())

    def engine(self) -> Carrier | None:
        """The inner storage's."""
        return self.inner.engine()

    def upload(self, key: bytes, size: int, metadata: Metadata, part_size: int, token: str = "") -> Upload:  # noqa: ARG002
        """Store a body in parts."""
        return self.inner.upload(self.names.of(key), size, Metadata(), part_size, token)

    def delete(self, key: bytes) -> None:
        """Remove a body."""
        self.inner.delete(self.names.of(key))

    def abandoned(self, key: bytes) -> Sequence[str]:
        """Unfinished uploads for a body."""
        return self.inner.abandoned(self.names.of(key))

    def share(self, earlier: Storage, entry: Entry, key: bytes) -> Written | None:
        """Take a body from another package."""
        if not isinstance(earlier, Payload) or type(earlier.inner) is not type(self.inner):
            return None
        there = replace(entry, key=earlier.names.of(entry.key))
        return self.inner.share(earlier.inner, there, self.names.of(key))

    def close(self) -> None:
        """Close the inner storage."""
        self.inner.close()


def _bare(info: ObjectInfo) -> ObjectInfo:
    return replace(info, metadata=Metadata(), losses=())


class Watched(Around):
    """A source whose listing, sorted and filtered, is told to `Names` before anything is written under a name."""

    capabilities: Capabilities = Capabilities()

    def __init__(self, inner: Storage, names: Names, keep: Filter) -> None:
        super().__init__(inner)
        self._names = names
        self._scratch = tempfile.TemporaryDirectory(prefix="portabl-")
        self._listing = Listing(inner, keep, self._scratch.name)
        self.capabilities = replace(inner.capabilities, ordered=True)  # sorted here where the inner storage is not

    def entries(self, after: bytes | None = None) -> Iterator[Entry]:
        """The inner storage's entries in scope."""
        for entry in self._listing:
            self._names.see(entry.key)
            if after is None or entry.key > after:
                yield entry

    def __enter__(self) -> Watched:
        return self

    def close(self) -> None:
        """Close the inner storage and remove the scratch directory."""
        self._scratch.cleanup()
        self.inner.close()
