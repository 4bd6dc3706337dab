"""Dead letters: kept, listed, judged anew by the same rules (K11, I-24, I-27)."""

import shutil
from pathlib import Path

import pytest

from bridge.rows.letters import StoredLetter
from bridge.workspace import LetterKind
from certs.fleet import FleetDirectory
from protocol.codes import AccessMeans, Code, FrameClass
from protocol.errors import DecodeError
from protocol.event import EventBody, RentalStarted
from protocol.receipt import Reject
from tests.bridge.car import RENTAL, REPORT, Car, receipt_of
from tests.bridge.running import Running, running_bridge
from tests.bridge.world import World

STARTED = RentalStarted(RENTAL, AccessMeans.CARD, 1_000_000, 60, 80, 400)


async def only_letter(world: World) -> StoredLetter:
    [letter] = await world.store.dead_letters()
    return letter


async def test_a_forged_frame_stays_a_letter_however_often_it_is_judged(
    world: World,
) -> None:
    forged = bytearray(world.car.event(STARTED))
    forged[-1] ^= 1
    await world.say(FrameClass.EVENT, bytes(forged))
    letter = await only_letter(world)

    outcome = await world.intake.judge(letter.letter_id)

    assert outcome is not None
    assert outcome.startswith("kept: BAD_SIGNATURE")
    assert await only_letter(world) == letter
    assert (letter.kind, letter.data) == (LetterKind.UNVERIFIED, bytes(forged))
    assert await world.events() == []


async def test_a_retained_frame_is_never_believed_although_its_signature_holds(
    world: World,
) -> None:
    # L9
    topic = world.car.topic(FrameClass.EVENT)
    message = world.broker.deliver(topic, world.car.event(STARTED), retain=True)
    await message.is_done.wait()
    letter = await only_letter(world)

    outcome = await world.intake.judge(letter.letter_id)

    assert outcome == "kept: a retained message is never believed"
    assert letter.kind is LetterKind.RETAINED
    assert await world.events() == []


async def test_a_letter_of_a_car_whose_record_came_late_is_taken_as_if_it_came_now(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    registry = tmp_path / "fleet"
    shutil.copytree(fleet.path, registry)
    late = FleetDirectory.open(registry)
    vehicle = late.vehicle_ids()[0]
    record = registry / "registry" / f"{vehicle}.json"
    kept = record.read_bytes()
    record.unlink()
    async with World(late, tmp_path / "bridge.sqlite") as world:
        world.car = Car(late.vehicle_directory(vehicle), boot_ms=world.boot_ms)
        await world.say(FrameClass.EVENT, world.car.event(STARTED))
        letter = await only_letter(world)
        assert "not registered" in letter.reason
        record.write_bytes(kept)

        assert await world.intake.judge(letter.letter_id) == "taken"

        assert await world.store.dead_letters() == []
        assert await world.events() == ["freefloat.rental.started"]
        receipt = receipt_of(await world.broker.next_sent(FrameClass.RECEIPT))
        assert receipt.upto == 1
        assert await world.intake.judge(letter.letter_id) is None


async def test_what_a_bridge_refused_for_good_is_told_once_it_understands_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def defect(_number: int, _schema: int, _body: bytes) -> EventBody:
        raise DecodeError(Code.BAD_PARAM, "a defect of an old bridge")

    monkeypatch.setattr("bridge.ingest.parse_event", defect)
    await world.say(FrameClass.EVENT, world.car.event(STARTED))
    refusal = receipt_of(await world.broker.next_sent(FrameClass.RECEIPT))
    assert refusal.rejects == (Reject(1, Code.BAD_PARAM),)
    letter = await only_letter(world)
    assert letter.kind is LetterKind.REFUSED
    monkeypatch.undo()
    await world.say(FrameClass.EVENT, world.car.event(REPORT))

    outcome = await world.intake.judge(letter.letter_id)

    assert outcome == "refused before, understood now"
    assert await world.store.dead_letters() == []
    assert await world.events() == [
        "freefloat.entry.refused",
        "freefloat.rental.ended",
        "freefloat.rental.started",
    ]
    rows = await world.store.outbox_after(0, 10)
    assert len({row.event_id for row in rows}) == 3
    # What came after it stays: the rental has ended.
    rental = await world.store.rental(RENTAL)
    assert rental is not None
    assert rental.state == "ended"


async def test_fork_detected(world: World) -> None:
    # I-27: both are kept, the alarm goes out once, and judging anew changes nothing.
    genuine = world.car.event(STARTED)
    await world.say(FrameClass.EVENT, genuine)
    world.car.seq, world.car.head = 0, bytes(32)
    other = world.car.event(REPORT)
    await world.say(FrameClass.EVENT, other)
    letter = await only_letter(world)

    assert await world.intake.judge(letter.letter_id) == "fork"

    again = await only_letter(world)
    assert (again.kind, again.data) == (LetterKind.FORK, other)
    assert await world.events() == [
        "freefloat.rental.started",
        "freefloat.ledger.forked",
    ]


@pytest.mark.broker
async def test_letters_are_listed_in_pages_and_judged_over_http(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    async with running_bridge(fleet, tmp_path) as running:
        frames = await forge(running, 3)

        _, page = await running.get("/v1/dead-letters?limit=2")
        _, rest = await running.get(f"/v1/dead-letters?limit=2&before={page['next']}")
        newest = page["letters"][0]
        status, judged = await running.post(f"/v1/dead-letters/{newest['id']}/judge")
        missing, problem = await running.post("/v1/dead-letters/999/judge")

    assert [letter["kind"] for letter in page["letters"]] == ["unverified"] * 2
    assert len(rest["letters"]) == 1
    assert rest["next"] is None
    assert newest["topic"].endswith("/up/event")
    assert len(frames) == 3
    assert (status, judged["is_kept"]) == (200, True)
    assert judged["outcome"].startswith("kept: BAD_SIGNATURE")
    assert (missing, problem["type"]) == (
        404,
        "urn:freefloat:problem:unknown-letter",
    )


async def forge(running: Running, count: int) -> list[bytes]:
    frames = []
    for _ in range(count):
        data = bytearray(running.car.event(STARTED))
        data[-1] ^= 1
        frames.append(bytes(data))
        await running.say(FrameClass.EVENT, bytes(data))
    return frames
