"""From what a user types to an open storage.

A location is one of three things, told apart without looking at any disk or network:

1. ``scheme://...`` or a chain with ``::`` is a URL. ``file://`` is a local path, ``s3://bucket/prefix`` is AWS S3 (or
   ``AWS_ENDPOINT_URL``) with the credentials AWS tools find; any other goes to fsspec. URLs are taken literally,
   never percent-decoded.
2. ``NAME:container/prefix`` is a place at a named provider, when ``NAME`` has no ``/``. On Windows a one-letter
   ``NAME`` is a drive.
3. Everything else is a local path, and so is all that starts with ``.``, ``/`` or ``~``: a path that contains ``:`` in
   its first segment is written ``./a:b``.

A prefix means whole segments: ``old:b/2026`` holds ``2026/x`` and not ``2026-x``.
"""

from __future__ import annotations

import functools
import importlib
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from portabl.credentials import is_reference
from portabl.errors import ConfigError, UsageError
from portabl.keys import plain
from portabl.model import NOTHING
from portabl.providers import Config, FileProvider, FsspecProvider, Provider, S3Provider, where
from portabl.storage import Opening, Storage
from portabl.throttle import Pacer
from portabl.wrappers import Throttled

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from portabl.files import Files

GROUP = "portabl.adapters"
OURS: Mapping[str, str] = {
    "file": "portabl_adapters.local",
    "fsspec": "portabl_adapters.fsspec_storage",
    "s3": "portabl_adapters.s3",
}
"""Modules of the adapters that come with portabl, which are entry points like any other: to look one up is to read the
metadata of every package that is installed, which takes longer than copying a small object.
"""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://")
_NAMED = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.\-]*):(?s:(.*))")
_DRIVE = re.compile(r"[A-Za-z]:")


class _Hidden(dict[str, object]):
    """A mapping whose values may be secret: it never prints them."""

    def __repr__(self) -> str:
        return "{...}"


@dataclass(frozen=True)
class Location:
    """A location taken apart. ``name`` is printable, without secrets; ``type`` names the adapter.

    ``container`` is a bucket, a directory's absolute path (type "file"), or "" (type "fsspec", where the URL says it).
    ``prefix`` is "" or ends with "/". ``provider`` carries the settings and the credentials.
    """

    name: str
    type: str
    container: str
    prefix: bytes
    provider: Provider = field(repr=False)


def parse(text: str, config: Config) -> Location:
    """Understand a location. Raises UsageError, or ConfigError for an unknown provider."""
    if not text:
        raise UsageError("the location is empty", hint="write `NAME:container/prefix`, a path or a URL")
    if "\0" in text:
        raise UsageError(f"a location cannot hold a NUL character: {plain(text)}")
    if text.startswith((".", "/", "~")):
        return _local(plain(text), text)
    if _URL.match(text) or "::" in text:
        return _parse_url(text, config)
    named = _NAMED.fullmatch(text)
    if named and not (sys.platform == "win32" and _DRIVE.match(text) and len(named[1]) == 1):
        return _parse_named(text, named[1], named[2], config)
    if text in config.providers:
        raise UsageError(
            f"`{text}` is a provider, but no container is named",
            hint=f"write `{text}:container`, or `./{text}` for a local directory",
        )
    return _local(plain(text), text)


def _parse_named(text: str, name: str, rest: str, config: Config) -> Location:
    provider = config.provider(name, text)
    shown = plain(text)
    if isinstance(provider, FileProvider):
        root = os.path.join(os.path.dirname(provider.origin), os.path.expanduser(provider.path))
        return Location(shown, "file", _below(root, rest, text), b"", provider)
    if isinstance(provider, FsspecProvider):
        return Location(shown, "fsspec", "", whole_segments(rest), provider)
    container, _, prefix = rest.partition("/")
    if not container:
        raise UsageError(f"`{shown}` names no container", hint=f"write `{name}:bucket` or `{name}:bucket/prefix`")
    return Location(shown, provider.type, container, whole_segments(prefix), provider)


def _below(root: str, rest: str, text: str) -> str:
    path = os.path.normpath(os.path.join(os.path.abspath(root), rest.lstrip("/")))
    if os.path.commonpath([os.path.abspath(root), path]) != os.path.abspath(root):
        raise UsageError(f"`{plain(text)}` leaves the provider's directory")
    return path


def _parse_url(text: str, config: Config) -> Location:
    scheme, _, rest = text.partition("://")
    scheme = scheme.lower()
    if "::" in text:
        return _generic(text)
    if scheme in ("file", "local"):
        if not rest.startswith(("/", "~")) and sys.platform != "win32":
            raise UsageError(f"`{safe_url(text)}` has a host", hint="a local URL has three slashes: `file:///path`")
        return _local(plain(text), rest)
    if scheme in ("s3", "s3a"):
        return _ambient_s3(text, rest)
    if scheme in config.providers:
        hint = f"the provider `{scheme}` is written with `:` alone: `{scheme}:{safe_url(rest)}`"
        raise UsageError(f"`{safe_url(text)}` is not a URL that fsspec knows", hint=hint)
    return _generic(text)


def _generic(text: str) -> Location:
    """A URL for fsspec, whose schemes are checked now: a typing mistake is no reason to install something."""
    from fsspec.registry import available_protocols

    known = set(available_protocols())
    for part in text.split("::"):
        scheme = (part.partition("://")[0] if "://" in part else part).lower()
        if scheme not in known:
            hint = (
                "write `./PATH` for a local path, `NAME:container` for a provider, or a URL whose scheme fsspec knows"
            )
            raise UsageError(f"`{safe_url(text)}`: unknown URL scheme `{plain(scheme)}`", hint=hint)
    return Location(safe_url(text), "fsspec", "", b"", FsspecProvider(name="", url=text))


def _ambient_s3(text: str, rest: str) -> Location:
    if "@" in rest.partition("/")[0]:
        raise UsageError(
            "credentials do not belong into a URL", hint="name a provider in portabl.toml, or use AWS_PROFILE"
        )
    container, _, prefix = rest.partition("/")
    if not container:
        raise UsageError(f"`{plain(text)}` names no bucket", hint="write `s3://bucket/prefix`")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION", "")
    provider = S3Provider(name="", endpoint=endpoint, region=region)
    return Location(plain(text), "s3", container, whole_segments(prefix), provider)


def _local(name: str, path: str) -> Location:
    provider = FileProvider(name="", path=path)
    return Location(name, "file", os.path.abspath(os.path.expanduser(path)), b"", provider)


def whole_segments(prefix: str) -> bytes:
    """A prefix as the bytes every key below it starts with: "" or ending with "/"."""
    exact = prefix.encode("utf-8", "surrogateescape")
    return exact if not exact or exact.endswith(b"/") else exact + b"/"


def open_location(
    text: str,
    config: Config,
    *,
    threads: int = 64,
    options: Mapping[str, str] = NOTHING,
    pacer: Pacer | None = None,
) -> Storage:
    """Open a location through its adapter. Raises UsageError or ConfigError; `Storage.check` asks if it answers."""
    return open_parsed(parse(text, config), threads=threads, options=options, pacer=pacer)


def open_parsed(
    location: Location, *, threads: int = 64, options: Mapping[str, str] = NOTHING, pacer: Pacer | None = None
) -> Storage:
    """Open a location that was parsed before; with a ``pacer``, all that goes through it is throttled."""
    factory = adapter(location.type)
    storage = factory(
        Opening(
            name=location.name,
            container=location.container,
            prefix=location.prefix,
            settings=_settings(location),
            secret=location.provider.secret,
            threads=threads,
            options=options,
            pacer=pacer,
        )
    )
    if pacer is None or storage.paces_itself:
        return storage
    return Throttled(storage, pacer, requests=0 if location.type == "file" else 1)


def _settings(location: Location) -> Mapping[str, object]:
    provider = location.provider
    settings = _Hidden(provider.settings())
    if isinstance(provider, S3Provider) and not provider.addressing and "." in location.container:
        settings.pop("addressing", None)  # no certificate covers a bucket's name with dots in front of the host
    if provider.trusted() and not os.access(provider.trusted(), os.R_OK):
        start = where(provider.origin, provider.name, "ca_bundle")
        raise ConfigError(f"{start}: {plain(provider.trusted())} cannot be read", hint="name a PEM file")
    if isinstance(provider, FsspecProvider):
        settings["options"] = _Hidden(provider.resolved_options())
        if is_reference(provider.url):
            raise ConfigError("an fsspec url cannot be a credential reference", hint="put secrets into `options`")
    return settings


@functools.cache
def registered() -> Mapping[str, EntryPoint]:
    """Every adapter by its type. Looked up once: that reads the metadata of all packages that are installed.

    Raises ConfigError when there is none.
    """
    from importlib.metadata import entry_points

    found = {point.name: point for point in entry_points(group=GROUP)}
    if not found:
        raise ConfigError(
            "no adapter is registered: portabl is not installed properly", hint="`pip install portabl` again"
        )
    return found


def adapter(kind: str) -> Callable[[Opening], Storage]:
    """The ``open_storage`` registered for a type. Raises ConfigError that names the known ones."""
    if kind not in OURS and kind not in registered():
        raise ConfigError(f"no adapter for type `{plain(kind)}`", hint=f"known: {', '.join(sorted(registered()))}")
    try:
        if kind in OURS:
            factory: Callable[[Opening], Storage] = importlib.import_module(OURS[kind]).open_storage
        else:
            factory = registered()[kind].load()
    except ImportError as error:
        hint = "local directories need Linux or macOS" if kind == "file" else "install what is missing, then try again"
        raise ConfigError(f"the adapter for type `{plain(kind)}` cannot run here: {error}", hint=hint) from error
    return factory


def safe_url(text: str) -> str:
    """A location for printing: no user, no password, no query, no control characters."""
    parts = [_without_secrets(part) for part in text.split("::")] if "://" in text else [text]
    return plain("::".join(parts))


def _without_secrets(url: str) -> str:
    scheme, mark, rest = url.partition("://")
    if not mark:
        return url
    if _is_password_with_slash(rest):
        rest = rest.rpartition("@")[2]
    host, slash, path = rest.partition("/")
    path, question, _ = (slash + path).partition("?")
    host, early, _ = host.partition("?")
    return f"{scheme}://{host.rpartition('@')[2]}{path}{'?...' if question or early else ''}"


def has_password(url: str) -> bool:
    """Whether a URL holds one, also where it was written with a slash that should have been percent-encoded."""
    rest = url.partition("://")[2]
    return ":" in rest.partition("/")[0].rpartition("@")[0] or _is_password_with_slash(rest)


def holds_secret(text: str) -> bool:
    """Whether a location as typed may hold one: a password, a user that may be a token, or a query (a signature)."""
    return any(has_password(url) or _is_token(url) or safe_url(url).endswith("?...") for url in text.split("::"))


_NAMED_USERS = frozenset(
    {"abfs", "abfss", "az", "wasb", "wasbs", "ftp", "ftps", "hdfs", "webhdfs", "sftp", "smb", "ssh"}
)
"""Schemes where what stands before ``@`` without a password is the name of a user or container, known to anybody."""


def _is_token(url: str) -> bool:
    scheme, _, rest = url.partition("://")
    return "@" in rest.partition("/")[0] and scheme.lower() not in _NAMED_USERS


def _is_password_with_slash(rest: str) -> bool:
    """Whether what looks like ``host:port/path`` is ``user:pass/word@host/path``: no port is anything but digits."""
    host = rest.partition("/")[0]
    port = host.rpartition(":")[2]
    return "@" in rest and "@" not in host and ":" in host and not port.isdigit() and not host.endswith("]")


def filesystem(text: str, config: Config) -> tuple[Any, str]:
    """The plain fsspec filesystem behind a location, and the location's path in it.

    Good for manifests, state and a user's own scripts. For S3 it is s3fs, which changes some keys and hides some
    headers: data itself moves through `open_location`. Raises UsageError or ConfigError.
    """
    location = parse(_container_optional(text, config), config)
    provider = location.provider
    if isinstance(provider, S3Provider):
        container = "" if location.container == _ANY else location.container
        path = "/".join(filter(None, [container, location.prefix.decode("utf-8", "surrogateescape").rstrip("/")]))
        return _s3_filesystem(provider), path
    if isinstance(provider, FsspecProvider):
        return _url_filesystem(provider, location)
    from fsspec.implementations.local import LocalFileSystem

    return LocalFileSystem(auto_mkdir=False), location.container


_ANY = "*"


def _container_optional(text: str, config: Config) -> str:
    """``NAME:`` alone is fine for a filesystem: it is the provider as a whole."""
    name = text.removesuffix(":")
    return text + _ANY if name != text and isinstance(config.providers.get(name), S3Provider) else text


def _url_filesystem(provider: FsspecProvider, location: Location) -> tuple[Any, str]:
    import fsspec

    try:
        found, root = fsspec.core.url_to_fs(provider.url, **provider.resolved_options())
    except ImportError as error:
        raise ConfigError(f"{location.name}: {error}", hint="install what fsspec asks for") from error
    inner = location.prefix.decode("utf-8", "surrogateescape").rstrip("/")
    return found, f"{root.rstrip('/')}/{inner}" if inner else root


def _s3_filesystem(provider: S3Provider) -> Any:
    import s3fs

    client: dict[str, object] = {}
    if provider.region:
        client["region_name"] = provider.region
    if provider.insecure or provider.ca_bundle:
        client["verify"] = False if provider.insecure else provider.trusted()
    style = provider.settings().get("addressing", "path")
    config: dict[str, object] = {"s3": {"addressing_style": style}} if provider.endpoint else {}
    if provider.endpoint:  # stores other than AWS do not know the checksum trailers that boto sends by default
        config |= {"request_checksum_calculation": "when_required", "response_checksum_validation": "when_required"}
    return s3fs.S3FileSystem(
        key=provider.secret("access_key_id"),
        secret=provider.secret("secret_access_key"),
        token=provider.secret("session_token"),
        profile=provider.profile or None,
        endpoint_url=provider.endpoint or None,
        client_kwargs=client,
        config_kwargs=config,
        use_listings_cache=False,
        skip_instance_cache=True,
    )


def files(text: str, config: Config) -> Files:
    """Small files below a location: what manifests and state are kept in."""
    from portabl.files import Files

    return Files(*filesystem(text, config))
