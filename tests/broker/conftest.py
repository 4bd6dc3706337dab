from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from bridge.broker.embedded import EmbeddedBroker
from tests.broker.pki import Pki, clock
from tests.broker.room import ACCESS, Room

BROKERS = [
    pytest.param("mosquitto", marks=pytest.mark.mosquitto),
    pytest.param("nats"),
]


@pytest_asyncio.fixture(scope="session", loop_scope="session", params=BROKERS)
async def room(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Room]:
    """A broker of each kind for the whole run, with one certificate per principal."""
    directory: Path = tmp_path_factory.mktemp(f"room-{request.param}")
    pki = Pki(directory / "pki", now=clock())
    server = pki.issue("broker", server=True)
    async with EmbeddedBroker(
        directory=directory / "broker",
        identity=server,
        access=ACCESS,
        clock=clock,
        kind=request.param,
    ) as broker:
        yield Room(broker, pki, directory)


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path / "pki", now=clock())
