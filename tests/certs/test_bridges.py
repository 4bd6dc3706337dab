"""Further bridges: a certificate and signing keys of their own (issue 5, point 7)."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from bridge.settings import load_settings
from certs.authority import common_name
from certs.bridges import issue_bridge
from certs.errors import ExistsError, RequestError
from certs.fleet import FleetDirectory, root_part
from certs.fleet_audit import audit_fleet
from certs.inventory import take_inventory
from certs.renewing import renew_service
from certs.trust_files import PROPOSAL, TrustFiles, sign_proposal
from keystore.signer import open_signing_key
from protocol.codes import Role
from protocol.keys import SigningKey

DEPLOY = Path(__file__).parents[2] / "deploy"


def roots(fleet: FleetDirectory, *numbers: int) -> tuple[SigningKey, ...]:
    return tuple(
        open_signing_key(fleet.path / root_part(one, "key")) for one in numbers
    )


def everything(fleet: FleetDirectory) -> set[Path]:
    return set(fleet.path.rglob("*"))


def test_each_bridge_has_a_name_and_keys_that_no_other_has_and_cars_learn_them(
    fleet: FleetDirectory, now: datetime
) -> None:
    """K1, K6."""
    made = [issue_bridge(fleet, roots(fleet, 1, 2), now=now) for _ in range(2)]

    bundle = fleet.open_trust_bundle()
    named = {key.key_id: key.role for key in bundle.keys}
    owned = [
        open_signing_key(fleet.path / part).key_id
        for one in made
        for part in (one.command_part, one.receipt_part)
    ]
    leaves = [fleet.certificate(f"{one.tls_part}/tls.crt") for one in made]
    assert [one.name for one in made] == ["ff-bridge-2", "ff-bridge-3"]
    assert [common_name(leaf) for leaf in leaves] == ["ff-bridge-2", "ff-bridge-3"]
    for one, leaf in zip(made, leaves, strict=True):
        key = (fleet.path / one.tls_part / "tls.key").read_bytes()
        assert load_pem_private_key(key, None).public_key() == leaf.public_key()
    assert [named[one] for one in owned] == 2 * [Role.RENTAL, Role.RECEIPT]
    assert bundle.version == 3
    assert len(named) == len(set(named)) == 6
    assert take_inventory(fleet).problems == ()


def test_without_roots_the_bundle_waits_and_a_second_change_is_refused_before_a_file(
    fleet: FleetDirectory, now: datetime
) -> None:
    waiting = issue_bridge(fleet, roots(fleet, 1), now=now)
    before = everything(fleet)

    with pytest.raises(RequestError, match="a change waits"):
        issue_bridge(fleet, roots(fleet, 1, 2), now=now)

    assert "1 of the present roots" in waiting.progress.missing
    assert everything(fleet) == before
    change = (fleet.path / PROPOSAL).read_bytes()
    done = TrustFiles(fleet).take(sign_proposal(change, *roots(fleet, 3)))
    assert done.missing == ""
    assert fleet.open_trust_bundle().version == 2


@pytest.mark.parametrize("there", ["bridge/4", "signer/command-4.key"])
def test_what_has_the_number_is_untouched_and_nothing_of_the_bridge_is_left_behind(
    there: str, fleet: FleetDirectory, now: datetime
) -> None:
    (fleet.path / there).mkdir(parents=True)
    (fleet.path / there / "mine").write_text("mine")
    before = everything(fleet)

    with pytest.raises(ExistsError):
        issue_bridge(fleet, roots(fleet, 1, 2), number=4, now=now)

    assert everything(fleet) == before
    assert fleet.open_trust_bundle().version == 1
    # Without a number the next one is taken of which nothing is there.
    assert issue_bridge(fleet, roots(fleet, 1, 2), now=now).number == 2


@pytest.mark.parametrize("number", [0, 1, 10_000])
def test_the_first_bridge_and_five_digits_are_no_further_bridge(
    number: int, fleet: FleetDirectory, now: datetime
) -> None:
    with pytest.raises(RequestError, match=f"bridge {number} is not 2 to 9999"):
        issue_bridge(fleet, (), number=number, now=now)


def test_a_bridge_is_renewed_and_audited_by_its_name(
    fleet: FleetDirectory, now: datetime
) -> None:
    """K9: no certificate ends unseen; one bridge's key does not replace another's."""
    first = fleet.open_trust_bundle().keys[0].key_id.hex()
    later = now + timedelta(days=370)
    issue_bridge(fleet, roots(fleet, 1, 2), now=now + timedelta(days=60))

    found = audit_fleet(fleet, now=later)
    renewed = renew_service(fleet, "bridge-2", now=later)

    ends = {one.subject: one.advice for one in found}
    assert f"rental key {first}" in ends
    assert f"renew {fleet.path} bridge," in ends["bridge/1/tls.crt"]
    assert "bridge/2/tls.crt" not in ends
    assert renewed.name == "ff-bridge-2"
    much_later = audit_fleet(fleet, now=now + timedelta(days=750))
    assert any(f"{fleet.path} bridge-2," in one.advice for one in much_later)
    with pytest.raises(RequestError, match="no service of"):
        renew_service(fleet, "bridge-3", now=later)


def test_the_settings_of_a_replica_in_deploy_name_what_this_makes(
    fleet: FleetDirectory, now: datetime, tmp_path: Path
) -> None:
    issued = issue_bridge(fleet, roots(fleet, 1, 2), now=now)
    config = tmp_path / "bridge.toml"
    config.write_text((DEPLOY / "bridge-replica.toml").read_text())

    settings = load_settings(config)

    assert settings.tls.certificate == str(fleet.path / issued.tls_part / "tls.crt")
    assert settings.tls.key == str(fleet.path / issued.tls_part / "tls.key")
    assert settings.fleet.command_key == str(fleet.path / issued.command_part)
    assert settings.fleet.receipt_key == str(fleet.path / issued.receipt_part)
