"""A wish to exchange the program: granted to a free car, and to no other (I-17)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.storage.update_order import LONGEST_MS, UpdateOrder
from protocol.codes import Code, Light
from tests.gateway.world import ALICE, World, reservation


@asynccontextmanager
async def followed(world: World, order: UpdateOrder) -> AsyncIterator[None]:
    """Let the agent of a world follow the wishes of an updater."""
    following = asyncio.create_task(
        order.follow(world.gateway.report, lambda: world.state, world.clock)
    )
    try:
        yield
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_a_free_car_is_out_of_use_while_its_program_changes(
    tmp_path: Path,
) -> None:
    """I-17, H15: blue, and nobody can reserve it meanwhile."""
    order = UpdateOrder(tmp_path / "ledger.db")
    async with World() as world, followed(world, order):
        await world.advance(6.0)
        order.begin()
        await world.advance(11.0)
        granted, light = order.is_granted, world.board.light
        refused = world.fleet.send(reservation(b"r" * 16, ALICE, world=world))
        await world.advance(1.0)

        order.end()
        await world.advance(6.0)

        assert (granted, light) == (True, (Light.BLUE, False))
        assert world.fleet.codes_of(refused) == [Code.WRONG_MODE]
        assert not order.grant.exists()
        assert world.board.light == (Light.GREEN, False)


async def test_a_car_that_somebody_has_is_not_taken_until_it_is_free(
    tmp_path: Path,
) -> None:
    """I-17: service and update never during a rental."""
    order = UpdateOrder(tmp_path / "ledger.db")
    async with World() as world, followed(world, order):
        await world.begin_rental()
        order.begin()
        await world.advance(60.0)
        during = order.is_granted, world.state.updating

        await world.end_rental()
        await world.advance(11.0)

        assert during == (False, False)
        assert order.is_granted


async def test_the_wish_outlives_the_agent_that_is_exchanged(tmp_path: Path) -> None:
    """I-17: the new program finds it before anybody can reserve the car for long."""
    order = UpdateOrder(tmp_path / "ledger.db")
    async with World() as world:
        async with followed(world, order):
            order.begin()
            await world.advance(11.0)
        await world.restart()
        async with followed(world, order):
            await world.settle()
            at_once = order.is_granted
            await world.advance(11.0)

            assert not at_once
            assert order.is_granted
            assert world.state.updating


async def test_an_updater_that_died_keeps_no_car_for_ever(tmp_path: Path) -> None:
    order = UpdateOrder(tmp_path / "ledger.db")
    async with World() as world, followed(world, order):
        order.begin()
        await world.advance(LONGEST_MS / 1_000 - 60)
        before = order.is_granted
        await world.advance(120.0)

        assert before
        assert not order.wish.exists()
        assert not world.state.updating


async def test_a_disk_that_takes_no_answer_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = UpdateOrder(tmp_path / "ledger.db")

    def full(_path: Path) -> None:
        raise OSError(28, "No space left on device")

    async with World() as world, followed(world, order):
        order.begin()
        with monkeypatch.context() as patch:
            patch.setattr("gateway.storage.update_order._touch", full)
            await world.advance(20.0)
        without = order.is_granted
        await world.advance(6.0)

        assert not without
        assert order.is_granted
