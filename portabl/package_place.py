"""Where a package lies: its parts, its payload as a storage, and whether there is one at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from portabl import archive, registry
from portabl import manifest as manifests
from portabl.encryption import Key, Lock
from portabl.errors import UsageError
from portabl.keys import plain
from portabl.package_format import MANIFEST, NAME, PAYLOAD
from portabl.package_names import Names
from portabl.payload import Payload
from portabl.providers import Config
from portabl.sealed import Opened, Sealed
from portabl.throttle import Pacer


def below(location: str, name: str) -> str:
    """The location ``name`` below another location; of a chain of URLs, in the first."""
    if "::" in location:
        head, rest = location.split("::", 1)
        return f"{below(head, name)}::{rest}"
    return location + name if location.endswith(("/", ":")) else f"{location}/{name}"


@contextmanager
def payload_of(
    location: str,
    config: Config,
    names: Names,
    threads: int,
    *,
    learn: bool = False,
    pacer: Pacer | None = None,
    recipients: tuple[str, ...] = (),
    key: Key | None = None,
    loaded: manifests.Manifest | None = None,
) -> Iterator[Payload]:
    """The payload of a package; written encrypted to ``recipients``, or read with ``key`` under its manifest."""
    plain_names = {"names": "plain"}  # SHA256SUMS speaks of these very names
    inner = registry.open_location(below(location, PAYLOAD), config, threads=threads, options=plain_names, pacer=pacer)
    if recipients:
        payload: Payload = Sealed(inner, names, Lock(recipients))
    elif key is not None and loaded is not None:
        payload = Opened(inner, key, names, loaded)
    else:
        payload = Payload(inner, names, learn=learn)
    with payload:
        yield payload


def package_of(location: str, config: Config) -> str:
    """The package that a location names by itself, by its manifest or by its package.json. Raises UsageError."""
    text = location.rstrip("/") or location
    for ending in (f"/{NAME}", f"/{MANIFEST}/{manifests.NAME}", f"/{MANIFEST}"):
        if text.endswith(ending) and is_package(text.removesuffix(ending), config):
            return text.removesuffix(ending)
    if is_package(text, config):
        return text
    hint = "name a package: what is unchanged is taken from its payload"
    raise UsageError(f"no package at {plain(registry.safe_url(location))}", hint=hint)


def is_package(location: str, config: Config) -> bool:
    """Whether a package.json lies at a location, or the location is an archive's."""
    if archive.kind_of(location):
        return True
    return registry.files(location, config).exists(NAME)
