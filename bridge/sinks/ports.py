"""What a sink is."""

from collections.abc import Callable
from typing import Protocol

from bridge.rows.outbox import OutboxRow

TraceParent = Callable[[OutboxRow, str], str]
"""Returns W3C's ``traceparent`` of an event's delivery to the sink of this name."""


class Sink(Protocol):
    """Delivers events to one consumer."""

    @property
    def name(self) -> str:
        """Names its cursor; never changes for one consumer."""

    @property
    def parallel(self) -> int:
        """For how many vehicles it may deliver at one time."""

    async def open(self) -> None:
        """Make ready.

        Raises:
            SettingsError: it can never work as it is set.
        """

    async def deliver(self, row: OutboxRow) -> None:
        """Deliver one event; return when the consumer has it.

        May be called again with the same event. For one vehicle it is called with one
        event after another, in ledger order.

        Raises:
            SinkError: not taken, or perhaps taken without an answer.
        """

    async def close(self) -> None:
        """Let go of what `open` took."""
