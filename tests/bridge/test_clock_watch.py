"""The signer's own clock is watched (row 36, I-29)."""

from hypothesis import given
from hypothesis import strategies as st

from bridge.clock_watch import (
    CARS_LEAST,
    CARS_MOST,
    OFFSET_LIMIT_MS,
    WINDOW_MS,
    ClockWatch,
)
from protocol.codes import ClockQuality, FrameClass
from protocol.event import AgentStarted
from protocol.identity import VehicleId
from tests.bridge.world import World

NOW = 1_800_000_000_000


def car(number: int) -> VehicleId:
    return VehicleId(number.to_bytes(16, "big"))


def heard(watch: ClockWatch, offsets: list[int], quality: ClockQuality) -> None:
    for number, offset in enumerate(offsets):
        watch.heard(car(number), NOW + offset, quality, now=NOW)


def test_a_clock_that_is_off_is_told_with_its_way() -> None:
    watch = ClockWatch()
    heard(watch, [5_000, 4_900, 5_100], ClockQuality.GNSS)

    assert watch.offset_ms(now=NOW) == 5_000
    assert "5.0 s behind the median" in watch.fault(now=NOW)
    assert watch.fault(now=NOW + WINDOW_MS + 1) == ""

    heard(watch, [-3_000, -3_100, -2_900], ClockQuality.NTP)
    assert "3.0 s ahead of the median" in watch.fault(now=NOW)


def test_cars_that_have_our_own_time_or_none_say_nothing() -> None:
    for quality in (ClockQuality.UNSET, ClockQuality.RTC, ClockQuality.SYNC):
        watch = ClockWatch()
        heard(watch, [9_000_000] * 10, quality)

        assert watch.offset_ms(now=NOW) is None
        assert watch.fault(now=NOW) == ""


def test_one_car_counts_once_however_often_it_speaks() -> None:
    watch = ClockWatch()
    for _ in range(50):
        watch.heard(car(1), NOW + 60_000, ClockQuality.GNSS, now=NOW)

    assert watch.offset_ms(now=NOW) is None


@given(
    st.lists(st.integers(-500, 500), min_size=CARS_LEAST, max_size=40),
    st.lists(st.integers(-(10**12), 10**12), max_size=40),
)
def test_liars_in_the_minority_decide_nothing(
    honest: list[int], lies: list[int]
) -> None:
    watch = ClockWatch()
    lies = lies[: (len(honest) - 1) // 2]

    heard(watch, [*lies, *honest], ClockQuality.GNSS)

    offset = watch.offset_ms(now=NOW)
    assert offset is not None
    assert abs(offset) <= 500 < OFFSET_LIMIT_MS
    assert watch.fault(now=NOW) == ""


def test_what_is_remembered_is_bounded() -> None:
    watch = ClockWatch()
    heard(watch, [60_000] * 10, ClockQuality.GNSS)
    for number in range(10, 10 + CARS_MOST):
        watch.heard(car(number), NOW, ClockQuality.GNSS, now=NOW)

    assert watch.offset_ms(now=NOW) == 0


def test_a_step_of_the_clock_is_told_for_an_hour_and_slewing_is_not() -> None:
    watch = ClockWatch()
    watch.looked(wall_ms=NOW, boot_ms=1_000)
    watch.looked(wall_ms=NOW + 1_500, boot_ms=2_000)
    assert watch.fault(now=NOW) == ""

    watch.looked(wall_ms=NOW - 3_598_500, boot_ms=3_000)
    assert "was set by -3601.0 s 0 minutes ago" in watch.fault(now=NOW)

    watch.looked(wall_ms=NOW, boot_ms=3_000 + 3_598_500)
    assert "59 minutes ago" in watch.fault(now=NOW)
    watch.looked(wall_ms=NOW + 2_000, boot_ms=3_000 + 3_600_500)
    assert watch.fault(now=NOW) == ""


def test_a_clock_that_was_put_right_is_not_called_wrong_any_more() -> None:
    """Row 36: what cars said of it before is compared with what it shows now."""
    watch = ClockWatch()
    watch.looked(wall_ms=NOW, boot_ms=1_000)
    heard(watch, [30_000, 30_100, 29_900], ClockQuality.GNSS)
    assert "30.0 s behind" in watch.fault(now=NOW)

    watch.looked(wall_ms=NOW + 31_000, boot_ms=2_000)

    assert watch.offset_ms(now=NOW + 31_000) == 0
    assert "was set by 30.0 s" in watch.alarm


async def test_only_a_fresh_hello_says_what_time_it_is(world: World) -> None:
    # Whatever else a car says may have waited in it for days.
    for car in world.cars:
        car.wall_ms = world.now() + 7_000
        await world.say(FrameClass.EVENT, car.event(AgentStarted(1, bytes(4))), car=car)
    assert world.clock_watch.offset_ms(now=world.now()) is None

    hellos = [car.hello(clock_quality=ClockQuality.GNSS) for car in world.cars]
    for car, hello in zip(world.cars, hellos, strict=True):
        await world.say(FrameClass.HELLO, hello, car=car)
    assert world.clock_watch.offset_ms(now=world.now()) == 7_000
    # A replay of it says nothing.
    world.advance(60)
    for car, hello in zip(world.cars, hellos, strict=True):
        await world.say(FrameClass.HELLO, hello, car=car)
    assert world.clock_watch.offset_ms(now=world.now()) == 7_000
