"""Batches go through stages in order, at most one in each, and a failure stops them."""

import asyncio
from collections.abc import Callable, Coroutine

import pytest

from bridge.conveyor import Conveyor


class Line:
    """Three stages that note who is where; `doors` let batches go on."""

    def __init__(self) -> None:
        self.entered: list[str] = []
        self.doors = {stage: asyncio.Event() for stage in ("prove", "settle", "tell")}
        self.inside = dict.fromkeys(self.doors, 0)
        self.conveyor = Conveyor(*map(self._stage, self.doors))
        self._next = 0

    def _stage(self, name: str) -> Callable[[int], Coroutine[None, None, None]]:
        async def stage(batch: int) -> None:
            self.entered.append(f"{name} {batch}")
            self.inside[name] += 1
            assert self.inside[name] == 1
            await self.doors[name].wait()
            self.inside[name] -= 1
            if (name, batch) == ("settle", 13):
                raise OSError("disk full")

        return stage

    async def begin(self, batch: int) -> None:
        async def source() -> int:
            return batch

        self.conveyor.put(await self.conveyor.next(source))
        await asyncio.sleep(0.01)

    def open(self, *names: str) -> None:
        for name in names:
            self.doors[name].set()


async def test_a_batch_is_proved_while_the_one_before_is_settled() -> None:
    line = Line()
    line.open("prove", "tell")

    await line.begin(1)
    await line.begin(2)

    assert line.entered == ["prove 1", "settle 1", "prove 2"]
    line.open("settle")
    await line.conveyor.finish()
    assert line.entered[3:] == ["tell 1", "settle 2", "tell 2"] or (
        line.entered[3:] == ["settle 2", "tell 1", "tell 2"]
    )


async def test_no_more_is_taken_than_there_are_stages() -> None:
    """Back-pressure: what is not under way stays with the broker (L4)."""
    line = Line()
    line.open("prove")
    await line.begin(1)
    await line.begin(2)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await line.begin(3)

    line.open("settle", "tell")
    await line.conveyor.finish()


async def test_behind_a_failure_nothing_is_settled() -> None:
    """I-23: a batch behind one that was not stored is not stored either."""
    line = Line()
    line.open("prove", "tell")
    await line.begin(13)
    await line.begin(14)
    line.open("settle")

    with pytest.raises(OSError, match="disk full"):
        await line.begin(15)
    with pytest.raises(OSError, match="disk full"):
        await line.conveyor.finish()

    assert "settle 14" not in line.entered


async def test_a_failure_is_told_while_nothing_arrives() -> None:
    line = Line()
    line.open("prove", "settle", "tell")
    await line.begin(13)

    with pytest.raises(OSError, match="disk full"):
        async with asyncio.timeout(5):
            await line.conveyor.next(lambda: asyncio.sleep(60))


async def test_what_was_begun_is_finished_when_the_producer_is_cancelled() -> None:
    """I-34: drained, not dropped."""
    line = Line()
    line.open("prove", "tell")
    await line.begin(1)
    finishing = asyncio.create_task(line.conveyor.finish())
    await asyncio.sleep(0)

    finishing.cancel()
    await asyncio.sleep(0)
    line.open("settle")

    with pytest.raises(asyncio.CancelledError):
        await finishing
    assert line.entered[-1] == "tell 1"
