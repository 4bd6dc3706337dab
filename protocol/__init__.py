"""The signed binary protocol between a vehicle and its fleet, version 1.

What lives here: layouts, signatures, identities, topics and the serial frames of the
board: everything that two sides must agree on to the last bit. What does not: time,
randomness, keys on disk and sockets; they come in as arguments.

``docs/protocol.md`` describes the bytes.
"""
