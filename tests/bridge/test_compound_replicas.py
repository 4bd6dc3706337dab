"""Compound orders with two bridges on one PostgreSQL: one drives each, and what one
leaves half done the other finishes or ends (adr/0020, issue 5, 4 and 7)."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from bridge.cloud_event import COMPOUND_TYPE
from bridge.commands import CommandRecord, CommandState
from bridge.postgres_database import PostgresDatabase
from certs.fleet import FleetDirectory
from protocol.codes import Executed, FrameClass, LockMode, Opcode
from protocol.command import ANY_VERSION, LockAndDisable, UnlockAndEnable
from tests.bridge.car import RENTAL, frame_of
from tests.bridge.test_compound import PARKED, answer, next_command, sent_kinds
from tests.bridge.world import World
from tests.postgres import Server, running_server

pytestmark = pytest.mark.postgres

DISABLE = LockAndDisable(RENTAL, ANY_VERSION, LockMode.PARK)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as running:
        yield running


class Pair:
    """Two bridges of one fleet; the car speaks through the first one's broker."""

    def __init__(self, one: World, two: World) -> None:
        self.one, self.two = one, two

    def advance(self, seconds: float) -> None:
        self.one.advance(seconds)
        self.two.advance(seconds)

    def kinds(self) -> list[int]:
        return sent_kinds(self.one) + sent_kinds(self.two)

    async def stored(self, record: CommandRecord) -> CommandRecord:
        found = await self.two.store.command(record.command_id)
        assert found is not None
        return found


@pytest.fixture
async def pair(
    fleet: FleetDirectory, tmp_path: Path, server: Server
) -> AsyncIterator[Pair]:
    url = server.make_database()
    async with contextlib.AsyncExitStack() as stack:
        worlds = [
            await stack.enter_async_context(
                World(
                    fleet, tmp_path / name, database=PostgresDatabase(url), holder=name
                )
            )
            for name in ("one", "two")
        ]
        one, two = worlds
        two.car = one.car
        one.car.snapshot = PARKED
        await one.greet()
        yield Pair(one, two)


async def dies(world: World) -> None:
    """Let a bridge do nothing any more; its store's connections are gone with it."""
    await world.dispatcher.close()
    for task in world._tasks:
        task.cancel()
    await asyncio.gather(*world._tasks, return_exceptions=True)


def does_nothing_about_results(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.dispatcher._composer, "stir", lambda _id: None)


async def test_two_bridges_that_look_at_the_same_moment_make_one_second_part(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I-25: told twice by two bridges, and given once."""
    does_nothing_about_results(pair.one, monkeypatch)
    record = await pair.one.order(DISABLE)
    frame, _ = await next_command(pair.one)
    await answer(pair.one, frame)

    await asyncio.gather(
        *(
            world.dispatcher._composer.carry_on(record.command_id)
            for world in (pair.one, pair.two) * 3
        )
    )

    assert pair.kinds() == [Opcode.LOCK, Opcode.ENGINE_HOLD]
    sender = pair.one if len(sent_kinds(pair.one)) == 2 else pair.two
    second = sender.broker.sent_of(FrameClass.CMD)[-1]
    await pair.one.say(FrameClass.RESULT, pair.one.car.result(second))
    await asyncio.gather(*(w.dispatcher.sweep() for w in (pair.one, pair.two) * 2))
    assert (await pair.stored(record)).state is CommandState.SUCCEEDED
    kinds = [row.type for row in await pair.two.store.outbox_after(0, 1_000)]
    assert kinds.count(COMPOUND_TYPE) == 1


async def test_one_key_at_two_bridges_at_the_same_moment_is_one_compound(
    pair: Pair,
) -> None:
    """I-5: whichever is first, its parts are stored with it and no others."""
    (first, _), (second, _) = await asyncio.gather(
        *(
            world.dispatcher.submit(
                world.car.id,
                UnlockAndEnable(RENTAL, ANY_VERSION),
                idempotency_key="once",
                wait_s=0,
            )
            for world in (pair.one, pair.two)
        )
    )

    assert first.command_id == second.command_id
    for _ in range(2):
        await asyncio.gather(*(w.dispatcher.sweep() for w in (pair.one, pair.two)))
    # Identical bytes may go out again; never a second command.
    frames = {
        data
        for world in (pair.one, pair.two)
        for data in world.broker.sent_of(FrameClass.CMD)
    }
    assert [frame_of(data).header.type for data in frames] == [Opcode.UNLOCK]
    parts = await pair.two.dispatcher.parts_of(await pair.stored(first))
    assert [part.kind for part in parts.values()] == ["unlock"]


async def test_what_a_bridge_left_between_the_parts_the_other_one_finishes(
    pair: Pair,
) -> None:
    """I-34, L7: the result comes to the one that lives."""
    record = await pair.one.order(DISABLE)
    frame, _ = await next_command(pair.one)
    await dies(pair.one)

    await pair.two.say(FrameClass.RESULT, pair.one.car.result(frame))
    second, _ = await next_command(pair.two)
    await answer(pair.two, second)
    for _ in range(2):
        await pair.two.dispatcher.sweep()

    assert (await pair.stored(record)).state is CommandState.SUCCEEDED
    assert pair.kinds() == [Opcode.LOCK, Opcode.ENGINE_HOLD]


async def test_a_second_part_that_was_stored_and_not_sent_goes_out_as_it_is(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I-5: the very bytes that are in the store, not a second command."""

    async def is_lost(_record: CommandRecord) -> None:
        return

    record = await pair.one.order(DISABLE)
    frame, _ = await next_command(pair.one)
    monkeypatch.setattr(pair.one.dispatcher._composer, "_send", is_lost)
    does_nothing_about_results(pair.one, monkeypatch)
    await answer(pair.one, frame)
    await pair.one.dispatcher._composer.carry_on(record.command_id)
    await dies(pair.one)

    pair.advance(3)
    await pair.two.dispatcher.sweep()

    second, _ = await next_command(pair.two)
    held = await pair.two.store.command(record.parts[1].command_id)
    assert held is not None
    assert (second, frame_of(second).header.msg_id) == (held.frame, held.command_id)


async def test_what_can_not_be_finished_in_time_ends_as_half_done(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I-11: never a success, never an error that hides what was done."""
    does_nothing_about_results(pair.one, monkeypatch)
    record = await pair.one.order(DISABLE)
    frame, _ = await next_command(pair.one)
    await answer(pair.one, frame)
    await dies(pair.one)

    pair.advance(60)
    for _ in range(2):
        await pair.two.dispatcher.sweep()

    ended = await pair.stored(record)
    assert (ended.state, ended.executed) == (CommandState.PARTIAL, Executed.YES)
    assert pair.kinds() == [Opcode.LOCK]


async def test_a_first_part_that_nobody_answered_ends_by_the_next_hello(
    pair: Pair,
) -> None:
    """I-11, L10: unknown until the car says it; the engine is not held before."""
    record = await pair.one.order(DISABLE)
    await next_command(pair.one)
    await dies(pair.one)

    pair.advance(60)
    for _ in range(2):
        await pair.two.dispatcher.sweep()
    assert (await pair.stored(record)).state is CommandState.UNDER_WAY

    await pair.two.say(FrameClass.HELLO, pair.one.car.hello())
    for _ in range(2):
        await pair.two.dispatcher.sweep()
    ended = await pair.stored(record)
    assert ended.state.is_terminal
    assert ended.state is not CommandState.SUCCEEDED
    assert Opcode.ENGINE_HOLD not in pair.kinds()
