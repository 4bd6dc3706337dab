"""The least that the time can be (I-29)."""

from gateway.runtime.known_floor import RELEASED_MS, KnownFloor
from tests.gateway.manual_clock import ManualClock


def test_the_floor_is_the_newest_known_instant_and_never_before_the_release() -> None:
    clock = ManualClock()

    assert KnownFloor(clock).trusted_floor_ms() == RELEASED_MS
    assert KnownFloor(clock, 1_000).trusted_floor_ms() == RELEASED_MS
    newer = KnownFloor(clock, 1_000, RELEASED_MS + 5)
    assert newer.trusted_floor_ms() == RELEASED_MS + 5


async def test_the_boot_clock_carries_the_floor_and_the_wall_clock_does_not() -> None:
    # FF-TIM-02.
    clock = ManualClock()
    floor = KnownFloor(clock, RELEASED_MS)
    clock.wall_offset_ms += 10 * 365 * 86_400_000

    await clock.advance(60)

    assert floor.trusted_floor_ms() == RELEASED_MS + 60_000
