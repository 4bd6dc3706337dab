"""The serial board over a pseudo-terminal: I-1 to I-5, reliability.md rows 8 and 9."""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.boot_clock import boot_ms
from gateway.core.events import (
    BoardLost,
    BoardRefusal,
    BoardRefused,
    BoardReported,
)
from gateway.hardware import serial_board
from gateway.hardware.errors import DeviceUnavailableError
from gateway.hardware.serial_board import BAUD, SerialBoard
from gateway.hardware.serial_line import SerialLine, probe
from protocol.board.message import (
    AllowEngine,
    BoardFrame,
    FlashHazards,
    SetLight,
    SetLocks,
)
from protocol.codes import Bits, Light
from protocol.errors import EncodeError
from tests.gateway.hardware.ear import PATIENCE_S, running
from tests.gateway.hardware.pty_board import PtyBoard, pty_board

pytestmark = pytest.mark.device

UNLOCK = SetLocks(locked=False)


@pytest.fixture
async def plugged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[PtyBoard]:
    monkeypatch.setattr(serial_board, "REOPEN_S", 0.05)
    with pty_board(tmp_path) as board:
        yield board


def orders_heard(board: PtyBoard) -> list[BoardFrame]:
    return [frame for frame in board.firmware.heard if frame.seq]


async def test_one_unlock_moves_the_bolts_once_and_is_read_back(
    plugged: PtyBoard,
) -> None:
    board = SerialBoard(str(plugged.path))

    async with running(board.run) as ear:
        await ear.hear(BoardReported, where=lambda event: event.reading.locked)
        await board.drive_locks(locked=False)
        await ear.hear(BoardReported, where=lambda event: not event.reading.locked)

    assert plugged.firmware.acted == [UNLOCK]
    assert orders_heard(plugged) == [BoardFrame(1, UNLOCK)]
    assert ear.all(BoardLost) == []


async def test_every_order_of_the_port_reaches_the_board(plugged: PtyBoard) -> None:
    board = SerialBoard(str(plugged.path))

    async with running(board.run) as ear:
        await ear.hear(BoardReported)
        await board.allow_engine(released=True)
        await board.flash_hazards(3)
        await board.show_light(Light.YELLOW, blinking=True)
        await ear.hear(BoardReported, where=lambda event: event.reading.engine_released)
        await ear.hear(BoardReported, nth=len(ear.events) + 5)

    assert plugged.firmware.acted == [
        AllowEngine(released=True),
        FlashHazards(3),
        SetLight(Light.YELLOW, blinking=True),
    ]


async def test_the_reading_has_all_that_the_board_measures_and_none_for_the_rest(
    plugged: PtyBoard,
) -> None:
    # Row 9: an unknown speed counts as moving.
    plugged.firmware.state = replace(
        plugged.firmware.state,
        speed_dkmh=None,
        washer_pct=None,
        bits=Bits.LOCKED | Bits.ENGINE_RUNNING,
    )

    async with running(SerialBoard(str(plugged.path)).run) as ear:
        reading = (await ear.hear(BoardReported)).reading

    assert reading.moving
    assert reading.engine_running
    assert reading.washer_pct is None
    assert reading.energy_pct == 62
    assert reading.odometer_m == 48_211_300


async def test_a_refusal_of_the_board_is_an_event_with_its_reason(
    plugged: PtyBoard,
) -> None:
    # I-1: the board judges when it would act.
    state = plugged.firmware.state
    plugged.firmware.state = replace(state, bits=state.bits | Bits.DOOR_OPEN)
    board = SerialBoard(str(plugged.path))

    async with running(board.run) as ear:
        await ear.hear(BoardReported)
        await board.drive_locks(locked=True)
        refused = await ear.hear(BoardRefused)

    assert refused.reason is BoardRefusal.DOOR_OPEN
    assert plugged.firmware.acted == []


async def test_a_lost_answer_is_asked_for_with_the_same_number_and_acted_on_once(
    plugged: PtyBoard,
) -> None:
    # I-5
    # row 8.
    plugged.firmware.answers = lambda _frame: len(orders_heard(plugged)) > 2
    board = SerialBoard(str(plugged.path))

    async with running(board.run) as ear:
        await ear.hear(BoardReported)
        await board.drive_locks(locked=False)
        await ear.hear(BoardReported, where=lambda event: not event.reading.locked)
        async with asyncio.timeout(PATIENCE_S):
            while len(orders_heard(plugged)) < 3:
                await ear.hear(BoardReported, nth=len(ear.events) + 1)

    assert orders_heard(plugged) == [BoardFrame(1, UNLOCK)] * 3
    assert plugged.firmware.acted == [UNLOCK]


async def test_garbage_before_a_frame_costs_nothing(plugged: PtyBoard) -> None:
    # I-4
    # row 8.
    board = SerialBoard(str(plugged.path))

    async with running(board.run) as ear:
        await ear.hear(BoardReported)
        plugged.firmware.state = replace(plugged.firmware.state, odometer_m=1)
        plugged.say(b"\xff\x01boot v1.4\r\n" * 40)
        await ear.hear(BoardReported, where=lambda event: event.reading.odometer_m == 1)

    assert ear.all(BoardLost) == []
    assert ear.all(BoardRefused) == []


async def test_an_unplugged_board_is_lost_once_and_found_again(
    plugged: PtyBoard,
) -> None:
    # Row 8; the indicator is set again, the order given meanwhile is not (7.2).
    board = SerialBoard(str(plugged.path))

    async with running(board.run) as ear:
        await ear.hear(BoardReported)
        await board.show_light(Light.GREEN, blinking=False)
        await ear.hear(BoardReported, nth=len(ear.events) + 2)
        plugged.unplug()
        await ear.hear(BoardLost)
        await board.drive_locks(locked=False)
        await asyncio.sleep(0.2)  # four attempts to open what is not there
        heard = len(ear.events)
        plugged.firmware.restart()
        plugged.plug_in()
        await ear.hear(BoardReported, nth=heard + 2)

    assert ear.all(BoardLost) == [BoardLost()]
    assert plugged.firmware.acted == [SetLight(Light.GREEN, blinking=False)] * 2


async def test_a_board_that_falls_silent_is_lost_once_and_found_again(
    plugged: PtyBoard,
) -> None:
    # Row 8: silent and hung, the port still there.
    # row 8.
    async with running(SerialBoard(str(plugged.path)).run) as ear:
        await ear.hear(BoardReported)
        plugged.is_mute = True
        await ear.hear(BoardLost)
        plugged.is_mute = False
        await ear.hear(BoardReported, nth=len(ear.all(BoardReported)) + 1)

    assert ear.all(BoardLost) == [BoardLost()]


async def test_no_bolt_moves_by_an_order_of_before_the_machine_slept(
    plugged: PtyBoard,
) -> None:
    # I-6, row 11: asyncio's own clock stands still in suspend, this one does not.
    slept_ms = 0
    board = SerialBoard(str(plugged.path), clock=lambda: boot_ms() + slept_ms)

    async with running(board.run) as ear:
        await ear.hear(BoardReported)
        plugged.is_mute = True
        await board.drive_locks(locked=False)
        await asyncio.sleep(0.05)  # the mute board has lost it, and no answer comes
        slept_ms = 8 * 3_600_000
        plugged.is_mute = False
        await ear.hear(BoardReported, nth=len(ear.all(BoardReported)) + 10)

    assert plugged.firmware.acted == []


async def test_a_board_that_is_not_there_at_the_start_is_lost_once(
    plugged: PtyBoard,
) -> None:
    plugged.unplug()

    async with running(SerialBoard(str(plugged.path)).run) as ear:
        await ear.hear(BoardLost)
        await asyncio.sleep(0.2)  # four more attempts
        plugged.plug_in()
        await ear.hear(BoardReported)

    assert ear.all(BoardLost) == [BoardLost()]


async def test_hazards_longer_than_allowed_are_refused_before_they_are_sent(
    plugged: PtyBoard,
) -> None:
    board = SerialBoard(str(plugged.path))

    async with running(board.run) as ear:
        await ear.hear(BoardReported)
        with pytest.raises(EncodeError):
            await board.flash_hazards(31)


async def test_a_port_that_nobody_empties_ends_the_line_instead_of_the_wait() -> None:
    # kit/pty1.py: a pseudo-terminal takes about 15 KB and then nothing.
    master, slave = os.openpty()
    over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    line = SerialLine(
        os.ttyname(slave),
        baud=BAUD,
        received=lambda _data: None,
        closed=over.set_result,
    )

    for _ in range(200):
        line.write(bytes(500))

    assert over.done()
    assert "nobody takes them" in over.result()
    line.close()
    line.close()
    os.close(master)
    os.close(slave)


def test_a_port_that_is_not_there_is_named_with_what_to_do(tmp_path: Path) -> None:
    path = str(tmp_path / "ttyNONE")

    with pytest.raises(DeviceUnavailableError) as caught:
        probe(path, baud=BAUD)

    assert str(caught.value) == f"{path}: no such file or directory"
    assert "dialout" in caught.value.advice


async def test_a_port_in_use_is_refused(plugged: PtyBoard) -> None:
    async with running(SerialBoard(str(plugged.path)).run) as ear:
        await ear.hear(BoardReported)

        with pytest.raises(DeviceUnavailableError, match="in use by another program"):
            probe(str(plugged.path), baud=BAUD)


def test_a_file_is_no_port(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("")

    with pytest.raises(DeviceUnavailableError, match="inappropriate ioctl"):
        probe(str(path), baud=BAUD)
