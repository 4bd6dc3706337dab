"""Worlds in which people do one rare thing all the time, so that it is tried often.

A seed's usual world has all there is, and so little of each: one handover in hundreds
of seeds. In these the link is kind; what is tried is the promise, not the way to it.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import Final
from unittest import mock

from bridge.bound_orders import MeetingPoint
from bridge.orders import Order
from gateway.core.state import State
from protocol.command import ANY_VERSION, Explain, Ping, RequestSnapshot
from protocol.diagnosis import ExplainSubject
from protocol.identity import ID_SIZE
from protocol.snapshot import NO_RENTAL
from tests.simulation import bridge
from tests.simulation.customers import Deed, RandomCustomer
from tests.simulation.desk import Desk
from tests.simulation.hostility import KIND, Hostility
from tests.simulation.orders import RandomOrders
from tests.simulation.saboteur import Saboteur

STEP_MS: Final = 90_000
"""How far a clock is set at the most: cars are not called silent for it."""


def _kindly() -> AbstractContextManager[object]:
    return mock.patch.object(Hostility, "draw", return_value=KIND)


@contextmanager
def paying() -> Iterator[None]:
    """Refuel again and again within one rental; the fleet decides often, and anew."""

    def rental(self: RandomCustomer) -> Iterator[tuple[str, Deed]]:
        yield from self.sitting_down()
        for _ in range(3):
            yield from self.pay_online()

    def word(self: RandomOrders, state: State | None) -> Order:
        return self.payment(state) or Ping(NO_RENTAL, ANY_VERSION, bytes(ID_SIZE))

    with ExitStack() as stack:
        stack.enter_context(_kindly())
        stack.enter_context(mock.patch.object(RandomCustomer, "rental", rental))
        stack.enter_context(mock.patch.object(RandomOrders, "anything", word))
        yield


@contextmanager
def handing_over() -> Iterator[None]:
    """Change seats again and again; the fleet offers every car, some too late."""

    def rental(self: RandomCustomer) -> Iterator[tuple[str, Deed]]:
        yield from self.sitting_down()
        for _ in range(6):
            yield from self.hand_over()

    def offer(self: RandomOrders, state: State | None) -> Order:
        has = None if state is None else state.rental_id
        place = MeetingPoint(481_000_000, 115_000_000)
        return self.offer(
            self.rng.choice((has or self.rental_id, self.rental_id)), place
        )

    with ExitStack() as stack:
        stack.enter_context(_kindly())
        stack.enter_context(mock.patch.object(RandomCustomer, "rental", rental))
        stack.enter_context(mock.patch.object(RandomOrders, "anything", offer))
        yield


@contextmanager
def editing() -> Iterator[None]:
    """Want other bodies of a car all the time; its agent dies often."""
    often = replace(KIND, kill_every_s=20.0)
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(Hostility, "draw", return_value=often))
        stack.enter_context(mock.patch.object(Desk, "act", Desk.configure))
        yield


@contextmanager
def stepping() -> Iterator[None]:
    """Set the bridge's wall clock again and again, while bodies are wanted of cars."""

    async def jump(self: Saboteur) -> None:
        self.jump_bridge(round(self._rng.uniform(-STEP_MS, STEP_MS)))

    often = replace(KIND, jump_every_s=8.0, crash_every_s=40.0, cut_every_s=20.0)
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(Hostility, "draw", return_value=often))
        stack.enter_context(mock.patch.object(Desk, "act", _act_and_edit))
        stack.enter_context(mock.patch.object(Saboteur, "_jump", jump))
        yield


_act: Final = Desk.act


async def _act_and_edit(self: Desk) -> None:
    await _act(self)
    await self.configure()


@contextmanager
def asking() -> Iterator[None]:
    """Ask a car how it stands, and order nothing else of it."""

    def question(self: RandomOrders, state: State | None) -> Order:
        del state
        subject = self.rng.choice(tuple(ExplainSubject))
        return self.rng.choice(
            (
                RequestSnapshot(NO_RENTAL, ANY_VERSION),
                Explain(NO_RENTAL, ANY_VERSION, subject, bytes(ID_SIZE)),
                Ping(NO_RENTAL, ANY_VERSION, bytes(ID_SIZE)),
            )
        )

    with _kindly(), mock.patch.object(RandomOrders, "anything", question):
        yield


def refusing() -> AbstractContextManager[object]:
    """Let the consumer take few events at their first try."""
    return mock.patch.object(bridge, "REFUSING_SHARE", 0.8)
