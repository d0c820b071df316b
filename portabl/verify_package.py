#!/usr/bin/env python3
"""Check a package made by `portabl export`, without portabl: Python 3.9 or newer, nothing but the standard library.

    python3 verify_package.py PACKAGE_DIR
    python3 verify_package.py - < PACKAGE.tar                     while it streams, with no room for the payload
    zstd -dc PACKAGE.tar.zst | python3 verify_package.py -

Needs verify_manifest.py beside it. Everything is checked: package.json against itself, every file it names, the
manifest (hashes, order, totals, roots), SHA256SUMS line by line, every payload file by size and SHA-256, and that there
is no file more. Of an encrypted package the payload is checked as it is stored. Exit code: 0 all of it is proven; 1
differences, each named; 2 no usable package, or wrong usage.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import re
import stat
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, TextIO, cast

FORMAT = "portabl package 1"
LINE_MAX = 64 * 1024
DOCUMENT_MAX = 16 * 2**20
Tell = Callable[[str], None]


def sibling(name: str) -> Any:
    """The module in the file of this name beside this one."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), name + ".py")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError("no " + path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


vm = sibling("verify_manifest")


def load(directory: str) -> dict[str, Any]:
    """package.json, checked against itself. Raises vm.ManifestError."""
    try:
        with open(os.path.join(directory, "package.json"), "rb") as file:
            data = file.read(DOCUMENT_MAX + 1)
    except OSError as error:
        raise vm.ManifestError(f"package.json: {error.strerror}") from None
    return parsed(data)


def parsed(data: bytes) -> dict[str, Any]:
    """The document in these bytes, if it is intact and that of a finished package."""
    vm.need(len(data) <= DOCUMENT_MAX and data.endswith(b"\n"), "package.json is cut short")
    document: dict[str, Any] = vm.parsed(data[:-1], "package.json")
    vm.need(document.get("format") == FORMAT, f"only {FORMAT!r} is understood here: get a newer verifier")
    claimed = document.pop("document_sha256", None)
    actual = hashlib.sha256(vm.canonical(document).encode("utf-8")).hexdigest()
    vm.need(claimed == actual, "package.json was edited: document_sha256 does not match")
    files = document.get("files")
    vm.need(isinstance(files, dict) and all(safe(name) and vm.is_hash(files[name]) for name in files), "misshapen")
    vm.need((document.get("payload"), document.get("manifest")) == ("data", "manifest"), "another layout")
    vm.need(document.get("state") in ("complete", "incomplete"), "this package is not finished, or being removed")
    return document


def safe(name: str) -> bool:
    """A relative path that stays below its directory."""
    return "\0" not in name and not any(part in ("", ".", "..") for part in name.split("/"))


def sha256_of(path: str | bytes) -> tuple[str, int]:
    """SHA-256 and size of an ordinary file."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    with open(descriptor, "rb") as file:
        vm.need(stat.S_ISREG(os.fstat(descriptor).st_mode), "not a regular file")
        digest, size = hashlib.sha256(), 0
        for chunk in iter(lambda: file.read(2**20), b""):
            digest.update(chunk)
            size += len(chunk)
    return digest.hexdigest(), size


def check_files(directory: str, document: dict[str, Any], tell: Tell) -> None:
    """Every file that package.json names, and the tag files of a bag."""
    for name, wanted in document["files"].items():
        try:
            found = sha256_of(os.path.join(directory, name))[0]
        except (OSError, vm.ManifestError) as error:
            tell(f"{vm.show(name.encode())}: {getattr(error, 'strerror', None) or error}")
            continue
        if found != wanted:
            tell(f"{vm.show(name.encode())}: its SHA-256 is {found}, not {wanted}")


class Mapping:
    """names.jsonl: names of keys that are not their own, in the order of the records.

    ``versions``: all versions of each key are in the package, and none goes by its key alone.
    """

    def __init__(self, file: BinaryIO, versions: bool) -> None:
        self.file = file
        self.versions = versions
        self.head = self.next()

    def next(self) -> tuple[tuple[bytes, int], bytes] | None:
        """The next pair of key (with the ordinal of the version) and name."""
        line = self.file.readline(LINE_MAX)
        if not line:
            return None
        try:
            value = json.loads(line.decode("utf-8"))
            key, name = (vm.raw(value["key"]), value.get("version", 0)), value["name"]
            vm.need(isinstance(name, str) and safe(name), "a name that leads out of the payload")
        except (ValueError, KeyError, TypeError) as error:
            raise vm.ManifestError(f"names.jsonl is misshapen: {type(error).__name__}") from None
        return key, cast(str, name).encode("utf-8")

    def of(self, key: bytes, ordinal: int) -> bytes:
        """The name of a key; keys are asked for in order."""
        if self.head is None or self.head[0] != (key, ordinal):
            vm.need(not self.versions, "names.jsonl has no name for a version of " + vm.show(key))
            vm.need(safe(key.decode("utf-8", "surrogateescape")), "names.jsonl has no name for " + vm.show(key))
            return key
        name = self.head[1]
        self.head = self.next()
        return name

    def finish(self) -> None:
        """Nothing may be left."""
        vm.need(self.head is None, "names.jsonl names a key that is not in the manifest")


def with_bodies(records: Iterator[Any], versions: bool, tell: Tell) -> Iterator[Any]:
    """Records of what is a file in the payload; what is not there is told."""
    if not versions:
        return current(records, tell)
    return (record for record in records if record.delete_marker or arrived(record, tell))


def current(records: Iterator[Any], tell: Tell) -> Iterator[Any]:
    """Records of the objects whose bodies are in the payload; older versions and lost objects are told."""
    before = None
    for record in records:
        if before is not None:
            if before.key == record.key:
                tell(
                    f"{vm.show(before.key)}: version {before.ordinal} is an older one, whose body is not in the payload"
                )
            elif arrived(before, tell):
                yield before
        before = record
    if before is not None and arrived(before, tell):
        yield before


def arrived(record: Any, tell: Tell) -> bool:
    """Whether the manifest says that the body is here."""
    if record.delete_marker:
        return False
    if record.target_leaf is None:
        tell(f"{vm.show(record.key)}: did not arrive, says the manifest")
        return False
    return True


def check_payload(directory: str, document: dict[str, Any], tell: Tell, passed: BinaryIO | None = None) -> int:
    """Manifest, names, SHA256SUMS and payload against each other; answers the number of objects.

    ``passed``: lines of what came by in a stream, instead of files.
    """
    manifest = os.path.join(directory, "manifest")
    described = vm.load(manifest)
    vm.need(described["root"] == document.get("root"), "package.json and manifest have different roots")
    known: set[bytes] = set()
    objects = 0
    sealed = bool(document.get("encryption"))
    versions = document.get("versions") == "all"
    vm.need(versions == (described.get("versions") == "all"), "package.json and manifest differ about versions")
    with (
        open(os.path.join(directory, "SHA256SUMS"), "rb") as sums,
        open(os.path.join(directory, "names.jsonl"), "rb") as pairs,
    ):
        names = Mapping(pairs, versions)
        for record in with_bodies(vm.records(manifest, described), versions, tell):
            name = b"data/" + names.of(record.key, record.ordinal)
            objects += 1
            if passed is None:
                known.add(name)
            check_object(directory, record, name, sums.readline(LINE_MAX), sealed, tell, passed)
        names.finish()
        if sums.read(1):
            tell("SHA256SUMS goes on after the last object")
    if passed is not None and passed.read(1):
        tell("the payload goes on after the last object")
    for name in strangers(os.fsencode(directory), known) if passed is None else ():
        tell(f"{vm.show(name)}: does not belong into the package")
    return objects


def check_object(
    directory: str, record: Any, name: bytes, line: bytes, sealed: bool, tell: Tell, passed: BinaryIO | None
) -> None:
    """One payload file (or what passed of it) against its record and its line of SHA256SUMS."""
    listed = re.fullmatch(rb"([0-9a-f]{64})  " + re.escape(name) + rb"\n", line)
    wanted = hashlib.sha256(b"").hexdigest() if record.delete_marker else record.sha256  # a deletion is an empty file
    if not listed or not (sealed or listed[1].decode() == wanted):
        tell(f"{vm.show(record.key)}: SHA256SUMS has {vm.show(line[:300])}")
        return
    if passed is not None:
        found = passed.readline(LINE_MAX)
        if found != line:
            tell(f"{vm.show(record.key)}: {vm.show(found[66:-1])} came by, with SHA-256 {vm.show(found[:64])}")
        return
    try:
        digest, size = sha256_of(os.path.join(os.fsencode(directory), name))
    except (OSError, vm.ManifestError) as error:
        tell(f"{vm.show(record.key)}: {vm.show(name)}: {getattr(error, 'strerror', None) or error}")
        return
    if digest.encode() != listed[1]:
        tell(f"{vm.show(record.key)}: {vm.show(name)}: its SHA-256 is {digest}")
    elif not sealed and size != record.size:
        tell(f"{vm.show(record.key)}: {vm.show(name)}: {size} bytes, not {record.size}")


def strangers(directory: bytes, known: set[bytes]) -> Iterator[bytes]:
    """Files below data/ that are not known."""

    def refuse(error: OSError) -> None:
        raise error

    for folder, _, files in os.walk(os.path.join(directory, b"data"), onerror=refuse):
        for file in files:
            name = os.path.relpath(os.path.join(folder, file), directory).replace(os.sep.encode(), b"/")
            if name not in known:
                yield name


def verify(directory: str, tell: Tell) -> tuple[dict[str, Any], int]:
    """Check everything; answers (package.json, number of objects). Raises vm.ManifestError, OSError."""
    document = load(directory)
    check_files(directory, document, tell)
    objects = check_payload(directory, document, tell)
    if document["state"] != "complete":
        tell("package.json says that not everything of the source is in here")
    return document, objects


def verify_stream(file: BinaryIO, tell: Tell) -> tuple[dict[str, Any], int]:
    """The same for a tar that passes by. Only what describes the payload is kept, in a temporary directory."""
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryFile() as passed:
        with tarfile.open(fileobj=file, mode="r|") as tar:
            for member in tar:
                name = member.name.partition("/")[2]
                vm.need(
                    member.isfile() and safe(name), "not a member of a package: " + vm.show(os.fsencode(member.name))
                )
                take(tar, member, name, scratch, passed)
        passed.seek(0)
        document = load(scratch)
        check_files(scratch, document, tell)
        objects = check_payload(scratch, document, tell, passed)
        if document["state"] != "complete":
            tell("package.json says that not everything of the source is in here")
        return document, objects


def take(tar: tarfile.TarFile, member: tarfile.TarInfo, name: str, scratch: str, passed: BinaryIO) -> None:
    """Hash a body, keep anything else."""
    body = cast(BinaryIO, tar.extractfile(member))
    digest, kept = hashlib.sha256(), None
    if not name.startswith("data/"):
        path = os.path.join(scratch, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        kept = open(path, "xb")  # noqa: SIM115 - closed below
    for chunk in iter(lambda: body.read(2**20), b""):
        digest.update(chunk)
        if kept is not None:
            kept.write(chunk)
    if kept is not None:
        kept.close()
    else:
        passed.write(digest.hexdigest().encode() + b"  " + os.fsencode(name) + b"\n")


def main(arguments: list[str] | None = None) -> int:
    """The command line; answers the exit code."""
    parser = argparse.ArgumentParser(description="Check a portabl package with nothing but Python.")
    parser.add_argument("package", metavar="PACKAGE_DIR", help="directory that holds package.json; - for a tar stream")
    options = parser.parse_args(arguments)
    out = cast(TextIO, sys.stdout)
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    found = [0]

    def tell(text: str) -> None:
        found[0] += 1
        out.write(f"differs: {text}\n")

    try:
        if options.package == "-":
            document, objects = verify_stream(sys.stdin.buffer, tell)
        else:
            document, objects = verify(options.package, tell)
    except (vm.ManifestError, OSError, tarfile.TarError) as error:
        sys.stderr.write(f"not proven: {ascii(str(error))[1:-1]}\n")
        return 2
    out.write(
        f"objects      {objects}\nsource       {ascii(document['source'])[1:-1]}\nroot         {document['root']}\n"
    )
    out.write(f"NOT proven: {found[0]} differences\n" if found[0] else "proven\n")
    return 1 if found[0] else 0


if __name__ == "__main__":
    sys.exit(main())
