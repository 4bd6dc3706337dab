"""The smaller parts of the emulator: clock, virtual time, reader, display, cards."""

import asyncio
from pathlib import Path

import pytest

from firmware_emulator import virtual_time
from firmware_emulator.car import Car
from firmware_emulator.car_file import load_car, save_car
from firmware_emulator.chance import seeded
from firmware_emulator.clock import EmulatedClock
from firmware_emulator.devices import EmulatedDevices, random_car
from firmware_emulator.errors import CarFileError, StepError
from firmware_emulator.positioning import EmulatedPositioning
from firmware_emulator.reader import Card, EmulatedReader
from firmware_emulator.street import City, Place
from firmware_emulator.witness import Witness
from gateway.core.events import (
    CardPresented,
    Event,
    MenuChosen,
    PinEntered,
    ReaderLost,
    ReaderRecovered,
)
from gateway.core.prompts import Choice, Prompt, PromptKey

CARD = Card(bytes.fromhex("04a1b2c3d4e5f6"))


def clock_of(*, factor: float = 1.0, wall_s: float = 1_900_000_000.0) -> EmulatedClock:
    loop = asyncio.get_running_loop()
    return EmulatedClock(loop.time, lambda: wall_s, factor=factor)


# --- time ---------------------------------------------------------------------------


def test_waiting_takes_no_time_and_ends_exactly_when_it_should() -> None:
    async def main() -> tuple[float, list[str]]:
        order: list[str] = []

        async def sleeper(name: str, delay_s: float) -> None:
            await asyncio.sleep(delay_s)
            order.append(name)

        await asyncio.gather(sleeper("a day", 86_400), sleeper("an hour", 3_600))
        return asyncio.get_running_loop().time(), order

    assert virtual_time.run(main()) == (86_400.0, ["an hour", "a day"])


def test_who_waits_for_what_cannot_come_is_told_so() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(virtual_time.DeadlockError, match="no timer"):
        virtual_time.run(main())


def test_work_for_threads_is_done_on_the_spot_and_its_error_comes_back() -> None:
    async def main() -> float:
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 / 0)
        await asyncio.to_thread(sum, [1, 2])
        return asyncio.get_running_loop().time()

    assert virtual_time.run(main()) == 0.0


def test_a_power_cut_restarts_the_boot_clock_and_not_the_world() -> None:
    # protocol-design.md 1.3
    async def main() -> None:
        clock = clock_of()
        mark = clock.boot_mark
        await clock.sleep(5_000)

        clock.reboot()
        await clock.sleep(2_000)

        assert clock.elapsed_ms == 7_000
        assert clock.now().boot_ms == 2_000
        assert clock.now().wall_ms == 1_900_000_007_000
        assert clock.boot_mark != mark

    virtual_time.run(main())


def test_a_factor_makes_minutes_of_seconds() -> None:
    async def main() -> float:
        clock = clock_of(factor=60)
        await clock.sleep_until(120_000)
        assert 120_000 <= clock.now().boot_ms < 121_000
        return asyncio.get_running_loop().time()

    assert virtual_time.run(main()) == pytest.approx(2.0, abs=0.01)


def test_a_deadline_that_passes_says_what_was_missing() -> None:
    async def main() -> None:
        witness = Witness(clock_of())
        with pytest.raises(StepError, match=r"waited 3 s in vain for rain"):
            await witness.until(lambda: False, timeout_s=3, missing="rain")

    virtual_time.run(main())


# --- reader and cards ---------------------------------------------------------------


def reported(story: list[str], card: Card = CARD) -> list[Event]:
    """Play a story at a reader and return what it reported."""

    async def main() -> list[Event]:
        events: list[Event] = []
        reader = EmulatedReader()
        deeds = {
            "present": lambda: reader.present(card),
            "remove": reader.remove,
            "tap": lambda: reader.tap(card),
            "fail": reader.fail,
            "repair": reader.repair,
        }
        run = asyncio.create_task(reader.run(events.append))
        for deed in story:
            await asyncio.sleep(0.1)
            deeds[deed]()
        await asyncio.sleep(0.1)
        run.cancel()
        return events

    return virtual_time.run(main())


def test_a_card_that_stays_is_one_tap() -> None:
    # I-14
    assert reported(["present", "present", "remove", "present"]) == [
        CardPresented(CARD.uid),
        CardPresented(CARD.uid),
    ]


def test_a_failed_reader_is_reported_once_and_reads_nothing() -> None:
    # I-15
    assert reported(["fail", "fail", "tap", "repair", "tap"]) == [
        ReaderLost(),
        ReaderRecovered(),
        CardPresented(CARD.uid),
    ]


def test_a_tap_on_a_car_without_power_is_no_tap() -> None:
    async def main() -> bool:
        return EmulatedReader().tap(CARD)

    assert virtual_time.run(main()) is False


@pytest.mark.parametrize("size", [0, 3, 5, 8, 11])
def test_a_uid_has_four_seven_or_ten_bytes(size: int) -> None:
    # ISO/IEC 14443-3, 6.5.4
    with pytest.raises(ValueError, match="4, 7 or 10"):
        Card(bytes(size))


def test_a_random_card_has_a_fixed_uid_and_its_text_does_not_show_it() -> None:
    cards = [Card.random(seeded(number)) for number in range(100)]

    assert {card.uid[0] for card in cards} == {0x04}  # never 0x08: a random id
    assert all(card.uid.hex() not in repr(card) for card in cards)


# --- display ------------------------------------------------------------------------


def test_a_display_types_and_chooses_only_while_it_is_alive() -> None:
    async def main() -> None:
        clock = clock_of()
        devices = EmulatedDevices(Car(seeded(1)), clock)
        events: list[Event] = []
        run = asyncio.create_task(devices.display.run(events.append))
        await asyncio.sleep(0)

        assert devices.display.type_pin("2468")
        assert devices.display.choose(Choice.PARK)
        run.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

        assert not devices.display.type_pin("2468")
        assert events == [PinEntered("2468"), MenuChosen(Choice.PARK)]

    virtual_time.run(main())


def test_the_fuel_cards_pin_is_shown_and_then_forgotten() -> None:
    # H6
    async def main() -> None:
        display = EmulatedDevices(Car(seeded(1)), clock_of()).display
        await display.show(Prompt(PromptKey.FUEL_CARD_PIN), secret="4711")
        assert "4711" in display.words

        await display.show(Prompt(PromptKey.CHOOSE_NEXT), secret="")

        assert display.fuel_card_pin == ""
        assert "4711" not in repr(display.history)

    virtual_time.run(main())


# --- places and cars -----------------------------------------------------------------


def test_a_position_moves_north_by_a_degree_for_111_km() -> None:
    city = City(corner=(480_000_000, 110_000_000))

    latitude, longitude = city.coordinates(Place(0, 11_119_493))

    assert abs(latitude - 481_000_000) <= 1
    assert longitude == 110_000_000


def test_a_garage_has_no_sky() -> None:
    receiver = EmulatedPositioning(Car(seeded(1)))
    outside = receiver.fix()

    receiver.sky = False

    assert outside is not None
    assert receiver.fix() is None


def test_a_car_that_is_put_away_stands_where_it_was_left(tmp_path: Path) -> None:
    car = random_car(seeded(3))
    path = tmp_path / "car.json"

    save_car(car, path)
    again = load_car(path, seeded(3))

    assert again is not None
    for name in ("place", "heading", "odometer_mm", "fuel_l", "washer_l", "locked"):
        assert getattr(again, name) == getattr(car, name)


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"x" * 5_000, b'{"format": 2}', b"\xff"]
)
def test_a_file_that_is_no_car_is_refused_with_its_name(
    tmp_path: Path, data: bytes
) -> None:
    path = tmp_path / "car.json"
    path.write_bytes(data)

    with pytest.raises(CarFileError, match=r"car\.json is no car file"):
        load_car(path, seeded(1))


def test_a_car_without_a_file_is_none(tmp_path: Path) -> None:
    assert load_car(tmp_path / "car.json", seeded(1)) is None
