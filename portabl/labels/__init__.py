"""Gaia-X label credentials: read, verified step by step, explained. Everything not proven is *not labelled*.

Reading order: `verify` (the steps), `jose` and `credential` (the token), `did`, `sources`, `fetch` (keys), `trust` and
`chain` (whom to believe), `walk` (who is labelled), `evidence` (what is kept beside a label).
"""
