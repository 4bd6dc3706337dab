"""TLS of an MQTT connection over buffers in memory: one call reads all that there is.

mosquitto sends each message in a TLS record of its own. An `ssl.SSLSocket` reads the
head and the body of every record by a call of the system, and a record by a call of
OpenSSL, in each of which a bridge's other threads take the interpreter from the one
that reads. Here one call of the system brings what the kernel has, and all the records
in it are decrypted one behind the other: 1.2 µs a record instead of 3.3 (measured,
docs/adr/0018-intake-at-speed.md).

What of `ssl.SSLSocket` paho 2.2 uses is here and no more.
"""

import contextlib
import socket
import ssl
from typing import Final

from transport.tls import FlooredContext

READ_SIZE: Final = 262_144
"""Bytes taken from the kernel at once, which is as much as loopback and a fast network
bring in some milliseconds."""

RECORD: Final = 16_384
"""Bytes in a TLS record at most (RFC 8446, 5.1); what is encrypted before the kernel
has taken all of it."""


class BufferedSocket:
    """A connected socket and the TLS on it; closes itself when the handshake fails."""

    def __init__(
        self,
        plain: socket.socket,
        context: ssl.SSLContext,
        *,
        server_hostname: str | None,
    ) -> None:
        """Begin with nothing said.

        Args:
            plain: connected; closed with us.
            context: how to verify the server, and what to show it.
            server_hostname: whom the server's certificate must name.
        """
        self._plain = plain
        self._context = context
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_hostname=server_hostname
        )
        self._unsent = b""
        self._owed = 0
        """Bytes of the caller's that are encrypted in what is unsent, and about which
        the caller does not know that yet."""
        self._end: ssl.SSLError | None = None
        """What ended TLS, found behind something that was read."""

    def do_handshake(self) -> None:
        """Shake hands; blocks, for as long as the socket's timeout allows.

        Raises:
            OSError: of the socket or of TLS; it is closed.
        """
        try:
            while True:
                try:
                    self._tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    self._say()
                    data = self._plain.recv(RECORD)
                    if data:
                        self._incoming.write(data)
                    else:
                        self._incoming.write_eof()
                except ssl.SSLError:
                    # The server is told why, in an alert.
                    with contextlib.suppress(OSError):
                        self._say()
                    raise
            if isinstance(self._context, FlooredContext):
                self._context.judge(self._tls)
            self._say()
        except BaseException:
            self.close()
            raise

    def recv(self, _limit: int) -> bytes:
        """Return what has come, all of it, or nothing at the end of the connection.

        Raises:
            BlockingIOError: nothing has come.
            OSError: of the socket or of TLS; the connection is of no more use.
        """
        if self._end is not None:
            return self._ended(self._end)
        data = self._plain.recv(READ_SIZE)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        found: list[bytes] = []
        try:
            while part := self._tls.read(RECORD):
                found.append(part)
            self._end = ssl.SSLZeroReturnError()
        except ssl.SSLWantReadError:
            # Of a change of keys, or half a record.
            self._answer()
            if not found:
                raise BlockingIOError from None
        except ssl.SSLError as error:
            self._answer()
            self._end = error
            if not found:
                return self._ended(error)
        return b"".join(found)

    @staticmethod
    def _ended(error: ssl.SSLError) -> bytes:
        if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return b""
        raise error

    def send(self, data: bytes | bytearray) -> int:
        """Send the beginning of something; return how many bytes that was.

        After a `BlockingIOError` the same data is to be given again, as OpenSSL wants
        it: some of it may have been sent.

        Raises:
            BlockingIOError: the kernel takes no more now.
            OSError: of the socket or of TLS.
        """
        if not self._owed:
            self._owed = self._tls.write(memoryview(data)[:RECORD])
        self._flush()
        sent, self._owed = self._owed, 0
        return sent

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._unsent += self._outgoing.read()
        while self._unsent:
            self._unsent = self._unsent[self._plain.send(self._unsent) :]

    def _answer(self) -> None:
        """Send what TLS says by itself; what does not go now goes with the next."""
        with contextlib.suppress(OSError):
            self._flush()

    def _say(self) -> None:
        if self._outgoing.pending:
            self._plain.sendall(self._outgoing.read())

    def pending(self) -> int:
        """Bytes that a call of `recv` would find beside what the kernel has: none."""
        return 0

    def settimeout(self, timeout_s: float | None) -> None:
        """Let calls wait so long."""
        self._plain.settimeout(timeout_s)

    def setblocking(self, flag: bool) -> None:
        """Let calls wait, or not at all."""
        self._plain.setblocking(flag)

    def setsockopt(self, level: int, name: int, value: int) -> None:
        """Set an option of the socket."""
        self._plain.setsockopt(level, name, value)

    def fileno(self) -> int:
        """Return the socket's descriptor; -1 after `close`."""
        return self._plain.fileno()

    def close(self) -> None:
        """Close the socket; nothing more is said."""
        self._plain.close()


class BufferedContext:
    """What paho takes for a context: makes a `BufferedSocket` of a socket."""

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        """Keep what each connection needs.

        Args:
            context: how to verify the server, and what to show it.
            host: whom the server's certificate must name, wherever it was found.
        """
        self._context = context
        self._host = host
        self.check_hostname = context.check_hostname

    def wrap_socket(
        self,
        plain: socket.socket,
        *,
        server_hostname: str | None = None,  # noqa: ARG002 - of paho an address
        do_handshake_on_connect: bool = False,  # noqa: ARG002 - paho's call
    ) -> BufferedSocket:
        """Return TLS on a connected socket, before its handshake.

        Raises:
            ValueError: it is no name; the socket is closed.
        """
        try:
            return BufferedSocket(plain, self._context, server_hostname=self._host)
        except BaseException:
            plain.close()
            raise
