"""A broker in memory, behind the bridge's own port.

It keeps a message until it is acknowledged, hands it out once per connection, and can
be cut. What the bridge publishes is kept in `sent` and waited for by `next_sent`.
"""

import asyncio
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from protocol.codes import FrameClass
from protocol.frame import parse_frame
from protocol.receipt import RECEIPT
from protocol.topic import parse_topic
from transport.errors import LinkError, LinkFailure


@dataclass(slots=True, eq=False)
class Message:
    topic: str
    payload: bytes
    retain: bool = False
    is_done: asyncio.Event = field(default_factory=asyncio.Event)

    def done(self) -> None:
        self.is_done.set()


class MemoryLink:
    def __init__(self, broker: "MemoryBroker") -> None:
        self._broker = broker
        self.inbox: asyncio.Queue[Message | None] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        self._broker.connections += 1
        if self._broker.is_down:
            raise LinkError("the broker is down", failure=LinkFailure.UNREACHABLE)
        self._broker.link = self
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._broker.link = None

    async def publish(
        self, topic: str, payload: bytes, *, expiry_s: int | None = None
    ) -> None:
        self.post(topic, payload, expiry_s=expiry_s)

    def post(self, topic: str, payload: bytes, *, expiry_s: int | None = None) -> None:
        if self._broker.link is not self:
            raise LinkError("cut", failure=LinkFailure.LOST)
        self._broker.sent.append((topic, payload))
        self._broker.expiries.append(expiry_s)
        self._broker.was_sent.set()

    async def subscribe(self, *topic_filters: str) -> None:
        self._broker.subscriptions = topic_filters
        self._broker.subscribed.set()
        for message in self._broker.unacknowledged:
            self.inbox.put_nowait(message)

    async def take(self, limit: int) -> list[Message]:
        taken: list[Message] = []
        while len(taken) < limit and not (taken and self.inbox.empty()):
            message = await self.inbox.get()
            if message is None:
                self.inbox.put_nowait(None)
                break
            taken.append(message)
        if not taken:
            raise LinkError("cut", failure=LinkFailure.LOST)
        return taken

    @property
    def waiting(self) -> int:
        return self.inbox.qsize()


class MemoryBroker:
    def __init__(self) -> None:
        self.link: MemoryLink | None = None
        self.is_down = False
        self.connections = 0
        self.subscriptions: tuple[str, ...] = ()
        self.subscribed = asyncio.Event()
        self.sent: list[tuple[str, bytes]] = []
        self.expiries: list[int | None] = []
        self.was_sent = asyncio.Event()
        self._kept: list[Message] = []
        self._read: dict[FrameClass, int] = {}

    def connect(self) -> MemoryLink:
        return MemoryLink(self)

    @property
    def unacknowledged(self) -> list[Message]:
        self._kept = [m for m in self._kept if not m.is_done.is_set()]
        return self._kept

    def deliver(self, topic: str, payload: bytes, *, retain: bool = False) -> Message:
        message = Message(topic, payload, retain)
        self._kept.append(message)
        if self.link is not None:
            self.link.inbox.put_nowait(message)
        return message

    def cut(self) -> None:
        """Lose the connection."""
        self.subscribed.clear()
        if self.link is not None:
            self.link.inbox.put_nowait(None)

    def sent_of(self, frame_class: FrameClass) -> list[bytes]:
        return [
            data
            for topic, data in self.sent
            if parse_topic(topic).frame_class is frame_class
        ]

    async def until_receipted(self, head_hash: bytes) -> None:
        """Wait for a receipt up to an entry: a tenth of a second, or ten at most."""

        def is_told() -> bool:
            return any(
                RECEIPT.parse(parse_frame(data).payload).head_hash == head_hash
                for data in self.sent_of(FrameClass.RECEIPT)
            )

        async with asyncio.timeout(10):
            while not is_told():
                self.was_sent.clear()
                await self.was_sent.wait()

    async def next_sent(self, frame_class: FrameClass) -> bytes:
        """Wait for the next frame of a class that no call returned before."""
        seen = self._read.get(frame_class, 0)
        while len(self.sent_of(frame_class)) <= seen:
            self.was_sent.clear()
            await self.was_sent.wait()
        self._read[frame_class] = seen + 1
        return self.sent_of(frame_class)[seen]
