"""Scheduled jobs: what `portabl.toml` says in its ``jobs`` tables, run by any scheduler or by `portabl jobs serve`.

``config`` reads the tables, ``schedule`` knows when, ``work`` does what the kind says, ``run`` is one run from lock to
alert, ``store`` remembers runs, ``check`` judges them, ``alerts`` tells people, ``daemon`` and ``endpoint`` are
`portabl jobs serve`, ``install`` writes what other schedulers read.
"""
