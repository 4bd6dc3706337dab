"""Asking for a certificate over HTTPS, and what errors become (K4, K5)."""

import socket
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.uplink.enrolment import EnrolmentError
from gateway.uplink.https_enrolment import BODY_LIMIT, HttpsEnrolment
from protocol.enrolment import grace_message
from tests.broker.pki import DAY, HOUR, Pki, clock
from tests.gateway.fleet_end import VEHICLE
from tests.gateway.uplink.https_office import Answer, HttpsOffice, answer_of
from tests.gateway.uplink.office import Office
from tests.gateway.uplink.test_enrolment_answer import request_of
from tests.gateway.world import IDENTITY
from transport.errors import TlsSetupError
from transport.tls import TlsIdentity

pytestmark = pytest.mark.broker

KEY = ec.generate_private_key(ec.SECP256R1())
REQUEST = request_of(KEY)


class Floor:
    """Implements `gateway.ports.TrustedTime`."""

    def __init__(self, now: datetime) -> None:
        self.ms = int(now.timestamp() * 1000)

    def trusted_floor_ms(self) -> int:
        return self.ms


class Site:
    """A car's files, a service, and the car's way to it."""

    def __init__(self, directory: Path) -> None:
        self.pki = Pki(directory / "pki", now=clock())
        self.floor = Floor(self.pki.now)
        self.server = self.pki.issue("enrolment", server=True)
        self.car = self.pki.issue(str(VEHICLE))
        self.office = Office(
            self.pki,
            clock,
            fleet_id=IDENTITY.fleet_id,
            device_key=IDENTITY.signing_key.verify_key,
        )
        self.https = HttpsOffice(self.office, self.server)
        self.port = 0

    def client(
        self, port: int | None = None, host: str = "127.0.0.1"
    ) -> HttpsEnrolment:
        return HttpsEnrolment(host, port or self.port, time=self.floor)

    def answer(self, answer: Answer) -> None:
        self.https.override = lambda _path: answer


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    with site.https.serving() as port:
        site.port = port
        yield site


def test_a_certificate_is_renewed_over_mutual_tls(site: Site) -> None:
    issued = site.client().reenroll(site.car, REQUEST)

    leaf = x509.load_der_x509_certificate(issued.certificate)
    assert leaf.public_key() == KEY.public_key()
    assert len(issued.chain) == len(issued.anchors) == 1
    assert site.https.shown == [str(VEHICLE)]


def test_the_grace_path_shows_no_certificate_and_proves_the_car_by_its_key(
    site: Site,
) -> None:
    client = site.client()
    nonce = client.grace_nonce(site.car, VEHICLE)
    message = grace_message(IDENTITY.fleet_id, VEHICLE, nonce, REQUEST)

    issued = client.grace(
        site.car,
        VEHICLE,
        REQUEST,
        nonce=nonce,
        signature=IDENTITY.signing_key.sign(message),
    )

    leaf = x509.load_der_x509_certificate(issued.certificate)
    assert leaf.public_key() == KEY.public_key()
    assert site.https.shown == [None, None]


@pytest.mark.parametrize(
    ("file", "kind"), [("expired", {"starts": -DAY, "ends": -HOUR}), ("foreign", {})]
)
def test_a_certificate_that_the_service_does_not_take_is_told_apart(
    site: Site, tmp_path: Path, file: str, kind: dict[str, object]
) -> None:
    pki = site.pki if kind else Pki(tmp_path / "foreign", now=clock())
    identity = pki.issue(str(VEHICLE), file=file, **kind)  # type: ignore[arg-type]
    identity = TlsIdentity(identity.certificate, identity.key, site.pki.anchors)
    site.floor = Floor(clock() - 2 * DAY)  # the car does not know that it has expired

    with pytest.raises(EnrolmentError) as caught:
        site.client().reenroll(identity, REQUEST)

    assert caught.value.code == "tls"
    assert "enrolment service" in str(caught.value)


def test_a_service_with_another_ca_or_another_name_is_refused(
    site: Site, tmp_path: Path
) -> None:
    # K5: somebody in between.
    stranger = Pki(tmp_path / "stranger", now=clock()).issue("x", server=True)
    elsewhere = site.pki.issue("y", server=True, names=("elsewhere",), address=None)
    for server, complaint in (
        (stranger, "is not of this fleet"),
        (elsewhere, "does not name"),
    ):
        with HttpsOffice(site.office, server).serving() as port:
            with pytest.raises(EnrolmentError, match=complaint) as caught:
                site.client(port).reenroll(site.car, REQUEST)
            assert caught.value.code == "tls"
            assert "the enrolment service" in str(caught.value)
    assert site.office.calls == []


def test_a_service_whose_certificate_ended_before_the_floor_is_refused(
    site: Site,
) -> None:
    site.floor = Floor(site.pki.now + 2 * DAY)

    with pytest.raises(EnrolmentError, match="service's certificate has expired"):
        site.client().grace_nonce(site.car, VEHICLE)


def test_a_service_that_is_not_there_is_named_with_what_to_check(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    with pytest.raises(EnrolmentError, match=r"check enrolment\.host") as caught:
        site.client(port).reenroll(site.car, REQUEST)

    assert caught.value.code == "unreachable"
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("answer", "code", "retryable", "wait_s"),
    [
        (answer_of({"error": "revoked", "detail": "no"}, 403), "revoked", False, 0),
        (answer_of({"error": "nonce_invalid"}, 401), "nonce_invalid", True, 0),
        (
            answer_of({"error": "too_often"}, 429, Retry_After="90"),
            "too_often",
            True,
            90,
        ),
        (answer_of({"error": "x"}, 503, Retry_After="999999"), "x", True, 86_400),
        (answer_of({"error": "x"}, 503, Retry_After="soon"), "x", True, 0),
        ((502, {}, b"<html>"), "status 502", True, 0),
    ],
)
def test_a_refusal_says_whether_asking_again_can_help(
    site: Site, answer: Answer, code: str, retryable: bool, wait_s: int
) -> None:
    site.answer(answer)

    with pytest.raises(EnrolmentError) as caught:
        site.client().reenroll(site.car, REQUEST)

    assert caught.value.code == code
    assert caught.value.retryable is retryable
    assert caught.value.retry_after_s == wait_s
    assert not caught.value.may_have_taken_effect


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ((200, {}, b"<html>"), "malformed"),
        ((200, {}, b"{}"), "missing required field"),
        ((200, {}, b" " * (BODY_LIMIT + 1)), "more than 65536 bytes"),
        ((200, {}, b'{"format": 2, "certificate": "", "chain": []}'), "format is 2"),
        (answer_of({"certificate": "*", "chain": []}), "not base64"),
    ],
)
def test_an_answer_of_another_program_is_refused_with_what_to_check(
    site: Site, answer: Answer, complaint: str
) -> None:
    site.answer(answer)

    with pytest.raises(EnrolmentError, match=complaint) as caught:
        site.client().reenroll(site.car, REQUEST)

    assert caught.value.code == "bad_answer"
    assert "freefloat certs serve" in str(caught.value)


def test_a_nonce_of_another_length_is_refused(site: Site) -> None:
    site.answer(answer_of({"nonce": "AAAA"}))

    with pytest.raises(EnrolmentError, match="nonce of 3 bytes"):
        site.client().grace_nonce(site.car, VEHICLE)


def test_our_own_files_that_cannot_be_used_are_an_error_of_ours(site: Site) -> None:
    site.car.key.chmod(0o644)

    with pytest.raises(TlsSetupError, match="chmod 600"):
        site.client().reenroll(site.car, REQUEST)
    assert site.https.shown == []
