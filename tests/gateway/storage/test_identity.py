"""The identity directory, made by the real PKI and then broken."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from certs.fleet import FleetDirectory
from certs.vehicle import issue_vehicles, random_vehicle_id
from gateway.storage.identity import (
    ExposedKeyError,
    IdentityError,
    MissingFileError,
    WrongContentError,
    load_identity,
)
from protocol.fleet import FleetPart, VehiclePart

NOW = datetime(2027, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def fleets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the vehicle directories of two fleets."""
    directories = []
    for name in ("one", "two"):
        path = tmp_path_factory.mktemp(name) / "fleet"
        fleet = FleetDirectory.create(path, name=name, now=NOW)
        vehicle_id = random_vehicle_id()
        issue_vehicles(fleet, [vehicle_id], now=NOW)
        directories.append(path / FleetPart.VEHICLES / str(vehicle_id))
    return directories[0], directories[1]


@pytest.fixture
def directory(fleets: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(fleets[0], tmp_path / "vehicle"))


def test_what_the_pki_made_is_loaded(directory: Path) -> None:
    identity = load_identity(directory)

    assert len(identity.trust.bundle.keys) == 2
    assert identity.trust.bundle.fleet_id == identity.fleet_id
    assert identity.certificate == directory / "tls.crt"


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="freefloat certs issue"):
        load_identity(tmp_path / "nowhere")


@pytest.mark.parametrize("part", list(VehiclePart))
def test_every_file_of_the_directory_is_needed(
    directory: Path, part: VehiclePart
) -> None:
    (directory / part).unlink()

    with pytest.raises(MissingFileError, match=part):
        load_identity(directory)


@pytest.mark.parametrize("part", [VehiclePart.SIGNING_KEY, VehiclePart.SEALING_KEY])
def test_a_key_that_others_can_read_is_refused(
    directory: Path, part: VehiclePart
) -> None:
    # FF-SEC-07.
    (directory / part).chmod(0o640)

    with pytest.raises(ExposedKeyError, match=f"{part} has mode 0640"):
        load_identity(directory)


@pytest.mark.parametrize(
    "part", [VehiclePart.TRUST_BUNDLE, VehiclePart.TRUST_ROOTS, VehiclePart.IDENTITY]
)
def test_files_of_two_fleets_do_not_go_together(
    directory: Path, fleets: tuple[Path, Path], part: VehiclePart
) -> None:
    shutil.copy(fleets[1] / part, directory / part)

    with pytest.raises(WrongContentError, match="of the fleet anew"):
        load_identity(directory)


def swap_keys(directory: Path) -> None:
    shutil.copy(directory / "sealing.key", directory / "signing.key")


def flip_a_bit(directory: Path) -> None:
    path = directory / "trust-bundle.bin"
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)


def overwrite(part: str) -> Callable[[Path], None]:
    def change(directory: Path) -> None:
        (directory / part).write_bytes(b"hello")

    return change


def inflate(directory: Path) -> None:
    (directory / "trust-bundle.bin").write_bytes(bytes(100_000))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (swap_keys, "signing.key holds no Ed25519 and no P-256 key"),
        (flip_a_bit, "BAD_SIGNATURE"),
        (overwrite("signing.key"), "not an unencrypted private key"),
        (overwrite("vehicle.json"), "vehicle.json"),
        (overwrite("trust-roots.json"), "trust-roots.json"),
        (inflate, "this is some other file"),
    ],
)
def test_a_damaged_file_is_named_and_never_quoted(
    directory: Path, change: Callable[[Path], None], complaint: str
) -> None:
    secret = (directory / "signing.key").read_text().splitlines()[1]
    change(directory)

    with pytest.raises(IdentityError) as raised:
        load_identity(directory)

    assert complaint in str(raised.value)
    assert secret not in str(raised.value)


def test_an_identity_shows_no_keys(directory: Path) -> None:
    # FF-SEC-03.
    text = repr(load_identity(directory))

    assert "X25519" not in text
    assert "SigningKey(key_id=" in text
