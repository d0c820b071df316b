"""``python -m portabl`` is the ``portabl`` command."""

from portabl.cli import main

if __name__ == "__main__":  # worker processes import this module too
    main()
