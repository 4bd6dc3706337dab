"""The bridge proves each rental that it has receipted, to whoever knows the fleet."""

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from bridge.evidence import Archive
from bridge.rows.evidence import RentalProof
from certs.fleet import FleetDirectory
from protocol.anchors import build_anchors
from protocol.codes import AccessMeans, ClockQuality, FrameClass, FrameType
from protocol.command import ANY_VERSION, Unlock
from protocol.event import EngineStarted, RentalStarted
from protocol.evidence import Proof, verify_evidence
from protocol.fleet import FleetPart
from protocol.place import EVENT_PLACE, EventPlace, Place, commitment_of
from tests.bridge.car import RENTAL, REPORT
from tests.bridge.running import Running, running_bridge
from tests.bridge.world import World
from tests.tools.command_line import PYTHON, SOURCES
from tools.evidence import anchors_of

OTHER = bytes(16)
"""The rental id of entries that belong to no rental."""


def archive_of(fleet: FleetDirectory) -> Archive:
    return Archive(
        fleet_id=fleet.fleet.fleet_id,
        issuing_certificate=fleet.path / FleetPart.ISSUING_CERTIFICATE,
        registry=fleet.path / FleetPart.REGISTRY,
        bundles=(fleet.path / FleetPart.TRUST_BUNDLE).parent,
    )


def verified(fleet: FleetDirectory, proof: RentalProof | None) -> Proof:
    assert proof is not None
    data = archive_of(fleet).file_of(proof)
    return verify_evidence(data, anchors_of(fleet.path))


async def proof_of(world: World) -> RentalProof | None:
    await world.broker.until_receipted(world.car.head)
    await world.intake.flush()  # receipts are stored with what comes next
    return await world.store.rental_proof(RENTAL)


async def drive(world: World | Running) -> None:
    """Tell of a rental: a start with a place, an unlock, the end."""
    car = world.car
    place = EventPlace(
        car.ledger_id,
        car.seq + 1,
        bytes(range(16)),
        Place(481_373_799, 115_754_485, 50, 2),
    )
    told = car.sign(FrameClass.TELEM, FrameType.PLACE, EVENT_PLACE.build(place), seq=1)
    await world.say(FrameClass.TELEM, told)
    start = RentalStarted(
        rental_id=RENTAL,
        means=AccessMeans.CARD,
        odometer_m=1_000_000,
        energy_pct=60,
        washer_pct=80,
        range_km=400,
        place_commitment=commitment_of(car.id, place),
    )
    await world.say(FrameClass.EVENT, car.event(start))
    await world.say(FrameClass.EVENT, car.event(EngineStarted(RENTAL, 1_000_000)))
    await world.say(FrameClass.EVENT, car.event(REPORT))


async def test_a_receipted_rental_is_proved_with_its_place_and_command(
    world: World, fleet: FleetDirectory
) -> None:
    """FF-EVI-10, K13."""
    await world.say(FrameClass.HELLO, world.car.hello())
    # What lies before the rental is not of its proof.
    for _ in range(3):
        await world.say(FrameClass.EVENT, world.car.event(EngineStarted(OTHER, None)))
    await drive(world)

    proof = verified(fleet, await proof_of(world))

    assert [entry.frame.header.seq for entry in proof.entries] == [4, 5, 6]
    assert proof.entries[-1].body == REPORT
    assert [place.seq for place in proof.places] == [4]


async def test_an_order_and_its_result_are_part_of_the_proof(
    world: World, fleet: FleetDirectory
) -> None:
    """FF-EVI-08, FF-EVI-10."""
    await world.say(FrameClass.HELLO, world.car.hello())
    await drive(world)
    command = await world.order(Unlock(RENTAL, ANY_VERSION))
    await world.say(FrameClass.RESULT, world.car.result(command.frame))
    await world.say(FrameClass.EVENT, world.car.event(REPORT))

    proof = verified(fleet, await proof_of(world))

    assert [frame.header.msg_id for frame in proof.commands] == [command.command_id]


async def test_the_proof_stays_when_the_place_is_erased(
    world: World, fleet: FleetDirectory
) -> None:
    """K26, FF-EVI-09."""
    await world.say(FrameClass.HELLO, world.car.hello())
    await drive(world)
    await world.store.erase_places(RENTAL)

    proof = verified(fleet, await proof_of(world))

    assert proof.entries[-1].body == REPORT
    assert proof.places == ()


async def test_a_long_rental_is_followed_to_its_beginning(
    world: World, fleet: FleetDirectory
) -> None:
    """FF-EVI-10: more entries than are read at once lie between start and end."""
    await world.say(FrameClass.HELLO, world.car.hello())
    await drive(world)
    for number in range(300):
        await world.say(
            FrameClass.EVENT, world.car.event(EngineStarted(RENTAL, number))
        )
    await world.say(FrameClass.EVENT, world.car.event(REPORT))

    proof = verified(fleet, await proof_of(world))

    assert len(proof.entries) == 304


async def test_what_is_not_known_is_not_proved(world: World) -> None:
    assert await world.store.rental_proof(RENTAL) is None


async def test_a_withdrawn_vehicle_is_still_proved(
    world: World, fleet: FleetDirectory, tmp_path: Path
) -> None:
    """FF-EVI-10: its record lies among the revoked ones then."""
    await world.say(FrameClass.HELLO, world.car.hello())
    await drive(world)
    proof = await proof_of(world)
    copy = tmp_path / "fleet"
    shutil.copytree(fleet.path, copy)
    name = f"{world.car.id}.json"
    (copy / "revoked").mkdir(exist_ok=True)
    (copy / FleetPart.REGISTRY / name).rename(copy / "revoked" / name)

    assert verified(FleetDirectory.open(copy), proof).entries[-1].body == REPORT


@pytest.mark.broker
async def test_an_engineer_exports_a_proof_and_a_stranger_verifies_it(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    """K13, FF-EVI-01: by the command line, over HTTP, with nothing but the anchors."""
    key = tmp_path / "api.keys"
    anchors, case = tmp_path / "anchors.json", tmp_path / "case.json"
    anchors.write_bytes(build_anchors(anchors_of(fleet.path)))
    async with running_bridge(fleet, tmp_path) as running:
        await running.say(FrameClass.HELLO, running.car.hello())
        missing = await freefloat(
            running, "evidence", "export", "00" * 16, key_file=key
        )
        assert missing[0] == 1
        assert "rental" in missing[2]
        await running.say(FrameClass.EVENT, running.car.event(REPORT))
        await running.say(FrameClass.EVENT, running.car.event(EngineStarted(OTHER, 1)))
        code, _, err = await freefloat(
            running, "evidence", "export", RENTAL.hex(), "-o", str(case), key_file=key
        )
        assert code == 0, err

    arguments = ("evidence", "verify", str(case), "--anchors", str(anchors))
    code, out, err = await freefloat(None, *arguments)
    assert code == 0, err
    assert "proved: 1 entries" in out
    assert ClockQuality.GNSS.name in (await freefloat(None, *arguments, "--json"))[1]

    damaged = bytearray(case.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    case.write_bytes(damaged)
    code, out, err = await freefloat(None, *arguments)
    assert (code, out) == (1, "")
    assert "proves nothing" in err


async def freefloat(
    running: Running | None, *arguments: str, key_file: Path = Path()
) -> tuple[int, str, str]:
    given = (
        {}
        if running is None
        else {
            "FREEFLOAT_API": running.bridge.api_url,
            "FREEFLOAT_API_KEY_FILE": str(key_file),
        }
    )
    process = await asyncio.create_subprocess_exec(
        *PYTHON,
        *arguments,
        env={**os.environ, "PYTHONPATH": str(SOURCES), **given},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 40)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()
