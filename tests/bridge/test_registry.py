"""The allow-list withdraws one car at once and never a fleet by accident (L5, K8)."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.errors import RegistryError
from bridge.registry import RegistryDirectory
from certs.fleet import FleetDirectory
from certs.vehicle import issue_vehicles, random_vehicle_id
from protocol.fleet import FleetPart
from tests.broker.pki import clock

COUNT = 12


class Office:
    """A registry directory and the bridge's view of it."""

    def __init__(self, directory: Path, count: int = COUNT) -> None:
        self.fleet = FleetDirectory.create(directory / "fleet", name="t", now=clock())
        ids = [random_vehicle_id() for _ in range(count)]
        issue_vehicles(self.fleet, ids, now=clock())
        self.names = sorted(map(str, ids))
        self.path = self.fleet.path / FleetPart.REGISTRY
        self.revoked = self.fleet.path / "revoked"
        self.told: list[str] = []
        self.view = self.open()
        self.view.refresh()

    def open(self) -> RegistryDirectory:
        return RegistryDirectory(
            self.path,
            fleet_id=self.fleet.fleet.fleet_id,
            issuers=[self.fleet.issuing_certificate],
            wall_ns=lambda: 0,  # nothing ever settles: each refresh looks
            refused=lambda error: self.told.append(str(error)),
        )

    def record(self, name: str) -> Path:
        return self.path / f"{name}.json"

    def revoke(self, name: str) -> None:
        self.revoked.mkdir(exist_ok=True)
        self.record(name).rename(self.revoked / f"{name}.json")

    @property
    def admitted(self) -> list[str]:
        assert list(map(str, self.view.current)) == [
            name for name in self.names if self.view.admits(name)
        ]
        return list(map(str, self.view.current))


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


def test_a_record_that_is_moved_away_withdraws_its_car_at_the_next_look(
    office: Office,
) -> None:
    first, second, *others = office.names
    office.revoke(first)
    office.record(second).unlink()  # as by hand: one car at a time is believed

    assert office.view.refresh()

    assert office.admitted == others
    assert office.view.withdrawn == {first, second}
    assert not office.view.alarm
    assert not office.view.refresh()


def test_a_car_that_was_revoked_before_the_start_is_known_as_withdrawn(
    office: Office,
) -> None:
    office.revoke(office.names[0])

    later = office.open()
    later.refresh()

    assert later.withdrawn == {office.names[0]}


def test_a_withdrawn_car_that_gets_its_record_back_is_admitted_again(
    office: Office,
) -> None:
    name = office.names[0]
    office.revoke(name)
    office.view.refresh()

    (office.revoked / f"{name}.json").rename(office.record(name))
    office.view.refresh()

    assert office.admitted == office.names
    assert not office.view.withdrawn


Damage = Callable[[Office], None]


def emptied(office: Office) -> None:
    for name in office.names:
        office.record(name).unlink()


def halved(office: Office) -> None:
    for name in office.names[: COUNT // 2]:
        office.record(name).unlink()


def torn(office: Office) -> None:
    for name in office.names:
        office.record(name).write_bytes(office.record(name).read_bytes()[:100])


def garbage(office: Office) -> None:
    for name in office.names:
        office.record(name).write_bytes(b"\xff\x00")


def directories(office: Office) -> None:
    # What open(2) refuses, also to root.
    for name in office.names:
        office.record(name).unlink()
        office.record(name).mkdir()


@pytest.mark.parametrize("damage", [emptied, halved, torn, garbage, directories])
def test_a_broken_or_empty_list_keeps_the_last_good_state_and_says_so(
    office: Office, damage: Damage
) -> None:
    # L5 b and c: it locks nobody out, and who was withdrawn stays out.
    office.revoke(office.names[-1])
    office.view.refresh()
    withdrawn = office.names.pop()
    before = office.admitted

    damage(office)
    office.view.refresh()
    office.view.refresh()

    assert office.admitted == before == office.names
    assert office.view.withdrawn == {withdrawn}
    assert office.told


def test_a_missing_list_keeps_the_last_good_state_and_is_an_alarm(
    office: Office,
) -> None:
    office.revoke(office.names[0])
    office.view.refresh()
    aside = office.path.with_name("aside")
    office.path.rename(aside)

    with pytest.raises(RegistryError, match="cannot be read"):
        office.view.refresh()

    assert office.admitted == office.names[1:]
    assert office.view.withdrawn == {office.names[0]}
    assert "11 vehicles known so far still count" in office.view.alarm

    aside.rename(office.path)
    office.view.refresh()
    assert not office.view.alarm


def test_a_revoked_list_that_is_lost_lets_nobody_in_again(office: Office) -> None:
    office.revoke(office.names[0])
    office.view.refresh()

    shutil.rmtree(office.revoked)
    office.view.refresh()

    assert office.admitted == office.names[1:]
    assert office.view.withdrawn == {office.names[0]}


def test_many_at_once_are_withdrawn_when_each_lies_among_the_revoked(
    office: Office,
) -> None:
    for name in office.names:
        office.revoke(name)

    office.view.refresh()

    assert office.admitted == []
    assert office.view.withdrawn == set(office.names)
    assert not office.view.alarm


def test_while_an_alarm_stands_a_revocation_still_takes_effect(
    office: Office,
) -> None:
    office.revoked.mkdir(exist_ok=True)
    emptied(office)
    office.view.refresh()
    assert "12 of 12 vehicle records are gone" in office.view.alarm

    (office.revoked / f"{office.names[3]}.json").write_text("{}")
    office.view.refresh()

    assert office.names[3] not in office.admitted
    assert len(office.admitted) == COUNT - 1


def test_the_only_car_of_a_fleet_is_withdrawn_by_revoking_it(tmp_path: Path) -> None:
    office = Office(tmp_path, count=1)
    aside = tmp_path / "aside.json"
    office.record(office.names[0]).rename(aside)
    office.view.refresh()
    assert office.admitted == office.names  # an empty list is no decision

    aside.rename(office.record(office.names[0]))
    office.view.refresh()
    office.revoke(office.names[0])
    office.view.refresh()

    assert office.admitted == []


def test_no_date_ends_the_list(tmp_path: Path) -> None:
    # L5 b: a revocation list past its next update locked out every car.
    office = Office(tmp_path, count=2)
    later = RegistryDirectory(
        office.path,
        fleet_id=office.fleet.fleet.fleet_id,
        issuers=[office.fleet.issuing_certificate],
        wall_ns=lambda: 10**20,
        refused=lambda error: pytest.fail(str(error)),
    )

    later.refresh()

    assert len(later.current) == 2
