"""What the bridge needs from outside: time, randomness, a broker, a signer, an eye.

`transport.link.MqttLink` fits `Link` as it is. Tests put an in-memory broker, a manual
clock and counted randomness here.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from enum import StrEnum, unique
from typing import Protocol, Self

from protocol.codes import Opcode
from protocol.frame import Frame
from protocol.identity import VehicleId
from protocol.receipt import Receipt
from protocol.sync import SyncBody

WallClock = Callable[[], int]
"""Returns UTC in ms. Commands expire by a car's clock, which is estimated from it."""

RandomBytes = Callable[[int], bytes]
"""Returns that many unpredictable bytes."""


class Message(Protocol):
    """A message as a broker delivered it."""

    @property
    def topic(self) -> str:
        """Where it was published; proves nothing about who did."""

    @property
    def payload(self) -> bytes:
        """As published."""

    @property
    def retain(self) -> bool:
        """Whether the broker had kept it from before our subscription."""


class Incoming(Message, Protocol):
    """A message that the broker holds until `done`."""

    def done(self) -> None:
        """Acknowledge it; only after what it caused is durable (I-23)."""


class Link(Protocol):
    """One connection to a broker."""

    async def publish(
        self, topic: str, payload: bytes, *, expiry_s: int | None = None
    ) -> None:
        """Publish and return when the broker has taken it.

        Raises:
            TransportError: refused, unknown, or no link.
        """

    def post(self, topic: str, payload: bytes, *, expiry_s: int | None = None) -> None:
        """Publish with QoS 0: at once, and nobody says what becomes of it.

        Raises:
            TransportError: not sent.
        """

    async def subscribe(self, *topic_filters: str) -> None:
        """Subscribe to every filter.

        Raises:
            TransportError: refused, or no link.
        """

    async def take(self, limit: int) -> Sequence[Incoming]:
        """Return the next messages, at least one and at most `limit`.

        Raises:
            TransportError: the link was lost and nothing is left of it.
        """

    @property
    def waiting(self) -> int:
        """Messages that have arrived and were not taken yet."""


Connect = Callable[[], AbstractAsyncContextManager[Link]]
"""Makes one connection; entered once, made anew to reconnect."""


@unique
class Direction(StrEnum):
    """Which way a frame went, in the signs of the log."""

    IN = "<"
    OUT = ">"


@dataclass(frozen=True, slots=True)
class FrameSeen:
    """One frame on the wire, as an observer of the bridge is told of it."""

    direction: Direction
    """Received or sent."""
    topic: str
    """Where it was published."""
    data: bytes
    """As it crossed the wire."""
    frame: Frame | None
    """Its layout, or None if the bytes are no frame."""
    note: str
    """What became of it: empty for "as it should be", else one or a few words."""


Observer = Callable[[FrameSeen], None]
"""Called in the event loop for every frame, after its batch is committed or it is sent.
It must return at once; an exception of it is logged and ignored."""


@dataclass(frozen=True, slots=True)
class Addressee:
    """A car as a signer needs to know it."""

    vehicle_id: VehicleId
    """Which car."""
    session_id: bytes
    """16 bytes: its session."""
    group: int
    """Its group, from its hello."""
    bundle_version: int
    """The trust bundle that it has, from its hello."""
    car_now_ms: int
    """Estimated boot clock of the car, never ahead of it."""
    wall_ms: int
    """UTC ms: when the frame is signed."""

    def in_session(self, session_id: bytes) -> Self:
        """Return the same car in another session."""
        return replace(self, session_id=session_id)


@dataclass(frozen=True, slots=True)
class SigningOrder:
    """A command that is ready to be signed."""

    to: Addressee
    """Whom it addresses."""
    opcode: Opcode
    """What it asks for; fixes the lane and the longest life."""
    payload: bytes
    """Its encoded body."""
    msg_id: bytes
    """16 bytes: the command's id."""
    consent: bytes = b""
    """The signed word of a second person (`bridge.consent`); empty for none."""


@dataclass(frozen=True, slots=True)
class SignedCommand:
    """A signed command and what its header says."""

    data: bytes
    """The frame."""
    key_id: bytes
    """8 bytes."""
    lane: int
    """Its lane."""
    seq: int
    """Its sequence in key, session and lane; durable before this object exists."""
    not_after_ms: int
    """On the car's boot clock."""


class CommandSigner(Protocol):
    """Signs commands: in this process, behind a socket or in an HSM."""

    async def sign(self, order: SigningOrder) -> SignedCommand:
        """Sign, with the next sequence stored before this returns.

        Raises:
            SigningError: the key may not sign this opcode, lane or now.
            StoreError: the sequence could not be stored.
        """


class SyncSigner(Protocol):
    """Signs what keeps a car in step: SYNC and TRUST frames."""

    async def synchronise(
        self, to: Addressee, body: SyncBody, *, consent: bytes = b""
    ) -> bytes:
        """Return a SYNC frame, with its sequence stored before this returns.

        Args:
            to: whom it is for.
            body: what it says.
            consent: the signed word of a second person (`bridge.consent`); empty for
                none.

        Raises:
            SigningError: the key may not sign this type or now.
            StoreError: the sequence could not be stored.
        """

    async def carry(self, to: Addressee) -> bytes:
        """Return a TRUST frame with the newest bundle.

        Raises:
            SigningError: the car knows no key of this bridge.
        """


class ReceiptSigner(Protocol):
    """Signs receipts and nothing else."""

    def sign(self, receipt: Receipt, to: Addressee) -> bytes:
        """Return the frame.

        Raises:
            SigningError: the key may not sign receipts now.
        """


class SequenceStore(Protocol):
    """Keeps, durably, which sequences a signer has used."""

    async def reserve_sequences(
        self, key_id: bytes, session_id: bytes, lane: int, count: int
    ) -> int:
        """Reserve `count` sequences and return the first.

        Raises:
            StoreError: not stored; none of them may be used.
        """
