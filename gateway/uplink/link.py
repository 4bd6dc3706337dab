"""The link as the uplink needs it; `transport.link.MqttLink` has this shape.

A small protocol of our own, so that tests put a link in that loses, delays and cuts.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol


class Message(Protocol):
    """A message that arrived; it stays with the broker until `done`."""

    @property
    def topic(self) -> str:
        """Where it was published."""

    @property
    def payload(self) -> bytes:
        """The frame."""

    @property
    def retain(self) -> bool:
        """Whether the broker had kept it from before (reliability.md L9)."""

    def done(self) -> None:
        """Acknowledge it."""


class Link(Protocol):
    """One connection to a broker."""

    async def publish(self, topic: str, payload: bytes) -> None:
        """Publish at QoS 1 and return when the broker has taken it.

        Raises:
            TransportError: see `transport.errors`.
        """

    async def subscribe(self, *topic_filters: str) -> None:
        """Subscribe and return when it was granted.

        Raises:
            TransportError: see `transport.errors`.
        """

    def messages(self) -> AsyncIterator[Message]:
        """Yield messages until the link is lost, then raise `LinkError`."""


LinkFactory = Callable[[bytes], AbstractAsyncContextManager[Link]]
"""Makes a link that has not been entered; one for each attempt to connect. It is given
the signed DEATH that the broker publishes, not retained, if the connection is lost.

Raises:
    TransportError: our own certificates cannot be used.
"""
