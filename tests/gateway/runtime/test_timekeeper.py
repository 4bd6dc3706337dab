"""The least that the time can be, over restarts and power cuts (FF-TIM, I-29)."""

from gateway.core.known_time import RELEASED_MS, KnownTime
from gateway.runtime.timekeeper import Timekeeper
from protocol.codes import ClockQuality
from tests.gateway.manual_clock import ManualClock


def test_the_floor_is_the_newest_known_instant_and_never_before_the_release() -> None:
    clock = ManualClock()

    assert Timekeeper(clock).trusted_floor_ms() == RELEASED_MS
    assert Timekeeper(clock, 1_000).trusted_floor_ms() == RELEASED_MS
    newer = Timekeeper(clock, 1_000, RELEASED_MS + 5)
    assert newer.trusted_floor_ms() == RELEASED_MS + 5


async def test_the_boot_clock_carries_the_floor_and_the_wall_clock_does_not() -> None:
    clock = ManualClock()
    time = Timekeeper(clock, RELEASED_MS + 1)
    clock.wall_offset_ms += 10 * 365 * 86_400_000

    await clock.advance(60)

    assert time.trusted_floor_ms() == RELEASED_MS + 60_001


def test_a_restart_on_a_running_machine_goes_on_knowing_the_time() -> None:
    clock = ManualClock()
    told = KnownTime(RELEASED_MS + 10**9, clock.boot_ms - 5_000, ClockQuality.SYNC)

    time = Timekeeper(clock)
    time.restore(told, same_boot=True)

    assert time.known.is_known
    assert time.trusted_floor_ms() == RELEASED_MS + 10**9 + 5_000


def test_a_restart_after_a_power_cut_knows_only_the_floor() -> None:
    clock = ManualClock()
    told = KnownTime(RELEASED_MS + 10**9, clock.boot_ms, ClockQuality.SYNC)
    clock.reboot(3_600)

    time = Timekeeper(clock)
    time.restore(told, same_boot=False)

    assert not time.known.is_known
    assert time.trusted_floor_ms() == RELEASED_MS + 10**9


def test_a_bundle_newer_than_what_was_stored_raises_the_floor() -> None:
    clock = ManualClock()
    time = Timekeeper(clock, RELEASED_MS + 500)

    time.restore(KnownTime(RELEASED_MS + 100), same_boot=False)
    time.note(RELEASED_MS + 700, now=clock.now())

    assert time.trusted_floor_ms() == RELEASED_MS + 700


async def test_the_time_of_now_is_what_the_sky_tells_until_the_fleet_does() -> None:
    # H14, I-28: the floor stands still while nobody has signed a time, and grants and
    # a rental's time without power would be judged by a clock that stands.
    clock = ManualClock()
    time = Timekeeper(clock)
    unknown = time.trusted_ms(clock.now())
    sky_ms = RELEASED_MS + 10**9
    time.learn(sky_ms, ClockQuality.GNSS, now=clock.now())
    await clock.advance(60)
    by_sky = time.trusted_ms(clock.now())

    time.learn(sky_ms + 61_000, ClockQuality.SYNC, now=clock.now())
    signed = time.trusted_ms(clock.now())

    assert (unknown, by_sky, signed) == (None, sky_ms + 60_000, sky_ms + 61_000)
