"""How many signature checks a flood can make a car do: counted, not timed (K23)."""

import pytest

from gateway.core import authentication
from gateway.core.authentication import BUCKET_REFILL_PER_S, BUCKET_SIZE
from protocol.codes import Code, FrameClass
from protocol.command import ANY_VERSION, Ping
from protocol.frame import Frame
from protocol.keys import VerifyKey
from protocol.signing import verify_frame
from protocol.snapshot import NO_RENTAL
from protocol.sync import Challenge
from tests.gateway.fleet_end import (
    BUNDLE,
    RECEIPT_KEY,
    STRANGER_KEY,
    VEHICLE_KEY,
)
from tests.gateway.world import World

PING = Ping(NO_RENTAL, ANY_VERSION, bytes(16))
SECONDS = 8
PER_S = 500
"""Far more than any fleet sends, and far less than a network carries."""


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[FrameClass]:
    """Return the classes of the frames whose signatures were checked."""
    seen = list[FrameClass]()

    def counted(frame: Frame, *, fleet_id: bytes, key: VerifyKey) -> None:
        seen.append(frame.header.frame_class)
        verify_frame(frame, fleet_id=fleet_id, key=key)

    monkeypatch.setattr(authentication, "verify_frame", counted)
    return seen


def good(world: World, frame_class: FrameClass) -> bytes:
    fleet = world.fleet
    if frame_class is FrameClass.CMD:
        return fleet.command(PING)
    if frame_class is FrameClass.SYNC:
        return fleet.sync(Challenge(b"a nonce of today"))
    if frame_class is FrameClass.RECEIPT:
        return fleet.receipt()
    return fleet.trust(BUNDLE)


def spoil(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize(
    "frame_class",
    [FrameClass.CMD, FrameClass.SYNC, FrameClass.RECEIPT, FrameClass.TRUST],
    ids=lambda each: each.label,
)
async def test_flood_bounded_cpu_forged_frames_cost_a_bounded_number_of_checks(
    frame_class: FrameClass, checks: list[FrameClass]
) -> None:
    # FF-AUTH-07.
    # K23: whatever the class, 60 at once and 30 a second of 500.
    async with World() as world:
        forged = spoil(good(world, frame_class))
        answers = len(world.fleet.answers)
        checks.clear()
        for _ in range(SECONDS):
            for _ in range(PER_S):
                world.air.deliver(frame_class, forged)
            await world.advance(1.0)

        assert len(checks) > BUCKET_SIZE
        assert len(checks) <= BUCKET_SIZE + (SECONDS + 1) * BUCKET_REFILL_PER_S
        assert len(world.fleet.answers) == answers
        dropped = world.gateway.dropped
        assert dropped[Code.BAD_SIGNATURE] == len(checks)
        assert sum(dropped.values()) == SECONDS * PER_S
        # Afterwards the fleet is heard again within seconds.
        await world.advance(3.0)
        ping = world.fleet.send(PING)
        await world.settle()
        assert world.fleet.codes_of(ping) == [Code.OK]


async def test_flood_bounded_cpu_what_names_no_known_key_costs_no_check(
    checks: list[FrameClass],
) -> None:
    # FF-AUTH-07, FF-AUTH-02.
    async with World() as world:
        checks.clear()
        for key in (STRANGER_KEY, VEHICLE_KEY):
            data = world.fleet.command(PING, key=key)
            for _ in range(200):
                world.air.deliver(FrameClass.CMD, data)
        await world.advance(1.0)

        assert checks == []
        assert world.fleet.answers == []


async def test_a_good_frame_costs_one_check(checks: list[FrameClass]) -> None:
    # K23: nothing is verified twice.
    async with World() as world:
        world.fleet.gives_receipts = False
        checks.clear()
        for frame_class in (FrameClass.CMD, FrameClass.SYNC, FrameClass.TRUST):
            world.air.deliver(frame_class, good(world, frame_class))
        await world.advance(1.0)
        assert checks == [FrameClass.CMD, FrameClass.SYNC, FrameClass.TRUST]

        checks.clear()
        replayed = world.fleet.receipt(key=RECEIPT_KEY)
        world.air.deliver(FrameClass.RECEIPT, replayed)
        await world.advance(1.0)
        assert checks == [FrameClass.RECEIPT]
