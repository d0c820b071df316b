"""The text files of a package: README.txt, and the tag files of a bag (RFC 8493)."""

from __future__ import annotations

from collections.abc import Iterable

from portabl.keys import plain
from portabl.package_format import COMPLETE, Document
from portabl.package_provider import ABOUT

_BAG_FILES = "    bagit.txt ...       this package is a bag as well: BagIt 1.0, RFC 8493\n"
_BAG_CHECK = "    bagit.py --validate .                 (from PyPI: pip install bagit)\n"
BAGIT = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"


def readme(document: Document, provider: Iterable[str]) -> bytes:
    """README.txt, for whoever opens the package years later. ``provider``: names of the files below provider/."""
    parts = [_what(document), _inside(document), _provider(provider), _check(document), _restore(document)]
    return "\n".join(parts).encode("utf-8", "backslashreplace")


def _what(document: Document) -> str:
    whole = (
        "Every object of the source is in here, proven when the package was made."
        if document.state == COMPLETE
        else "NOT everything of the source is in here: the manifest names each loss, object by object."
    )
    return f"""WHAT THIS IS

A copy of {document.objects:,} objects ({document.bytes:,} bytes) from

    {plain(document.source)}

begun {document.started}, finished {document.finished} (UTC), made by {document.tool}.
{whole}
Root of the data (32 bytes that stand for all of it): {document.root}
"""


def _inside(document: Document) -> str:
    bag = (
        "    bagit.txt ...       this package is a bag as well: BagIt 1.0, RFC 8493\n"
        if document.layout == "bag"
        else ""
    )
    sealed = "                        ENCRYPTED, see below\n" if document.encryption else ""
    versions = ""
    if document.all_versions:
        versions = (
            "                        EVERY VERSION is a file of its own: NAME!v1 is the oldest;\n"
            "                        a deletion is an empty file such as NAME!v2-deleted\n"
        )
    return f"""WHAT IS INSIDE

    data/               the objects, one file each, named by their keys
{versions}{sealed}    names.jsonl         keys that are no safe file name, and the name each has in data/ instead
    manifest/           what each object is: key, size, SHA-256, headers, metadata, tags
    SHA256SUMS          SHA-256 of every file in data/
    package.json        facts about this package, for programs
    provider/           what was known of the provider of the source
    verify_package.py   checks this package; needs Python 3.9 or newer and verify_manifest.py beside it
{bag}"""


def _provider(names: Iterable[str]) -> str:
    lines = [f"    {plain(name):<35} {ABOUT.get(name, 'evidence, such as a label of the provider')}" for name in names]
    return "\n".join(["THE PROVIDER THE DATA CAME FROM", "", *sorted(lines), ""])


def _check(document: Document) -> str:
    bag = _BAG_CHECK if document.layout == "bag" else ""
    return f"""HOW TO CHECK IT

In the directory that holds this file, any of these:

    sha256sum -c --quiet SHA256SUMS       (every file in data/ is unchanged)
    python3 verify_package.py .           (and nothing is missing, and the manifest is intact)
    portabl verify .                      (the same, also where the package lies in an object store)
{bag}
None of this shows who made the package. Keep the root above, or package.json, in another place to know that.
"""


def _restore(document: Document) -> str:
    seal = ""
    if document.encryption:
        seal = f"""
The files in data/ are encrypted in the age format (https://age-encryption.org/v1), each by itself. SHA256SUMS and
names.jsonl speak of the encrypted files, the manifest of what is in them. With the secret key one file is read by

    age -d -i KEYFILE data/NAME > FILE

{plain(str(document.encryption.get("note", "")))}
"""
    return f"""HOW TO USE IT

The files in data/ are the objects, byte for byte. To put everything back into a store, with headers, metadata and tags:

    portabl restore . PROVIDER:BUCKET
{seal}"""


def bag_info(document: Document, files: int, size: int) -> bytes:
    """bag-info.txt; ``files`` and ``size`` (bytes) are those of the payload as stored."""
    lines = {
        "Bag-Software-Agent": document.tool,
        "Bagging-Date": document.finished[:10],
        "External-Description": f"objects of {plain(document.source)}",
        "External-Identifier": document.root,
        "Payload-Oxum": f"{size}.{files}",
    }
    return "".join(f"{name}: {value}\n" for name, value in lines.items()).encode("utf-8", "backslashreplace")
