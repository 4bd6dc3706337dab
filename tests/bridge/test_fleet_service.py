"""The example: prices in exact decimal, and a rental billed over real HTTP."""

import asyncio
import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import aiohttp
import pytest
from standardwebhooks.webhooks import Webhook

from examples.fleet_service.book import Book, Reservation
from examples.fleet_service.pricing import Report, ReportError, price
from examples.fleet_service.service import FleetService, ReservationError
from protocol.codes import Code, Executed, FrameClass
from protocol.event import RentalEnded
from tests.bridge.car import REPORT
from tests.bridge.conftest import make_fleet
from tests.bridge.running import running_bridge
from tools.bridge_settings import local_settings

PLAIN = Report(
    driving_min=20,
    parking_min=5,
    lowest_energy_pct=52,
    refuel_gain_pct=0,
    start_washer_pct=80,
    end_washer_pct=79,
    range_km=350,
)


def report(**changes: int | None) -> Report:
    values = {name: getattr(PLAIN, name) for name in PLAIN.__slots__}
    return Report(**(values | changes))


def test_driving_and_parking_minutes_have_their_prices() -> None:
    # N5: 20 x 0.32 + 5 x 0.15
    invoice = price(PLAIN)

    assert invoice.total == Decimal("7.15")
    assert [line.amount for line in invoice.lines] == [Decimal("6.40"), Decimal("0.75")]
    assert invoice.bonus_earned_min == 0


def test_money_is_exact_over_a_million_minutes() -> None:
    invoice = price(report(driving_min=1_000_001, parking_min=1_000_001))

    assert invoice.total == Decimal("470000.47")


@pytest.mark.parametrize(
    ("lowest", "gain", "bonus"),
    [(24, 10, 30), (25, 10, 0), (24, 9, 0), (None, 50, 0), (0, 100, 30)],
)
def test_fuel_for_a_low_car_earns_thirty_minutes_once(
    lowest: int | None, gain: int, bonus: int
) -> None:
    # N3, B20, H5
    earned = price(report(lowest_energy_pct=lowest, refuel_gain_pct=gain))

    assert earned.bonus_earned_min == bonus
    assert earned.total == Decimal("7.15")


@pytest.mark.parametrize(
    ("start", "end", "bonus"),
    [(60, 90, 10), (61, 90, 0), (50, 89, 0), (None, 100, 0), (10, None, 0)],
)
def test_washer_fluid_earns_ten_minutes(
    start: int | None, end: int | None, bonus: int
) -> None:
    # H18, B23
    earned = price(report(start_washer_pct=start, end_washer_pct=end))

    assert earned.bonus_earned_min == bonus


@pytest.mark.parametrize(("km", "extra"), [(16, "0"), (15, "50.00"), (None, "0")])
def test_fifteen_kilometres_are_too_little(km: int | None, extra: str) -> None:
    # N4, H4, B21
    assert price(report(range_km=km)).total == Decimal("7.15") + Decimal(extra)


def test_bonus_minutes_pay_for_driving_and_no_more() -> None:
    invoice = price(PLAIN, bonus_min=30)

    assert invoice.total == Decimal("0.75")
    assert (invoice.bonus_used_min, invoice.bonus_balance_min) == (20, 10)


@pytest.mark.parametrize("value", [-1, 1.5, True, "20", None])
def test_a_report_without_whole_minutes_is_not_priced(value: object) -> None:
    data: dict[str, object] = {"driving_min": value, "parking_min": 0}
    with pytest.raises(ReportError, match="driving_min"):
        Report.from_data(data)


def test_a_rental_is_charged_once_whatever_comes_again(tmp_path: Path) -> None:
    book = Book(tmp_path / "book.sqlite")
    anna = Reservation("r", "v", "anna")
    book.reserve(anna)

    first = book.charge(
        "event-1", anna, report(lowest_energy_pct=1, refuel_gain_pct=50)
    )
    again = book.charge("event-1", anna, PLAIN)
    other = book.charge("event-2", anna, PLAIN)

    assert first is not None
    assert again is None
    assert other is None
    assert book.bonus("anna") == 30
    book.close()


@pytest.mark.broker
async def test_a_rental_is_reserved_driven_told_and_billed_once(
    tmp_path: Path,
) -> None:
    # The service verifies time stamps by the machine's clock, so all of it does here.
    today = datetime.fromtimestamp(wall_ms() / 1000, UTC)
    fleet = make_fleet(tmp_path / "fleet", 1, now=today)
    heard: list[tuple[str, bool]] = []
    book = Book(tmp_path / "book.sqlite")
    settings = local_settings(
        fleet.path,
        state=tmp_path,
        broker=("127.0.0.1", 1),
        api=("127.0.0.1", 0),
        webhook="http://127.0.0.1:1/unset",
    )
    service = FleetService(
        bridge_url="",
        api_key=(tmp_path / "api.keys").read_text().strip(),
        webhook_secret=(tmp_path / "webhook.secret").read_text().strip(),
        book=book,
        listener=lambda kind, _event, is_new: heard.append((kind, is_new)),
    )
    hook = await service.start()
    settings = local_settings(
        fleet.path,
        state=tmp_path,
        broker=("127.0.0.1", 1),
        api=("127.0.0.1", 0),
        webhook=hook,
    )
    async with running_bridge(
        fleet, tmp_path, settings=settings, now=wall_ms
    ) as running:
        car = running.car
        service.connect(running.bridge.api_url)
        await running.say(FrameClass.HELLO, car.hello())
        reserving = asyncio.create_task(
            service.reserve("anna", str(car.id), cards=["04a1b2c3"], pin="4711")
        )
        frame = await running.broker.next_sent(FrameClass.CMD)
        await running.say(FrameClass.RESULT, car.result(frame))
        command = await reserving
        rental_id = str(command["rental_id"])

        ended = car.event(replace_rental(rental_id))
        await running.say(FrameClass.EVENT, ended)
        await running.say(FrameClass.EVENT, ended)
        async with asyncio.timeout(20):
            invoice = await service.wait_invoice(rental_id)

        assert invoice["total"] == "7.15"
        assert ("freefloat.rental.ended", True) in heard

        refusing = asyncio.create_task(
            service.reserve("ben", str(car.id), cards=[], pin="4711")
        )
        frame = await running.broker.next_sent(FrameClass.CMD)
        busy = car.result(frame, Code.WRONG_MODE, executed=Executed.NO)
        await running.say(FrameClass.RESULT, busy)
        with pytest.raises(ReservationError, match="refused by the vehicle"):
            await refusing
    await service.stop()
    book.close()


def wall_ms() -> int:
    return time.clock_gettime_ns(time.CLOCK_REALTIME) // 1_000_000


def replace_rental(rental_id: str) -> RentalEnded:
    return replace(REPORT, rental_id=bytes.fromhex(rental_id))


@pytest.mark.broker
async def test_a_webhook_counts_only_with_a_good_signature_and_once(
    tmp_path: Path,
) -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    book = Book(tmp_path / "book.sqlite")
    book.reserve(Reservation("r", "CAR", "anna"))
    service = FleetService(bridge_url="", api_key="", webhook_secret=secret, book=book)
    hook = await service.start()
    data = {name: getattr(PLAIN, name) for name in PLAIN.__slots__}
    event = {
        "type": "freefloat.rental.ended",
        "subject": "CAR",
        "data": {"rental_id": "r", **data},
    }
    other_car = {**event, "subject": "ANOTHER"}

    async def post(document: object, number: str, key: str = secret) -> int:
        body = json.dumps(document)
        now = datetime.fromtimestamp(wall_ms() / 1000, UTC)
        headers = {
            "webhook-id": number,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(key).sign(number, now, body),
        }
        async with (
            aiohttp.ClientSession() as client,
            client.post(hook, data=body, headers=headers) as answer,
        ):
            return answer.status

    assert await post(event, "1", "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA") == 401
    assert await post(other_car, "2") == 200
    assert book.invoice("r") is None
    assert await post(event, "3") == 200
    assert await post(event, "3") == 200
    assert book.invoice("r") is not None
    async with (
        aiohttp.ClientSession() as client,
        client.post(hook, data=b"\xff", headers={"webhook-id": "4"}) as answer,
    ):
        assert answer.status == 401
    await service.stop()
    book.close()
