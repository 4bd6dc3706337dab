"""MQTT by hand, for what no client of ours would send (OASIS MQTT 3.1.1 and 5)."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.broker.room import Room
from transport.tls import TlsIdentity

CONNACK: Final = 0x20
PUBACK: Final = 0x40
NOT_AUTHORISED: Final = 135
"""Reason code of MQTT 5 (3.4.2.1): the broker does not allow this publish."""

PATIENCE_S: Final = 10.0


def attacker_context(room: Room, identity: TlsIdentity | None) -> ssl.SSLContext:
    """A context without our own checks, as an attacker would make it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(room.pki.anchors)
    if identity is not None:
        context.load_cert_chain(identity.certificate, identity.key)
    return context


class RawClient:
    """One connection; every method sends one packet or waits for one."""

    def __init__(self, connection: ssl.SSLSocket, *, level: int) -> None:
        self._connection = connection
        self._level = level

    def connect(self, client_id: str, *, username: str | None = None) -> int | None:
        """Return the reason code of the CONNACK; None if the broker hangs up."""
        flags = 0x02 | (0x80 if username is not None else 0)
        body = _text("MQTT") + bytes([self._level, flags, 0, 30]) + self._no_properties
        body += _text(client_id) + (b"" if username is None else _text(username))
        self._send(0x10, body)
        packet = self._receive()
        if packet is None:
            return None
        assert packet[0] == CONNACK
        return packet[1][1]

    def publish(self, topic: str, payload: bytes) -> int | None:
        """Publish with QoS 1; return the PUBACK's reason code, None if none comes."""
        body = _text(topic) + b"\0\1" + self._no_properties + payload
        self._send(0x32, body)
        packet = self._receive()
        if packet is None:
            return None
        assert packet[0] == PUBACK
        return packet[1][2] if len(packet[1]) > 2 else 0

    @property
    def _no_properties(self) -> bytes:
        return b"\0" if self._level == 5 else b""

    def _send(self, kind: int, body: bytes) -> None:
        self._connection.sendall(bytes([kind]) + _length(len(body)) + body)

    def _receive(self) -> tuple[int, bytes] | None:
        try:
            kind = self._read(1)[0]
            length = shift = 0
            while True:
                byte = self._read(1)[0]
                length |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    break
            return kind & 0xF0, self._read(length)
        except (EOFError, OSError):
            return None

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self._connection.recv(size - len(data))
            if not more:
                raise EOFError
            data += more
        return data


@contextmanager
def raw_client(
    room: Room, identity: TlsIdentity, *, level: int | None = None
) -> Iterator[RawClient]:
    """Open TLS with a certificate; MQTT 5 where the broker speaks it."""
    level = level or (5 if room.is_mosquitto else 4)
    address = (room.broker.host, room.broker.port)
    with (
        socket.create_connection(address, PATIENCE_S) as plain,
        attacker_context(room, identity).wrap_socket(
            plain, server_hostname=room.broker.host
        ) as secured,
    ):
        yield RawClient(secured, level=level)


def _text(text: str) -> bytes:
    return len(text.encode()).to_bytes(2, "big") + text.encode()


def _length(size: int) -> bytes:
    found = b""
    while True:
        size, byte = divmod(size, 128)
        found += bytes([byte | (0x80 if size else 0)])
        if not size:
            return found
