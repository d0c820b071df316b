"""portabl: leave any cloud, lose nothing, prove it."""

__version__ = "0.1.0"
