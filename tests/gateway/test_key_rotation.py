"""A car gets a new signing key, whatever happens meanwhile (FF-ENR-12, FF-ENR-13)."""

import asyncio
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from gateway.ports import KeyringError
from gateway.storage.errors import StoreBrokenError, StoreFullError
from gateway.storage.key_files import NEXT_KEY
from gateway.storage.key_order import KeyOrder
from protocol.codes import Code, FrameClass, Role
from protocol.command import ANY_VERSION, Ping, RotateKey
from protocol.frame import parse_frame
from protocol.keyfile import parse_signing_key
from protocol.keys import P256SigningKey, SigningKey, VerifyKey
from protocol.rotation import follow_rotations, rotated_key
from protocol.snapshot import NO_RENTAL
from protocol.vehicle_event import KeyRotated
from tests.depth import some
from tests.gateway.fleet_end import VEHICLE_KEY
from tests.gateway.manual_clock import ManualClock
from tests.gateway.world import IDENTITY, World

PING = Ping(NO_RENTAL, ANY_VERSION, bytes(16))
ROTATE = RotateKey(NO_RENTAL, ANY_VERSION)
KEY_FILE = IDENTITY.directory / "signing.key"
NEXT_FILE = IDENTITY.directory / NEXT_KEY


def key_on_disk(world: World) -> SigningKey | None:
    """Return the key in the car's directory, if one was ever put there."""
    file = world.disk.files.get(str(KEY_FILE))
    return None if file is None else parse_signing_key(bytes(file.cache), name="key")


def rotations(world: World) -> list[KeyRotated]:
    return [event for event in world.fleet.events() if isinstance(event, KeyRotated)]


async def require_usable(world: World) -> None:
    """Fail unless the fleet can verify and command the car: it does both by its key."""
    ping = world.fleet.send(PING)
    await world.advance(1.0)
    assert world.fleet.codes_of(ping) == [Code.OK]
    answer = next(
        frame
        for result, frame in world.fleet.answers
        if result.request_id == parse_frame(ping).header.msg_id
    )
    assert parse_frame(answer).header.key_id == world.fleet.car_key.key_id


async def test_the_old_key_names_the_new_one_and_signs_nothing_more() -> None:
    # FF-ENR-12: the fleet's end verifies the proof and every frame by its place.
    async with World() as world:
        data = world.fleet.send(ROTATE)
        await world.advance(1.0)

        (rotated,) = rotations(world)
        assert world.fleet.codes_of(data) == [Code.OK]
        assert world.fleet.car_key.raw == rotated.new_key
        assert rotated.new_key != VEHICLE_KEY.verify_key.raw
        key_ids = [
            parse_frame(frame).header.key_id
            for _, frame in sorted(world.fleet.entries.items())
        ]
        place = key_ids.index(world.fleet.car_key.key_id)
        assert set(key_ids[:place]) == {VEHICLE_KEY.key_id}
        assert set(key_ids[place:]) == {world.fleet.car_key.key_id}
        await require_usable(world)


async def test_the_new_key_is_the_only_one_on_the_disk() -> None:
    async with World() as world:
        world.fleet.send(ROTATE)
        await world.advance(1.0)

        held = key_on_disk(world)
        assert held is not None
        assert held.key_id == world.fleet.car_key.key_id
        assert str(NEXT_FILE) not in world.disk.files


async def test_the_new_key_signs_after_restarts_and_power_cuts() -> None:
    # The identity that the process was started with is that of before.
    async with World() as world:
        world.fleet.send(ROTATE)
        await world.advance(1.0)
        for event in (world.restart, world.power_cut):
            await event()
            await require_usable(world)
        assert len(rotations(world)) == 1


async def test_a_key_can_be_rotated_again_and_again() -> None:
    async with World() as world:
        for count in range(1, 4):
            world.fleet.send(ROTATE)
            await world.advance(1.0)
            assert len(rotations(world)) == count
        await world.power_cut()
        await require_usable(world)


async def test_a_repeated_command_rotates_once() -> None:
    # I-5.
    async with World() as world:
        data = world.fleet.send(ROTATE)
        await world.advance(1.0)
        world.air.deliver(FrameClass.CMD, data)
        await world.advance(1.0)

        assert len(rotations(world)) == 1
        assert world.fleet.codes_of(data) == [Code.OK, Code.OK]


async def test_a_p256_key_is_followed_by_one_of_its_kind() -> None:
    key = P256SigningKey.from_seed(b"p-256 signing key of these tests")
    world = World(identity=replace(IDENTITY, signing_key=key))
    world.fleet.car_key = key.verify_key
    async with world:
        world.fleet.send(ROTATE)
        await world.advance(1.0)

        assert world.fleet.car_key.suite is key.suite
        assert world.fleet.car_key.raw != key.verify_key.raw
        await require_usable(world)


async def test_a_key_that_cannot_be_written_is_not_named() -> None:
    # The disk of the directory is full or read-only: nothing changes.
    async with World() as world:
        world.disk.fault = lambda _kind, name: (
            apsw.FullError("no room") if name == str(NEXT_FILE) else None
        )
        data = world.fleet.send(ROTATE)
        await world.advance(1.0)

        assert world.fleet.codes_of(data) == [Code.INTERNAL]
        assert rotations(world) == []
        await require_usable(world)


async def test_a_key_that_cannot_take_its_place_does_so_at_the_next_start() -> None:
    async with World() as world:
        world.disk.fault = lambda kind, _name: (
            apsw.IOError("stuck") if kind == "rename" else None
        )
        world.fleet.send(ROTATE)
        await world.advance(1.0)
        await require_usable(world)

        world.disk.fault = None
        await world.restart()

        await require_usable(world)
        held = key_on_disk(world)
        assert held is not None
        assert held.key_id == world.fleet.car_key.key_id


async def test_a_power_cut_at_every_write_leaves_one_key_everywhere() -> None:
    # FF-ENR-13: the old key with no entry, or the entry and the new key.
    operations = await _operations_of_a_rotation()
    fates = set()
    for cut in some(range(operations + 1), one_in=3):
        async with World(seed=cut) as world:
            await world.advance(1.0)
            world.disk.cut_at = world.disk.operations + cut
            world.fleet.send(ROTATE)
            await world.advance(1.0)

            await world.power_cut()

            await require_usable(world)
            told = rotations(world)
            fates.add(len(told))
            held = key_on_disk(world)
            # FF-ENR-24: what proves the key that the car signs by now is there too.
            assert proved_key(world) == world.fleet.car_key
            if told:
                assert held is not None
                assert held.verify_key.raw == told[0].new_key
            else:
                assert held is None or held.key_id == VEHICLE_KEY.key_id
            assert str(NEXT_FILE) not in world.disk.files
    assert fates == {0, 1}


def proved_key(world: World) -> VerifyKey:
    """What an office that knows the first key finds by the proofs that the car has."""
    handovers = follow_rotations(
        world.gateway.key_holder.rotations,
        VEHICLE_KEY.verify_key,
        fleet_id=IDENTITY.fleet_id,
        vehicle_id=IDENTITY.vehicle_id,
    )
    return handovers[-1].new_key if handovers else VEHICLE_KEY.verify_key


async def test_proofs_are_kept_until_the_office_has_certified_them() -> None:
    # FF-ENR-24: over starts, and in order.
    async with World() as world:
        told: list[int] = []
        world.gateway.key_holder.on_rotated = lambda: told.append(1)
        for _ in range(2):
            world.fleet.send(ROTATE)
            await world.advance(1.0)
        assert len(told) == 2
        await world.power_cut()
        shown = world.gateway.key_holder.rotations
        assert len(shown) == 2
        assert proved_key(world) == world.fleet.car_key

        world.fleet.send(ROTATE)  # while the office works
        await world.advance(1.0)
        await world.gateway.key_holder.certified(shown)
        await world.power_cut()

        (left,) = world.gateway.key_holder.rotations
        assert rotated_key(left) == world.fleet.car_key.raw
        message = b"a request of the grace path"
        world.fleet.car_key.verify(world.gateway.key_holder.sign(message), message)


async def test_a_disk_that_keeps_a_certified_proof_shows_it_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # FF-ENR-24: which changes nothing at the office.
    async with World() as world:
        world.fleet.send(ROTATE)
        await world.advance(1.0)
        shown = world.gateway.key_holder.rotations
        world.disk.fault = lambda _kind, _name: apsw.FullError("no room")

        await world.gateway.key_holder.certified(shown)

        assert world.gateway.key_holder.rotations == ()
        assert "will be shown again" in caplog.text
        world.disk.fault = None
        await world.power_cut()
        assert world.gateway.key_holder.rotations == shown


async def _operations_of_a_rotation() -> int:
    async with World() as world:
        await world.advance(1.0)
        before = world.disk.operations
        world.fleet.send(ROTATE)
        await world.advance(1.0)
        return world.disk.operations - before


@pytest.mark.parametrize("role", [Role.MONITOR, Role.RECEIPT, Role.REVOKE])
async def test_a_key_that_signs_no_commands_rotates_nothing(role: Role) -> None:
    bundle = IDENTITY.trust.bundle
    keys = (replace(bundle.keys[0], role=role), bundle.keys[1])
    trust = replace(IDENTITY.trust, bundle=replace(bundle, keys=keys))
    async with World(identity=replace(IDENTITY, trust=trust)) as world:
        data = world.fleet.send(ROTATE)
        await world.advance(1.0)

        assert world.fleet.codes_of(data) == [Code.ROLE_FORBIDDEN]
        assert rotations(world) == []


# -- by order of somebody at the car ---------------------------------------------------


async def test_an_engineers_order_is_the_same_rotation() -> None:
    # FF-ENR-12: without a command, and so without a result.
    async with World() as world:
        await world.gateway.rotate_key()
        await world.advance(1.0)

        (rotated,) = rotations(world)
        assert world.fleet.car_key.raw == rotated.new_key
        assert world.fleet.answers == []
        await require_usable(world)
        await world.power_cut()
        await require_usable(world)


async def test_an_engineers_order_that_cannot_be_kept_changes_nothing() -> None:
    async with World() as world:
        world.disk.fault = lambda _kind, name: (
            apsw.FullError("no room") if name == str(NEXT_FILE) else None
        )
        with pytest.raises(KeyringError, match="order it again"):
            await world.gateway.rotate_key()
        await require_usable(world)
        assert rotations(world) == []


async def test_an_order_goes_when_it_was_followed_and_waits_on_a_full_disk(
    tmp_path: Path,
) -> None:
    order = KeyOrder(tmp_path / "ledger.db")
    clock = ManualClock()
    outcomes: list[Exception | None] = [
        StoreFullError("planted"),
        None,
        KeyringError("planted"),
    ]
    calls = list[bool]()

    async def rotate() -> None:
        calls.append(order.is_given)
        outcome = outcomes.pop(0)
        if outcome is not None:
            raise outcome

    following = asyncio.create_task(order.follow(rotate, clock))
    await clock.advance(6.0)
    assert calls == []

    order.give()
    order.give()
    await clock.advance(5.0)
    waited = order.is_given
    await clock.advance(5.0)
    order.give()
    await clock.advance(5.0)
    assert (waited, order.is_given) == (True, False)
    assert calls == [True, True, True]

    outcomes.append(StoreBrokenError("planted"))
    order.give()
    await clock.advance(5.0)
    with pytest.raises(StoreBrokenError):
        await following
    assert order.is_given
