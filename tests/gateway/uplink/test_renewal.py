"""A car renews its certificate by itself, in nobody's way (K9, row 34, I-19)."""

import asyncio
import stat
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.runtime.timekeeper import Timekeeper
from gateway.storage.worker import InlineWorker
from gateway.uplink.enrolment import EnrolmentError
from gateway.uplink.renewal import RENEWAL_BACKOFF, Applicant, Renewal
from gateway.uplink.tls_store import TlsStore
from tests.broker.pki import DAY, HOUR, Pki
from tests.gateway.fleet_end import VEHICLE
from tests.gateway.manual_clock import WALL_MS, ManualClock, idle
from tests.gateway.uplink.key_holder import FakeKeyHolder
from tests.gateway.uplink.office import Office
from tests.gateway.world import IDENTITY
from tools.published_keys import CAR_B_KEY
from transport.tls import (
    floored_client_context,
    read_certificates,
)

NOW = datetime.fromtimestamp(WALL_MS / 1000, UTC)


class Car:
    """A renewal on a manual clock, with the office that it asks."""

    def __init__(self, directory: Path, *, starts: timedelta, ends: timedelta) -> None:
        self.clock = ManualClock()
        self.time = Timekeeper(self.clock, WALL_MS)
        self.pki = Pki(directory / "pki", now=NOW + 30 * DAY)
        self.installed = self.pki.issue(
            str(VEHICLE), starts=starts - 30 * DAY, ends=ends - 30 * DAY
        )
        self.office = Office(
            self.pki,
            self.now,
            fleet_id=IDENTITY.fleet_id,
            device_key=IDENTITY.signing_key.verify_key,
        )
        self.office.life = 20 * DAY
        self.directory = directory / "data" / "tls"
        self.store = TlsStore(self.directory, self.installed)
        self.renewed = 0
        self.holder = FakeKeyHolder(
            IDENTITY.signing_key, vehicle_id=VEHICLE, fleet_id=IDENTITY.fleet_id
        )
        self.renewal = Renewal(
            Applicant(VEHICLE, IDENTITY.fleet_id),
            store=self.store,
            service=self.office,
            time=self.time,
            clock=self.clock,
            random=lambda: 0.0,
            worker=InlineWorker(),
        )

    def now(self) -> datetime:
        """The true time: what the office and the floor agree on here."""
        return datetime.fromtimestamp(self.time.trusted_floor_ms() / 1000, UTC)

    async def run(self) -> None:
        await self.renewal.run(self.holder, self._on_renewed)

    def _on_renewed(self) -> None:
        self.renewed += 1

    @property
    def leaf_ends(self) -> datetime:
        return read_certificates(self.store.newest.certificate)[0].not_valid_after_utc


Garage = Callable[..., Car]


@pytest_asyncio.fixture
async def garage(tmp_path: Path) -> AsyncIterator[Garage]:
    tasks = []

    def make(*, starts: timedelta = -HOUR, ends: timedelta = 20 * DAY) -> Car:
        car = Car(tmp_path, starts=starts, ends=ends)
        tasks.append(asyncio.create_task(car.run()))
        return car

    yield make
    for task in tasks:
        assert not task.done()  # whatever happened, it goes on
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_nothing_is_asked_before_it_is_due_and_a_new_identity_is_there_after(
    garage: Garage,
) -> None:
    # FF-ENR-17.
    car = garage()
    await car.clock.advance(10.5 * DAY.total_seconds())
    assert car.office.calls == []

    await car.clock.advance(3.5 * DAY.total_seconds())

    assert car.office.calls == ["reenroll"]
    assert car.renewed == 1
    assert car.leaf_ends > NOW + 30 * DAY
    new = car.store.current()
    assert new.key.parent.parent == car.directory
    assert stat.S_IMODE(new.key.stat().st_mode) == 0o600
    assert stat.S_IMODE(new.key.parent.stat().st_mode) == 0o700
    floored_client_context(new, floor=car.now)  # usable as it lies there


async def test_the_next_renewal_follows_when_the_new_life_is_as_old(
    garage: Garage,
) -> None:
    car = garage()

    await car.clock.advance(45 * DAY.total_seconds())

    assert car.office.calls == ["reenroll"] * 3


async def test_the_wall_clock_brings_no_renewal_forward_and_delays_none(
    garage: Garage,
) -> None:
    # I-29: ten years ahead, then ten years behind.
    car = garage()
    car.clock.wall_offset_ms += 3653 * 86_400_000
    await car.clock.advance(10.5 * DAY.total_seconds())
    assert car.office.calls == []

    car.clock.wall_offset_ms -= 2 * 3653 * 86_400_000
    await car.clock.advance(3.5 * DAY.total_seconds())

    assert car.office.calls == ["reenroll"]


async def test_a_car_that_stood_in_a_garage_until_its_certificate_expired_proves_itself(
    garage: Garage,
) -> None:
    # FF-ENR-11.
    car = garage(starts=-30 * DAY, ends=-DAY)

    await idle()

    assert car.office.calls == ["nonce", "grace"]
    assert car.leaf_ends > NOW


async def test_a_service_that_says_expired_is_believed_where_the_floor_does_not_know(
    garage: Garage,
) -> None:
    # The floor is a lower bound: a car without a battery clock finds out like this.
    car = garage(starts=-19 * DAY, ends=DAY)
    car.office.now = lambda: NOW + 2 * DAY

    await idle()

    assert car.office.calls == ["reenroll", "nonce", "grace"]
    assert car.leaf_ends > NOW + 2 * DAY


async def test_a_broker_that_refuses_our_certificate_makes_the_car_ask_before_it_is_due(
    garage: Garage,
) -> None:
    car = garage()
    await idle()
    car.store.refused(car.store.current())
    await idle()
    assert car.office.calls == ["reenroll"]

    # And if it refuses the new one as well, the wait grows: no storm of renewals.
    for _ in range(50):
        car.store.refused(car.store.current())
        await car.clock.advance(60)

    assert len(car.office.calls) <= 6


async def test_failures_back_off_with_jitter_and_say_what_to_do(
    garage: Garage, caplog: pytest.LogCaptureFixture
) -> None:
    # FF-ENR-17.
    car = garage(starts=-19 * DAY, ends=7 * DAY)
    car.office.failure = EnrolmentError(
        "the enrolment service at x:1 cannot be reached (no route): check "
        "enrolment.host",
        code="unreachable",
    )
    await idle()
    assert len(car.office.calls) == 1
    assert "7 days left; asked again in 2 min" in caplog.text
    assert "check enrolment.host" in caplog.text

    await car.clock.advance(DAY.total_seconds())

    # 2, 4, 8 ... 256 minutes, then every six hours.
    assert 9 <= len(car.office.calls) <= 13
    assert car.store.current() == car.installed

    car.office.failure = None
    await car.clock.advance(6 * HOUR.total_seconds())
    assert car.renewed == 1


async def test_a_service_that_says_wait_is_not_asked_before(garage: Garage) -> None:
    car = garage(starts=-19 * DAY, ends=7 * DAY)
    car.office.failure = EnrolmentError(
        "too often", code="too_often", retry_after_s=7_200
    )

    await car.clock.advance(7_100)

    assert len(car.office.calls) == 1


async def test_a_revoked_car_asks_as_rarely_as_can_be(garage: Garage) -> None:
    car = garage(starts=-19 * DAY, ends=7 * DAY)
    car.office.failure = EnrolmentError("revoked", code="revoked", retryable=False)

    await car.clock.advance(DAY.total_seconds())

    assert len(car.office.calls) <= 1 + 86_400 // RENEWAL_BACKOFF.maximum_s


async def test_a_disk_that_is_full_leaves_the_old_identity_in_use(
    garage: Garage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    car = garage(starts=-19 * DAY, ends=7 * DAY)

    def full(_directory: Path, _target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", full)
    await idle()

    assert "No space left on device" in caplog.text
    assert car.store.current() == car.installed
    assert list(car.directory.iterdir()) == []


# -- after a rotation of the signing key ---


async def test_a_new_signing_key_is_shown_at_once_and_a_new_certificate_follows(
    garage: Garage,
) -> None:
    # FF-ENR-27: who copied the old signing key has the old TLS key too.
    car = garage()
    await idle()
    old = car.store.newest

    car.holder.rotate()
    await idle()

    assert car.office.calls == ["recertify", "reenroll"]
    assert car.office.device_key == car.holder.key.verify_key
    assert not car.holder.rotations
    assert car.store.newest != old
    assert car.renewed == 1


async def test_a_garaged_car_that_rotated_shows_its_keys_before_it_signs_by_the_newest(
    garage: Garage,
) -> None:
    # FF-ENR-11, FF-ENR-24: twice, and the service knew of neither.
    car = garage(starts=-30 * DAY, ends=-DAY)
    car.holder.rotate()
    car.holder.rotate()

    await idle()

    assert car.office.calls == ["recertify", "nonce", "grace"]
    assert car.leaf_ends > NOW
    assert not car.holder.rotations


async def test_rotations_are_kept_until_the_new_certificate_is_written(
    garage: Garage,
) -> None:
    # FF-ENR-24: the service hears of them again, and that changes nothing.
    car = garage()
    await idle()
    car.office.failure = EnrolmentError("no network", code="unreachable")
    rotation = car.holder.rotate()
    await idle()
    assert car.office.calls == ["recertify"]
    assert list(car.holder.rotations) == [rotation]
    assert car.store.current() == car.installed

    car.office.failure = None
    await car.clock.advance(121)

    assert car.office.calls == ["recertify", "recertify", "reenroll"]
    assert not car.holder.rotations


async def test_a_service_that_certifies_no_new_key_does_not_stop_the_renewal(
    garage: Garage, caplog: pytest.LogCaptureFixture
) -> None:
    # FF-ENR-17: the certificate that the car has goes on counting.
    car = garage(starts=-19 * DAY, ends=7 * DAY)
    car.office.fails_at["recertify"] = EnrolmentError(
        "no such path", code="unknown_path", retryable=False
    )
    car.holder.rotate()

    await idle()

    assert car.office.calls == ["recertify", "reenroll"]
    assert car.renewed == 1
    assert "the new signing key is not certified: no such path" in caplog.text
    assert car.holder.rotations  # shown again, as rarely as may be
    await car.clock.advance(DAY.total_seconds())
    assert car.office.calls.count("reenroll") == 1
    assert car.office.calls.count("recertify") <= 6


async def test_a_certificate_for_another_signing_key_is_not_taken_for_ours(
    garage: Garage, caplog: pytest.LogCaptureFixture
) -> None:
    car = garage()
    await idle()
    car.office.certifies = CAR_B_KEY.key.verify_key
    car.holder.rotate()

    await idle()

    assert "is of another key than the new one" in caplog.text
    assert car.holder.rotations
