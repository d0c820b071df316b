"""S3 and everything that speaks it. `open_storage` is the entry point; the modules are loaded when it is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from portabl.storage import Opening, Storage

__all__ = ["open_storage"]


def open_storage(opening: Opening) -> Storage:
    """Open a bucket. Sends nothing yet (`Storage.check` does). Raises ConfigError."""
    from portabl_adapters.s3.storage import S3Storage

    return S3Storage(opening)
