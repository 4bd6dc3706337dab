"""Parts of the gateway that are started anew while the others run on (I-33)."""

import asyncio

import pytest

from gateway.runtime.parts import AgentRestartError, Parts
from protocol.rental_codes import Component


class Device:
    """A part that counts its lives."""

    def __init__(self, error: Exception | None = None) -> None:
        self.begun = 0
        self.ended = 0
        self.runs = asyncio.Event()
        self._error = error

    async def run(self) -> None:
        self.begun += 1
        self.runs.set()
        try:
            if self._error is not None:
                raise self._error
            await asyncio.Event().wait()
        finally:
            self.ended += 1

    async def until(self, begun: int) -> None:
        while self.begun < begun:
            self.runs.clear()
            await self.runs.wait()


async def test_a_part_that_is_started_anew_has_let_go_before() -> None:
    # I-33
    parts, device = Parts(), Device()
    task = asyncio.create_task(parts.keep(Component.READER, device.run))
    await device.until(1)

    parts.restart(Component.READER)
    await device.until(2)

    assert (device.begun, device.ended) == (2, 1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert device.ended == 2


async def test_the_other_parts_run_on() -> None:
    # I-33
    parts, reader, board = Parts(), Device(), Device()
    tasks = [
        asyncio.create_task(parts.keep(Component.READER, reader.run)),
        asyncio.create_task(parts.keep(Component.BOARD, board.run)),
    ]
    await reader.until(1)
    await board.until(1)

    parts.restart(Component.READER)
    await reader.until(2)

    assert (board.begun, board.ended) == (1, 0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_what_a_part_raises_is_raised() -> None:
    parts = Parts()

    with pytest.raises(ValueError, match="broken"):
        await parts.keep(Component.BOARD, Device(ValueError("broken")).run)


async def test_a_part_that_does_not_run_is_not_started() -> None:
    Parts().restart(Component.UPLINK)


async def test_a_part_that_ends_by_itself_is_over() -> None:
    async def nothing() -> None:
        """A display without a keyboard, for instance."""

    await Parts().keep(Component.READER, nothing)


@pytest.mark.parametrize("of_machine", [False, True])
async def test_agent_and_computer_end_what_runs_so_that_a_supervisor_starts_it(
    *, of_machine: bool
) -> None:
    # I-33
    parts = Parts()
    waiting = asyncio.create_task(parts.until_restart())
    await asyncio.sleep(0)

    for _ in range(2):  # a second order finds it on its way
        if of_machine:
            parts.restart_machine()
        else:
            parts.restart(Component.AGENT)

    with pytest.raises(AgentRestartError) as caught:
        await waiting
    assert caught.value.of_machine is of_machine


async def test_before_anything_runs_there_is_nothing_to_end() -> None:
    Parts().restart_machine()
