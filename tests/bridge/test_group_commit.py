"""Small writes that share a transaction."""

import asyncio
from collections.abc import Sequence

import pytest

from bridge.group_commit import GroupCommit


class Writer:
    def __init__(self) -> None:
        self.written: list[list[int]] = []
        self.has_begun = asyncio.Event()
        self.may_go_on = asyncio.Event()
        self.fault: Exception | None = None

    async def write(self, wanted: Sequence[int]) -> Sequence[int]:
        self.written.append(list(wanted))
        self.has_begun.set()
        await self.may_go_on.wait()
        if self.fault is not None:
            raise self.fault
        return [-one for one in wanted]


async def test_what_is_submitted_in_one_turn_is_written_at_once() -> None:
    writer = Writer()
    commit = GroupCommit(writer.write)
    first = [asyncio.create_task(commit.submit(number)) for number in (1, 2, 3)]
    await writer.has_begun.wait()
    later = [asyncio.create_task(commit.submit(number)) for number in (4, 5)]
    await asyncio.sleep(0)
    writer.may_go_on.set()

    assert await asyncio.gather(*first, *later) == [-1, -2, -3, -4, -5]
    assert writer.written == [[1, 2, 3], [4, 5]]


async def test_a_fault_is_told_to_everybody_and_the_next_write_begins_anew() -> None:
    writer = Writer()
    commit = GroupCommit(writer.write)
    writer.may_go_on.set()
    writer.fault = OSError(28, "No space left on device")
    both = [asyncio.create_task(commit.submit(number)) for number in (1, 2)]
    ends = await asyncio.gather(*both, return_exceptions=True)
    assert [str(end) for end in ends] == ["[Errno 28] No space left on device"] * 2

    writer.fault = None
    assert await commit.submit(3) == -3


@pytest.mark.parametrize("leaving", [0, 1])
async def test_who_goes_away_meanwhile_takes_nobody_along(leaving: int) -> None:
    writer = Writer()
    commit = GroupCommit(writer.write)
    tasks = [asyncio.create_task(commit.submit(number)) for number in (1, 2)]
    await writer.has_begun.wait()
    tasks[leaving].cancel()
    await asyncio.sleep(0)
    writer.may_go_on.set()

    assert await tasks[1 - leaving] == -(2 - leaving)
    assert tasks[leaving].cancelled()
