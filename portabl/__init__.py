"""portabl: leave any cloud, lose nothing, prove it."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "filesystem"]


def filesystem(location: str, config: str | None = None) -> Any:
    """The plain fsspec filesystem of a named provider: ``portabl.filesystem("ovh:bucket").ls("bucket")``.

    ``config``: path of a portabl.toml; by default the one portabl itself would find. Paths begin with the bucket,
    as with s3fs. Raises `portabl.errors.UsageError` or `portabl.errors.ConfigError`.
    """
    from portabl import providers, registry

    return registry.filesystem(location, providers.load(config))[0]
