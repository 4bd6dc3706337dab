"""A car renews over HTTPS and connects with it to real brokers (K9, row 34)."""

import asyncio
import random
from datetime import timedelta
from pathlib import Path

import pytest

from bridge.broker.process import free_port
from gateway.runtime.timekeeper import Timekeeper
from gateway.storage.worker import ThreadWorker
from gateway.uplink.https_enrolment import HttpsEnrolment
from gateway.uplink.mqtt_links import mqtt_links
from gateway.uplink.renewal import Applicant, Renewal
from gateway.uplink.tls_store import TlsStore
from protocol.codes import Code, LockDefault, LockMode
from protocol.command import ANY_VERSION, Lock, Ping, Reserve, RotateKey
from protocol.event import RentalEnded, RentalStarted
from protocol.identity import card_digest
from protocol.snapshot import NO_RENTAL
from tests.broker.pki import DAY, HOUR, clock
from tests.gateway.fleet_end import VEHICLE
from tests.gateway.uplink.https_office import HttpsOffice
from tests.gateway.uplink.office import Office
from tests.gateway.uplink.test_mqtt_links import KINDS, Street
from tests.gateway.world import ALICE, IDENTITY, MALLORY
from tests.proxy import running_proxy
from transport.backoff import Backoff
from transport.tls import TlsIdentity, read_certificates

pytestmark = pytest.mark.broker

SECOND = timedelta(seconds=1)

BOUND_S = 2.0
"""I-13: a valid card opens within it."""


class RenewingStreet(Street):
    """A street whose car has an enrolment service."""

    def __init__(self, kind: str, directory: Path, car: TlsIdentity | None) -> None:
        super().__init__(kind, directory)
        if car is not None:
            self.car = car
        self.office = Office(
            self.pki,
            clock,
            fleet_id=IDENTITY.fleet_id,
            device_key=IDENTITY.signing_key.verify_key,
        )
        self.https = HttpsOffice(self.office, self.pki.issue("enrolment", server=True))
        self.store = TlsStore(directory / "data" / "tls", self.car)

    def start_renewing_car(self, port: int, enrolment: int) -> None:
        renewal = Renewal(
            Applicant(VEHICLE, IDENTITY.fleet_id),
            store=self.store,
            service=HttpsEnrolment("127.0.0.1", enrolment, time=self.time),
            time=self.time,
            clock=self.clock,
            random=random.random,
            worker=ThreadWorker("renewal"),
            backoff=Backoff(initial_s=0.2, maximum_s=1.0),
        )
        self.start_gateway(
            mqtt_links(
                VEHICLE, self.store, host="127.0.0.1", port=port, time=self.time
            ),
            renewal,
        )

    async def pings(self) -> None:
        ping = self.fleet.send(Ping(NO_RENTAL, ANY_VERSION, bytes(16)), ttl_ms=9_000)
        await self.until(lambda: self.fleet.codes_of(ping) == [Code.OK])


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.uplink.mqtt_uplink.QUIET_MS", 300)


@KINDS
async def test_a_car_renews_when_due_and_its_link_goes_on_with_the_new_certificate(
    kind: str, tmp_path: Path
) -> None:
    # Row 34 (renewed while it is connected).
    # FF-ENR-17.
    street = RenewingStreet(kind, tmp_path, None)
    # Between 11/20 and 13/20 of this life pass within seconds.
    street.car = street.pki.issue(
        str(VEHICLE), file="young", starts=-27 * SECOND, ends=25 * SECOND
    )
    street.store = TlsStore(tmp_path / "data" / "tls", street.car)
    old_key = street.car.key.read_bytes()
    with street.https.serving() as enrolment:
        async with street.broker(0) as broker:
            street.start_fleet(broker.port)
            street.start_renewing_car(broker.port, enrolment)
            await street.until(lambda: street.fleet.contiguous >= 1)
            await street.pings()

            # The second HELLO came over a connection made anew, without a restart.
            await street.until(lambda: len(street.fleet.hellos) >= 2)
            await street.pings()

            assert street.office.calls == ["reenroll"]
            new = street.store.current()
            leaf = read_certificates(new.certificate)[0]
            assert leaf.not_valid_after_utc > clock() + 80 * DAY
            assert new.key.read_bytes() != old_key
            assert new == street.store.newest
            await street.stop()


@KINDS
async def test_a_car_whose_certificate_expired_in_a_garage_comes_back_by_itself(
    kind: str, tmp_path: Path
) -> None:
    # Row 34 (expired).
    # FF-ENR-11.
    # The floor does not know the time here: broker and service tell the car. The car
    # is at work all the while (I-19).
    street = RenewingStreet(kind, tmp_path, None)
    street.car = street.pki.issue(str(VEHICLE), file="old", starts=-2 * DAY, ends=-HOUR)
    street.store = TlsStore(tmp_path / "data" / "tls", street.car)
    street.time = Timekeeper(street.clock, 0)
    with street.https.serving() as enrolment:
        async with street.broker(0) as broker:
            street.start_fleet(broker.port)
            street.start_renewing_car(broker.port, enrolment)
            await street.until(lambda: street.fleet.contiguous >= 1)
            await street.pings()

            assert street.office.calls[-2:] == ["nonce", "grace"]
            await street.stop()


@KINDS
async def test_a_renter_gets_in_and_out_beyond_its_certificate_while_nobody_renews_it(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Row 34 (expired in mid-session, CA down), I-13, I-19 (F): local, then grace.

    Nobody has let the car in since its certificate ended when the renter comes, and
    nobody renews it; all that was done meanwhile is told afterwards.
    """
    street = RenewingStreet(kind, tmp_path, None)
    end = clock() + 3 * SECOND
    street.car = street.pki.issue(
        str(VEHICLE), file="brief", starts=-DAY, ends=end - street.pki.now
    )
    street.store = TlsStore(tmp_path / "data" / "tls", street.car)
    rental_id = bytes(range(16))
    with running_proxy(free_port("127.0.0.1")) as way, street.https.serving() as office:
        async with street.broker(0) as broker:
            port = broker.port
            street.start_fleet(port)
            street.start_renewing_car(port, way.port)
            await street.until(lambda: street.fleet.contiguous >= 1)
            reserve = street.fleet.send(reservation_of(street, rental_id))
            await street.until(lambda: street.fleet.codes_of(reserve) == [Code.OK])
        # mosquitto looks at dates when somebody connects.
        await asyncio.sleep(max(0.0, (end - clock()).total_seconds()))
        async with street.broker(port):
            await logged(caplog, "expired on")
            street.start_fleet(port)
            street.reader.present(MALLORY)
            await asyncio.sleep(0.5)
            assert "unlock" not in street.board.orders, "I-12"
            street.reader.present(ALICE)
            async with asyncio.timeout(BOUND_S):
                while "unlock" not in street.board.orders:  # noqa: ASYNC110 - no event
                    await asyncio.sleep(0.02)
            assert not street.office.calls, "nobody could be asked"
            assert not has(street, RentalStarted)

            way.port_behind = office
            await street.until(lambda: has(street, RentalStarted))
            lock = street.fleet.send(Lock(rental_id, ANY_VERSION, LockMode.END))
            await street.until(lambda: street.fleet.codes_of(lock) == [Code.OK])
            await street.until(lambda: has(street, RentalEnded))
            await street.stop()

    assert street.board.locked
    assert street.office.calls == ["nonce", "grace"]


def reservation_of(street: RenewingStreet, rental_id: bytes) -> Reserve:
    return Reserve(
        rental_id=rental_id,
        expected_version=ANY_VERSION,
        reserved_until_ms=street.clock.now().boot_ms + 15 * 60_000,
        lock_default=LockDefault.END,
        language=b"de",
        cards=(card_digest(rental_id, ALICE),),
        sealed=b"",
    )


def has(street: RenewingStreet, kind: type) -> bool:
    return any(isinstance(event, kind) for event in street.fleet.events())


async def logged(caplog: pytest.LogCaptureFixture, words: str) -> None:
    async with asyncio.timeout(10):
        while words not in caplog.text:  # noqa: ASYNC110 - a log has no event
            await asyncio.sleep(0.02)


@KINDS
async def test_a_car_that_rotates_its_key_on_command_has_it_certified_and_goes_on(
    kind: str, tmp_path: Path
) -> None:
    """FF-ENR-23, FF-ENR-27: from the command to a link with the new certificate."""
    street = RenewingStreet(kind, tmp_path, None)
    with street.https.serving() as enrolment:
        async with street.broker(0) as broker:
            street.start_fleet(broker.port)
            street.start_renewing_car(broker.port, enrolment)
            await street.until(lambda: street.fleet.contiguous >= 1)
            old, greeted = street.store.current(), len(street.fleet.hellos)

            order = street.fleet.send(RotateKey(NO_RENTAL, ANY_VERSION), ttl_ms=9_000)
            await street.until(lambda: street.fleet.codes_of(order) == [Code.OK])
            await street.until(lambda: len(street.fleet.hellos) > greeted)
            async with asyncio.timeout(20):
                while street.store.current() == old:  # noqa: ASYNC110 - a file
                    await asyncio.sleep(0.05)
            await street.pings()

            assert street.office.calls == ["recertify", "reenroll"]
            assert street.office.device_key == street.fleet.car_key
            assert street.office.device_key != IDENTITY.signing_key.verify_key
            await street.stop()


async def test_a_service_that_hangs_blocks_no_door(tmp_path: Path) -> None:
    # I-13, I-19: the call is in a thread of its own and the reader is served.
    street = RenewingStreet("nats", tmp_path, None)
    street.car = street.pki.issue(str(VEHICLE), file="old", starts=-2 * DAY, ends=HOUR)
    street.store = TlsStore(tmp_path / "data" / "tls", street.car)
    asked, release = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    async def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await release.wait()
        writer.transport.abort()

    async with (
        await asyncio.start_server(hang, "127.0.0.1", 0) as silent,
        street.broker(0) as broker,
    ):
        street.start_fleet(broker.port)
        street.start_renewing_car(broker.port, silent.sockets[0].getsockname()[1])
        async with asyncio.timeout(10):
            await asked.wait()
        began = loop.time()
        await street.until(lambda: street.fleet.contiguous >= 1)
        await street.pings()

        assert street.store.current() == street.car
        # Nor the end of the program: the call would time out after 20 s.
        await street.stop()
        assert loop.time() - began < 15
        release.set()
