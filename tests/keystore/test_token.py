"""Keys in a PKCS#11 token: used and never read (reliability.md K2)."""

import copy
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from bridge.errors import SettingsError
from bridge.fleet_files import read_key
from certs.authority import Authority
from certs.enrolment import VehicleKeys
from certs.fleet import FleetDirectory
from certs.profiles import Kind
from certs.revocation import publish_list, read_list
from certs.vehicle import issue_vehicles, random_vehicle_id
from keystore.errors import TokenError, UnfitKeyError
from keystore.private_key import open_private_key
from keystore.signer import open_signing_key, signing_key
from keystore.token import TokenKey, generate_token_key, load_token_key
from keystore.token_keys import TokenEd25519Key, TokenP256Key
from keystore.uri import TokenUri
from protocol.codes import Suite
from protocol.fleet import FleetPart
from protocol.keyfile import build_key
from tests.softhsm import LABEL, Token

pytestmark = pytest.mark.softhsm

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SUITES = [Suite.P256, Suite.ED25519]


@pytest.mark.parametrize("suite", SUITES)
def test_a_token_s_key_signs_what_the_protocol_verifies(
    suite: Suite, token: Token, keys: dict[Suite, TokenKey]
) -> None:
    key = open_signing_key(token.uri(suite.name))

    assert key.suite is suite
    for number in range(16):  # high s would show after a few
        message = bytes([number])
        key.verify_key.verify(key.sign(message), message)
    assert key.key_id == signing_key(keys[suite]).key_id


@pytest.mark.parametrize("suite", SUITES)
def test_the_private_number_cannot_be_taken_out(
    suite: Suite, token: Token, keys: dict[Suite, TokenKey]
) -> None:
    # K2: by the token itself, and by our own object.
    import pkcs11  # noqa: PLC0415 - only where a token is

    key = keys[suite]
    own = pkcs11.lib(str(token.module)).get_token(token_label=LABEL)
    with own.open() as session:
        private = list(session.get_objects({pkcs11.Attribute.LABEL: suite.name}))
        exported = [one for one in private if isinstance(one, pkcs11.PrivateKey)]
        assert len(exported) == 1
        with pytest.raises(pkcs11.AttributeSensitive):
            exported[0][pkcs11.Attribute.VALUE]
        assert exported[0][pkcs11.Attribute.SENSITIVE]
        assert not exported[0][pkcs11.Attribute.EXTRACTABLE]

    with pytest.raises(UnfitKeyError, match="cannot be taken out"):
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(UnfitKeyError, match="cannot be taken out"):
        build_key(key)
    assert copy.copy(key) is copy.deepcopy(key) is key


def test_each_kind_refuses_what_needs_its_number(keys: dict[Suite, TokenKey]) -> None:
    p256, ed25519 = keys[Suite.P256], keys[Suite.ED25519]
    assert isinstance(p256, TokenP256Key)
    assert isinstance(ed25519, TokenEd25519Key)

    calls: list[Callable[[], object]] = [
        p256.private_numbers,
        p256.exchange,
        ed25519.private_bytes_raw,
    ]
    for refused in calls:
        with pytest.raises(UnfitKeyError):
            refused()
    assert (p256.key_size, p256.curve.name) == (256, "secp256r1")


def test_a_p256_key_signs_digests_of_sha256_only(keys: dict[Suite, TokenKey]) -> None:
    key = keys[Suite.P256]
    assert isinstance(key, TokenP256Key)
    digest = hashes.Hash(hashes.SHA256())
    digest.update(b"report")
    hashed = ec.ECDSA(utils.Prehashed(hashes.SHA256()))

    signature = key.sign(digest.finalize(), hashed)

    key.public_key().verify(signature, b"report", ec.ECDSA(hashes.SHA256()))
    with pytest.raises(InvalidSignature):
        key.public_key().verify(signature, b"other", ec.ECDSA(hashes.SHA256()))
    with pytest.raises(UnfitKeyError, match="sha384"):
        key.sign(b"report", ec.ECDSA(hashes.SHA384()))


def test_a_key_that_is_there_is_not_made_again(
    token: Token, keys: dict[Suite, TokenKey]
) -> None:
    uri = TokenUri.parse(token.uri(Suite.P256.name))

    with pytest.raises(UnfitKeyError, match="already; it is untouched"):
        generate_token_key(uri, Suite.P256)
    assert load_token_key(uri).public_key() == keys[Suite.P256].public_key()


def test_a_key_that_can_be_taken_out_is_refused(token: Token) -> None:
    # K2
    import pkcs11  # noqa: PLC0415 - only where a token is
    from pkcs11.util.ec import encode_named_curve_parameters  # noqa: PLC0415

    load = TokenUri.parse(token.uri("loose"))
    with pytest.raises(UnfitKeyError, match="0 private keys 'loose'"):
        load_token_key(load)  # logs in
    own = pkcs11.lib(str(token.module)).get_token(token_label=LABEL)
    with own.open(rw=True) as session:
        session.create_domain_parameters(
            pkcs11.KeyType.EC,
            {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")},
            local=True,
        ).generate_keypair(
            store=True,
            label="loose",
            private_template={pkcs11.Attribute.EXTRACTABLE: True},
        )

    with pytest.raises(UnfitKeyError, match="can or could be taken out"):
        load_token_key(load)


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        (lambda token: token.uri("x", token="none"), "has no token 'none'"),
        (lambda token: token.uri("x").replace(".so", ".no"), "does not exist"),
        (lambda token: token.uri("x", pin_file="absent"), "cannot be read"),
        (lambda token: token.uri("x", pin_file="open", token="t"), "read by others"),
    ],
)
def test_a_token_that_cannot_be_used_is_explained(
    uri: Callable[[Token], str], reason: str, token: Token
) -> None:
    text = uri(token)
    if "absent" in text:
        text = text.replace(LABEL.replace(" ", "%20"), "another")

    with pytest.raises(TokenError, match=reason):
        open_private_key(text)


def test_a_wrong_pin_is_said_before_the_token_locks(token: Token) -> None:
    # A process of its own: this one has logged in already.
    program = (
        "import sys\n"
        "from keystore.errors import TokenError\n"
        "from keystore.private_key import open_private_key\n"
        "try:\n    open_private_key(sys.argv[1])\n"
        "except TokenError as error:\n    print(error, error.advice)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, token.uri("x", pin_file="wrong")],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=True,
        timeout=50,
    )

    assert "refuses the PIN in" in done.stdout
    assert "tokens lock after a few attempts" in done.stdout
    assert "000000" not in done.stdout


# --- what the authority does with one -----------------------------------------------


def test_a_ca_in_a_token_issues_certificates_and_lists(
    token: Token, keys: dict[Suite, TokenKey], tmp_path: Path
) -> None:
    fleet = FleetDirectory.create(tmp_path / "fleet", name="Token", now=NOW)
    root = Authority(
        fleet.certificate(FleetPart.ROOT_CERTIFICATE),
        open_ec(fleet.path / FleetPart.ROOT_KEY),
    )
    key = keys[Suite.P256]
    certificate = root.issue(
        Kind.ISSUING, "Token issuing CA 0badcafe", key.public_key(), now=NOW
    )
    (fleet.path / FleetPart.ISSUING_CERTIFICATE).write_bytes(
        certificate.public_bytes(Encoding.PEM)
    )
    # A file that holds the URI takes the key's place: no path changes.
    (fleet.path / FleetPart.ISSUING_KEY).write_text(token.uri(Suite.P256.name) + "\n")

    issued = issue_vehicles(fleet, [random_vehicle_id()], now=NOW)[0]

    record = fleet.vehicle_record(issued.vehicle_id)
    assert record.vehicle_id == issued.vehicle_id
    leaf = x509.load_pem_x509_certificate((issued.directory / "tls.crt").read_bytes())
    leaf.verify_directly_issued_by(certificate)
    books = fleet.books()
    publish_list(fleet, books, fleet.issuing_authority(), now=NOW)
    books.close()
    assert read_list(fleet) is not None


def open_ec(path: Path) -> ec.EllipticCurvePrivateKey:
    key = open_private_key(path)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


@pytest.mark.parametrize("suite", SUITES)
def test_a_car_proves_possession_of_a_key_in_a_secure_element(
    suite: Suite, keys: dict[Suite, TokenKey]
) -> None:
    fresh = VehicleKeys.generate()
    car = VehicleKeys(fresh.tls, signing_key(keys[suite]), fresh.sealing)

    claim = car.claim(random_vehicle_id(), fleet_id=bytes(16))

    assert claim.signing_key == car.signing.verify_key.raw


# --- three forms of a name ----------------------------------------------------------


@pytest.mark.parametrize("suite", SUITES)
def test_a_file_with_a_uri_is_the_key_that_it_names(
    suite: Suite, token: Token, keys: dict[Suite, TokenKey], tmp_path: Path
) -> None:
    path = tmp_path / "command-1.key"
    path.write_text(token.uri(suite.name) + "\n")
    path.chmod(0o600)

    assert open_signing_key(path).key_id == signing_key(keys[suite]).key_id


@pytest.mark.parametrize("suite", SUITES)
def test_a_bridge_takes_a_uri_and_a_file_with_one_as_its_signer(
    suite: Suite, token: Token, keys: dict[Suite, TokenKey], tmp_path: Path
) -> None:
    path = tmp_path / "command-1.key"
    path.write_text(token.uri(suite.name))
    path.chmod(0o600)

    read = {read_key(token.uri(suite.name)).key_id, read_key(path).key_id}

    assert read == {signing_key(keys[suite]).key_id}


def test_a_bridge_says_what_is_wrong_with_a_uri(token: Token) -> None:
    with pytest.raises(SettingsError, match="0 private keys 'nobody'"):
        read_key(token.uri("nobody"))
