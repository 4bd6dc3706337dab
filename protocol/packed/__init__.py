"""The second codec: the same records from the same bytes, in precompiled `struct`.

For whoever reads frames by the thousand: the bridge and the emulated fleet. It is
written by hand from docs/protocol.md and shares with the declarations beside it only
the records, the code spaces and the limits; tests/protocol/test_packed.py holds the two
against each other. A car uses the declarations (docs/adr/0010-two-codecs.md).
"""
