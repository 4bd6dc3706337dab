"""Performing actions: each kind in its own branch, decided by nobody here.

An action without a branch does not pass the type checker. Devices take an order and
answer by events, so nothing here waits for bolts or drivers.
"""

import asyncio
from collections.abc import Callable
from typing import assert_never

from gateway.core.actions import (
    Action,
    AllowEngine,
    CheckPin,
    DriveLocks,
    FlashHazards,
    RestartMachine,
    RestartPart,
    SendRefusal,
    ShowLight,
    ShowPrompt,
)
from gateway.core.events import PinChecked
from gateway.core.prompts import Prompt
from gateway.core.screens import SCREENS
from gateway.ports import Board, Display, Vault
from gateway.runtime.parts import Parts
from protocol.result import Result


class Performer:
    """Turns actions into calls of ports.

    Args:
        board: locks, lights, engine hold.
        display: screen.
        vault: PINs.
        parts: what can be started anew.
        refuse: signs and sends a refusal.
        report: takes the answer of a PIN check.
    """

    def __init__(
        self,
        *,
        board: Board,
        display: Display,
        vault: Vault,
        parts: Parts,
        refuse: Callable[[Result], None],
        report: Callable[[PinChecked], None],
    ) -> None:
        self._board = board
        self._display = display
        self._vault = vault
        self._parts = parts
        self._refuse = refuse
        self._report = report
        self._checks: set[asyncio.Task[None]] = set()

    async def perform(self, action: Action) -> None:
        """Do one thing; returns when it is under way, not when it is done."""
        match action:
            case DriveLocks(locked=locked):
                await self._board.drive_locks(locked=locked)
            case AllowEngine(released=released):
                await self._board.allow_engine(released=released)
            case ShowLight(light=light, blinking=blinking):
                await self._board.show_light(light, blinking=blinking)
            case ShowPrompt(prompt=prompt):
                await self._show(prompt)
            case FlashHazards(seconds=seconds):
                await self._board.flash_hazards(seconds)
            case CheckPin():
                # A task: the memory-hard comparison takes tens of milliseconds, in
                # which a read-back or a command must not wait.
                task = asyncio.create_task(self._check_pin(action))
                self._checks.add(task)
                task.add_done_callback(self._checks.discard)
            case RestartPart(component=component):
                self._parts.restart(component)
            case RestartMachine():
                self._parts.restart_machine()
            case SendRefusal(result=result):
                self._refuse(result)
            case _:
                assert_never(action)

    async def close(self) -> None:
        """Give up PIN checks that still run; the driver types it again."""
        checks = tuple(self._checks)
        for task in checks:
            task.cancel()
        await asyncio.gather(*checks, return_exceptions=True)

    async def _show(self, prompt: Prompt) -> None:
        secret = ""
        if SCREENS[prompt.key].has_secret:
            secret = await self._vault.fuel_card_pin(prompt.sealed, prompt.rental_id)
        await self._display.show(prompt, secret=secret)

    async def _check_pin(self, action: CheckPin) -> None:
        verdict = await self._vault.check_pin(
            action.sealed, action.rental_id, action.pin
        )
        self._report(PinChecked(action.rental_id, verdict))
