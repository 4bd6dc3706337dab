"""A broker in memory and the ways to it, which do to messages what a seed decides.

A way is one client's TCP connection: in order, until it is cut or stalls. Between the
ways stands the broker, and it is hostile: it loses what it acknowledged, repeats, holds
back, alters, misroutes, retains and replays. It cannot sign. Sessions are clean, as
ours are: what was under way when a connection ended is gone (reliability.md L1, L9).
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from random import Random
from types import TracebackType
from typing import Final, Self

from protocol.entry import entry_hash
from protocol.frame import FRAME_LIMIT, parse_frame
from protocol.identity import VehicleId
from protocol.receipt import RECEIPT
from protocol.topic import PREFIX
from tests.simulation.hostility import KIND, Hostility
from tests.simulation.trace import Trace
from transport.errors import LinkError, LinkFailure, OutcomeUnknownError

BRIDGE: Final = "bridge"

PUBLISH_TIMEOUT_S: Final = 10.0
"""As of `transport.link.LinkSettings`."""

KEEPALIVE_LOST_S: Final = 30.0
"""Twice the keepalive of `transport.link.LinkSettings`."""

RECORDED: Final = 2_000
"""Messages that an attacker remembers."""


@dataclass(slots=True, eq=False)
class Message:
    """Implements the messages of both sides' links."""

    topic: str
    payload: bytes
    retain: bool = False
    on_done: Callable[[bytes], None] | None = None

    def done(self) -> None:
        if self.on_done is not None:
            self.on_done(self.payload)


@dataclass(slots=True)
class Way:
    """The medium between one client and the broker."""

    client: str
    is_cut: bool = False
    """No connection comes up."""
    is_deaf: bool = False
    """What the broker says does not arrive, and nobody is told."""
    is_mute: bool = False
    """What the client says does not arrive, and nobody is told."""
    link: "Link | None" = None


class Link:
    """One connection; implements the link ports of gateway and bridge."""

    def __init__(
        self, broker: "Broker", way: Way, will: tuple[str, bytes] | None
    ) -> None:
        self._broker = broker
        self._way = way
        self._will = will
        self._inbox = asyncio.Queue[Message | None]()
        self._lost = asyncio.Event()
        self._there_s = 0.0
        self._back_s = 0.0

    async def __aenter__(self) -> Self:
        way = self._way
        await asyncio.sleep(2 * self._broker.latency_s())
        if way.is_mute or way.is_deaf:
            await asyncio.sleep(PUBLISH_TIMEOUT_S)
            raise LinkError("no answer", failure=LinkFailure.TIMEOUT)
        if way.is_cut:
            raise LinkError("nothing answers", failure=LinkFailure.UNREACHABLE)
        if way.link is not None:
            way.link.lose()
        way.link = self
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # An orderly DISCONNECT, if it arrives: then no will is published.
        if not self._way.is_mute:
            self._will = None
        self.lose()

    @property
    def is_lost(self) -> bool:
        return self._lost.is_set()

    def lose(self) -> None:
        """End the connection; the broker publishes the will if it was not closed."""
        if self._lost.is_set():
            return
        self._lost.set()
        self._inbox.put_nowait(None)
        if self._way.link is self:
            self._way.link = None
        if self._will is not None:
            self._broker.later(self._broker.silence_s(), *self._will)

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        expiry_s: int | None = None,  # noqa: ARG002 - see `_arrive`
    ) -> None:
        """Publish at QoS 1; see `transport.link.MqttLink.publish`."""
        if self._lost.is_set():
            raise LinkError("the link is lost", failure=LinkFailure.LOST)
        loop, broker = asyncio.get_running_loop(), self._broker
        self._there_s = max(self._there_s, loop.time() + broker.latency_s())
        acknowledged = loop.create_future()
        loop.call_at(self._there_s, self._arrive, topic, payload, acknowledged)
        lost = asyncio.ensure_future(self._lost.wait())
        try:
            await asyncio.wait(
                {acknowledged, lost},
                timeout=PUBLISH_TIMEOUT_S,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            lost.cancel()
        if not acknowledged.done():
            acknowledged.cancel()
            raise OutcomeUnknownError("no answer", failure=LinkFailure.TIMEOUT)

    def _arrive(
        self,
        topic: str,
        payload: bytes,
        acknowledged: "asyncio.Future[None] | None" = None,
    ) -> None:
        if self._lost.is_set() or self._way.is_mute:
            return
        # Some brokers know no expiry (L9); this one is of them.
        self._broker.take(self._way.client, topic, payload)
        if acknowledged is not None:
            self._say(lambda: _settle(acknowledged))

    def post(
        self,
        topic: str,
        payload: bytes,
        *,
        expiry_s: int | None = None,  # noqa: ARG002 - see `_arrive`
    ) -> None:
        """Publish at QoS 0; see `bridge.ports.Link`."""
        if self._lost.is_set():
            raise LinkError("the link is lost", failure=LinkFailure.LOST)
        loop = asyncio.get_running_loop()
        self._there_s = max(self._there_s, loop.time() + self._broker.latency_s())
        loop.call_at(self._there_s, self._arrive, topic, payload)

    def deliver(self, message: Message) -> None:
        """Bring a message down the connection."""
        self._say(lambda: self._inbox.put_nowait(message))

    def _say(self, what: Callable[[], object]) -> None:
        loop = asyncio.get_running_loop()
        self._back_s = max(self._back_s, loop.time() + self._broker.latency_s())

        def arrive() -> None:
            if not (self._lost.is_set() or self._way.is_deaf):
                what()

        loop.call_at(self._back_s, arrive)

    async def subscribe(self, *_topic_filters: str) -> None:
        await asyncio.sleep(2 * self._broker.latency_s())
        if self._lost.is_set():
            raise LinkError("the link is lost", failure=LinkFailure.LOST)

    async def take(self, limit: int) -> list[Message]:
        """Return the next messages; see `bridge.ports.Link`."""
        taken: list[Message] = []
        while len(taken) < limit and not (taken and self._inbox.empty()):
            message = await self._inbox.get()
            if message is None:
                self._inbox.put_nowait(None)
                break
            taken.append(message)
        if not taken:
            raise LinkError("the link is lost", failure=LinkFailure.LOST)
        return taken

    @property
    def waiting(self) -> int:
        """Messages that have arrived and were not taken yet."""
        return self._inbox.qsize()

    async def messages(self) -> AsyncIterator[Message]:
        while (message := await self._inbox.get()) is not None:
            yield message
        raise LinkError("the link is lost", failure=LinkFailure.LOST)


def _settle(acknowledged: "asyncio.Future[None]") -> None:
    if not acknowledged.done():
        acknowledged.set_result(None)


@dataclass
class Broker:
    """All ways meet here."""

    rng: Random
    trace: Trace
    hostility: Hostility = KIND
    ways: dict[str, Way] = field(default_factory=dict)
    recorded: list[tuple[str, bytes]] = field(default_factory=list)
    _withheld: dict[bytes, float] = field(default_factory=dict)
    """Until when copies of a message that is held back are lost."""
    on_published: Callable[[str, str, bytes], None] = lambda *_: None
    """Told of what clients publish, before anything is done to it."""
    on_done: Callable[[bytes], None] | None = None
    """Told of what the bridge acknowledges."""

    def way(self, client: str) -> Way:
        """Return a client's way."""
        return self.ways.setdefault(client, Way(client))

    def connect(self, client: str, will: tuple[str, bytes] | None = None) -> Link:
        """Return a connection that has not been entered."""
        return Link(self, self.way(client), will)

    def cut(self, client: str) -> None:
        """Reset a client's connection; a new one may come up unless the way is cut."""
        link = self.way(client).link
        if link is not None:
            link.lose()

    def latency_s(self) -> float:
        """Return how long one packet is under way."""
        return self.rng.uniform(0.2, 1.8) * self.hostility.latency_s

    def silence_s(self) -> float:
        """Return how long a broker needs to notice that a client is gone."""
        return self.rng.choice((0.05, 1.0, KEEPALIVE_LOST_S))

    # -- what is done to messages --------------------------------------------------

    def take(self, client: str, topic: str, payload: bytes) -> None:
        """Take a message from a client and do with it what the seed decides."""
        self.on_published(client, topic, payload)
        self._record(topic, payload)
        worse, chance = self.hostility, self.rng.random
        now_s = asyncio.get_running_loop().time()
        if now_s < self._withheld.get(payload, 0.0):
            self.trace.count("messages lost")
            return
        if chance() < worse.spoil:
            self.trace.count("messages altered")
            self.later(self._soon(5.0), topic, self._spoilt(payload))
        if chance() < worse.forge:
            self._forge(topic)
        if chance() < worse.misroute:
            self.trace.count("messages misrouted")
            self.later(self._soon(5.0), self._astray(topic), payload)
        if chance() < worse.repeat:
            self.trace.count("messages repeated")
            self.later(self._soon(60.0), topic, payload)
        if chance() < worse.retain:
            self.trace.count("messages retained")
            self.later(self._soon(60.0), topic, payload, retain=True)
        if chance() < worse.lose:
            self.trace.count("messages lost")
        elif chance() < worse.hold:
            self.trace.count("messages held back")
            delay_s = self._soon(40.0)
            self._withheld[payload] = now_s + delay_s
            self.later(delay_s, topic, payload)
        else:
            self.deliver(topic, payload)

    def replay(self) -> None:
        """Bring a recorded message again, to its own topic or to another one."""
        if self.recorded:
            topic, payload = self.rng.choice(self.recorded)
            self.trace.count("messages replayed")
            if self.rng.random() < 0.3:
                topic = self._astray(topic)
            self.deliver(topic, payload, retain=self.rng.random() < 0.1)

    def later(
        self, delay_s: float, topic: str, payload: bytes, *, retain: bool = False
    ) -> None:
        """Deliver a message after a while."""
        loop = asyncio.get_running_loop()
        loop.call_later(delay_s, lambda: self.deliver(topic, payload, retain=retain))

    def deliver(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Hand a message to who is subscribed to its topic and connected."""
        _, _, vehicle, direction, *_ = topic.split("/")
        client = BRIDGE if direction == "up" else vehicle
        link = self.way(client).link
        if link is not None:
            on_done = self.on_done if client == BRIDGE else None
            link.deliver(Message(topic, payload, retain, on_done))

    def _forge(self, topic: str) -> None:
        """Send a car a receipt of our own for the newest entry that we saw of it.

        It fits the car's ledger in every byte but the signature, which is an old one's.
        """
        vehicle = topic.split("/")[2]
        entry = receipt = None
        for known, payload in self.recorded:
            if known == f"{PREFIX}/{vehicle}/up/event":
                entry = payload
            elif known == f"{PREFIX}/{vehicle}/down/receipt":
                receipt = payload
        if entry is None or receipt is None:
            return
        old, head = parse_frame(receipt), parse_frame(entry)
        claim = RECEIPT.parse(old.payload)
        body = RECEIPT.build(
            replace(
                claim, upto=head.header.seq, head_hash=entry_hash(entry), rejects=()
            )
        )
        forged = receipt.replace(old.payload, body)
        if len(body) == len(old.payload):
            self.trace.count("receipts forged")
            self.later(self._soon(2.0), f"{PREFIX}/{vehicle}/down/receipt", forged)

    def _record(self, topic: str, payload: bytes) -> None:
        if len(self.recorded) < RECORDED:
            self.recorded.append((topic, payload))
        else:
            self.recorded[self.rng.randrange(RECORDED)] = (topic, payload)

    def _soon(self, most_s: float) -> float:
        return self.rng.random() ** 2 * most_s

    def _spoilt(self, payload: bytes) -> bytes:
        data = bytearray(payload)
        match self.rng.randrange(4):
            case 0 if data:
                place = self.rng.randrange(len(data))
                data[place] ^= 1 << self.rng.randrange(8)
            case 1:
                del data[self.rng.randrange(len(data) + 1) :]
            case 2:
                data += self.rng.randbytes(self.rng.randrange(1, 64))
            case _:
                data[:] = self.rng.randbytes(self.rng.randrange(FRAME_LIMIT))
        return bytes(data)

    def _astray(self, topic: str) -> str:
        """Return another car's topic of this kind, or one of the other direction."""
        _, _, vehicle, direction, label = topic.split("/")
        others = [name for name in self.ways if name not in {vehicle, BRIDGE}]
        others.append(str(VehicleId(bytes(16))))
        if self.rng.random() < 0.7:
            vehicle = self.rng.choice(others)
        else:
            direction = "down" if direction == "up" else "up"
        return f"{PREFIX}/{vehicle}/{direction}/{label}"
