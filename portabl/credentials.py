"""Where a secret is kept, and how it is fetched: ``env:NAME``, ``file:PATH``, ``keyring:SERVICE/USER`` or itself.

A reference is resolved each time it is asked for, so that a rotated secret is found during a long run.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from portabl.errors import ConfigError

_SCHEMES = ("env", "file", "keyring")


def is_reference(value: str) -> bool:
    """Whether ``value`` says where a secret is kept rather than being one."""
    scheme, colon, rest = value.partition(":")
    return bool(colon) and scheme in _SCHEMES and not rest.startswith("//")


def resolve(value: str, where: str, folder: str = "", environ: Mapping[str, str] | None = None) -> str:
    """The secret behind a reference; a literal is returned as it is.

    ``where`` names file, table and field for errors. ``folder``: what a relative ``file:`` path starts from.
    Raises ConfigError, which never quotes the secret, only the place where it was looked for.
    """
    if not is_reference(value):
        return value
    scheme, _, rest = value.partition(":")
    if not rest:
        raise ConfigError(f"{where}: `{scheme}:` names nothing", hint=_SHAPES)
    if scheme == "env":
        found = _from_environment(rest, where, os.environ if environ is None else environ)
    elif scheme == "file":
        found = _from_file(rest, where, folder)
    else:
        found = _from_keyring(rest, where)
    if not found:
        raise ConfigError(f"{where}: `{value}` is empty", hint="put the secret there, without quotes")
    return found


_SHAPES = "write `env:NAME`, `file:PATH` or `keyring:SERVICE/USER`"


def _from_environment(name: str, where: str, environ: Mapping[str, str]) -> str:
    if name not in environ:
        raise ConfigError(f"{where}: environment variable {name} is not set", hint=f"`export {name}=...` and run again")
    return environ[name]


def _from_file(name: str, where: str, folder: str) -> str:
    path = os.path.join(folder, os.path.expanduser(name))
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read(65536).strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise ConfigError(f"{where}: {path} cannot be read: {reason}") from error


def _from_keyring(name: str, where: str) -> str:
    service, slash, user = name.rpartition("/")
    if not slash or not service or not user:
        raise ConfigError(f"{where}: `keyring:{name}` has no user", hint="write `keyring:SERVICE/USER`")
    try:
        import keyring
        import keyring.errors
    except ImportError as error:
        raise ConfigError(
            f"{where}: the keyring package is not installed", hint="pip install 'portabl[keyring]'"
        ) from error
    try:
        found: str | None = keyring.get_password(service, user)
    except keyring.errors.KeyringError as error:
        raise ConfigError(f"{where}: the keyring refuses: {type(error).__name__}", hint="unlock the keyring") from error
    if found is None:
        raise ConfigError(
            f"{where}: the keyring holds nothing for {user} at {service}", hint=f"`keyring set {service} {user}`"
        )
    return found
