"""A fleet made by the real authority at a fixed time."""

import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from certs.authority import Authority
from certs.fleet import FleetDirectory
from certs.vehicle import IssuedVehicle, issue_vehicles, random_vehicle_id

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.fixture
def now() -> datetime:
    return NOW


@pytest.fixture
def fleet(tmp_path: Path) -> FleetDirectory:
    return FleetDirectory.create(
        tmp_path / "fleet", name="Test Fleet", hosts=("mqtt.example.com",), now=NOW
    )


@pytest.fixture
def authority(fleet: FleetDirectory) -> Authority:
    return fleet.issuing_authority()


@pytest.fixture
def vehicle(fleet: FleetDirectory) -> IssuedVehicle:
    return issue_vehicles(fleet, [random_vehicle_id()], now=NOW)[0]


@contextmanager
def _file_size_limit(size: int) -> Iterator[None]:
    """Let the kernel refuse files above a size: a failing disk for the real code."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def file_size_limit() -> Callable[[int], AbstractContextManager[None]]:
    return _file_size_limit
