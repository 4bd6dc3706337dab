"""A vehicle's keys over its life, in both suites (FF-ENR-14 to FF-ENR-16)."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.cloud_event import OLD_KEY_TYPE
from bridge.ingest import Rejection, VerifiedEntry, verify
from bridge.key_book import KeyBook, Rotation
from bridge.registry import Registry
from certs.fleet import FleetDirectory
from certs.recertification import recertify
from protocol.codes import AccessMeans, Code, FrameClass, Suite
from protocol.event import AgentStarted, Parked, RentalStarted
from protocol.identity import VehicleId
from protocol.keys import Ed25519SigningKey, P256SigningKey, SigningKey
from tests.bridge.car import RENTAL, Car, receipt_of, sample
from tests.bridge.world import BOOT_MS, World

AGENT = AgentStarted(1, bytes(4))
STARTED = RentalStarted(RENTAL, AccessMeans.CARD, 1_000_000, 60, 80, 400)
PARKED = Parked(RENTAL, AccessMeans.CARD, 1_005_000)

MAKERS: dict[Suite, Callable[[], SigningKey]] = {
    Suite.ED25519: Ed25519SigningKey.generate,
    Suite.P256: P256SigningKey.generate,
}


@pytest.mark.parametrize("suite", list(Suite))
async def test_frames_behind_the_rotation_are_those_of_the_new_key(
    world: World, suite: Suite
) -> None:
    await world.greet()
    rotated = world.car.rotate(MAKERS[suite]())
    after = world.car.event(STARTED)

    # Both in one batch: the second is signed by a key that no transaction knows yet.
    await world.say(FrameClass.EVENT, rotated, after)
    await world.say(FrameClass.TELEM, world.car.telemetry(sample()))
    await world.say(FrameClass.HELLO, world.car.hello())

    assert await world.events() == ["freefloat.key.rotated", "freefloat.rental.started"]
    assert await world.store.dead_letters() == []
    assert (await world.vehicle()).twin["rental_id"].value is None


@pytest.fixture
def office(world: World) -> Iterator[FleetDirectory]:
    """The fleet, whose records are as they were afterwards: other tests share it."""
    path = world.fleet.record_path(world.car.id)
    before = path.read_bytes()
    yield world.fleet
    path.write_bytes(before)


@pytest.mark.parametrize("when", ["before", "behind"])
async def test_a_record_that_the_office_certified_anew_changes_nothing_here(
    world: World, office: FleetDirectory, when: str
) -> None:
    # FF-ENR-15, FF-ENR-23: whether it comes before the ledger's word or behind it.
    await world.greet()
    rotated = world.car.rotate(Ed25519SigningKey.generate())
    if when == "behind":
        await world.say(FrameClass.EVENT, rotated)
    with office.issuing() as enrolled:
        recertify(
            office,
            office.issuing_authority(),
            world.car.id,
            [rotated],
            enrolled=enrolled,
            now=office.fleet.created,
        )
    assert world.registry.refresh()
    if when == "before":
        await world.say(FrameClass.EVENT, rotated)
    await world.say(FrameClass.EVENT, world.car.event(STARTED))
    again = world.car.rotate(P256SigningKey.generate())
    await world.say(FrameClass.EVENT, again, world.car.event(PARKED))

    assert await world.store.dead_letters() == []
    assert await world.events() == [
        "freefloat.key.rotated",
        "freefloat.rental.started",
        "freefloat.key.rotated",
        "freefloat.rental.parked",
    ]


async def test_the_old_key_is_refused_and_told_behind_the_rotation(
    world: World,
) -> None:
    # FF-ENR-16: somebody has the old key, from a disk image or a scrapped unit.
    await world.greet()
    old = world.car.key
    await world.say(FrameClass.EVENT, world.car.rotate(Ed25519SigningKey.generate()))
    new, seq, head = world.car.key, world.car.seq, world.car.head

    world.car.key = old
    stolen = [world.car.event(STARTED)]
    world.car.seq, world.car.head = seq, head
    await world.say(FrameClass.EVENT, *stolen)
    await world.say(FrameClass.HELLO, world.car.hello())
    await world.say(FrameClass.TELEM, world.car.telemetry(sample()))

    events = await world.events()
    assert events == ["freefloat.key.rotated"] + 3 * [OLD_KEY_TYPE]
    reasons = [letter.reason for letter in await world.store.dead_letters()]
    assert all(reason.startswith("REVOKED: ") for reason in reasons)

    world.car.key = new
    await world.say(FrameClass.EVENT, world.car.event(PARKED))
    assert (await world.events())[-1] == "freefloat.rental.parked"


async def test_entries_of_before_are_verified_by_the_key_of_their_place(
    world: World,
) -> None:
    # FF-ENR-15: the car sends them again after the rotation; some arrive first now.
    await world.greet()
    first, second = world.car.event(AGENT), world.car.event(STARTED)
    rotated = world.car.rotate(P256SigningKey.generate())
    fourth = world.car.event(PARKED)
    again = world.car.rotate(Ed25519SigningKey.generate())
    sixth = world.car.event(PARKED)
    await world.say(FrameClass.EVENT, first, rotated, fourth, again, sixth)
    assert await world.events() == ["freefloat.agent.started"]

    await world.say(FrameClass.EVENT, first, second, fourth, sixth)

    assert await world.events() == [
        "freefloat.agent.started",
        "freefloat.rental.started",
        "freefloat.key.rotated",
        "freefloat.rental.parked",
        "freefloat.key.rotated",
        "freefloat.rental.parked",
    ]
    assert await world.store.dead_letters() == []


async def test_a_restarted_bridge_knows_the_new_key(
    world: World, fleet: FleetDirectory
) -> None:
    await world.say(FrameClass.EVENT, world.car.rotate(P256SigningKey.generate()))
    car = world.car
    await world.__aexit__(None, None, None)

    async with World(fleet, world.path) as again:
        await again.say(FrameClass.EVENT, car.event(STARTED), car=car)

        assert (await again.events())[-1] == "freefloat.rental.started"
    world.store.open()


@pytest.mark.parametrize(
    "how", ["foreign proof", "enrolled for another", "rotated to by another", "own old"]
)
async def test_a_rotation_that_proves_nothing_or_collides_is_refused_for_good(
    world: World, how: str
) -> None:
    # FF-ENR-05, FF-ENR-14
    other, fresh = world.cars[1], Ed25519SigningKey.generate()
    enrolled: SigningKey = world.car.key
    new: SigningKey = fresh
    prover: SigningKey | None = None
    expected = [Code.BAD_PARAM]
    if how == "foreign proof":
        prover = Ed25519SigningKey.generate()
    if how == "enrolled for another":
        new = other.key
    if how == "rotated to by another":
        await world.say(FrameClass.EVENT, other.rotate(fresh), car=other)
    if how == "own old":
        await world.say(FrameClass.EVENT, world.car.rotate(fresh))
        new = enrolled
    kept = world.car.key
    await world.broker.subscribed.wait()
    entry = world.car.rotate(new, prover=prover)

    await world.say(FrameClass.EVENT, entry)

    [letter] = await world.store.dead_letters()
    assert (letter.kind, letter.data) == ("refused", entry)
    assert (await world.events())[-1] == "freefloat.entry.refused"
    world.car.key = kept
    await world.say(FrameClass.EVENT, world.car.event(STARTED))
    assert (await world.events())[-1] == "freefloat.rental.started"
    receipts = [receipt_of(d) for d in world.broker.sent_of(FrameClass.RECEIPT)]
    assert expected in [[r.code for r in receipt.rejects] for receipt in receipts]


async def test_a_refused_rotation_stays_refused_when_its_turn_comes(
    world: World,
) -> None:
    # Held beyond a gap and told later: it must not be read as a good one then.
    await world.greet()
    first, kept = world.car.event(AGENT), world.car.key
    refused = world.car.rotate(world.cars[1].key)
    world.car.key = kept
    await world.say(FrameClass.EVENT, refused)

    await world.say(FrameClass.EVENT, first)

    assert await world.events() == [
        "freefloat.agent.started",
        "freefloat.entry.refused",
    ]


@pytest.fixture
def p256_car(fleet: FleetDirectory) -> Car:
    vehicle = fleet.vehicle_ids()[0]
    car = Car(fleet.vehicle_directory(vehicle), boot_ms=lambda: BOOT_MS)
    car.key = P256SigningKey.generate()
    return car


def judged(world: World, car: Car, data: bytes) -> object:
    record = world.registry.current.get(car.id)
    assert record is not None
    registry = Registry({car.id: replace(record, signing_key=car.key.verify_key)})
    return verify(
        car.topic(FrameClass.EVENT),
        data,
        retain=False,
        registry=registry,
        fleet_id=car.fleet_id,
    )


async def test_a_p256_vehicle_is_verified_in_its_own_suite_only(
    world: World, p256_car: Car
) -> None:
    data = p256_car.event(STARTED)
    assert isinstance(judged(world, p256_car, data), VerifiedEntry)

    # Byte 3 is the suite: the key, not the frame, says how a frame is verified.
    downgraded = bytearray(data)
    downgraded[3] = Suite.ED25519
    refused = judged(world, p256_car, bytes(downgraded))

    assert isinstance(refused, Rejection)
    assert refused.code is Code.SUITE_FORBIDDEN


CAR = VehicleId(bytes(16))
KEYS = tuple(Ed25519SigningKey.generate().verify_key for _ in range(6))


@given(st.lists(st.integers(1, 30), max_size=5, unique=True), st.integers(1, 40))
def test_every_place_has_the_key_that_the_rotations_before_it_say(
    places: list[int], seq: int
) -> None:
    ordered = sorted(places)
    rotations = [
        Rotation(CAR, bytes(8), place, KEYS[number], KEYS[number + 1])
        for number, place in enumerate(ordered)
    ]
    book = KeyBook().with_rotations(rotations).with_rotations(rotations)

    passed = sum(place < seq for place in ordered)
    assert book.at(CAR, KEYS[0], bytes(8), seq) == KEYS[passed]
    assert book.newest(CAR, KEYS[0]) == KEYS[len(ordered)]
    # A record that was issued anew begins a new chain.
    assert book.newest(CAR, KEYS[5]) == KEYS[5]
