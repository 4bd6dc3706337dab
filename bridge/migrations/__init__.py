"""How the tables of an older release become today's.

`versions/` holds one step a file; `bridge.migrations.migration` runs them. A step only
adds what the release before can live beside, since bridges of both releases run for a
while when an operator replaces one after the other; what is no longer used is dropped
by a later release.
"""
