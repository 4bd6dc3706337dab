"""Another key for the issuing CA while cars are on the road."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from bridge.evidence import Archive
from bridge.rows.evidence import RentalProof
from certs.errors import FleetError, RequestError
from certs.fleet import FleetDirectory
from certs.fleet_audit import audit_fleet
from certs.issuing_rollover import (
    NEW_KEY,
    OLD_KEY,
    Phase,
    finish_issuing,
    issuing_rollover,
    prepare_issuing,
    switch_issuing,
)
from certs.renewing import renew_issuing, renew_service
from certs.revocation import read_list, revoke_vehicle
from certs.rollover import finish, prepare, switch
from certs.vehicle import IssuedVehicle, issue_vehicles, random_vehicle_id
from keystore.private_key import PrivateKey, open_private_key
from protocol.anchors import EvidenceAnchors
from protocol.evidence import verify_evidence
from protocol.fleet import FleetPart
from tests.certs.office import Device, open_office, real_now
from tests.certs.test_rollover import shake
from tests.protocol.court import Court, rental_of

DAY = timedelta(days=1)


@pytest.fixture
def today() -> datetime:
    return real_now()


@pytest.fixture
def rolling(tmp_path: Path, today: datetime) -> FleetDirectory:
    return FleetDirectory.create(tmp_path / "fleet", name="Roll", now=today - 60 * DAY)


def root_key(fleet: FleetDirectory) -> PrivateKey:
    return open_private_key(fleet.path / FleetPart.ROOT_KEY)


def issue(fleet: FleetDirectory, now: datetime) -> IssuedVehicle:
    return issue_vehicles(fleet, [random_vehicle_id()], now=now)[0]


def require_connects(fleet: FleetDirectory, *cars: IssuedVehicle) -> None:
    """Both servers take each car, and each car takes both servers."""
    for car in cars:
        for part in (FleetPart.BROKER, FleetPart.ENROLMENT):
            anchors = car.directory / "trust-anchors.pem"
            assert shake(car.directory, anchors, fleet, part) is None


def require_registered(fleet: FleetDirectory, *cars: IssuedVehicle) -> None:
    for car in cars:
        assert fleet.vehicle_record(car.vehicle_id).vehicle_id == car.vehicle_id


def test_cars_of_both_keys_connect_and_are_registered_in_every_step(
    rolling: FleetDirectory, today: datetime
) -> None:
    fleet = rolling
    old = issue(fleet, today - 13 * DAY)
    old_certificate = fleet.issuing_certificate

    prepare_issuing(fleet, root_key(fleet), now=today - 12 * DAY)
    prepared = issue(fleet, today - 11 * DAY)
    assert issuing_rollover(fleet).phase is Phase.PREPARED
    assert fleet.issuing_certificate == old_certificate
    require_connects(fleet, old, prepared)
    # What bridges hold from now on, so that they take the records that follow.
    bridge = shutil.copytree(fleet.path, fleet.path.with_name("bridge"))

    switch_issuing(fleet, now=today - 2 * DAY)
    new = issue(fleet, today - DAY)
    assert issuing_rollover(fleet).phase is Phase.SWITCHED
    assert fleet.issuing_certificate.public_key() != old_certificate.public_key()
    require_connects(fleet, old, prepared, new)
    require_registered(fleet, old, prepared, new)
    shutil.copy(fleet.record_path(new.vehicle_id), bridge / FleetPart.REGISTRY)
    require_registered(FleetDirectory.open(bridge), old, prepared, new)
    renew_service(fleet, "broker", now=today - DAY)
    require_connects(fleet, old, prepared, new)

    assert "old_key_here" in [one.check for one in audit_fleet(fleet, now=today)]
    finish_issuing(fleet, now=today)
    assert issuing_rollover(fleet).phase is Phase.NONE
    assert not (fleet.path / OLD_KEY).exists()
    require_connects(fleet, old, prepared, new)
    require_registered(fleet, old, prepared, new)
    assert "old_key_here" not in [one.check for one in audit_fleet(fleet, now=today)]


@pytest.mark.broker
def test_a_service_that_runs_since_before_signs_on_and_a_new_one_by_the_new_key(
    rolling: FleetDirectory, today: datetime, tmp_path: Path
) -> None:
    prepare_issuing(rolling, root_key(rolling), now=today)
    with open_office(rolling) as office:
        device = Device(office, tmp_path)
        assert device.enroll(office.claim(device.vehicle_id)).status == 200
        switch_issuing(rolling, now=today)
        answer = device.reenroll()
        assert answer.status == 200
        old = rolling.issuer_of(answer.certificate)
        assert old != rolling.issuing_certificate
        assert device.reenroll().status == 200  # with a chain that fits its key
    with open_office(rolling) as office:
        device.office = office
        answer = device.reenroll()
        assert answer.status == 200
        assert rolling.issuer_of(answer.certificate) == rolling.issuing_certificate
        assert device.reenroll().status == 200


def test_a_crash_at_any_point_is_mended_by_running_the_step_again(
    rolling: FleetDirectory, today: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each rename that a step makes fails once; the CA can sign all the while.
    fleet, car = rolling, issue(rolling, today - DAY)
    key = root_key(fleet)
    real, crashes = Path.rename, 0

    def step(name: str) -> None:
        if name == "prepare":
            prepare_issuing(fleet, key, now=today)
        else:
            switch_issuing(fleet, now=today)

    for name in ("prepare", "switch"):
        for allowed in range(20):
            left = iter(range(allowed))

            def rename(source: Path, target: Path, left: Iterator[int] = left) -> Path:
                if next(left, None) is None:
                    raise OSError(5, "cut")
                return real(source, target)

            monkeypatch.setattr(Path, "rename", rename)
            try:
                step(name)
            except OSError:
                crashes += 1
            else:
                break
            finally:
                monkeypatch.setattr(Path, "rename", real)
            require_registered(fleet, car, issue(fleet, today))
            require_connects(fleet, issue(fleet, today))
    assert crashes >= 4
    finish_issuing(fleet, now=today)
    require_connects(fleet, car, issue(fleet, today))


def test_steps_out_of_order_and_keys_that_are_none_are_refused(
    rolling: FleetDirectory, today: datetime
) -> None:
    fleet = rolling
    key = root_key(fleet)
    with pytest.raises(RequestError, match="is prepared"):
        switch_issuing(fleet, now=today)
    with pytest.raises(RequestError, match="no change of the issuing key"):
        finish_issuing(fleet, now=today)
    issuing = open_private_key(fleet.path / FleetPart.ISSUING_KEY)
    with pytest.raises(FleetError, match="not that of"):
        prepare_issuing(fleet, issuing, now=today)
    for used in (FleetPart.ISSUING_KEY, FleetPart.ROOT_KEY):
        data = (fleet.path / used).read_bytes()
        with pytest.raises(RequestError, match="is, or was, one of this CA"):
            prepare_issuing(fleet, key, key_file=data, now=today)
    data = (fleet.path / FleetPart.COMMAND_KEY).read_bytes()
    with pytest.raises(RequestError, match="P-256"):
        prepare_issuing(fleet, key, key_file=data, now=today)
    assert not (fleet.path / NEW_KEY).exists()

    prepare_issuing(fleet, key, now=today)
    switch_issuing(fleet, now=today)
    with pytest.raises(RequestError, match="not finished"):
        prepare_issuing(fleet, key, now=today)


def test_the_revocation_list_of_the_old_key_counts_until_the_next(
    rolling: FleetDirectory, today: datetime
) -> None:
    car = issue(rolling, today - DAY)
    revoke_vehicle(rolling, car.vehicle_id, now=today)
    prepare_issuing(rolling, root_key(rolling), now=today)
    switch_issuing(rolling, now=today)

    found = read_list(rolling)

    assert found is not None
    assert len(found) == 1


def test_evidence_of_before_is_proved_after_every_change_of_the_ca(
    rolling: FleetDirectory, today: datetime
) -> None:
    # K13, FF-EVI-05: another term, another key, another root; the record is the same.
    fleet = rolling
    issue(fleet, today - 20 * DAY)
    issue(fleet, today - 20 * DAY)
    court = Court(fleet, now_ms=int((today - 19 * DAY).timestamp() * 1000))
    exhibit = rental_of(court)
    anchors = court.anchors
    archive = Archive(
        fleet_id=fleet.fleet.fleet_id,
        issuing_certificate=fleet.path / FleetPart.ISSUING_CERTIFICATE,
        registry=fleet.path / FleetPart.REGISTRY,
        bundles=fleet.path / FleetPart.TRUST,
    )
    proof = RentalProof(
        vehicle_id=exhibit.vehicle_id,
        entries=exhibit.entries,
        receipt=exhibit.receipt,
        rotations=(),
        commands=exhibit.commands,
        places=exhibit.places,
    )

    def require_proved(anchors: EvidenceAnchors) -> None:
        assert verify_evidence(archive.file_of(proof), anchors).entries

    require_proved(anchors)
    renew_issuing(fleet, root_key(fleet), now=today - 18 * DAY)
    require_proved(anchors)
    prepare_issuing(fleet, root_key(fleet), now=today - 17 * DAY)
    switch_issuing(fleet, now=today - 17 * DAY)
    finish_issuing(fleet, now=today - 17 * DAY)
    require_proved(anchors)
    prepare(fleet, root_key(fleet), now=today - 16 * DAY)
    switch(
        fleet, open_private_key(fleet.path / "ca/root-new.key"), now=today - 16 * DAY
    )
    finish(fleet, now=today)
    require_proved(anchors)
    # Also by anchors that were taken from the fleet only now.
    require_proved(replace(anchors, root_certificates=tuple(fleet.evidence_roots)))
    assert len(fleet.certificates(FleetPart.TRUST_ANCHORS)) == 1
