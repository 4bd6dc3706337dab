"""When a fleet comes back after its broker was away (K22, row 22)."""

import asyncio
import os
import random
import signal
import ssl
import sys
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.broker.access import BrokerAccess
from bridge.broker.embedded import EmbeddedBroker
from gateway.uplink.patience import Patience
from protocol.identity import VehicleId
from tests.broker.pki import Pki, clock
from tests.depth import DEEP, times
from transport.backoff import Backoff
from transport.errors import LinkError, LinkFailure, PublishRefusedError
from transport.link import LinkSettings, MqttLink, VersionMemory
from transport.tls import client_context

LOST = LinkError("lost", failure=LinkFailure.LOST)
DOWN = LinkError("nothing listens", failure=LinkFailure.DOWN)
UNREACHABLE = LinkError("nothing answers", failure=LinkFailure.UNREACHABLE)

FLEET = 5_000
CAP = 200
"""Connections a second: at 1.2 ms of CPU each (measurements.md) 24 % of one core."""


def seeded(seed: int | str) -> Callable[[], float]:
    return random.Random(seed).random  # noqa: S311 - jitter, the same each time


def returns_s(outage_s: float, *, cars: int = FLEET) -> list[float]:
    """Return how long after the broker's return each car of a fleet is back."""
    found = []
    for number in range(cars):
        patience = Patience(Backoff(), random=seeded(number))
        patience.proved()
        at_s = patience.delay_s(LOST)
        while at_s < outage_s:
            at_s += patience.delay_s(DOWN)
        found.append(at_s - outage_s)
    return found


@pytest.mark.parametrize("outage_s", [1, 5, 30, 120, 3_600])
def test_a_fleet_comes_back_over_a_minute_and_never_all_at_once(outage_s: int) -> None:
    """K22, row 22: 5,000 cars, as their own code waits by default."""
    back_s = returns_s(outage_s)
    peak = max(Counter(map(int, back_s)).values())
    sys.stdout.write(
        f"down {outage_s} s: {min(back_s):.1f} to {max(back_s):.1f} s, peak {peak}/s\n"
    )

    assert max(back_s) - min(back_s) >= 60
    assert peak <= CAP
    assert max(back_s) <= 300


def test_a_car_that_lost_its_own_way_is_back_within_two_seconds() -> None:
    """A tunnel is no outage of the broker: K22 must not cost the renter anything."""
    patience = Patience(Backoff(), random=lambda: 0.0)
    patience.proved()

    assert patience.delay_s(LOST) <= 2
    assert patience.delay_s(UNREACHABLE) <= 2


def test_who_had_no_link_since_its_start_does_not_wait_for_a_crowd() -> None:
    patience = Patience(Backoff(), random=lambda: 0.0)

    assert [patience.delay_s(DOWN) for _ in range(3)] == [1, 2, 4]


@given(share=st.floats(0, 1, exclude_max=True), maximum_s=st.floats(1, 600))
def test_a_crowd_s_delay_is_above_nothing_and_bounded(
    share: float, maximum_s: float
) -> None:
    backoff = Backoff(maximum_s=maximum_s)

    assert 0 < backoff.crowd_delay_s(random=lambda: share) <= 1.5 * maximum_s


def test_a_refused_subscription_is_asked_for_ever_more_rarely_though_hellos_are() -> (
    None
):
    patience = Patience(Backoff(), random=lambda: 0.0)
    refused = PublishRefusedError("not authorized")
    delays = []
    for _ in range(4):
        patience.proved()
        patience.failed(refused)
        delays.append(patience.delay_s(refused))

    assert patience.is_refused
    assert delays == [2, 4, 8, 16]
    patience.stood()
    assert not patience.is_refused


CARS = times(60, deep=5_000)
SPREAD = Backoff() if DEEP else Backoff(initial_s=0.2, maximum_s=2.0)
"""The short form takes a thirtieth of the default's waits."""


class Street:
    """Cars that keep their links up by their own patience, and what became of them."""

    def __init__(self, contexts: dict[str, ssl.SSLContext]) -> None:
        self.contexts = contexts
        self.here: set[str] = set()
        """Who had a link before the outage."""
        self.told: set[str] = set()
        """Who was told that nothing listens: an outage that each car has seen."""
        self.back_s: dict[str, float] = {}
        """When each was back, by the loop's clock."""
        self._versions = VersionMemory()

    async def drive(self, name: str, port: int) -> None:
        patience = Patience(SPREAD, random=seeded(name))
        settings = LinkSettings("127.0.0.1", port, client_id=name)
        while True:
            error = await self._stay(name, settings, patience)
            if error.failure is LinkFailure.DOWN:
                self.told.add(name)
            await asyncio.sleep(patience.delay_s(error))

    async def _stay(
        self, name: str, settings: LinkSettings, patience: Patience
    ) -> LinkError:
        context = self.contexts[name]
        try:
            async with MqttLink(settings, context, versions=self._versions) as link:
                patience.proved()
                self.here.add(name)
                if name in self.told:
                    now_s = asyncio.get_running_loop().time()
                    self.back_s.setdefault(name, now_s)
                return await link.wait_lost()
        except LinkError as error:
            return error

    async def until_all(self, found: Collection[str]) -> None:
        for _ in range(10_000):
            if len(found) == len(self.contexts):
                return
            await asyncio.sleep(0.05)
        raise TimeoutError


@pytest.mark.broker
@pytest.mark.mosquitto
@pytest.mark.timeout(600)
async def test_a_fleet_comes_back_to_a_real_broker_that_was_killed_and_started(
    tmp_path: Path,
) -> None:
    """Row 22, K22: mosquitto killed under every car's connection, then started."""
    pki = Pki(tmp_path / "pki", now=clock())
    names = [str(VehicleId(number.to_bytes(16, "big"))) for number in range(CARS)]
    street = Street(
        {name: client_context(pki.issue(name), now=clock()) for name in names}
    )
    identity = pki.issue("broker", server=True)

    def broker(directory: str, port: int = 0) -> EmbeddedBroker:
        return EmbeddedBroker(
            directory=tmp_path / directory,
            identity=identity,
            access=BrokerAccess(is_vehicle=street.contexts.__contains__),
            clock=clock,
            kind="mosquitto",
            port=port,
        )

    async with asyncio.TaskGroup() as group, broker("first") as first:
        cars = [group.create_task(street.drive(name, first.port)) for name in names]
        await street.until_all(street.here)
        assert first.pid is not None
        os.kill(first.pid, signal.SIGKILL)
        await street.until_all(street.told)
        async with broker("second", first.port):
            again_s = asyncio.get_running_loop().time()
            await street.until_all(street.back_s)
            for car in cars:
                car.cancel()

    back_s = sorted(at_s - again_s for at_s in street.back_s.values())
    peak = max(Counter(map(int, back_s)).values())
    sys.stdout.write(
        f"{CARS} cars back after {back_s[0]:.1f} to {back_s[-1]:.1f} s, {peak}/s\n"
    )
    assert back_s[-1] - back_s[0] >= SPREAD.maximum_s * (1 if DEEP else 0.5)
    assert back_s[-1] <= 5 * SPREAD.maximum_s
    assert peak <= CAP
