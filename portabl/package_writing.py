"""Writing what describes a payload: SHA256SUMS, names.jsonl, README, the verifier, and the tag files of a bag."""

from __future__ import annotations

import hashlib
import importlib.resources
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import BinaryIO

from portabl import keys
from portabl import manifest as manifests
from portabl.files import Files
from portabl.manifest import Manifest
from portabl.package_docs import BAGIT, bag_info, readme
from portabl.package_format import MANIFEST, NAME, NAMES, PAYLOAD, README, SUMS, Document
from portabl.package_names import Names
from portabl.package_versions import as_carried, names_of, version_of
from portabl.records import at_target, sealed_as

VERIFIERS = ("verify_package.py", "verify_manifest.py")
BAG_SUMS, BAG_TAG_SUMS = "manifest-sha256.txt", "tagmanifest-sha256.txt"


class Describer:
    """Writes everything around a payload whose manifest is in its place already."""

    def __init__(self, files: Files, loaded: Manifest) -> None:
        self._files = files
        self._loaded = loaded
        self._versions = loaded.document.get("versions") == "all"
        self._digests: dict[str, str] = {}
        self.objects = 0
        self.bytes = 0

    def describe(
        self, document: Document, evidence: Mapping[str, bytes], before_the_last: Callable[[], object] = lambda: None
    ) -> Document:
        """Write all of it, package.json last; returns the document as it was written. Raises what `Files` raises, and
        what ``before_the_last`` does.
        """
        bag = document.layout == "bag"
        self._lists(bag=bag)
        for name, data in evidence.items():
            self._write(name, data)
        for name in VERIFIERS:
            self._write(name, (importlib.resources.files("portabl") / name).read_bytes())
        self._write(README, readme(document, evidence))
        if bag:
            self._write("bagit.txt", BAGIT)
            self._write("bag-info.txt", bag_info(document, self.objects, self.bytes))
        self._digests[f"{MANIFEST}/{manifests.NAME}"] = self._sha256(f"{MANIFEST}/{manifests.NAME}")
        document = replace(document, files=dict(sorted(self._digests.items())))
        text = document.to_json()
        if bag:
            self._files.write(BAG_TAG_SUMS, self._tags(text))
        before_the_last()
        self._files.write(NAME, text)
        return document

    def _lists(self, *, bag: bool) -> None:
        """One walk over the manifest; every check of it is done when the walk ends."""
        names = names_of("all" if self._versions else "current")
        with self._writer(SUMS) as sums, self._writer(NAMES) as mapping:
            for line in self._lines(names, mapping):
                sums(line)
        if bag:
            with self._writer(BAG_SUMS) as out:
                for chunk in self._files.chunks(SUMS):
                    out(chunk)

    def _lines(self, names: Names, mapping: Callable[[bytes], object]) -> Iterator[bytes]:
        for _, record in as_carried(self._loaded).records():
            names.see(record.key)
            if not at_target(record) or record.sha256 is None:
                continue
            name = names.of(record.key)
            if name != record.key:
                pair = self._pair(record.key) | {"name": name.decode("utf-8")}
                mapping(json.dumps(pair, ensure_ascii=False).encode("utf-8") + b"\n")
            stored = sealed_as(record.target.version) if record.target else None
            sha256, size = stored or (record.sha256, record.size)
            self.objects += 1
            self.bytes += size
            yield f"{sha256}  {PAYLOAD}/".encode("ascii") + name + b"\n"

    def _pair(self, key: bytes) -> dict[str, object]:
        if not self._versions:
            return {"key": keys.to_json(key)}
        version = version_of(key)
        return {"key": keys.to_json(version.key), "version": version.ordinal}

    def _tags(self, document: bytes) -> bytes:
        """tagmanifest-sha256.txt: every tag file but itself, package.json as it is about to be."""
        digests = {**self._digests, NAME: hashlib.sha256(document).hexdigest()}
        for segment in self._loaded.segments:
            digests[f"{MANIFEST}/{segment.name}"] = segment.sha256
        return "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items())).encode("ascii")

    def _write(self, name: str, data: bytes) -> None:
        self._files.write(name, data)
        self._digests[name] = hashlib.sha256(data).hexdigest()

    @contextmanager
    def _writer(self, name: str) -> Iterator[Callable[[bytes], object]]:
        """Write a file piece by piece, hashing in passing."""
        digest = hashlib.sha256()
        with self._files.writer(name) as file:
            yield _Tee(file, digest.update)
        self._digests[name] = digest.hexdigest()

    def _sha256(self, name: str) -> str:
        digest = hashlib.sha256()
        for chunk in self._files.chunks(name):
            digest.update(chunk)
        return digest.hexdigest()


class _Tee:
    def __init__(self, file: BinaryIO, also: Callable[[bytes], None]) -> None:
        self._file = file
        self._also = also

    def __call__(self, data: bytes) -> None:
        self._file.write(data)
        self._also(data)
