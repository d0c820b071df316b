"""``python -m portabl`` is the ``portabl`` command."""

from portabl.cli import main

main()
