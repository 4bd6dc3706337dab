"""What ``freefloat certs show`` knows about a fleet."""

from datetime import datetime, timedelta

import pytest

from certs.fleet import FleetDirectory
from certs.inventory import Inventory, take_inventory
from certs.vehicle import IssuedVehicle, issue_vehicles, random_vehicle_id
from protocol.fleet import FleetPart

DAY = timedelta(days=1)


def test_a_fresh_fleet_is_whole_and_has_keys_to_take_offline(
    fleet: FleetDirectory, now: datetime
) -> None:
    inventory = take_inventory(fleet)

    ends = {item.name: (item.expires - now).days for item in inventory.items}
    assert ends == {
        "root": 20 * 365,
        "issuing CA": 5 * 365,
        "broker server": 397,
        "bridge client": 397,
        "engineer client": 397,
        "enrolment server": 397,
        "trust bundle 1": 397,
    }
    assert inventory.offline == (
        "ca/root.key",
        "trust/root-1.key",
        "trust/root-2.key",
        "trust/root-3.key",
    )
    assert inventory.problems == ()
    assert inventory.vehicle_count == 0


def test_vehicles_are_listed_by_their_end(fleet: FleetDirectory, now: datetime) -> None:
    late = issue_vehicles(fleet, [random_vehicle_id()], now=now)[0]
    early = issue_vehicles(fleet, [random_vehicle_id()], now=now - DAY / 48)[0]

    inventory = take_inventory(fleet)

    names = [item.name for item in inventory.vehicles]
    assert names == [str(early.vehicle_id), str(late.vehicle_id)]
    assert inventory.vehicle_count == 2


def test_a_vehicle_whose_directory_went_into_the_car_is_no_problem(
    fleet: FleetDirectory, vehicle: IssuedVehicle
) -> None:
    vehicle.directory.rename(fleet.path.parent / "in-the-car")

    inventory = take_inventory(fleet)

    assert (inventory.vehicle_count, inventory.vehicles) == (1, ())
    assert inventory.problems == ()


@pytest.mark.parametrize(
    ("days", "state"),
    [(0, "valid"), (10, "valid"), (12, "expires soon"), (14, "expired")],
)
def test_an_end_comes_into_sight_before_it_is_there(
    days: int,
    state: str,
    fleet: FleetDirectory,
    vehicle: IssuedVehicle,
    now: datetime,
) -> None:
    item = take_inventory(fleet).vehicles[0]

    assert item.expires == vehicle.tls_expires
    assert item.state(now=now + days * DAY) == state


def only_problem(inventory: Inventory) -> str:
    assert len(inventory.problems) == 1, inventory.problems
    return inventory.problems[0]


def test_an_issuing_that_was_cut_off_is_reported(
    fleet: FleetDirectory, vehicle: IssuedVehicle
) -> None:
    fleet.record_path(vehicle.vehicle_id).unlink()

    assert "is not registered" in only_problem(take_inventory(fleet))


def test_a_half_made_directory_is_reported(fleet: FleetDirectory) -> None:
    (fleet.path / FleetPart.VEHICLES / ".CAR.partial-00000000").mkdir()

    assert "was cut off" in only_problem(take_inventory(fleet))


def test_a_damaged_record_is_reported(
    fleet: FleetDirectory, vehicle: IssuedVehicle
) -> None:
    fleet.record_path(vehicle.vehicle_id).write_text("{}")

    assert "vehicle record: " in only_problem(take_inventory(fleet))


def test_a_record_under_another_vehicle_s_name_is_reported(
    fleet: FleetDirectory, vehicle: IssuedVehicle
) -> None:
    other = random_vehicle_id()
    fleet.record_path(vehicle.vehicle_id).rename(fleet.record_path(other))
    vehicle.directory.rename(fleet.vehicle_directory(other))

    problem = only_problem(take_inventory(fleet))

    assert f"is the record of {vehicle.vehicle_id}" in problem


def test_a_key_that_others_can_read_is_reported(fleet: FleetDirectory) -> None:
    key = fleet.path / FleetPart.COMMAND_KEY
    key.chmod(0o644)

    assert f"chmod 600 {key}" in only_problem(take_inventory(fleet))


def test_missing_and_damaged_parts_are_all_reported(fleet: FleetDirectory) -> None:
    (fleet.path / FleetPart.ISSUING_CERTIFICATE).unlink()
    (fleet.path / "broker/tls.crt").write_text("")
    (fleet.path / FleetPart.TRUST_BUNDLE).write_bytes(b"\0")

    inventory = take_inventory(fleet)

    assert len(inventory.problems) == 3
    assert [item.name for item in inventory.items] == [
        "root",
        "bridge client",
        "engineer client",
        "enrolment server",
    ]


def test_a_damaged_certificate_of_a_car_is_reported(
    fleet: FleetDirectory, vehicle: IssuedVehicle
) -> None:
    (vehicle.directory / "tls.crt").write_text("")

    assert "holds no certificate" in only_problem(take_inventory(fleet))
