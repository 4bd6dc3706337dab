"""A message that arrived, and the bounded place where it waits for its consumer."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

MAXIMUM_PACKET: Final = 8192
"""Bytes of the largest MQTT packet in either direction: a frame has at most 4096
(protocol-design.md 2.2), and the broker is configured with the same bound."""

CALL_FACTOR: Final = 8
"""How far the inbox may grow past its limit while a call of ours waits for an answer
that comes behind those messages on the same connection."""


@dataclass(slots=True, eq=False)
class IncomingMessage:
    """One message; QoS 1 stays with the broker until `done()` is called."""

    topic: str
    """Where it was published; it proves nothing about who published it."""
    payload: bytes = field(repr=False)
    """As published. Not shown by `repr`: it may hold sealed personal data."""
    retain: bool
    """Whether the broker kept it from before our subscription (reliability.md L9)."""
    qos: int
    """Quality of service of this delivery, 0 or 1."""
    duplicate: bool
    """Whether the broker says that it has sent this message before."""
    _mid: int
    _acknowledge: Callable[[int], None] = field(repr=False)
    _is_done: bool = False

    def done(self) -> None:
        """Acknowledge, after the work that this message caused is durable (L2).

        Calling it again does nothing. On a link that is lost it does nothing either:
        the broker has forgotten or will send again, and the frame's own identity, not
        MQTT's, makes the work happen once.
        """
        if not self._is_done:
            self._is_done = True
            if self.qos:
                self._acknowledge(self._mid)


class Inbox:
    """Messages between the socket and their consumer; bounded, and it drops nothing.

    Rule 1: at `limit` messages it asks for reading to stop, so that TCP makes the
    broker wait. Rule 2: while one of our own calls awaits its answer, reading goes on,
    because the answer is behind the messages; a consumer that publishes for every
    message would otherwise wait for itself. Rule 3: at `CALL_FACTOR` times the limit
    reading stops all the same, and the call waits until the consumer has taken some, or
    for its time-out: ending the link instead would lose what the broker has for us.
    """

    def __init__(self, limit: int, *, pause: Callable[[bool], None]) -> None:
        self._limit = limit
        self._pause = pause
        self._messages: deque[IncomingMessage] = deque()
        self._waiting_calls = 0
        self._changed = asyncio.Event()
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, message: IncomingMessage) -> None:
        """Append a message."""
        self._messages.append(message)
        self._changed.set()
        if len(self._messages) >= self._limit:
            self._update()

    async def get(self) -> IncomingMessage | None:
        """Take the oldest message; None when empty and closed."""
        taken = await self.take(1)
        return taken[0] if taken else None

    async def take(self, limit: int) -> list[IncomingMessage]:
        """Take the oldest messages, one at least; none when empty and closed."""
        messages = self._messages
        while not messages:
            if self._is_closed:
                return []
            self._changed.clear()
            await self._changed.wait()
        taken = [messages.popleft() for _ in range(min(limit, len(messages)))]
        self._update()
        return taken

    def close(self) -> None:
        """Let consumers take what is left and then get None."""
        self._is_closed = True
        self._changed.set()

    def call_began(self) -> None:
        """Note that a call of ours awaits an answer."""
        self._waiting_calls += 1
        self._update()

    def call_ended(self) -> None:
        """Note that a call's wait is over."""
        self._waiting_calls -= 1
        self._update()

    def _update(self) -> None:
        factor = CALL_FACTOR if self._waiting_calls else 1
        self._pause(len(self._messages) >= self._limit * factor)
