"""The first word of TLS, written and read by hand (RFC 5246, 7.4.1; RFC 8446, 4.1.2).

OpenSSL 3 does not even ask for what K3 forbids (SSL 3, RC4, export suites,
compression), so it cannot show that a server refuses it. A server's answer to a hello
is in the clear: a ServerHello names version, suite and compression that it chose.
(sslyze, which asks too, wants an older cryptography than we ship.)
"""

import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey


class Version(IntEnum):
    """As they stand on the wire."""

    SSL_3 = 0x0300
    TLS_1_0 = 0x0301
    TLS_1_1 = 0x0302
    TLS_1_2 = 0x0303
    TLS_1_3 = 0x0304


TLS_1_3_SUITES: Final = {0x1301, 0x1302, 0x1303}
"""AES-128-GCM, AES-256-GCM, ChaCha20-Poly1305 (RFC 8446, B.4)."""

TLS_1_3_OTHERS: Final = {0x1304, 0x1305}
"""AES-128-CCM, and with the tag cut to 8 bytes."""

TLS_1_2_SUITES: Final = {0xC02B, 0xC02C, 0xC02F, 0xC030, 0xCCA8, 0xCCA9}
"""ECDHE with ECDSA or RSA, and AES-GCM or ChaCha20-Poly1305 (RFC 9325, 4.2)."""

EVERY_OLD_SUITE: Final = (
    *range(0x0001, 0x00C6),
    *range(0xC001, 0xC0B0),
    0xCCA8,
    0xCCA9,
)
"""What IANA gave to TLS 1.2 and older: NULL, export, RC4, 3DES, CBC, static RSA too."""

SIGNALS: Final = {0x00FF, 0x5600}
"""No suites: "no unsafe renegotiation" (RFC 5746) and "fallen back" (RFC 7507)."""

NO_COMPRESSION: Final = b"\0"
DEFLATE: Final = b"\1"

PATIENCE_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a server took of a hello."""

    version: int
    suite: int
    compression: int


@dataclass(frozen=True, slots=True)
class Refused:
    """An alert, or a connection that was ended without one."""

    alert: int | None


@dataclass(frozen=True, slots=True)
class Hello:
    """What a client offered."""

    versions: tuple[int, ...]
    suites: tuple[int, ...]
    compressions: bytes


def build_hello(
    version: Version, suites: Sequence[int], *, compressions: bytes = NO_COMPRESSION
) -> bytes:
    """Return one record that offers this version alone."""
    more = [
        # Groups: x25519, secp256r1, secp384r1, ffdhe2048. Points: uncompressed.
        (0x000A, _sized(2, struct.pack("!4H", 0x001D, 0x0017, 0x0018, 0x0100))),
        (0x000B, b"\1\0"),
        # Every signature that a certificate of P-256 or RSA can give, old ones too.
        (0x000D, _sized(2, bytes.fromhex("0403050308040805080604010501020302010807"))),
    ]
    if version is Version.TLS_1_3:
        share = X25519PrivateKey.generate().public_key().public_bytes_raw()
        entry = struct.pack("!H", 0x001D) + _sized(2, share)
        more += [
            (0x002B, _sized(1, struct.pack("!H", version))),
            (0x0033, _sized(2, entry)),
        ]
    body = struct.pack("!H", min(version, Version.TLS_1_2)) + os.urandom(32)
    body += _sized(1, os.urandom(32))
    body += _sized(2, b"".join(struct.pack("!H", suite) for suite in suites))
    body += _sized(1, compressions)
    if version is not Version.SSL_3:
        packed = (struct.pack("!H", kind) + _sized(2, text) for kind, text in more)
        body += _sized(2, b"".join(packed))
    message = b"\1" + len(body).to_bytes(3, "big") + body
    return struct.pack("!BH", 22, min(version, Version.TLS_1_0)) + _sized(2, message)


def offer(
    address: tuple[str, int],
    version: Version,
    suites: Sequence[int],
    *,
    compressions: bytes = NO_COMPRESSION,
) -> Chosen | Refused:
    """Say hello to a server and return its answer."""
    with socket.create_connection(address, PATIENCE_S) as connection:
        try:
            connection.sendall(build_hello(version, suites, compressions=compressions))
            with connection.makefile("rb") as answer:
                kind, _, length = struct.unpack("!BHH", answer.read(5))
                body = answer.read(length)
        except (ConnectionError, struct.error):
            return Refused(None)
    if kind == 21:
        return Refused(body[1])
    assert (kind, body[0]) == (22, 2), "neither an alert nor a ServerHello"
    return _read_server_hello(body[4:])


def _read_server_hello(body: bytes) -> Chosen:
    (version,) = struct.unpack_from("!H", body)
    at = 35 + body[34]
    suite, compression = struct.unpack_from("!HB", body, at)
    for kind, text in _extensions(body[at + 3 :]):
        if kind == 0x002B:
            (version,) = struct.unpack("!H", text)
    return Chosen(version, suite, compression)


def read_hello(record: bytes) -> Hello:
    """Read what a client said first."""
    assert record[0] == 22
    assert record[5] == 1
    body = record[9:]
    at = 35 + body[34]
    (length,) = struct.unpack_from("!H", body, at)
    suites = struct.unpack_from(f"!{length // 2}H", body, at + 2)
    at += 2 + length
    compressions = body[at + 1 : at + 1 + body[at]]
    versions: tuple[int, ...] = struct.unpack_from("!H", body)
    for kind, text in _extensions(body[at + 1 + body[at] :]):
        if kind == 0x002B:
            versions = struct.unpack(f"!{text[0] // 2}H", text[1:])
    return Hello(versions, suites, compressions)


def _extensions(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 2
    while at < len(data):
        kind, length = struct.unpack_from("!HH", data, at)
        yield kind, data[at + 4 : at + 4 + length]
        at += 4 + length


def _sized(width: int, data: bytes) -> bytes:
    return len(data).to_bytes(width, "big") + data
