"""A car judges dates by the time that has certainly passed (I-29, rows 34 and 36)."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.broker.pki import DAY, HOUR, Pki, clock
from transport.buffered_tls import BufferedContext
from transport.errors import TlsSetupError
from transport.tls import (
    TlsIdentity,
    explain_tls_error,
    floored_client_context,
    server_context,
)

NAME = "A" * 26
TEN_YEARS = timedelta(days=3653)

pytestmark = pytest.mark.broker


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path / "pki", now=clock())


@contextlib.contextmanager
def serving(context: ssl.SSLContext) -> Iterator[int]:
    """A server that answers one TLS handshake with a byte."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                plain, _address = listener.accept()
                with plain, context.wrap_socket(plain, server_side=True) as secured:
                    secured.sendall(b"!")

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10)


def shake_for_https(context: ssl.SSLContext, port: int) -> bytes:
    """Connect as a request for a certificate does, and return what the server says."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        return secured.recv(1)


def shake_for_mqtt(context: ssl.SSLContext, port: int) -> bytes:
    """The same as a link does."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
        secured = BufferedContext(context, "localhost").wrap_socket(plain)
        secured.do_handshake()
        while True:
            with contextlib.suppress(BlockingIOError):
                return secured.recv(1)


Shake = Callable[[ssl.SSLContext, int], bytes]


@pytest.fixture(params=[shake_for_https, shake_for_mqtt])
def shake(request: pytest.FixtureRequest) -> Shake:
    chosen: Shake = request.param
    return chosen


def server_of(pki: Pki, *, starts: timedelta, ends: timedelta) -> ssl.SSLContext:
    """Return what serves with these dates, without our own check of them."""
    identity = pki.issue("broker", server=True, starts=starts, ends=ends)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate, identity.key)
    return context


def shake_at(
    shake: Shake, pki: Pki, own: TlsIdentity, floor: datetime, **dates: timedelta
) -> bytes:
    context = floored_client_context(own, floor=lambda: floor)
    with serving(server_of(pki, **dates)) as port:
        return shake(context, port)


@pytest.mark.parametrize(
    ("starts", "ends"),
    [
        # For the machine's clock this certificate has expired or is not yet valid: as
        # if the clock were wrong by ten years either way, and the floor knew better.
        pytest.param(-30 * DAY, -HOUR, id="the clock is ahead"),
        pytest.param(HOUR, 30 * DAY, id="the clock is behind"),
    ],
)
def test_a_car_whose_wall_clock_is_wrong_connects_to_a_valid_broker(
    shake: Shake, pki: Pki, starts: timedelta, ends: timedelta
) -> None:
    # FF-TIM-05.
    # I-29 (F), row 36: a handshake, and a wall clock that lies.
    floor = pki.now + starts + timedelta(minutes=30)

    assert (
        shake_at(shake, pki, pki.issue(NAME), floor, starts=starts, ends=ends) == b"!"
    )


def test_a_broker_that_expired_before_the_floor_is_refused_though_the_clock_is_behind(
    shake: Shake,
    pki: Pki,
) -> None:
    # FF-TIM-05.
    # The machine's clock finds this certificate good; the floor has passed its end.
    own = pki.issue(NAME, ends=20 * DAY)

    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        shake_at(shake, pki, own, pki.now + 2 * DAY, starts=-HOUR, ends=DAY)

    assert "has expired: renew it on the broker" in explain_tls_error(
        caught.value, host="broker.example"
    )


def test_the_floor_is_asked_at_each_handshake_and_not_once(
    shake: Shake, pki: Pki
) -> None:
    own, floor = pki.issue(NAME, ends=20 * DAY), [pki.now]
    context = floored_client_context(own, floor=lambda: floor[0])
    server = server_of(pki, starts=-HOUR, ends=DAY)
    with serving(server) as port:
        assert shake(context, port) == b"!"

    floor[0] += 2 * DAY
    with serving(server) as port, pytest.raises(ssl.SSLCertVerificationError):
        shake(context, port)


def test_an_intermediate_that_expired_before_the_floor_is_refused_too(
    shake: Shake,
    pki: Pki,
) -> None:
    # The issuing CA of this PKI ends after 30 days, its leaf here after 60.
    own = pki.issue(NAME, ends=60 * DAY)
    leaf = own.certificate.read_bytes().split(b"-----END CERTIFICATE-----")[0]
    own.certificate.write_bytes(leaf + b"-----END CERTIFICATE-----\n")
    longer = pki.issue("anchor", server=True, ends=60 * DAY)
    own.trust_anchors.write_bytes(
        own.trust_anchors.read_bytes() + longer.certificate.read_bytes()
    )

    with pytest.raises(ssl.SSLCertVerificationError):
        shake_at(shake, pki, own, pki.now + 31 * DAY, starts=-HOUR, ends=60 * DAY)


def test_signature_name_and_purpose_are_verified_as_ever(
    shake: Shake, pki: Pki, tmp_path: Path
) -> None:
    # K5: only the dates are ours to judge.
    own = pki.issue(NAME)
    context = floored_client_context(own, floor=lambda: pki.now)
    stranger = Pki(tmp_path / "stranger", now=pki.now).issue("broker", server=True)
    elsewhere = pki.issue("elsewhere", server=True, names=("elsewhere",), address=None)
    client = pki.issue("client")
    for wrong in (stranger, elsewhere, client):
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(wrong.certificate, wrong.key)
        with serving(server) as port, pytest.raises(ssl.SSLCertVerificationError):
            shake(context, port)

    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert context.check_hostname


def test_our_own_certificate_is_expired_by_the_floor_and_never_too_early(
    pki: Pki,
) -> None:
    # FF-TIM-05.
    # row 34.
    own = pki.issue(NAME, starts=HOUR, ends=DAY)

    floored_client_context(own, floor=lambda: pki.now)
    with pytest.raises(TlsSetupError, match="expired on"):
        floored_client_context(own, floor=lambda: pki.now + DAY)


def test_without_our_certificate_only_the_anchors_are_needed(
    shake: Shake, pki: Pki
) -> None:
    own = pki.issue(NAME, ends=-HOUR / 2)
    own.key.unlink()
    context = floored_client_context(own, floor=lambda: pki.now, with_certificate=False)
    server = server_of(pki, starts=-HOUR, ends=DAY)
    with serving(server) as port:
        assert shake(context, port) == b"!"

    demanding = server_context(pki.issue("b2", server=True), now=pki.now)
    with serving(demanding) as port, pytest.raises(ssl.SSLError):
        shake(context, port)


def test_a_floor_without_a_zone_is_refused(pki: Pki) -> None:
    naive = pki.now.replace(tzinfo=None)

    with pytest.raises(TlsSetupError, match="has no time zone"):
        floored_client_context(pki.issue(NAME), floor=lambda: naive)
