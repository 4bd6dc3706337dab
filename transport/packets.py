"""Cutting the bytes of an MQTT connection into packets, and reading a PUBLISH; pure.

paho reads a packet by three calls of TLS, a dozen of locks and a log line, which costs
a bridge more than the signature that it verifies (docs/adr/0018-intake-at-speed.md).
Most of what a bridge receives is PUBLISH at QoS 0 or 1, so those are read here, as many
as one read of the socket brought, and every other packet goes to paho as it is.
"""

from typing import Final, NamedTuple

PUBLISH: Final = 0x30
"""High nibble of a PUBLISH's first byte (MQTT 5, 2.1.2)."""

PUBACK_5: Final = b"\x40\x02"
"""PUBACK with reason "success", before the packet id: two bytes may stand alone in both
versions (MQTT 5, 3.4.2.1)."""

_KIND: Final = 0xF0
_DUPLICATE: Final = 0x08
_QOS: Final = 0x06
_RETAIN: Final = 0x01
_QOS_2: Final = 2

_LENGTH_BYTES: Final = 4
"""A remaining length, and the length of properties, has at most so many bytes."""


class MalformedError(ValueError):
    """These bytes are no MQTT; the connection cannot go on."""


class Publish(NamedTuple):
    """What a PUBLISH says."""

    topic: bytes
    """Where; UTF-8 if the sender is honest."""
    payload: bytes
    """What."""
    mid: int
    """Packet id; 0 with QoS 0."""
    qos: int
    """0 or 1."""
    is_retained: bool
    """Whether the broker had kept it."""
    is_duplicate: bool
    """Whether the broker says that it has sent it before."""


class Packet(NamedTuple):
    """Any other packet."""

    first: int
    """Its first byte: type and flags."""
    body: bytes
    """What stands behind the remaining length."""


class PacketStream:
    """Collects bytes and gives out whole packets."""

    def __init__(self, *, is_v5: bool) -> None:
        self._is_v5 = is_v5
        self._rest = b""

    def feed(self, data: bytes) -> list[Publish | Packet]:
        """Return the packets that are whole now; the rest is kept.

        Raises:
            MalformedError: a length is wrong; nothing of `data` was read.
        """
        if self._rest:
            data = self._rest + data
        found: list[Publish | Packet] = []
        at, end = 0, len(data)
        while end - at > 1:
            size = data[at + 1]
            body = at + 2
            if size > 127:  # noqa: PLR2004 - more bytes of the length follow
                try:
                    size, body = _varint(data, at + 1)
                except IndexError:
                    break
            after = body + size
            if after > end:
                break
            first = data[at]
            if first & _KIND == PUBLISH and (first & _QOS) >> 1 < _QOS_2:
                found.append(self._publish(first, data[body:after]))
            else:
                found.append(Packet(first, data[body:after]))
            at = after
        self._rest = data[at:]
        return found

    def _publish(self, first: int, body: bytes) -> Publish:
        try:
            at = 2 + (body[0] << 8 | body[1])
            topic = body[2:at]
            qos, mid = (first & _QOS) >> 1, 0
            if qos:
                mid = body[at] << 8 | body[at + 1]
                at += 2
            if self._is_v5:
                size = body[at]
                at += 1
                if size:
                    size, at = _varint(body, at - 1)
                    # Expiry, content type and the like: nothing here acts by them.
                    at += size
        except IndexError:
            raise MalformedError("a PUBLISH that ends too early") from None
        if at > len(body) or (qos and not mid):
            raise MalformedError("a PUBLISH without a packet id, or cut off")
        return Publish(
            topic, body[at:], mid, qos, bool(first & _RETAIN), bool(first & _DUPLICATE)
        )


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a variable byte integer and the offset behind it (MQTT 5, 1.5.5).

    Raises:
        IndexError: `data` ends within it.
        MalformedError: it is longer than one may be.
    """
    value = 0
    for place in range(_LENGTH_BYTES):
        digit = data[at + place]
        value |= (digit & 0x7F) << (7 * place)
        if digit < 0x80:  # noqa: PLR2004 - no further byte follows
            return value, at + place + 1
    raise MalformedError("a length of more than four bytes")


def publication(
    topic: bytes, payload: bytes, *, is_v5: bool, expiry_s: int | None
) -> bytes:
    """Return a PUBLISH of QoS 0; the expiry needs MQTT 5 and is left out otherwise."""
    body = [len(topic).to_bytes(2, "big"), topic]
    if is_v5:
        # Message expiry interval: 4 bytes behind its identifier (3.3.2.3.3).
        expiry = b"" if expiry_s is None else b"\x02" + expiry_s.to_bytes(4, "big")
        body.append(bytes([len(expiry)]) + expiry)
    body.append(payload)
    rest = b"".join(body)
    size, length = len(rest), bytearray()
    while True:
        size, low = divmod(size, 0x80)
        length.append(low | (0x80 if size else 0))
        if not size:
            return bytes([PUBLISH]) + length + rest


def puback(mid: int) -> bytes:
    """Return the packet that acknowledges a PUBLISH of QoS 1."""
    return PUBACK_5 + mid.to_bytes(2, "big")
