"""A TLS handshake in memory."""

import ssl

ROUNDS = 8
"""Turns of both ends; TLS 1.3 takes three."""


def refusal(client: ssl.SSLContext, server: ssl.SSLContext, host: str) -> str | None:
    """Shake hands; return the reason why one side refused, or None."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(down, up, server_hostname=host),
        server.wrap_bio(up, down, server_side=True),
    )
    for _round in range(ROUNDS):
        done = 0
        for end in ends:
            try:
                end.do_handshake()
                done += 1
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError as error:
                return str(error)
        if done == len(ends):
            return None
    return "the handshake did not end"
