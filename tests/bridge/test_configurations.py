"""Configurations reach cars whole, once, and never before a command."""

import hashlib
import os
from pathlib import Path

import pytest

from bridge.api.keys import Role
from bridge.configurator import AGAIN_MS
from bridge.rows.configurations import ConfigState
from certs.fleet import FleetDirectory
from protocol.codes import Code, ConfigKind, FrameClass, SyncType
from protocol.command import ANY_VERSION, Unlock
from protocol.entry import GENESIS
from protocol.hello import ConfigVersion
from protocol.sync import (
    CHUNK_LIMIT,
    CONFIG_LIMIT,
    ConfigChunk,
    ConfigOffer,
    parse_sync,
)
from protocol.vehicle_event import ConfigurationActivated, ConfigurationRefused
from tests.bridge.car import RENTAL, frame_of
from tests.bridge.running import running_bridge, until
from tests.bridge.test_roles import ask, bridge_with_roles
from tests.bridge.world import World

BODY = bytes(range(256)) * 13
STATIONS = ConfigKind.STATIONS


def sent(world: World) -> tuple[list[ConfigOffer], dict[tuple[int, int], bytes]]:
    """Return announcements, and what the chunks make up for each kind and version."""
    offers: list[ConfigOffer] = []
    bodies: dict[tuple[int, int], bytes] = {}
    for data in world.broker.sent_of(FrameClass.SYNC):
        frame = frame_of(data)
        if frame.header.type not in {SyncType.CONFIG, SyncType.CONFIG_CHUNK}:
            continue
        body = parse_sync(frame.header.type, frame.header.schema, frame.payload)
        if isinstance(body, ConfigOffer):
            offers.append(body)
        if isinstance(body, ConfigChunk):
            name = (body.kind, body.version)
            assert len(bodies.get(name, b"")) >= body.offset
            bodies[name] = bodies.get(name, b"")[: body.offset] + body.data
    return offers, bodies


async def put(world: World, kind: ConfigKind, body: bytes) -> int:
    wanted = await world.store.put_configuration(
        world.car.id, kind, body, now=world.now()
    )
    world.steward.wanted([world.car.id])
    return wanted.version


async def until_sent(world: World) -> None:
    await world.steward.sweep()
    await until(lambda: not world.configurator.is_sending)


async def state_of(world: World) -> dict[ConfigKind, ConfigState]:
    found = await world.store.configurations(world.car.id)
    return {wanted.kind: wanted.state for wanted in found}


async def test_a_wanted_body_is_announced_and_comes_in_chunks(world: World) -> None:
    await world.greet()
    await put(world, STATIONS, BODY)

    await until_sent(world)

    offers, bodies = sent(world)
    digest = hashlib.sha256(BODY).digest()
    assert offers == [ConfigOffer(STATIONS, 1, len(BODY), digest)]
    assert bodies == {(STATIONS, 1): BODY}
    assert len(BODY) > 4 * CHUNK_LIMIT


async def test_it_is_done_when_the_car_signs_that_it_acts_by_it(world: World) -> None:
    await world.greet()
    await put(world, STATIONS, BODY)
    await until_sent(world)

    activated = ConfigurationActivated(STATIONS, 1, hashlib.sha256(BODY).digest())
    await world.say(FrameClass.EVENT, world.car.event(activated))

    assert await state_of(world) == {STATIONS: ConfigState.ACTIVE}
    assert (await world.vehicle()).config_version(STATIONS) == 1
    world.advance(10 * AGAIN_MS / 1000)
    await world.say(FrameClass.TELEM, world.car.telemetry())
    await until_sent(world)
    assert len(sent(world)[0]) == 1


async def test_a_hello_that_names_the_version_is_as_good(world: World) -> None:
    # The ledger entry may be on its way yet.
    await world.greet()
    await put(world, STATIONS, BODY)

    await world.say(
        FrameClass.HELLO,
        world.car.hello(configs=(ConfigVersion(STATIONS, 1),)),
    )
    await until_sent(world)

    assert await state_of(world) == {STATIONS: ConfigState.ACTIVE}
    assert sent(world) == ([], {})


async def test_without_an_answer_it_is_sent_anew_ever_more_rarely(
    world: World,
) -> None:
    await world.greet()
    await put(world, STATIONS, BODY)
    for pause_ms in (0, AGAIN_MS, 2 * AGAIN_MS):
        world.advance(pause_ms / 1000 / 2)
        await world.say(FrameClass.TELEM, world.car.telemetry())
        await until_sent(world)
        world.advance(pause_ms / 1000 / 2)
        await world.say(FrameClass.TELEM, world.car.telemetry())
        await until_sent(world)
    assert len(sent(world)[0]) == 3

    # A car that says HELLO gets it at once: what was lost was lost with its link.
    await world.greet()
    await until_sent(world)
    assert len(sent(world)[0]) == 4


async def test_a_body_that_the_car_refuses_is_told_and_not_sent_again(
    world: World,
) -> None:
    await world.greet()
    await put(world, STATIONS, BODY)
    await until_sent(world)

    refused = ConfigurationRefused(STATIONS, Code.BAD_HASH, 1)
    await world.say(FrameClass.EVENT, world.car.event(refused))
    await world.greet()
    await until_sent(world)

    assert await state_of(world) == {STATIONS: ConfigState.REFUSED}
    assert len(sent(world)[0]) == 1
    assert "freefloat.configuration.refused" in await world.events()
    # Put again, it is another version.
    assert await put(world, STATIONS, BODY) == 2


async def test_a_car_with_a_new_disk_gets_again_what_it_acted_by(world: World) -> None:
    """FF-CFG-09: the hello of another ledger names no body; stations are not missed."""
    await world.greet()
    await put(world, STATIONS, BODY)
    await put(world, ConfigKind.KNOWN_DAMAGE, BODY)
    await until_sent(world)
    for kind in (STATIONS, ConfigKind.KNOWN_DAMAGE):
        active = ConfigurationActivated(kind, 1, hashlib.sha256(BODY).digest())
        await world.say(FrameClass.EVENT, world.car.event(active))
    assert set((await state_of(world)).values()) == {ConfigState.ACTIVE}
    offered = len(sent(world)[0])

    world.car.ledger_id, world.car.seq, world.car.head = b"new disk", 0, GENESIS
    world.car.reboot()
    kept = (ConfigVersion(ConfigKind.KNOWN_DAMAGE, 1),)
    await world.say(FrameClass.HELLO, world.car.hello(configs=kept))
    await until_sent(world)

    states = await state_of(world)
    assert states[STATIONS] is ConfigState.WANTED
    assert states[ConfigKind.KNOWN_DAMAGE] is ConfigState.ACTIVE
    again = sent(world)[0][offered:]
    assert [(offer.kind, offer.version) for offer in again] == [(STATIONS, 1)]


async def test_versions_rise_above_what_the_car_has(world: World) -> None:
    # Another bridge may have been here before.
    await world.say(
        FrameClass.HELLO,
        world.car.hello(configs=(ConfigVersion(STATIONS, 41),)),
    )

    assert await put(world, STATIONS, BODY) == 42
    assert await put(world, STATIONS, BODY) == 42
    assert await put(world, STATIONS, b"other") == 43
    assert await put(world, ConfigKind.GRANTS, BODY) == 1


async def test_every_kind_is_brought_one_after_another(world: World) -> None:
    await world.greet()
    for kind in ConfigKind:
        await put(world, kind, bytes([kind]) * 900)

    for _ in ConfigKind:
        await until_sent(world)

    offers, bodies = sent(world)
    assert [offer.kind for offer in offers] == list(ConfigKind)
    assert bodies == {(kind, 1): bytes([kind]) * 900 for kind in ConfigKind}


async def test_a_command_does_not_wait_behind_a_body(world: World) -> None:
    await world.greet()
    await put(world, STATIONS, os.urandom(CONFIG_LIMIT))
    await world.steward.sweep()
    await until(lambda: bool(sent(world)[1]))

    await world.order(Unlock(RENTAL, ANY_VERSION))

    assert world.configurator.is_sending
    assert len(world.broker.sent_of(FrameClass.CMD)) == 1


async def test_a_car_that_goes_gets_the_rest_when_it_comes_back(world: World) -> None:
    await world.greet()
    await put(world, STATIONS, os.urandom(CONFIG_LIMIT))
    await world.steward.sweep()
    await until(lambda: bool(sent(world)[1]))
    await world.say(FrameClass.DEATH, world.car.death())
    await until(lambda: not world.configurator.is_sending)
    assert len(sent(world)[1][STATIONS, 1]) < CONFIG_LIMIT

    world.car.renew_session()
    await world.greet()
    await until_sent(world)

    assert len(sent(world)[1][STATIONS, 1]) == CONFIG_LIMIT
    sessions = {
        frame_of(data).header.session_id
        for data in world.broker.sent_of(FrameClass.SYNC)
    }
    assert len(sessions) == 2


@pytest.mark.broker
async def test_configurations_over_http(fleet: FleetDirectory, tmp_path: Path) -> None:
    async with running_bridge(fleet, tmp_path) as running:
        path = f"/v1/vehicles/{running.car.id}/configurations"
        status, put_once = await running.put(f"{path}/stations", data=BODY)
        large, _ = await running.put(f"{path}/policy", data=bytes(CONFIG_LIMIT))
        too_large, _ = await running.put(f"{path}/policy", data=bytes(CONFIG_LIMIT + 1))
        far_too_large, _ = await running.put(
            f"{path}/policy", data=bytes(CONFIG_LIMIT + 2)
        )
        empty, problem = await running.put(f"{path}/policy", data=b"")
        unknown, _ = await running.put(f"{path}/nonsense", data=BODY)
        _, listed = await running.get(path)

    assert (status, put_once["version"], put_once["state"]) == (200, 1, "wanted")
    assert put_once["sha256"] == hashlib.sha256(BODY).hexdigest()
    assert put_once["vehicle_has"] is None
    assert (large, too_large, far_too_large, empty, unknown) == (
        200,
        422,
        413,
        422,
        422,
    )
    assert problem["type"] == "urn:freefloat:problem:bad-configuration"
    assert [c["kind"] for c in listed["configurations"]] == ["stations", "policy"]


@pytest.mark.broker
@pytest.mark.parametrize("body", ["A#A==", "AA==\n", "AA", "A-A=", "\u00e9", 5, ""])
async def test_a_configuration_is_what_was_sent_and_nothing_that_was_passed_over(
    fleet: FleetDirectory, tmp_path: Path, body: object
) -> None:
    """K19, K28: a second person sees the digest of what stands there."""
    async with bridge_with_roles(fleet, tmp_path) as running:
        wanted = {"kind": "policy", "body": body}
        asked = {"vehicle_ids": [str(running.car.id)], "configuration": wanted}
        status, problem = await ask(
            running, Role.OPERATOR, "post", "/v1/approvals", asked
        )

    assert status == 422
    assert [one["field"] for one in problem["errors"]] == ["configuration.body"]
