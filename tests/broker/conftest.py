from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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


@asynccontextmanager
async def open_room(kind: str, directory: Path) -> AsyncIterator[Room]:
    """Start a broker, with one certificate per principal."""
    pki = Pki(directory / "pki", now=clock())
    server = pki.issue("broker", server=True)
    async with EmbeddedBroker(
        directory=directory / "broker",
        identity=server,
        access=ACCESS,
        clock=clock,
        kind=kind,
    ) as broker:
        yield Room(broker, pki, directory)


@pytest_asyncio.fixture(scope="session", loop_scope="session", params=BROKERS)
async def room(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Room]:
    """A broker of each kind for the whole run."""
    directory: Path = tmp_path_factory.mktemp(f"room-{request.param}")
    async with open_room(request.param, directory) as opened:
        yield opened


@pytest_asyncio.fixture(params=BROKERS)
async def fresh_room(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[Room]:
    """A broker of each kind that remembers nothing of other tests."""
    async with open_room(request.param, tmp_path) as opened:
        yield opened


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path / "pki", now=clock())
