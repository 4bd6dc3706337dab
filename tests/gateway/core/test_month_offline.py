"""Thirty virtual days without a network: what a car does on its own authority (I-18).

A seeded month, hour by hour, on a clock that is moved by hand. A model beside the car
knows what the fleet granted before the link was lost; the car must open for that, once
each and while it lasts, and for nothing else.
"""

import random

import pytest

from gateway.core.events import UplinkLost
from gateway.core.grants import GRANTS_LIMIT, SPAN_LIMIT_MS
from gateway.core.prompts import Choice
from protocol.codes import ClockQuality, Code, EndReason, LockDefault, RentalMode
from protocol.event import Parked, RentalEnded, RentalStarted, Resumed
from protocol.rental_command import Grant
from tests.gateway.core.scene import CARD, STRANGER, Scene, grant_of

HOUR_S = 3_600
DAY_MS = 24 * HOUR_S * 1_000
MONTH_HOURS = 30 * 24


def card(number: int) -> bytes:
    return b"\x04" + number.to_bytes(6, "big")


def id_of(number: int) -> bytes:
    return number.to_bytes(16, "big")


def stock_up(scene: Scene, rng: random.Random) -> dict[bytes, Grant]:
    """Let the fleet give all the grants that a car takes; return them by card."""
    held: dict[bytes, Grant] = {}
    for number in range(1, GRANTS_LIMIT + 1):
        begin_ms = scene.wall_ms + rng.randrange(20) * DAY_MS
        command = grant_of(
            scene,
            card(number),
            grant_id=id_of(number),
            rental_id=id_of(1_000 + number),
            not_before_wall_ms=begin_ms,
            not_after_wall_ms=min(
                begin_ms + rng.randint(1, 30) * DAY_MS, scene.wall_ms + SPAN_LIMIT_MS
            ),
        )
        assert scene.answer(command).code is Code.OK
        held[card(number)] = command
    return held


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_month_offline_opens_for_what_was_granted_and_for_nothing_else(
    seed: int,
) -> None:
    """I-18 (D): at most 16 grants, each once and in its span, and none after 30 days.

    In the third week nobody tells the time after a power cut: no grant counts then.
    """
    rng = random.Random(seed)  # noqa: S311 - a month to be repeated, no secret
    scene = Scene()
    left = stock_up(scene, rng)
    more = scene.grant(card(99), grant_id=id_of(99), rental_id=id_of(1_099))
    scene.happen(UplinkLost())
    begun_ms, opened, late = scene.wall_ms, 0, set[bytes]()
    comes_at = {uid: rng.randrange(MONTH_HOURS) for uid in (*left, card(99))}
    comes_at[STRANGER] = 0

    for hour in range(MONTH_HOURS + 48):
        scene.advance(HOUR_S)
        if hour == 14 * 24:
            scene.restart(off_s=60)
            scene.report()
        is_told = not 14 * 24 <= hour < 15 * 24
        scene.is_told_the_time = is_told
        uid = rng.choice([uid for uid, at in comes_at.items() if at <= hour])
        grant = left.get(uid)
        may = (
            is_told
            and grant is not None
            and grant.not_before_wall_ms <= scene.wall_ms < grant.not_after_wall_ms
        )
        if grant is not None and scene.wall_ms >= grant.not_after_wall_ms:
            late.add(uid)
        scene.forget()
        scene.tap(uid)

        assert (scene.mode is RentalMode.STOPPED) is may, (hour, uid.hex())
        assert bool(scene.told(RentalStarted)) is may
        assert scene.reading.locked is not may
        if may:
            assert scene.wall_ms < begun_ms + SPAN_LIMIT_MS
            opened += 1
            del left[uid]
            scene.tap_later(uid)  # locks, which ends it
            assert scene.one(RentalEnded).reason is EndReason.CARD
        assert scene.mode is RentalMode.AVAILABLE

    assert more.code is Code.QUEUE_FULL
    assert opened
    assert late, "nobody came too late: another seed"
    assert len(scene.state.grants) == GRANTS_LIMIT - opened


def test_after_a_month_offline_the_renter_alone_parks_opens_and_ends() -> None:
    """I-18 (D), I-19: the one authority left is that of who has the car."""
    rng = random.Random(7)  # noqa: S311 - a month to be repeated, no secret
    scene = Scene()
    scene.rent_and_release(lock_default=LockDefault.PARK)
    held = stock_up(scene, rng)
    scene.happen(UplinkLost())
    scene.tap_later()
    scene.forget()

    for day in range(31):
        scene.advance(24 * HOUR_S)
        scene.quality = ClockQuality.UNSET if day % 5 == 4 else ClockQuality.NTP
        if day % 7 == 6:
            scene.restart(off_s=600)
            scene.report()
        scene.tap(rng.choice(tuple(held)))  # of somebody with a grant
        assert (scene.mode, scene.reading.locked) == (RentalMode.PARKED, True)
        scene.tap_later(CARD)
        assert not scene.reading.locked
        scene.tap_later(CARD)
        assert (scene.mode, scene.reading.locked) == (RentalMode.PARKED, True)
    scene.quality = ClockQuality.NTP
    scene.tap_later(CARD)
    scene.choose(Choice.END)
    scene.tap_later(CARD)

    assert scene.mode is RentalMode.AVAILABLE
    assert len(scene.told(Parked)) == len(scene.told(Resumed)) - 1 == 31
    assert scene.one(RentalEnded).total_ms >= 30 * DAY_MS
    for uid in held:
        scene.tap_later(uid)
        scene.advance(6)
    assert scene.mode is RentalMode.AVAILABLE
    assert scene.told(RentalStarted) == []
