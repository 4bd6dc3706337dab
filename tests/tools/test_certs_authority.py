"""The authority's commands as an operator meets them, run as real processes."""

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from certs.fleet import FleetDirectory
from protocol.identity import VehicleId
from tests.certs.office import Device, Office
from tests.tools.command_line import freefloat, require_clear_failure, running


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    assert freefloat("certs", "init", "fleet", cwd=tmp_path).returncode == 0
    return tmp_path


def said(*arguments: str, cwd: Path) -> str:
    done = freefloat("certs", *arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def document(*arguments: str, cwd: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(said(*arguments, "--json", cwd=cwd))
    return read


def key_of(fleet: Path, role: str) -> str:
    keys = document("trust", "show", "fleet", cwd=fleet)["keys"]
    found: str = next(key["key_id"] for key in keys if key["role"] == role)
    return found


def test_a_claim_is_shown_once_and_a_second_one_for_the_device_is_refused(
    fleet: Path,
) -> None:
    made = document("claim", "fleet", "SN-1", cwd=fleet)
    again = freefloat("certs", "claim", "fleet", "SN-1", cwd=fleet)

    assert made["claim"].startswith("FF-")
    assert made["serial"] == "SN-1"
    require_clear_failure(again)
    assert "a claim that is open exists" in again.stderr
    assert made["claim"] not in again.stdout + again.stderr


def test_a_vehicle_is_withdrawn_and_the_audit_is_content(fleet: Path) -> None:
    vehicle = document("issue", "fleet", cwd=fleet)["vehicles"][0]["vehicle_id"]

    done = document("revoke", "fleet", vehicle, cwd=fleet)
    audit = document("audit", "fleet", cwd=fleet)
    grace = freefloat("certs", "grace", "fleet", vehicle, cwd=fleet)

    assert done["certificates"] == 1
    assert audit["must_act"] == 0
    require_clear_failure(grace)
    assert not (fleet / "fleet/registry" / f"{vehicle}.json").exists()
    assert (fleet / "fleet/revoked" / f"{vehicle}.json").exists()


def test_who_withdraws_a_vehicle_is_told_where_its_record_goes(fleet: Path) -> None:
    """L5: a record that only vanishes may be a lost disk, and then counts on."""
    vehicle = document("issue", "fleet", cwd=fleet)["vehicles"][0]["vehicle_id"]

    told = said("revoke", "fleet", vehicle, cwd=fleet)

    assert "move the record to revoked/" in told
    assert "ok    1 certificate on the revocation list" in told


def test_an_audit_that_finds_something_ends_with_1_and_says_what_to_do(
    fleet: Path,
) -> None:
    (fleet / "fleet/signer/command-1.key").chmod(0o644)

    done = freefloat("certs", "audit", "fleet", cwd=fleet)

    assert done.returncode == 1
    assert done.stderr.startswith("error: 2 findings in fleet must be acted on")
    assert "open_file" in done.stdout
    assert "chmod 600" in done.stdout


def test_signers_are_added_rotated_and_revoked_by_an_online_key(fleet: Path) -> None:
    said("trust", "add-signer", "fleet", "revoke", cwd=fleet)
    said("trust", "rotate", "fleet", key_of(fleet, "RENTAL"), cwd=fleet)
    for root in (fleet / "fleet/trust").glob("root-*.key"):
        root.unlink()
    stolen = key_of(fleet, "RENTAL")

    told = said("trust", "revoke", "fleet", stolen, cwd=fleet)
    shown = document("trust", "show", "fleet", cwd=fleet)

    assert "bundle 4 is published" in told
    assert shown["revoked"] == [stolen]
    assert (fleet / "fleet/signer/command-2.key").exists()


def test_offline_roots_sign_the_file_of_a_change_one_after_another(fleet: Path) -> None:
    (fleet / "safe").mkdir()
    for root in (fleet / "fleet/trust").glob("root-*.key"):
        root.rename(fleet / "safe" / root.name)

    waits = said("trust", "extend", "fleet", "--days", "500", cwd=fleet)
    said("trust", "export", "fleet", "change.bin", cwd=fleet)
    for number in (1, 3):
        key = f"safe/root-{number}.key"
        said("trust", "sign", "change.bin", "--yes", "--key", key, cwd=fleet)
    merged = said("trust", "merge", "fleet", "change.bin", cwd=fleet)

    assert "missing: 2 of the present roots" in waits
    assert "bundle 2 is published" in merged
    assert document("trust", "show", "fleet", cwd=fleet)["version"] == 2


def test_the_root_is_replaced_step_by_step_and_services_are_renewed(
    fleet: Path,
) -> None:
    said("roll-root", "prepare", "fleet", cwd=fleet)
    said("roll-root", "switch", "fleet", cwd=fleet)
    said("roll-root", "finish", "fleet", cwd=fleet)
    said("renew", "fleet", "broker", "--host", "b.example.com", cwd=fleet)
    said("renew", "fleet", "issuing", cwd=fleet)
    status = said("roll-root", "status", "fleet", cwd=fleet)

    assert "no change of roots is under way" in status
    assert document("audit", "fleet", cwd=fleet)["must_act"] == 0


@pytest.mark.demo
def test_the_service_enrols_a_device_until_it_is_stopped(
    fleet: Path, tmp_path: Path
) -> None:
    claim = document("claim", "fleet", "SN-7", cwd=fleet)
    with running(
        "certs", "serve", "fleet", "--listen", "127.0.0.1:0", cwd=fleet
    ) as process:
        assert process.stdout is not None
        end, port = time.monotonic() + 40, 0
        while not port and time.monotonic() < end:
            line = process.stdout.readline()
            if "https://127.0.0.1:" in line:
                port = int(line.rsplit(":", 1)[1])
        office = Office(FleetDirectory.open(fleet / "fleet"), port)
        device = Device(office, tmp_path, VehicleId.from_text(claim["vehicle_id"]))

        answer = device.enroll(claim["claim"], serial="SN-7")

        assert answer.status == 200, answer.body
        assert device.reenroll().status == 200
        process.send_signal(signal.SIGTERM)
        _out, errors = process.communicate(timeout=20)
        assert process.returncode == 0, errors
    assert claim["claim"] not in errors


@pytest.mark.parametrize(
    "arguments",
    [
        ["claim", "fleet", "not a name"],
        ["revoke", "fleet", "2IKZ3ICPO6WDLGQ2QWQYYJ2C4E"],
        ["revoke", "fleet", "CAR1/cmd"],
        ["trust", "revoke", "fleet", "00"],
        ["trust", "merge", "fleet", "fleet/fleet.json"],
        ["roll-root", "finish", "fleet"],
        ["roll-issuing", "finish", "fleet"],
        ["roll-issuing", "prepare", "fleet", "--new-key", "absent.key"],
        ["recertify", "fleet", "fleet/fleet.json"],
        ["new-key", "pkcs11:token=a;object=b?module-path=/absent.so"],
        ["renew", "fleet", "issuing", "--root-key", "absent.key"],
        ["serve", "fleet", "--listen", "nowhere"],
    ],
)
def test_a_mistake_is_explained_in_two_lines(arguments: list[str], fleet: Path) -> None:
    require_clear_failure(freefloat("certs", *arguments, cwd=fleet))


def test_the_issuing_key_is_replaced_by_commands_alone(fleet: Path) -> None:
    said("issue", "fleet", cwd=fleet)
    for step, sentence in (
        ("prepare", "Copy fleet/ca/issuing.crt to bridges"),
        ("status", "prepared"),
        ("switch", "Restart 'certs serve'"),
        ("status", "switched"),
        ("finish", "Wipe its backups"),
        ("status", "no change of the issuing key is under way"),
    ):
        assert sentence in said("roll-issuing", step, "fleet", cwd=fleet)
    said("issue", "fleet", cwd=fleet)
    audit = document("audit", "fleet", cwd=fleet)
    assert audit["must_act"] == 0
