"""A whole module with its real adapters: one card tap through nfcpy's ``udp:`` driver
leads to one unlock frame over a pseudo-terminal (issue 2, point 5).

Real: reader, board, runtime, core, ledger on this machine's disk, the system's clock.
The air interface and the fleet behind it are those of the gateway's tests.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.bootstrap import Gateway, build_gateway
from gateway.hardware.nfc_reader import NfcReader
from gateway.hardware.nmea_positioning import NoPositioning
from gateway.hardware.serial_board import SerialBoard
from gateway.hardware.terminal_display import TerminalDisplay
from gateway.runtime.system_clock import SystemClock, boot_mark
from protocol.board.message import BoardFrame, SetLight, SetLocks
from protocol.codes import Light, LockDefault, RentalMode
from protocol.command import ANY_VERSION, Reserve
from protocol.event import AccessGranted, RentalStarted, ReservationStarted
from protocol.identity import card_digest
from tests.gateway.fleet_end import Air, FleetEnd
from tests.gateway.hardware.ear import PATIENCE_S
from tests.gateway.hardware.pty_board import PtyBoard, pty_board
from tests.gateway.hardware.simulated_card import CardField, card_field
from tests.gateway.world import ALICE, IDENTITY, MALLORY

RENTAL = b"rental of a test"


@dataclass
class Module:
    """A running gateway and what is around it."""

    gateway: Gateway
    board: PtyBoard
    field: CardField
    fleet: FleetEnd
    stepped: asyncio.Event

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return when a step of the gateway has made a condition true."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self.stepped.clear()
                await self.stepped.wait()

    def lock_orders(self) -> list[BoardFrame]:
        heard = self.board.firmware.heard
        return [frame for frame in heard if isinstance(frame.message, SetLocks)]

    async def reserve(self, uid: bytes) -> None:
        """Let the fleet reserve the car for a card, by a signed command."""
        await self.until(lambda: bool(self.fleet.hellos))
        self.fleet.send(
            Reserve(
                rental_id=RENTAL,
                expected_version=ANY_VERSION,
                reserved_until_ms=self.fleet.clock.now().boot_ms + 60_000,
                lock_default=LockDefault.END,
                language=b"de",
                cards=(card_digest(RENTAL, uid),),
                sealed=b"",
            )
        )
        await self.until(lambda: self.gateway.state.mode is RentalMode.RESERVED)


@asynccontextmanager
async def running_module(directory: Path) -> AsyncIterator[Module]:
    clock, air, stepped = SystemClock(), Air(), asyncio.Event()
    fleet = FleetEnd(air, clock)
    air.fleet = fleet
    async with card_field() as field:
        with pty_board(directory) as board:
            gateway = build_gateway(
                IDENTITY,
                store=directory / "data" / "ledger.db",
                links=air.links,
                reader=NfcReader(field.path),
                board=SerialBoard(str(board.path)),
                display=TerminalDisplay(),
                positioning=NoPositioning(),
                clock=clock,
                random_bytes=secrets.token_bytes,
                boot_mark=boot_mark(),
                observer=lambda _step: stepped.set(),
            )
            task = asyncio.create_task(gateway.run())
            try:
                yield Module(gateway, board, field, fleet, stepped)
            finally:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task


@pytest.mark.device
async def test_one_tap_on_a_reserved_car_is_one_unlock_frame(tmp_path: Path) -> None:
    # I-5, I-13, I-14
    async with running_module(tmp_path) as module:
        await module.reserve(ALICE)
        module.field.uid = ALICE
        await module.until(lambda: module.gateway.state.mode is RentalMode.STOPPED)
        await module.field.scanned(5)
        await module.until(lambda: len(module.fleet.events()) >= 4)

        assert module.lock_orders() == [
            BoardFrame(module.lock_orders()[0].seq, SetLocks(locked=False))
        ]
        kinds = [type(event) for event in module.fleet.events()]
        assert kinds[1:4] == [ReservationStarted, AccessGranted, RentalStarted]
        lights = [
            order.light
            for order in module.board.firmware.acted
            if isinstance(order, SetLight)
        ]
        # Before them the fault pattern, until the board has reported.
        assert lights[-3:] == [Light.GREEN, Light.YELLOW, Light.RED]


@pytest.mark.device
async def test_a_strangers_tap_moves_no_bolt(tmp_path: Path) -> None:
    # I-12
    async with running_module(tmp_path) as module:
        await module.reserve(ALICE)
        module.field.uid = MALLORY
        await module.until(lambda: module.gateway.state.tap is not None)
        await module.field.scanned(3)

        assert module.lock_orders() == []
        assert module.gateway.state.mode is RentalMode.RESERVED
