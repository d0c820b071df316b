"""Storage adapters of portabl; each is one module and one line in pyproject.toml."""
