"""A process that only verifies signatures: `python -m bridge.verifier_process`.

Theory of operation. Most of a bridge's work is verification, and Python runs one thing
at a time in a process: beside it, reading, storing and acknowledging would wait. So a
batch's claims are sent to this process in one piece, over the socket that it has as its
standard input, and one byte for each comes back. It holds no secret, opens no file and
decides nothing: its yes counts as that of `bridge.verification.holds`, which it asks.

It ends when the socket does, so it never outlives its bridge.
"""

import signal
import struct
import sys
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Final

from bridge.verification import Claim, holds

REQUEST_LIMIT: Final = 4 * 1024 * 1024
"""Bytes of the largest request: a full batch of the largest frames in one piece is
2.2 MB, and it comes in parts."""

_HEAD: Final = struct.Struct(">32s64sH")
"""Key, signature and how many bytes of message follow."""

HOLDS: Final = 1
"""What an answer says of a claim that holds; 0 of one that may not."""


def pack(claims: Sequence[Claim]) -> bytes:
    """Return the claims as one request."""
    parts: list[bytes] = []
    for claim in claims:
        parts.append(_HEAD.pack(claim.key, claim.signature, len(claim.message)))
        parts.append(claim.message)
    return b"".join(parts)


def unpack(request: bytes) -> Iterator[Claim]:
    """Yield the claims of a request.

    Raises:
        struct.error: it ends within one.
    """
    at = 0
    while at < len(request):
        key, signature, size = _HEAD.unpack_from(request, at)
        at += _HEAD.size
        yield Claim(key, signature, request[at : at + size])
        at += size


def answer(request: bytes) -> bytes:
    """Return one byte for each claim of a request."""
    return bytes([holds(claim) for claim in unpack(request)])


def main() -> None:
    """Answer until the bridge goes away."""
    # Ctrl-C goes to the whole group; the bridge drains first, then closes the socket.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Connection(sys.stdin.fileno()) as bridge:
        while True:
            try:
                request = bridge.recv_bytes(REQUEST_LIMIT)
                bridge.send_bytes(answer(request))
            except (EOFError, OSError):
                return


if __name__ == "__main__":
    main()
