"""What must not go into a model, found in texts and replaced by placeholders, in the TensorFlow graph.

One file a family of kinds, as RE2 patterns: `web.py`, `accounts.py`, `identities.py`, `phones.py`, `dates.py`, and
`others.py` with what looks like one and is none; `separators.py` puts in the spaces and hyphens that may stand for the
common ones. `kinds.py` orders them and is what settings name; `checksums.py` and `redactor.py` are the graph, and need
TensorFlow.
"""
