"""The bridge's end of the wire: what it sends, and what it lets others watch.

Log lines and the observer see every frame in the same form: ``<`` received, ``>`` sent,
``=`` state. Neither can disturb what it watches.
"""

import asyncio
import logging
from typing import Final

from bridge.errors import NotConnectedError
from bridge.ports import Direction, FrameSeen, Link, Observer
from protocol.errors import DecodeError
from protocol.frame import Frame, parse_frame
from protocol.rendering import render_bytes, render_frame
from transport.errors import TransportError

LOG: Final = logging.getLogger("freefloat.bridge")


class Wire:
    """The present link, or none, and whoever watches it."""

    def __init__(self, observer: Observer | None = None) -> None:
        self._observer = observer
        self._link: Link | None = None
        self._connected = asyncio.Event()

    @property
    def is_connected(self) -> bool:
        """Whether there is a link now."""
        return self._link is not None

    async def wait_connected(self) -> None:
        """Wait until there is a link."""
        await self._connected.wait()

    def attach(self, link: Link) -> None:
        """Use a link that is connected and subscribed."""
        self._link = link
        self._connected.set()

    def detach(self) -> None:
        """Use no link any more."""
        self._link = None
        self._connected.clear()

    async def send(self, topic: str, data: bytes, *, expiry_s: int | None) -> None:
        """Publish a frame and return when the broker has taken it.

        Raises:
            NotConnectedError: there is no link; nothing was sent.
            TransportError: as `Link.publish` raises it; it may have been sent.
        """
        link = self._link
        if link is None:
            raise NotConnectedError("not sent: there is no link to the broker")
        # Watched before the wait for PUBACK: the car's answer may be here before it.
        self.watch(Direction.OUT, topic, data)
        try:
            await link.publish(topic, data, expiry_s=expiry_s)
        except TransportError as error:
            LOG.warning("= not acknowledged by the broker: %s", error)
            raise

    def post(self, topic: str, data: bytes, *, expiry_s: int | None) -> None:
        """Publish a frame that is harmless to lose.

        Raises:
            NotConnectedError: there is no link; nothing was sent.
            TransportError: as `Link.post` raises it; not sent.
        """
        link = self._link
        if link is None:
            raise NotConnectedError("not sent: there is no link to the broker")
        link.post(topic, data, expiry_s=expiry_s)
        self.watch(Direction.OUT, topic, data)

    @property
    def is_watched(self) -> bool:
        """Whether `watch` tells anybody anything now."""
        return self._observer is not None or LOG.isEnabledFor(logging.INFO)

    def watch(
        self, direction: Direction, topic: str, data: bytes, note: str = ""
    ) -> None:
        """Tell the log and the observer of one frame."""
        if not self.is_watched:
            return
        try:
            frame = parse_frame(data)
        except DecodeError:
            frame = None
        if LOG.isEnabledFor(logging.INFO):
            told = render_bytes(data) if frame is None else render_frame(frame)
            about = {} if frame is None else _about(frame)
            about["event"] = f"frame_{direction.name.lower()}"
            said = f"  [{note}]" if note else ""
            LOG.info("%s %s%s", direction, told, said, extra=about)
        if self._observer is None:
            return
        try:
            self._observer(FrameSeen(direction, topic, data, frame, note))
        except Exception:
            LOG.exception("= an observer failed; the frame is not affected")


def _about(frame: Frame) -> dict[str, str]:
    """Return the fields of a structured log line about a frame."""
    header = frame.header
    return {"car": str(header.vehicle_id), "msg_id": header.msg_id.hex()}
