"""Configuration bodies and places on their way into the mind, with the real store."""

import hashlib

from gateway.core.reading import Position
from protocol.codes import Code, ConfigKind
from protocol.damage_list import Damage, build_damage_list
from protocol.rental_codes import DamageKind, DamagePlace
from protocol.sync import CHUNK_LIMIT, ConfigChunk, ConfigOffer
from protocol.vehicle_event import ConfigurationActivated, ConfigurationRefused
from tests.gateway.world import World

SCRATCH = Damage(DamagePlace.LEFT, DamageKind.SCRATCH, "below the handle")
KIND = ConfigKind.KNOWN_DAMAGE


async def configure(
    world: World, body: bytes, *, version: int = 1, kind: ConfigKind = KIND
) -> None:
    digest = hashlib.sha256(body).digest()
    world.fleet.ask(ConfigOffer(kind, version, len(body), digest))
    for start in range(0, len(body), CHUNK_LIMIT):
        part = body[start : start + CHUNK_LIMIT]
        world.fleet.ask(ConfigChunk(kind, version, start, part))
    await world.advance(1.0)


async def test_known_damage_reaches_the_mind_and_is_there_after_a_power_cut() -> None:
    # C9, FF-CFG-07
    async with World() as world:
        await configure(world, build_damage_list((SCRATCH,)))
        assert world.state.facts.known_damage == (SCRATCH,)

        await world.power_cut()

        assert world.state.facts.known_damage == (SCRATCH,)


async def test_a_body_that_cannot_be_read_is_refused_and_the_one_before_counts() -> (
    None
):
    # FF-CFG-02, FF-CFG-10
    async with World() as world:
        await configure(world, build_damage_list((SCRATCH,)))

        await configure(world, b'{"format":1,"damage":"none"}', version=2)

        assert world.state.facts.known_damage == (SCRATCH,)
        events = world.fleet.events()
        [refused] = [e for e in events if isinstance(e, ConfigurationRefused)]
        assert (refused.kind, refused.version) == (KIND, 2)
        assert refused.code is Code.BAD_PARAM
        [told] = [e for e in events if isinstance(e, ConfigurationActivated)]
        assert told.version == 1


async def test_the_mind_knows_where_the_car_is_and_that_it_is_still_there() -> None:
    # C18, H17
    async with World() as world:
        await world.advance(30.0)
        first_ms = world.state.position_at_ms
        assert world.state.position == world.positioning.position

        world.positioning.position = Position(484_100_000, 99_900_000, 30, 90)
        await world.advance(3.0)
        assert world.state.position == world.positioning.position

        await world.advance(30.0)
        assert world.state.position_at_ms > first_ms + 20_000
        world.positioning.position = None
        await world.advance(3.0)
        assert world.state.position is not None
