"""Whole rentals, and bridges that share a fleet, over HiveMQ CE.

The tests are those of the brokers that CI has, at another broker.
"""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from bridge.ports import FrameSeen
from tests.bridge import test_replicas as replicas
from tests.bridge.site import Site, open_site
from tests.broker.hivemq.process import HiveMqBroker, missing
from tests.postgres import Server, running_server
from tests.tools import test_rental_over_brokers as rentals
from tools.rig import Rig, open_rig

reason = missing()
pytestmark = [
    pytest.mark.broker,
    pytest.mark.timeout(400),
    pytest.mark.skipif(reason is not None, reason=str(reason)),
]


@pytest.fixture
async def rig(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: list[FrameSeen]
) -> AsyncIterator[Rig]:
    monkeypatch.setattr("tools.rig.EmbeddedBroker", HiveMqBroker)
    cars = [rentals.nearly_empty_car]
    async with open_rig(
        tmp_path / "rig", cars=cars, broker="hivemq", observer=seen.append
    ) as system:
        yield system


@pytest.fixture
def takes_turns() -> bool:
    """Say that HiveMQ does not take turns.

    Its members take from one queue: of 60 frames one took 54 and one 6, or one all.
    """
    return False


@pytest.fixture
def seen() -> list[FrameSeen]:
    return []


api = rentals.api
little_credit = rentals.little_credit


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as running:
        yield running


@pytest.fixture
async def site(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Site]:
    monkeypatch.setattr("tests.bridge.site.EmbeddedBroker", HiveMqBroker)
    async with open_site(
        tmp_path, server, cars=replicas.CARS, bridges=replicas.REPLICAS
    ) as made:
        yield made


test_a_whole_rental = rentals.test_a_whole_rental_reaches_the_backend_signed_and_once
test_a_rental_that_ends_offline = (
    rentals.test_a_rental_that_ends_without_a_network_is_reported_once_afterwards
)
test_a_refusal_is_the_cars_word = (
    rentals.test_an_order_for_another_rental_is_refused_by_the_car_with_its_signature
)
test_bridges_come_and_go = (
    replicas.test_bridges_come_and_go_and_every_ledger_is_told_once_in_its_order
)
