"""Everything portabl raises on purpose.

PortablError                       1  unexpected error
├── UsageError                     2  the command, location or configuration is wrong
│   ├── ConfigError                2
│   └── JobLocked                  2  another run of the same job is going on
├── ManifestError                  3  not a manifest, damaged, or of a newer version
├── Interrupted                    4  stopped on request
│   └── StateFull                  4  the state location is full; free space and run again
├── PolicyRefused                  5
└── StorageError                   6  a place cannot be reached or refuses us
    ├── Unreachable                6  no answer: DNS, connection, TLS, time-out (transient)
    ├── Throttled                  6  asked to slow down for longer than we are willing to (transient)
    ├── AccessDenied               6  no permission
    │   └── CredentialsRefused     6  the credentials themselves: expired, unknown, or the clock is wrong
    ├── ContainerMissing           6  the bucket or directory does not exist
    ├── PlaceFull                  6  no space or quota left at the target
    ├── ListingBroken              6  a listing that contradicts itself is never an empty listing
    │   └── ListingDisordered      6  keys out of byte order where order was promised
    ├── NotFound                   3  no such object (also FileNotFoundError)
    ├── Changed                    3  the object is no longer the one that was listed
    ├── Corrupt                    3  bytes contradict a digest
    ├── Archived                   3  the object lies in an archive and must be restored before it can be read
    └── Refused                    3  the target cannot hold this object (key, size, field)

The number is the exit code when the error ends the run. The last five concern one object: a run lists
them and goes on, as it does for a while when an object cannot be had just now (transient) or for want of
permission. Refused credentials are never about one object and end the run at once. Vendor errors are translated
into these at one border per adapter.
"""

from __future__ import annotations

from typing import ClassVar

from portabl.keys import show


class PortablError(Exception):
    """Base class: what happened, to which key, where, and what to do next."""

    exit_code: ClassVar[int] = 1
    transient: ClassVar[bool] = False
    per_object: ClassVar[bool] = False

    def __init__(self, message: str, *, key: bytes | None = None, storage: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.key = key
        self.storage = storage
        self.hint = hint

    def __str__(self) -> str:
        where = f"{self.storage}: " if self.storage else ""
        what = f" (key {show(self.key)})" if self.key is not None else ""
        return f"{where}{self.message}{what}"


class UsageError(PortablError):
    """The command line, a location or an option cannot be understood."""

    exit_code = 2


class ConfigError(UsageError):
    """portabl.toml is wrong."""


class JobLocked(UsageError):
    """Another run of the same job is going on."""


class ManifestError(PortablError):
    """A file that cannot be trusted as a manifest."""

    exit_code = 3


class Interrupted(PortablError):
    """Stopped on request; running the same command again goes on."""

    exit_code = 4


class StateFull(Interrupted):
    """No room left where the state is kept."""


class PolicyRefused(PortablError):
    """A rule of the user's own forbids this run."""

    exit_code = 5


class StorageError(PortablError):
    """A place cannot be reached, or refuses us."""

    exit_code = 6

    @property
    def passable(self) -> bool:
        """Whether a run may name the object it met this with, and go on to the next one."""
        return self.per_object or self.transient


class Unreachable(StorageError):
    """No usable answer after every retry."""

    transient = True


class Throttled(StorageError):
    """The place asked us to slow down for longer than we wait."""

    transient = True


class AccessDenied(StorageError):
    """The permission is missing: for this object, or for all."""

    @property
    def passable(self) -> bool:
        """It may be this object's alone."""
        return True


class CredentialsRefused(AccessDenied):
    """The store does not take the credentials (any more), whatever is asked for with them."""

    @property
    def passable(self) -> bool:
        """No other object will be given either."""
        return False


class ContainerMissing(StorageError):
    """No such bucket or directory."""


class PlaceFull(StorageError):
    """No space or quota left at the target."""


class ListingBroken(StorageError):
    """A listing that cannot be believed: undecodable, endless, or contradicting itself."""


class ListingDisordered(ListingBroken):
    """Keys came out of byte order although order was promised."""


class NotFound(StorageError, FileNotFoundError):
    """No such object."""

    exit_code = 3
    per_object = True


class Changed(StorageError):
    """The object is no longer the one that was listed."""

    exit_code = 3
    per_object = True


class Corrupt(StorageError):
    """Bytes contradict a digest."""

    exit_code = 3
    per_object = True


class Archived(StorageError):
    """The object lies in an archive: it must be restored before it can be read."""

    exit_code = 3
    per_object = True


class Refused(StorageError):
    """The place cannot hold this object, or will not."""

    exit_code = 3
    per_object = True
