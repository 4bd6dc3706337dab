"""The fleet directory: complete or absent, private, and never overwritten."""

import stat
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.verification import PolicyBuilder, Store

from certs.authority import common_name
from certs.errors import BusyError, ExistsError, FleetError, RequestError
from certs.fleet import FleetDirectory, root_part
from certs.trust import first_bundle, new_signing_key, trust_roots
from certs.vehicle import issue_vehicles, random_vehicle_id
from protocol.codes import Lane, Role, Suite
from protocol.errors import AuthenticationError
from protocol.fleet import FleetPart, TlsPart, parse_fleet
from protocol.keyfile import parse_signing_key
from protocol.keys import SigningKey
from protocol.trust import (
    ALL_OPCODES,
    EVERY_GROUP,
    TrustRoots,
    open_bundle,
    sign_bundle,
)

FileSizeLimit = Callable[[int], AbstractContextManager[None]]

LAYOUT = [
    "broker/tls.crt",
    "broker/tls.key",
    "bridge/1/tls.crt",
    "bridge/1/tls.key",
    "ca/books.sqlite",
    "ca/issuing.crt",
    "ca/issuing.key",
    "ca/root.crt",
    "ca/root.key",
    "ca/trust-anchors.pem",
    "engineer/1/tls.crt",
    "engineer/1/tls.key",
    "enrolment/tls.crt",
    "enrolment/tls.key",
    "fleet.json",
    "signer/command-1.key",
    "signer/receipt-1.key",
    "trust/bundle-1.bin",
    "trust/root-1.key",
    "trust/root-1.pub",
    "trust/root-2.key",
    "trust/root-2.pub",
    "trust/root-3.key",
    "trust/root-3.pub",
]


def contents(path: Path) -> dict[str, bytes]:
    """Every file below a directory, with its bytes."""
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


def root_keys(fleet: FleetDirectory) -> list[SigningKey]:
    return [
        parse_signing_key(
            (fleet.path / root_part(number, "key")).read_bytes(), name="root"
        )
        for number in (1, 2, 3)
    ]


def test_a_new_fleet_has_the_documented_layout(fleet: FleetDirectory) -> None:
    directories = {
        str(path.relative_to(fleet.path))
        for path in fleet.path.rglob("*")
        if path.is_dir()
    }

    assert sorted(contents(fleet.path)) == sorted(LAYOUT)
    assert {"registry", "vehicles"} <= directories


def test_every_key_is_private_and_so_is_its_directory(fleet: FleetDirectory) -> None:
    # K2
    issue_vehicles(fleet, [random_vehicle_id()], now=fleet.fleet.created)

    keys = list(fleet.path.rglob("*.key"))

    assert len(keys) == 14
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}
    assert {stat.S_IMODE(key.parent.stat().st_mode) for key in keys} == {0o700}


def test_a_file_that_holds_a_private_key_is_named_key(fleet: FleetDirectory) -> None:
    # The mode test above looks at names; this one closes the gap behind it.
    files = contents(fleet.path)

    holding = {name for name, data in files.items() if b"PRIVATE KEY" in data}

    assert holding == {name for name in files if name.endswith(".key")}


def test_what_is_public_can_be_read_by_others(fleet: FleetDirectory) -> None:
    assert stat.S_IMODE(fleet.path.stat().st_mode) == 0o755
    assert stat.S_IMODE((fleet.path / "registry").stat().st_mode) == 0o755
    assert stat.S_IMODE((fleet.path / "fleet.json").stat().st_mode) == 0o644


def test_fleet_json_says_which_fleet_it_is(
    fleet: FleetDirectory, now: datetime
) -> None:
    read = parse_fleet((fleet.path / FleetPart.IDENTITY).read_bytes())

    assert read == fleet.fleet
    assert read.name == "Test Fleet"
    assert read.created == now
    assert FleetDirectory.open(fleet.path) == fleet


def test_two_fleets_share_no_key_and_no_id(
    fleet: FleetDirectory, tmp_path: Path, now: datetime
) -> None:
    other = FleetDirectory.create(tmp_path / "other", name="Test Fleet", now=now)

    ours, theirs = contents(fleet.path), contents(other.path)

    assert fleet.fleet.fleet_id != other.fleet.fleet_id
    # The books of both are empty.
    same = [name for name in ours if ours[name] == theirs[name]]
    assert same == [FleetPart.BOOKS]


# --- never overwritten --------------------------------------------------------------


def test_a_second_fleet_in_the_same_place_is_refused_and_no_byte_changes(
    fleet: FleetDirectory, now: datetime
) -> None:
    before = contents(fleet.path)

    with pytest.raises(ExistsError, match="holds a fleet already"):
        FleetDirectory.create(fleet.path, name="Other", now=now)

    assert contents(fleet.path) == before
    assert [path.name for path in fleet.path.parent.iterdir()] == ["fleet"]


def test_a_directory_with_anything_in_it_is_refused(
    tmp_path: Path, now: datetime
) -> None:
    (tmp_path / "mine.txt").write_text("dear")

    with pytest.raises(ExistsError, match="is not empty"):
        FleetDirectory.create(tmp_path, name="Other", now=now)

    assert contents(tmp_path) == {"mine.txt": b"dear"}


def test_a_file_in_the_place_of_a_fleet_is_refused(
    tmp_path: Path, now: datetime
) -> None:
    file = tmp_path / "fleet"
    file.write_text("dear")

    with pytest.raises(ExistsError, match="no directory"):
        FleetDirectory.create(file, name="Other", now=now)

    assert file.read_text() == "dear"


def test_an_empty_directory_is_filled(tmp_path: Path, now: datetime) -> None:
    (tmp_path / "fleet").mkdir()

    fleet = FleetDirectory.create(tmp_path / "fleet", name="Other", now=now)

    assert sorted(contents(fleet.path)) == sorted(LAYOUT)


def test_a_missing_parent_is_named(tmp_path: Path, now: datetime) -> None:
    with pytest.raises(FleetError, match=r"a/b is no directory"):
        FleetDirectory.create(tmp_path / "a" / "b" / "fleet", name="Other", now=now)


@pytest.mark.parametrize("name", ["", "a,O=b", "x" * 33, "fleet\n", " a", "a/b", "ü"])
def test_a_fleet_name_that_could_be_read_as_something_else_is_refused(
    name: str, tmp_path: Path, now: datetime
) -> None:
    with pytest.raises(RequestError, match="fleet name"):
        FleetDirectory.create(tmp_path / "fleet", name=name, now=now)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a", "x" * 32, "Pilot 2.0_b-c"])
def test_fleet_names_up_to_the_limit_fit_every_certificate(
    name: str, tmp_path: Path, now: datetime
) -> None:
    fleet = FleetDirectory.create(tmp_path / "fleet", name=name, now=now)

    assert common_name(fleet.issuing_certificate).startswith(f"{name} issuing CA ")


@pytest.mark.parametrize("size", [0, 130, 300, 800])
def test_a_disk_that_fails_at_any_point_leaves_nothing_behind(
    size: int, tmp_path: Path, now: datetime, file_size_limit: FileSizeLimit
) -> None:
    with file_size_limit(size), pytest.raises(OSError, match="File too large"):
        FleetDirectory.create(tmp_path / "fleet", name="A", now=now)

    assert list(tmp_path.iterdir()) == []


def test_a_wrong_host_leaves_nothing_behind(tmp_path: Path, now: datetime) -> None:
    with pytest.raises(RequestError, match="host"):
        FleetDirectory.create(tmp_path / "fleet", name="A", hosts=("*",), now=now)

    assert list(tmp_path.iterdir()) == []


# --- certificates -------------------------------------------------------------------


def test_the_broker_s_chain_verifies_for_each_of_its_names(
    fleet: FleetDirectory, now: datetime
) -> None:
    anchors = x509.load_pem_x509_certificates(
        (fleet.path / FleetPart.TRUST_ANCHORS).read_bytes()
    )
    leaf, *rest = x509.load_pem_x509_certificates(
        (fleet.path / FleetPart.BROKER / TlsPart.CERTIFICATE).read_bytes()
    )

    for host in ("localhost", "mqtt.example.com"):
        verifier = (
            PolicyBuilder()
            .store(Store(anchors))
            .time(now)
            .build_server_verifier(x509.DNSName(host))
        )
        assert verifier.verify(leaf, rest) == [leaf, *rest, *anchors]


@pytest.mark.parametrize(
    ("part", "name"),
    [
        (FleetPart.BROKER, "ff-broker"),
        (FleetPart.BRIDGE, "ff-bridge-1"),
        (FleetPart.ENGINEER, "ff-engineer-1"),
    ],
)
def test_a_tls_key_belongs_to_the_certificate_beside_it(
    part: FleetPart, name: str, fleet: FleetDirectory
) -> None:
    certificate = fleet.certificate(f"{part}/{TlsPart.CERTIFICATE}")
    key = load_pem_private_key(
        (fleet.path / part / TlsPart.KEY).read_bytes(), password=None
    )

    assert key.public_key() == certificate.public_key()
    assert common_name(certificate) == name


def test_all_keys_of_a_fleet_differ(fleet: FleetDirectory) -> None:
    # K1
    keys = [data for name, data in contents(fleet.path).items() if ".key" in name]

    assert len(set(keys)) == len(keys) == 11


# --- trust --------------------------------------------------------------------------


def test_bundle_1_lets_one_signer_command_and_another_sign_receipts(
    fleet: FleetDirectory, now: datetime
) -> None:
    bundle = fleet.open_trust_bundle()

    command, receipt = bundle.keys
    signer = fleet.path / FleetPart.COMMAND_KEY
    receipts = fleet.path / FleetPart.RECEIPT_KEY
    assert (bundle.version, bundle.fleet_id) == (1, fleet.fleet.fleet_id)
    assert bundle.suites == (Suite.ED25519,)
    assert bundle.issued_ms == int(now.timestamp() * 1000)
    assert (command.role, receipt.role) == (Role.RENTAL, Role.RECEIPT)
    assert command.opcodes == ALL_OPCODES
    assert command.lanes == tuple(Lane)
    assert (command.group, receipt.group) == (EVERY_GROUP, EVERY_GROUP)
    assert bundle.trust_roots == fleet.trust_roots()
    assert command.max_ttl_ms == 60_000
    assert receipt.opcodes == ()
    assert command.key_id == parse_signing_key(signer.read_bytes(), name="").key_id
    assert receipt.key_id == parse_signing_key(receipts.read_bytes(), name="").key_id


def test_two_of_three_roots_open_a_bundle_and_one_does_not(
    fleet: FleetDirectory,
) -> None:
    roots, held = root_keys(fleet), fleet.trust_roots()
    bundle = fleet.open_trust_bundle()
    fleet_id = fleet.fleet.fleet_id

    for absent in range(3):
        pair = tuple(key for number, key in enumerate(roots) if number != absent)
        assert open_bundle(sign_bundle(bundle, pair), held, fleet_id=fleet_id) == bundle
    for alone in roots:
        with pytest.raises(AuthenticationError, match="1 of the needed 2"):
            open_bundle(sign_bundle(bundle, (alone,)), held, fleet_id=fleet_id)
        with pytest.raises(AuthenticationError, match="1 of the needed 2"):
            open_bundle(sign_bundle(bundle, (alone, alone)), held, fleet_id=fleet_id)


def test_the_delivered_bundle_does_not_open_under_another_fleet_s_roots(
    fleet: FleetDirectory, tmp_path: Path, now: datetime
) -> None:
    other = FleetDirectory.create(tmp_path / "other", name="Other", now=now)

    with pytest.raises(AuthenticationError, match="0 of the needed 2"):
        open_bundle(
            fleet.trust_bundle(), other.trust_roots(), fleet_id=fleet.fleet.fleet_id
        )


def test_a_bundle_of_one_root_only_is_noticed_when_the_fleet_reads_it(
    fleet: FleetDirectory, now: datetime
) -> None:
    path = fleet.path / FleetPart.TRUST_BUNDLE
    path.write_bytes(
        first_bundle(
            fleet.fleet.fleet_id,
            command=new_signing_key(),
            receipt=new_signing_key(),
            roots=tuple(root_keys(fleet)[:1]),
            now=now,
        )
    )

    with pytest.raises(FleetError, match="does not verify: 1 of the needed 2"):
        fleet.trust_bundle()


def test_trust_roots_hold_public_halves_and_the_threshold() -> None:
    keys = tuple(new_signing_key() for _ in range(3))

    assert trust_roots(keys) == TrustRoots(tuple(key.verify_key for key in keys), 2)


# --- opening ------------------------------------------------------------------------


def test_a_directory_without_a_fleet_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match=r"holds no fleet") as caught:
        FleetDirectory.open(tmp_path)

    assert "freefloat certs init" in caught.value.advice


def test_a_file_is_no_fleet(fleet: FleetDirectory) -> None:
    with pytest.raises(FleetError, match=r"holds no fleet"):
        FleetDirectory.open(fleet.path / FleetPart.IDENTITY)


def test_a_damaged_fleet_file_is_named(fleet: FleetDirectory) -> None:
    (fleet.path / FleetPart.IDENTITY).write_text("{}")

    with pytest.raises(FleetError, match=r"fleet\.json: .*missing"):
        FleetDirectory.open(fleet.path)


@pytest.mark.parametrize(
    "part",
    [
        FleetPart.ISSUING_KEY,
        FleetPart.ISSUING_CERTIFICATE,
        FleetPart.TRUST_BUNDLE,
        FleetPart.TRUST + "/root-2.pub",
    ],
)
@pytest.mark.parametrize("damage", ["removed", "emptied", "another"])
def test_a_part_that_is_missing_or_damaged_stops_issuing_and_is_named(
    part: str, damage: str, fleet: FleetDirectory, tmp_path: Path, now: datetime
) -> None:
    other = FleetDirectory.create(tmp_path / "other", name="Other", now=now)
    path = fleet.path / part
    match damage:
        case "removed":
            path.unlink()
        case "emptied":
            path.write_bytes(b"")
        case _:
            path.write_bytes((other.path / part).read_bytes())

    with pytest.raises(FleetError) as caught:
        issue_vehicles(fleet, [random_vehicle_id()], now=now)

    assert caught.value.advice
    assert fleet.vehicle_ids() == []
    assert list((fleet.path / FleetPart.VEHICLES).iterdir()) == []


def test_a_trust_root_of_another_kind_is_refused(fleet: FleetDirectory) -> None:
    key = X25519PrivateKey.generate().public_key()
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (fleet.path / root_part(3, "pub")).write_bytes(pem)

    with pytest.raises(FleetError, match=r"root-3\.pub holds no public key"):
        fleet.trust_roots()


def test_a_missing_certificate_is_named(fleet: FleetDirectory) -> None:
    (fleet.path / FleetPart.ROOT_CERTIFICATE).unlink()

    with pytest.raises(FleetError, match=r"root\.crt is missing"):
        fleet.certificate(FleetPart.ROOT_CERTIFICATE)


def test_a_ca_key_that_others_can_read_is_not_used(fleet: FleetDirectory) -> None:
    # K2: if others could read it, it may be theirs already.
    (fleet.path / FleetPart.ISSUING_KEY).chmod(0o640)

    with pytest.raises(FleetError, match=r"can be read by others \(mode 0640\)"):
        fleet.issuing_authority()


def test_issuing_goes_on_when_the_offline_keys_are_gone(
    fleet: FleetDirectory, now: datetime
) -> None:
    (fleet.path / FleetPart.ROOT_KEY).unlink()
    for number in (1, 2, 3):
        (fleet.path / root_part(number, "key")).unlink()

    issued = issue_vehicles(fleet, [random_vehicle_id()], now=now)

    assert fleet.vehicle_ids() == [issued[0].vehicle_id]


def test_nothing_is_issued_after_the_issuing_ca_has_ended(
    fleet: FleetDirectory, now: datetime
) -> None:
    with pytest.raises(RequestError, match="signing CA is valid from"):
        issue_vehicles(fleet, [random_vehicle_id()], now=now + timedelta(days=6 * 365))

    assert fleet.vehicle_ids() == []


def test_two_processes_cannot_issue_at_once(
    fleet: FleetDirectory, now: datetime
) -> None:
    # flock belongs to the open file, so a second opening is as good as a process.
    with (
        fleet.issuing(),
        pytest.raises(BusyError, match="another process") as caught,
        fleet.issuing(wait_s=0.05),
    ):
        pytest.fail("two at once")

    assert caught.value.retryable
    assert issue_vehicles(fleet, [random_vehicle_id()], now=now)


def test_a_fleet_without_its_registry_does_not_issue_twice(
    fleet: FleetDirectory, now: datetime
) -> None:
    (fleet.path / FleetPart.REGISTRY).rmdir()

    with pytest.raises(FleetError, match="registry is missing"):
        issue_vehicles(fleet, [random_vehicle_id()], now=now)
