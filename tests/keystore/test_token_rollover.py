"""CA, root and signer move into a token while cars are on the road (K2)."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from certs.fleet import FleetDirectory, bundle_path
from certs.fleet_audit import audit_fleet
from certs.issuing_rollover import finish_issuing, prepare_issuing, switch_issuing
from certs.rollover import finish, prepare, switch
from certs.trust_files import sign_proposal
from certs.vehicle import issue_vehicles, random_vehicle_id
from keystore.private_key import open_private_key
from keystore.signer import open_signing_key
from keystore.token import generate_token_key
from keystore.uri import TokenUri
from protocol.codes import Suite
from protocol.fleet import FleetPart
from protocol.trust import SIGNED_BUNDLE, TRUST_CONTEXT
from tests.certs.test_rollover import shake
from tests.softhsm import Token

pytestmark = pytest.mark.softhsm

DAY = timedelta(days=1)


@pytest.fixture
def today() -> datetime:
    return datetime.fromtimestamp(time.clock_gettime(time.CLOCK_REALTIME), tz=UTC)


@pytest.fixture
def rolling(tmp_path: Path, today: datetime) -> FleetDirectory:
    return FleetDirectory.create(tmp_path / "fleet", name="Roll", now=today - 60 * DAY)


def make(token: Token, label: str, suite: Suite = Suite.P256) -> str:
    uri = token.uri(label)
    generate_token_key(TokenUri.parse(uri), suite)
    return uri


def test_the_issuing_key_and_then_the_root_move_into_a_token(
    rolling: FleetDirectory, today: datetime, token: Token
) -> None:
    # K2; the drill of docs/operations.md, section 10, from the first to the last step.
    fleet = rolling
    old = issue_vehicles(fleet, [random_vehicle_id()], now=today - 20 * DAY)[0]
    root = open_private_key(fleet.path / FleetPart.ROOT_KEY)
    issuing = make(token, "issuing-drill")

    prepare_issuing(fleet, root, key_file=issuing.encode(), now=today - 19 * DAY)
    switch_issuing(fleet, now=today - 18 * DAY)
    finish_issuing(fleet, now=today - 18 * DAY)

    assert (fleet.path / FleetPart.ISSUING_KEY).read_text() == issuing
    middle = issue_vehicles(fleet, [random_vehicle_id()], now=today - 3 * DAY)[0]

    uri = make(token, "root-drill")
    prepare(fleet, root, new_key=open_private_key(uri), now=today - 3 * DAY)
    switch(fleet, open_private_key(uri), now=today - 2 * DAY)
    new = issue_vehicles(fleet, [random_vehicle_id()], now=today - DAY)[0]
    for car in (middle, new):
        for part in (FleetPart.BROKER, FleetPart.ENROLMENT):
            anchors = car.directory / "trust-anchors.pem"
            assert shake(car.directory, anchors, fleet, part) is None
    finish(fleet, now=today + 12 * DAY)

    anchors = new.directory / "trust-anchors.pem"
    assert shake(new.directory, anchors, fleet, FleetPart.BROKER) is None
    # An audit follows the URIs in the places of key files.
    assert not {"key_unusable", "unreadable"} & {
        one.check for one in audit_fleet(fleet, now=today)
    }
    for car in (old, middle, new):
        assert fleet.vehicle_record(car.vehicle_id).vehicle_id == car.vehicle_id


def test_a_trust_root_in_a_token_signs_bundles(
    rolling: FleetDirectory, token: Token
) -> None:
    # K2: as `freefloat certs trust sign --key pkcs11:...` does.
    data = bundle_path(rolling.path, 1).read_bytes()
    key = open_signing_key(make(token, "trust-root", Suite.ED25519))

    signed = SIGNED_BUNDLE.parse(sign_proposal(data, key))

    (own,) = (one for one in signed.signatures if one.root_key_id == key.key_id)
    key.verify_key.verify(own.signature, TRUST_CONTEXT + signed.body)
