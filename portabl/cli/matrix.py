"""Writes docs/capabilities.md from the cards that come with portabl: ``python -m portabl.cli.matrix``."""

from __future__ import annotations

import sys

_INTRODUCTION = """# Capabilities, measured

Made by `python -m portabl.cli.matrix > docs/capabilities.md` from the cards in `portabl/cards/`; a test compares the
two, and another one measures the four servers anew. `portabl probe LOCATION` measures yours.

A **card** says what one provider was seen to do, with the date. It is kept in the state directory, one for each
endpoint, and a new probe replaces it. `portabl plan` and `portabl migrate` go by the card of the target; `--card`
names another one: a file, or one of those below (`--card swift`).

A card is believed in one direction only: it warns of losses before anything is copied, and tightens limits (parts,
smallest part, order of listings). It never replaces a proof. What no card says is *unknown*: it is not counted as a
loss, `plan` says that it does not know, and a migration watches for it as it goes, as it does with a card.

| outcome | meaning |
|---|---|
| kept | comes back exactly as it was written, under exactly this name |
| changed, dropped | the server takes it and keeps something else, or nothing |
| refused | the server answers an error, or has no such thing |
| merged | two keys become one object |
| verified | a wrong digest is refused, the right one accepted |
| stored, not verified; ignored; not verified | a wrong digest is accepted |
| honoured, ignored | a condition that does not hold is answered with 412, or not at all |
| none found | no limit up to what was tried |

How: some 700 requests in a prefix of its own (`portabl-probe-` and 16 hex digits), which is written down in the state
directory before the first of them, and swept at the end: objects, versions, delete markers, unfinished uploads. An
error or Ctrl-C sweeps too; what a killed probe left is swept by the next one of the same location. A bucket whose
default object lock would keep what is tried is refused. Settings of the bucket are read, never changed. Only what S3
itself allows is tried (keys up to 1,025 bytes, 2,048 bytes of user metadata).

A key counts as kept when a listing shows exactly it and its bytes and metadata read back; keys that consist of slashes
only cannot be tried below a prefix and are judged as keys with an empty segment. "an object beside its folder" is `x`
and `x/`.

## The matrix

"""


def text() -> str:
    """The whole page."""
    from portabl.capability import find, shipped
    from portabl.capability_text import matrix
    from portabl.state import default_root

    cards = {name: card for name in shipped() if (card := find(name, "", default_root()))}
    return _INTRODUCTION + matrix(cards)


if __name__ == "__main__":
    sys.stdout.write(text())
