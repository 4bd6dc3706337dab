"""What bridge and signer say to each other over a Unix socket.

A message is its length in four bytes, big-endian, and that many bytes of MessagePack:
a map whose ``type`` says which of the records below it is. Both sides refuse what is
longer than `MESSAGE_LIMIT` or no such record, and end the connection then; nothing else
is remembered of a connection. Pure: bytes in, records out.
"""

from collections.abc import Iterator
from typing import Annotated, Final

import msgspec

from bridge.errors import BridgeError

VERSION: Final = 3
"""Of these messages; a signer of another one is not asked."""

LENGTH_SIZE: Final = 4
MESSAGE_LIMIT: Final = 32_768
"""Bytes of a message: a frame, a consent for a thousand cars, and what is beside."""

Id8 = Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]
Id16 = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
Hash = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Record(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    tag_field="type",
    tag=str.lower,
):
    """One message."""


class Greeting(Record, frozen=True):
    """The signer's first words, and again when its keys changed."""

    version: int
    """`VERSION`."""
    fleet_id: Id16
    """Whose keys they are."""
    public_keys: tuple[bytes, ...]
    """Raw, the preferred one first."""
    entries: Number
    """How many entries its log has."""
    head: Hash
    """The hash of the last one."""


class Ask(Record, frozen=True):
    """A frame to be signed."""

    number: Number
    """Names the answer; the asker's own."""
    epoch: Number
    """Of the asker's lease: whoever has an older one than somebody else is refused."""
    car_now_ms: Number
    """Estimated boot clock of the car, from which the frame's life is counted."""
    unsigned: bytes
    """The frame without its signature."""
    consent: bytes = b""
    """The second person's word (`bridge.consent`); empty for none."""


class Signed(Record, frozen=True):
    """A signature."""

    number: Number
    """Of what was asked."""
    entry: Number
    """Its entry in the signer's log, which is durable before this is said."""
    signature: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
    """64 bytes."""


class Refused(Record, frozen=True):
    """Nothing was signed."""

    number: Number
    """Of what was asked."""
    message: Annotated[str, msgspec.Meta(max_length=300)]
    """Why, for people."""
    retry_after_s: Annotated[int, msgspec.Meta(ge=0, le=86_400)] = 0
    """When it may be asked again; 0 if that would change nothing."""


class Ping(Record, frozen=True):
    """Whether the signer still answers; it waits in the same row as what is asked."""

    number: Number
    """Names the answer; the asker's own."""


class Pong(Record, frozen=True):
    """It does."""

    number: Number
    """Of the `Ping`."""


Message = Greeting | Ask | Signed | Refused | Ping | Pong


class MessageError(BridgeError):
    """The other side does not keep to these messages; end the connection."""


_DECODER: Final = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """Return a message with its length before it."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(LENGTH_SIZE, "big") + body


class Inbox:
    """Cuts what arrives into messages."""

    def __init__(self) -> None:
        self._held = bytearray()

    def take(self, data: bytes) -> Iterator[Message]:
        """Yield the messages that are whole now.

        Raises:
            MessageError: too long, or none of these messages.
        """
        self._held += data
        while len(self._held) >= LENGTH_SIZE:
            length = int.from_bytes(self._held[:LENGTH_SIZE], "big")
            if length > MESSAGE_LIMIT:
                raise MessageError(f"a message of {length} bytes")
            if len(self._held) < LENGTH_SIZE + length:
                return
            body = bytes(self._held[LENGTH_SIZE : LENGTH_SIZE + length])
            del self._held[: LENGTH_SIZE + length]
            yield _decode(body)


def _decode(body: bytes) -> Message:
    try:
        found: Message = _DECODER.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise MessageError("this is none of the messages") from error
    return found
