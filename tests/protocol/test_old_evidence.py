"""A proof of a rental of years ago, on the clock of today (K13)."""

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from certs.fleet import FleetDirectory
from certs.vehicle import issue_vehicles, random_vehicle_id
from protocol.evidence import build_evidence, verify_evidence
from protocol.fleet import VehiclePart
from tests.bridge.car import REPORT
from tests.protocol.court import Court, rental_of
from tests.tools.command_line import freefloat
from tools.clock import wall_clock

YEARS_AGO = timedelta(days=6 * 365)
SUITE_AT = 3
"""Byte of a frame: its suite."""


@pytest.fixture(scope="module")
def old_court(tmp_path_factory: pytest.TempPathFactory) -> Court:
    """Return a fleet that was made six years ago, with a rental of the next day."""
    made = wall_clock() - YEARS_AGO
    path = tmp_path_factory.mktemp("old") / "fleet"
    fleet = FleetDirectory.create(path, name="old", now=made)
    issue_vehicles(fleet, [random_vehicle_id(), random_vehicle_id()], now=made)
    return Court(fleet, now_ms=int(made.timestamp() * 1000) + 86_400_000)


def test_evidence_of_six_years_ago_is_verified_after_its_certificates_ended(
    old_court: Court, tmp_path: Path
) -> None:
    # FF-EVI-01, FF-EVI-05.
    # K13: by the command, on today's clock, with nothing but the anchors.
    exhibit = rental_of(old_court)
    data = build_evidence(exhibit)
    now = wall_clock()
    tls = (
        old_court.fleet.vehicle_directory(exhibit.vehicle_id)
        / VehiclePart.TLS_CERTIFICATE
    )
    certificate = x509.load_pem_x509_certificate(tls.read_bytes())
    assert certificate.not_valid_after_utc < now
    bundle = old_court.fleet.open_trust_bundle()
    assert bundle.expires_ms < now.timestamp() * 1000
    file, anchors = tmp_path / "rental.json", tmp_path / "anchors.json"
    file.write_bytes(data)
    made = freefloat("evidence", "anchors", old_court.fleet.path, "-o", anchors)
    assert made.returncode == 0, made.stderr

    done = freefloat("evidence", "verify", file, "--anchors", anchors)

    assert done.returncode == 0, done.stderr
    proved = verify_evidence(data, old_court.anchors)
    assert proved.entries[-1].body == REPORT
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    file.write_bytes(bytes(flipped))
    assert freefloat("evidence", "verify", file, "--anchors", anchors).returncode == 1


@pytest.mark.parametrize("suite", [0, 2, 3, 255])
def test_only_signatures_are_evidence(old_court: Court, suite: int) -> None:
    # FF-SIG-05, FF-EVI-06.
    # K13: a frame of a suite that is none, such as one of a shared secret, proves
    # nothing, and nor does one under another suite than its key's.
    court = Court(old_court.fleet, now_ms=old_court.now_ms)
    entry = court.car.event(REPORT)
    other = entry[:SUITE_AT] + bytes([suite]) + entry[SUITE_AT + 1 :]

    court.refusal(court.exhibit(other, receipt=court.receipt()))
