"""The kit's connection to the broker, which keeps everything that comes.

What a check says is read from `Wire.seen`, in the order of arrival; nothing is judged
or dropped here, forged and malformed bytes least of all.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from protocol.errors import ProtocolError
from protocol.frame import Frame, parse_frame
from protocol.rendering import render_bytes
from transport.errors import LinkError
from transport.link import MqttLink


@dataclass(frozen=True, slots=True)
class Seen:
    """One message as it came."""

    number: int
    """From 0, in the order of arrival."""
    at_s: float
    """Of `time.monotonic`."""
    topic: str
    """Where."""
    data: bytes = field(repr=False)
    """What."""
    retained: bool
    """Whether the broker had kept it."""
    qos: int
    """Of this delivery."""
    frame: Frame | None = field(repr=False)
    """Its layout, if it is that of a frame; nothing is verified."""

    def __str__(self) -> str:
        """Return a line for people."""
        return render_bytes(self.data)


class Wire:
    """A link that remembers; an asynchronous context manager, entered once."""

    def __init__(self, link: MqttLink, *topic_filters: str) -> None:
        """Keep the link, which is connected when this is entered."""
        self._link = link
        self._filters = topic_filters
        self._reader: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._lost: LinkError | None = None
        self.seen: list[Seen] = []
        """Everything that came."""

    async def __aenter__(self) -> Self:
        """Connect and subscribe.

        Raises:
            LinkError, SubscriptionRefusedError: there is no way in.
        """
        await self._link.__aenter__()
        try:
            await self._link.subscribe(*self._filters)
        except BaseException:
            await self._link.__aexit__(None, None, None)
            raise
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Disconnect."""
        if self._reader is not None:
            self._reader.cancel()
            with suppress(asyncio.CancelledError):
                await self._reader
        await self._link.__aexit__(exc_type, exc, traceback)

    @property
    def mark(self) -> int:
        """The number of the next message: what comes from now on."""
        return len(self.seen)

    def since(self, mark: int) -> Sequence[Seen]:
        """Return what came from a mark on."""
        return self.seen[mark:]

    async def publish(self, topic: str, data: bytes, *, retain: bool = False) -> None:
        """Publish with quality of service 1.

        Raises:
            LinkError, PublishRefusedError, OutcomeUnknownError: as of the link.
        """
        await self._link.publish(topic, data, retain=retain)

    async def listen(self, *topic_filters: str) -> None:
        """Subscribe to more.

        Raises:
            LinkError, SubscriptionRefusedError: it is not allowed, or the link is lost.
        """
        await self._link.subscribe(*topic_filters)

    async def first(
        self, wanted: Callable[[Seen], bool], *, since: int, within_s: float
    ) -> Seen | None:
        """Return the first message from a mark on that is wanted, None if none comes.

        Raises:
            LinkError: the link was lost before.
        """
        looked = since
        deadline_s = time.monotonic() + within_s
        while True:
            for seen in self.seen[looked:]:
                if wanted(seen):
                    return seen
            looked = len(self.seen)
            if self._lost is not None:
                raise self._lost
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                return None
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._changed.wait()

    async def quiet(self, seconds: float) -> None:
        """Wait; what comes meanwhile is kept.

        Raises:
            LinkError: the link was lost.
        """
        await self.first(lambda _: False, since=self.mark, within_s=seconds)

    async def _read(self) -> None:
        try:
            async for message in self._link.messages():
                frame = None
                with suppress(ProtocolError):
                    frame = parse_frame(message.payload)
                self.seen.append(
                    Seen(
                        number=len(self.seen),
                        at_s=time.monotonic(),
                        topic=message.topic,
                        data=message.payload,
                        retained=message.retain,
                        qos=message.qos,
                        frame=frame,
                    )
                )
                message.done()
                self._changed.set()
        except LinkError as error:
            self._lost = error
            self._changed.set()
