"""TLS with servers that are not the fleet's: consumers, OpenID providers, NATS.

With servers of the fleet we speak TLS 1.3 alone (`transport.tls`). Others may be
older: TLS 1.2 is still spoken with them, with sealed and forward secret suites only
(RFC 9325, 3.1.1 and 4.2; K3). Chain and name are verified, and nothing switches it off.
"""

import ssl
from typing import Final

SUITES: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2, as OpenSSL names them: AEAD, with keys that are forgotten. Python's own
list has CBC beside them. The suites of TLS 1.3 are all of this kind."""


def foreign_client_context(*, anchors: str | None = None) -> ssl.SSLContext:
    """Return a context for connecting to a server of somebody else's.

    Args:
        anchors: path of PEM certificates to trust instead of the system's.

    Raises:
        OSError: `anchors` cannot be read.
        ssl.SSLError: it has no certificates. Nothing was sent in either case.
    """
    context = ssl.create_default_context(cafile=anchors)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(SUITES)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    return context
