"""A car in memory is the car in the store, whatever was written when (I-23)."""

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection

from bridge import twin
from bridge.clock import DRIFT_PPM
from bridge.errors import StoreError
from bridge.instant import Instant
from bridge.kept_vehicles import FRAMES_MOST, OPTION, KeptVehicles
from bridge.presence import SILENCE_MS, LinkState
from bridge.rows.vehicles import catch_up, load_vehicles, write_vehicles
from bridge.sampling import Told, folded, sampled
from bridge.twin import values_of_sample
from bridge.vehicle import VehicleState
from protocol.codes import FrameClass
from protocol.event import EngineStopped
from protocol.frame import Header, parse_frame
from protocol.identity import VehicleId
from protocol.telemetry import Sample, Telemetry
from tests.bridge.car import RENTAL, sample
from tests.bridge.world import World


async def written(world: World) -> VehicleState:
    """Return the car as a bridge that knows nothing reads it from the store."""
    car = world.car.id

    def load(connection: Connection) -> VehicleState:
        ignorant = connection.execution_options(**{OPTION: KeptVehicles()})
        with connection.begin_nested() as undone:
            catch_up(ignorant)
            found = load_vehicles(ignorant, [car])[car]
            undone.rollback()
        return found

    return await world.store._write(load)


async def told(world: World, count: int) -> None:
    for number in range(count):
        world.advance(2)
        energy = None if number % 3 else number % 100
        measured = sample(energy_pct=energy, odometer_m=1_000_000 + number)
        await world.say(FrameClass.TELEM, world.car.telemetry(measured))


@pytest.mark.parametrize("count", [1, 40, 100])
async def test_what_only_telemetry_changed_is_read_from_the_frames(
    world: World, count: int
) -> None:
    await world.greet()

    await told(world, count)

    known, read = await world.vehicle(), await written(world)
    assert read.twin == known.twin
    # Frames are stored without the boot clock that they came by, so what is read knows
    # the car's clock by older samples: within their drift.
    car_now, read_now = (
        one.clock.car_now_ms(at=world.instant()) for one in (known, read)
    )
    assert car_now is not None
    assert read_now is not None
    assert 0 <= car_now - read_now <= 2 * count * 1_000 * DRIFT_PPM // 1_000_000 + 1
    assert read.presence == known.presence


async def test_an_entry_is_written_with_everything_before_it(world: World) -> None:
    await world.greet()
    await told(world, 3)

    stopped = EngineStopped(RENTAL, 1_000_009, 55)
    await world.say(FrameClass.EVENT, world.car.event(stopped))

    assert await written(world) == await world.vehicle()


async def test_a_car_that_only_samples_is_not_told_as_silent(world: World) -> None:
    await world.greet()
    world.advance(SILENCE_MS / 1000 - 1)
    await told(world, 1)
    world.advance(2)

    assert not await world.store.tell_silence(now=world.now())

    assert (await world.vehicle()).presence.state(now=world.now()) is LinkState.ONLINE
    assert await written(world) == await world.vehicle()


async def test_what_was_not_committed_was_never_known(world: World) -> None:
    await world.greet()
    before = await world.vehicle()
    changed = msgspec.structs.replace(before, firmware="9.9.9")

    def fail(connection: Connection) -> None:
        write_vehicles(connection, {world.car.id: changed})
        raise StoreError("disk full")

    with pytest.raises(StoreError):
        await world.store._write(fail)

    assert await world.vehicle() == before == await written(world)


LEVELS = st.none() | st.integers(0, 100)
SAMPLES = st.builds(
    lambda age_ds, energy_pct, washer_pct, speed: sample(
        age_ds=age_ds, energy_pct=energy_pct, washer_pct=washer_pct, speed_dkmh=speed
    ),
    st.integers(0, 50),
    LEVELS,
    LEVELS,
    LEVELS,
)


@given(st.lists(st.tuples(st.integers(0, 20_000), SAMPLES), max_size=6))
def test_a_sample_that_waits_to_be_spread_changes_nothing(
    told_samples: list[tuple[int, Sample]],
) -> None:
    """FF-TEL-05, FF-FRM-04: each field keeps its newest stamp and its last value."""
    vehicle = VehicleState()
    fields: twin.Twin = {}
    for mono_ms, one in told_samples:
        header = header_at(mono_ms)
        vehicle = sampled(
            vehicle, header, Telemetry((one,)), at=Instant.written(50_000)
        )
        age_ms = one.age_ds * 100
        fields = twin.advance(
            fields,
            values_of_sample(one),
            stamp=twin.Stamp(0, max(mono_ms - age_ms, 0)),
            observed_ms=header.wall_ms - age_ms,
            received_ms=50_000,
        )

        stored = msgspec.json.decode(msgspec.json.encode(vehicle), type=VehicleState)
        assert vehicle.twin == stored.twin == fields


SESSION, OTHER = b"\0\0\0\5" + bytes(12), b"\0\0\0\6" + bytes(12)
LONG = 2**63 - 1
TOLD = st.builds(
    Told,
    st.sampled_from([SESSION, SESSION, SESSION, OTHER]),
    st.one_of(st.integers(0, 2_000_000), st.just(LONG)),
    st.one_of(st.integers(0, 2_000_000), st.just(2**64 - 1)),
    st.lists(SAMPLES, max_size=3).map(tuple),
    st.builds(
        Instant,
        st.integers(10**6, 3 * 10**6),
        st.integers(10**6, 2 * 10**6),
        st.sampled_from(["", "machine", "machine", "other"]),
    ),
)


@given(st.lists(TOLD, max_size=9), st.lists(TOLD, max_size=3))
def test_frames_that_wait_leave_what_each_leaves_by_itself(
    waiting: list[Told], before: list[Told]
) -> None:
    """I-23, FF-TEL-05: state, clock and every field with its stamps, whatever came."""
    alone = together = folded(VehicleState(session_id=SESSION), before)
    for told in waiting:
        alone = folded(alone, [told])
        # As the store has it between two transactions.
        alone = msgspec.json.decode(msgspec.json.encode(alone), type=VehicleState)

    together = folded(together, waiting)

    assert together == alone
    assert together.twin == alone.twin


@given(TOLD, st.lists(TOLD, max_size=3))
def test_telemetry_tells_of_clock_and_presence_what_every_frame_does(
    told: Told, before: list[Told]
) -> None:
    """Of another session it says nothing about today's clock."""
    vehicle = folded(VehicleState(session_id=SESSION), before)
    header = replace(header_at(told.mono_ms), session_id=told.session_id)

    after, heard = folded(vehicle, [told]), vehicle.heard(header, at=told.at)

    assert (after.clock, after.presence) == (heard.clock, heard.presence)


@pytest.mark.parametrize("count", range(1, 2 * FRAMES_MOST + 2))
async def test_a_frame_that_waits_is_seen_by_whoever_asks(
    world: World, count: int
) -> None:
    await world.greet()
    await told(world, count)

    seen = await world.vehicle()

    assert seen.twin["odometer_m"].value == 1_000_000 + count - 1
    assert seen.presence.heard_ms == world.now()


@given(st.lists(st.tuples(TOLD, st.booleans()), max_size=9))
def test_of_a_transaction_that_is_undone_no_frame_ever_came(
    transactions: list[tuple[Told, bool]],
) -> None:
    """I-23, rule 1: nor is one of it seen before its commit."""
    car, kept = VehicleId(bytes(16)), KeptVehicles()
    known = VehicleState(session_id=SESSION)
    kept.stage({car: known})
    kept.apply()

    for told, is_committed in transactions:
        kept.wait(car, told)
        assert kept.get(car) == known
        if is_committed:
            kept.apply()
            known = folded(known, [told])
        kept.undo()

    assert kept.get(car) == known
    is_unwritten = any(is_committed for _, is_committed in transactions)
    assert kept.unwritten() == ({car: known} if is_unwritten else {})


def header_at(mono_ms: int) -> Header:
    raw = bytearray(156)
    raw[:6] = b"FF\x01\x01\x83\x00"
    raw[60:68] = mono_ms.to_bytes(8, "big")
    raw[68:76] = (60_000).to_bytes(8, "big")
    return parse_frame(bytes(raw)).header


def test_no_more_cars_are_kept_than_the_limit() -> None:
    kept = KeptVehicles(limit=2)
    for number in range(4):
        kept.stage({VehicleId(bytes([number] * 16)): VehicleState()})
    kept.apply()

    found = [kept.get(VehicleId(bytes([number] * 16))) for number in range(4)]
    assert [one is not None for one in found] == [False, False, True, True]
