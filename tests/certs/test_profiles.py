"""The table of profiles, as it stands in the certificates that are signed by it."""

import ipaddress
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID

from certs.authority import Authority, PublicKey, common_name, host_names
from certs.errors import RequestError
from certs.profiles import (
    BACKDATING,
    DOCUMENT_SIGNING,
    PROFILES,
    KeyKind,
    KeyUse,
    Kind,
)

CAR = "2IKZ3ICPO6WDLGQ2QWQYYJ2C4E"

NAMES = {
    Kind.ISSUING: "Other issuing CA 0badcafe",
    Kind.BROKER: "ff-broker",
    Kind.BRIDGE: "ff-bridge-12",
    Kind.ENGINEER: "ff-engineer-1",
    Kind.ENROLMENT: "ff-enrolment",
    Kind.VEHICLE_TLS: CAR,
    Kind.VEHICLE_SIGNING: CAR,
    Kind.VEHICLE_SEALING: CAR,
}

SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
SIGN, COMMIT = KeyUse.DIGITAL_SIGNATURE, KeyUse.CONTENT_COMMITMENT
CA_USES = {KeyUse.KEY_CERT_SIGN, KeyUse.CRL_SIGN}

Row = tuple[Kind, set[KeyUse], list[x509.ObjectIdentifier], int | None]
"""Kind, key usage, extended key usage, path length."""

# K4: what each certificate may be used for, by hand and not from the table under test.
EXPECTED: list[Row] = [
    (Kind.ISSUING, CA_USES, [], 0),
    (Kind.BROKER, {SIGN}, [SERVER], None),
    (Kind.BRIDGE, {SIGN}, [CLIENT], None),
    (Kind.ENGINEER, {SIGN}, [CLIENT], None),
    (Kind.ENROLMENT, {SIGN}, [SERVER], None),
    (Kind.VEHICLE_TLS, {SIGN}, [CLIENT], None),
    (Kind.VEHICLE_SIGNING, {SIGN, COMMIT}, [DOCUMENT_SIGNING], None),
    (Kind.VEHICLE_SEALING, {KeyUse.KEY_AGREEMENT}, [], None),
]


def public_key(kind: KeyKind) -> PublicKey:
    match kind:
        case KeyKind.P256:
            return ec.generate_private_key(ec.SECP256R1()).public_key()
        case KeyKind.ED25519:
            return Ed25519PrivateKey.generate().public_key()
        case KeyKind.X25519:
            return X25519PrivateKey.generate().public_key()


def issue(
    authority: Authority, kind: Kind, now: datetime, name: str | None = None
) -> x509.Certificate:
    hosts = ["localhost"] if PROFILES[kind].has_hosts else []
    key = public_key(PROFILES[kind].keys[0])
    return authority.issue(kind, name or NAMES[kind], key, now=now, hosts=hosts)


@pytest.fixture
def root(now: datetime) -> Authority:
    return Authority.create_root("Other root CA 0badcafe", now=now)


def used(certificate: x509.Certificate) -> set[KeyUse]:
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    # The last two may only be asked if key agreement is set (RFC 5280, 4.2.1.3).
    asked = list(KeyUse) if usage.value.key_agreement else list(KeyUse)[:-2]
    return {use for use in asked if getattr(usage.value, use.value)}


def test_every_kind_has_a_profile_and_a_row_in_these_tests() -> None:
    assert set(PROFILES) == set(Kind) == {row[0] for row in EXPECTED} | {Kind.ROOT}


@pytest.mark.parametrize("row", EXPECTED, ids=lambda row: row[0].value)
def test_a_certificate_allows_what_its_kind_is_for_and_nothing_else(
    row: Row, root: Authority, now: datetime
) -> None:
    kind, uses, purposes, path = row

    certificate = issue(root, kind, now)

    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert used(certificate) == uses
    assert constraints.critical
    assert constraints.value.ca == (path is not None)
    assert constraints.value.path_length == path
    extended = [
        list(extension.value)
        for extension in certificate.extensions
        if isinstance(extension.value, x509.ExtendedKeyUsage)
    ]
    assert extended == ([purposes] if purposes else [])
    assert [attribute.value for attribute in certificate.subject] == [NAMES[kind]]
    certificate.verify_directly_issued_by(root.certificate)


def test_a_root_may_only_sign_and_only_one_level_of_issuing_cas(
    root: Authority,
) -> None:
    constraints = root.certificate.extensions.get_extension_for_class(
        x509.BasicConstraints
    )

    assert used(root.certificate) == CA_USES
    assert constraints.value.path_length == 1
    assert common_name(root.certificate) == "Other root CA 0badcafe"
    root.certificate.verify_directly_issued_by(root.certificate)


@pytest.mark.parametrize(
    "kind", [kind for kind in Kind if kind not in {Kind.BROKER, Kind.ENROLMENT}]
)
def test_only_a_server_carries_host_names(
    kind: Kind, root: Authority, now: datetime
) -> None:
    # NATS matches a SAN before the CN: a vehicle with one would be somebody else.
    certificate = root.certificate if kind is Kind.ROOT else issue(root, kind, now)

    with pytest.raises(x509.ExtensionNotFound):
        certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)


def test_a_vehicle_certificate_with_a_host_name_is_refused(
    root: Authority, now: datetime
) -> None:
    key = public_key(KeyKind.P256)

    with pytest.raises(RequestError, match="has none"):
        root.issue(Kind.VEHICLE_TLS, CAR, key, now=now, hosts=["car.example.com"])


def test_a_broker_certificate_without_a_host_name_is_refused(
    root: Authority, now: datetime
) -> None:
    key = public_key(KeyKind.P256)

    with pytest.raises(RequestError, match="needs at least one"):
        root.issue(Kind.BROKER, "ff-broker", key, now=now)


# --- names: reliability.md L7, K6 ---------------------------------------------------

BAD_CARS = [
    f"{CAR}/cmd",
    "CAR1/cmd",
    f"{CAR[:-1]}/",
    f"{CAR[:-1]}+",
    f"{CAR[:-1]}#",
    CAR.lower(),
    CAR[:-1] + "B",  # decodes to the same 16 bytes as ...A: two names of one car
    CAR[:-1],
    CAR + "A",
    CAR + "\n",
    f" {CAR}",
    f"{CAR[:-1]}1",  # 0, 1, 8 and 9 are not in the alphabet
    f"{CAR[:-1]}\u0415",  # a Cyrillic letter that looks like E
    "",
    "ff-bridge-1",
    "ff-broker",
]


@pytest.mark.parametrize("name", BAD_CARS)
@pytest.mark.parametrize(
    "kind", [Kind.VEHICLE_TLS, Kind.VEHICLE_SIGNING, Kind.VEHICLE_SEALING]
)
def test_a_name_that_is_no_vehicle_id_is_never_certified(
    kind: Kind, name: str, root: Authority, now: datetime
) -> None:
    # FF-ADR-02.
    key = public_key(PROFILES[kind].keys[0])

    with pytest.raises(RequestError, match="is no name of"):
        root.issue(kind, name, key, now=now)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Kind.BRIDGE, "ff-bridge-"),
        (Kind.BRIDGE, "ff-bridge-12345"),
        (Kind.BRIDGE, "ff-bridge-1/up"),
        (Kind.BRIDGE, "ff-bridge-1\n"),
        (Kind.BRIDGE, "ff-engineer-1"),
        (Kind.BRIDGE, CAR),
        (Kind.ENGINEER, "ff-bridge-1"),
        (Kind.ENGINEER, "ff-engineer-#"),
        (Kind.BROKER, "ff-bridge-1"),
        (Kind.BROKER, CAR),
        (Kind.ISSUING, CAR),
        (Kind.ISSUING, "A,O=B issuing CA 0badcafe"),
    ],
)
def test_one_kind_never_bears_the_name_of_another(
    kind: Kind, name: str, root: Authority, now: datetime
) -> None:
    # FF-ADR-15.
    with pytest.raises(RequestError, match="is no name of"):
        issue(root, kind, now, name)


# --- keys ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [row[0] for row in EXPECTED])
@pytest.mark.parametrize("key_kind", list(KeyKind))
def test_a_profile_binds_its_own_kind_of_key_only(
    kind: Kind, key_kind: KeyKind, root: Authority, now: datetime
) -> None:
    hosts = ["localhost"] if PROFILES[kind].has_hosts else []
    key = public_key(key_kind)

    if key_kind in PROFILES[kind].keys:
        root.issue(kind, NAMES[kind], key, now=now, hosts=hosts)
        return
    with pytest.raises(RequestError, match=f"not {key_kind.value}"):
        root.issue(kind, NAMES[kind], key, now=now, hosts=hosts)


def test_another_curve_than_p256_is_refused(root: Authority, now: datetime) -> None:
    key = ec.generate_private_key(ec.SECP384R1()).public_key()

    with pytest.raises(RequestError, match="secp384r1"):
        root.issue(Kind.VEHICLE_TLS, CAR, key, now=now)


# --- lifetimes ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", [row[0] for row in EXPECTED])
def test_a_certificate_begins_before_now_and_ends_after_its_profile_s_lifetime(
    kind: Kind, now: datetime
) -> None:
    root = Authority.create_root("Other root CA 0badcafe", now=now - BACKDATING)

    certificate = issue(root, kind, now)

    end = now + PROFILES[kind].lifetime
    if not PROFILES[kind].outlives_issuer:
        end = min(end, root.certificate.not_valid_after_utc)
    assert certificate.not_valid_before_utc == now - BACKDATING
    assert certificate.not_valid_after_utc == end


def test_a_tls_certificate_ends_with_its_issuer_and_evidence_does_not(
    root: Authority, now: datetime
) -> None:
    issuing = root.create_issuing(
        NAMES[Kind.ISSUING], now=now, lifetime=timedelta(days=10)
    )

    tls = issue(issuing, Kind.VEHICLE_TLS, now)
    signing = issue(issuing, Kind.VEHICLE_SIGNING, now)

    assert tls.not_valid_after_utc == now + timedelta(days=10)
    # K13: a report is still proved when the CA is gone.
    assert signing.not_valid_after_utc == now + timedelta(days=20 * 365)


@pytest.mark.parametrize("days", [-1, 0, 15])
def test_a_lifetime_beyond_the_profile_s_is_refused(
    days: int, root: Authority, now: datetime
) -> None:
    key = public_key(KeyKind.P256)

    with pytest.raises(RequestError, match="lifetime"):
        root.issue(Kind.VEHICLE_TLS, CAR, key, now=now, lifetime=timedelta(days=days))


@pytest.mark.parametrize("years", [-1, 21])
def test_a_ca_signs_nothing_before_it_begins_or_after_it_ends(
    years: int, root: Authority, now: datetime
) -> None:
    with pytest.raises(RequestError, match="signing CA is valid from"):
        issue(root, Kind.VEHICLE_TLS, now + timedelta(days=365 * years))


# --- hosts --------------------------------------------------------------------------


def test_hosts_are_names_or_addresses_each_once_in_lower_case() -> None:
    names = host_names(["MQTT.example.com", "mqtt.example.com", "192.0.2.7", "::1"])

    assert names == [
        x509.DNSName("mqtt.example.com"),
        x509.IPAddress(ipaddress.ip_address("192.0.2.7")),
        x509.IPAddress(ipaddress.ip_address("::1")),
    ]


@pytest.mark.parametrize(
    "host",
    [
        "*.example.com",
        "mqtt://example.com",
        "example.com:8883",
        "-a.example.com",
        "a-.example.com",
        "a..b",
        "a b",
        "",
        "x" * 64,
        ".".join(["abcdefghi"] * 26),
        "mqtt.example.com\n",
        "m\u00fcnchen.example.com",
    ],
)
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(RequestError, match="neither a DNS name nor an IP address"):
        host_names([host])


def test_more_hosts_than_fit_are_refused() -> None:
    with pytest.raises(RequestError, match="33 hosts given, at most 32"):
        host_names([f"host{number}.example.com" for number in range(33)])


def test_the_text_form_of_an_authority_shows_no_key(root: Authority) -> None:
    assert repr(root) == "Authority('Other root CA 0badcafe')"
