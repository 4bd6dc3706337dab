"""A bridge as a car sees it: MQTT topics, signed frames, nothing else.

Each check begins a new ledger in a new session, so that none of them rests on what the
one before left behind. What a bridge took of an entry is read from its receipts alone:
they name the hash of the last entry that it has.
"""

import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from protocol.codes import FrameClass, Role
from protocol.content import Body, parse_content
from protocol.entry import entry_hash
from protocol.errors import ProtocolError
from protocol.fleet import VehiclePart
from protocol.frame import Frame
from protocol.hello import NO_NONCE
from protocol.receipt import Receipt
from protocol.signing import verify_frame
from protocol.sync import Challenge
from protocol.topic import topic_of
from protocol.trust import TrustedKey
from tools.clock import read_clock, wall_s
from tools.conformance.bridge_player import Moment, Player
from tools.conformance.check import NotReachedError, Suite
from tools.conformance.wire import Seen, Wire
from transport.link import LinkSettings, MqttLink
from transport.tls import TlsIdentity, client_context, common_name


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait."""

    answer_s: float
    """For something that has to come."""
    quiet_s: float
    """For something that must not come."""


@dataclass(frozen=True, slots=True)
class Said:
    """A frame of the bridge whose signature holds under a key of the car's bundle."""

    seen: Seen
    """As it came."""
    frame: Frame
    """Its layout."""
    key: TrustedKey
    """Which key signed."""
    body: Body
    """What it says."""


@dataclass(slots=True)
class PlayedCar:
    """One car of the kit at its broker; connected while it is entered."""

    player: Player
    """Makes its frames."""
    address: tuple[str, int]
    """Of the broker."""
    patience: Patience
    """How long it waits."""
    wire: Wire = field(init=False)
    """Its connection."""
    _nonce: bytes = field(default=NO_NONCE, init=False)
    _judged: dict[bytes, Said | None] = field(default_factory=dict, init=False)

    async def __aenter__(self) -> Self:
        """Connect and listen on all of the car's own topics.

        Raises:
            LinkError, SubscriptionRefusedError: there is no way in.
        """
        directory = self.player.directory
        identity = TlsIdentity(
            directory / VehiclePart.TLS_CERTIFICATE,
            directory / VehiclePart.TLS_KEY,
            directory / VehiclePart.TRUST_ANCHORS,
        )
        link = MqttLink(
            LinkSettings(*self.address, client_id=common_name(identity)),
            client_context(identity, now=read_clock()),
        )
        self.wire = Wire(link, f"ff/v1/{self.player.vehicle_id}/down/+")
        await self.wire.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Disconnect."""
        await self.wire.__aexit__(exc_type, exc, traceback)

    async def begin(self) -> Receipt:
        """Begin a ledger and a session, and return the receipt of entry 1.

        Raises:
            NotReachedError: the bridge does not receipt it: nothing else can be tried.
        """
        first = self.player.begin(_now(), secrets.token_bytes(20))
        mark = self.wire.mark
        await self.greet()
        await self.send(first)
        receipt = await self.receipt_that(lambda one: one.upto >= 1, since=mark)
        if receipt is None:
            raise NotReachedError("the bridge gave no receipt for entry 1 of a ledger")
        return receipt

    async def restart(self) -> None:
        """Begin a session of the same ledger, without a hello."""
        # The count of starts is the time in seconds.
        await self.wire.quiet(1.1)
        self.player.restart(_now(), secrets.token_bytes(12))

    async def greet(self) -> bytes:
        """Send a hello, with the nonce of the newest challenge, and return it."""
        hello = self.player.hello(nonce=self.newest_nonce())
        await self.send(hello, FrameClass.HELLO)
        return hello

    async def send(
        self, data: bytes, frame_class: FrameClass = FrameClass.EVENT
    ) -> None:
        """Publish a frame, or anything else, on the car's topic of a class."""
        await self.wire.publish(topic_of(self.player.vehicle_id, frame_class), data)

    def said(self, *, since: int = 0) -> Sequence[Said]:
        """Return what the bridge signed, from a mark on."""
        return [said for seen in self.wire.since(since) if (said := self._judge(seen))]

    def receipts(self, *, since: int = 0) -> Sequence[Receipt]:
        """Return the receipts of the player's ledger, from a mark on."""
        return [
            said.body
            for said in self.said(since=since)
            if isinstance(said.body, Receipt)
            and said.body.ledger_id == self.player.ledger_id
        ]

    async def receipt(self, head_hash: bytes, *, since: int) -> Receipt | None:
        """Return the first receipt that names a hash, None if none comes in time."""
        return await self.receipt_that(
            lambda receipt: receipt.head_hash == head_hash, since=since
        )

    async def receipt_that(
        self,
        wanted: Callable[[Receipt], bool],
        *,
        since: int,
        within_s: float | None = None,
    ) -> Receipt | None:
        """Return the first receipt of the ledger that is wanted, or None."""

        def holds(said: Said) -> bool:
            body = said.body
            return (
                isinstance(body, Receipt)
                and body.ledger_id == self.player.ledger_id
                and wanted(body)
            )

        said = await self.first(holds, since=since, within_s=within_s)
        return said.body if said and isinstance(said.body, Receipt) else None

    async def first(
        self,
        wanted: Callable[[Said], bool],
        *,
        since: int,
        within_s: float | None = None,
    ) -> Said | None:
        """Return the first signed frame from a mark on that is wanted, or None."""

        def holds(seen: Seen) -> bool:
            said = self._judge(seen)
            return said is not None and wanted(said)

        seen = await self.wire.first(
            holds,
            since=since,
            within_s=self.patience.answer_s if within_s is None else within_s,
        )
        return None if seen is None else self._judge(seen)

    def was_receipted(self, data: bytes) -> bool:
        """Return whether any receipt ever named these bytes as an entry."""
        return any(
            isinstance(said.body, Receipt) and said.body.head_hash == entry_hash(data)
            for said in self.said()
        )

    async def marker(self) -> bytes:
        """Send a good entry and return it; what came before it is taken by then.

        Raises:
            NotReachedError: no receipt names it.
        """
        mark, data = self.wire.mark, self.player.started()
        await self.send(data)
        if await self.receipt(entry_hash(data), since=mark) is None:
            raise NotReachedError("the bridge did not receipt a good entry afterwards")
        return data

    async def quiet(self) -> None:
        """Wait for what must not come."""
        await self.wire.quiet(self.patience.quiet_s)

    def newest_nonce(self) -> bytes:
        """Return the nonce of the newest challenge, zeros if there was none."""
        for said in self.said():
            if isinstance(said.body, Challenge):
                self._nonce = said.body.nonce
        return self._nonce

    def _judge(self, seen: Seen) -> Said | None:
        if seen.data not in self._judged:
            self._judged[seen.data] = self._verify(seen)
        return self._judged[seen.data]

    def _verify(self, seen: Seen) -> Said | None:
        frame, known = seen.frame, self.player.fleet_keys
        if frame is None or frame.header.key_id not in known:
            return None
        key, trusted = known[frame.header.key_id]
        frame_class = frame.header.frame_class
        if frame_class is not FrameClass.TRUST:
            is_receipt = frame_class is FrameClass.RECEIPT
            if is_receipt is not (trusted.role is Role.RECEIPT):
                return None
        with suppress(ProtocolError):
            verify_frame(frame, fleet_id=self.player.fleet_id, key=key)
            return Said(seen, frame, trusted, parse_content(frame).body)
        return None


@dataclass(slots=True)
class Subject:
    """A bridge under test, by the cars that are played to it."""

    car: PlayedCar
    """The one that most checks play."""
    other: PlayedCar | None = None
    """Another of the same fleet."""
    order_url: str = ""
    """Beginning of the URL of an API like ours, to order commands; empty for none."""
    api_key: str = field(default="", repr=False)
    """Opens it."""
    may_rotate: bool = False
    """Whether the car's key may be used up."""
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack, init=False)

    async def __aenter__(self) -> Self:
        """Connect the cars.

        Raises:
            LinkError, SubscriptionRefusedError: there is no way in for one of them.
        """
        async with AsyncExitStack() as stack:
            for car in (self.car, self.other):
                if car is not None:
                    await stack.enter_async_context(car)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Disconnect them."""
        await self._stack.__aexit__(exc_type, exc, traceback)


BRIDGE_SUITE: Final = Suite[Subject]("bridge")
"""Everything that is tried on a bridge."""


def _now() -> Moment:
    boot_ms = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
    return Moment(boot_ms, round(wall_s() * 1000))
