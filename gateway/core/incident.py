"""Incident tools in the car: restart a part, start the computer anew (I-33).

A restart is refused while the engine runs, the car moves or an actuation is under way,
since reader, board and agent are what a driver leans on. Each is answered before it is
done: the answer is in the ledger when the part goes down, so it is told whatever comes
of it, and the ledger is the audit. One in a minute, over restarts too, so that nobody
drains the 12 V battery by them (I-30).

A car whose board is silent may drive for all the agent knows. Then only what cannot
touch the drive is started anew: reader, uplink and the port of the board itself.
"""

from typing import Final

from gateway.core.actions import RestartMachine, RestartPart
from gateway.core.actuation import why_not_hold
from gateway.core.turn import Turn
from protocol.codes import Code
from protocol.command import Reboot, Restart
from protocol.rental_codes import Component

RESTART_MS: Final = 60_000
"""Between two restarts by command: a part is up again long before (assumed)."""

_SAFE_WHEN_BLIND: Final = frozenset(
    {Component.READER, Component.UPLINK, Component.BOARD}
)


def why_not_restart(turn: Turn, command: Restart | Reboot) -> Code | None:
    """Return why nothing is started anew now, None when it may be."""
    state, now_ms = turn.state, turn.now.boot_ms
    if state.pending is not None:
        return Code.BUSY
    last_ms = state.restarted_ms
    if last_ms is not None and now_ms - last_ms < RESTART_MS:
        return Code.RATE_LIMITED
    code = why_not_hold(state, now_ms)
    part = command.component if isinstance(command, Restart) else None
    if code is Code.BUS_ERROR and part in _SAFE_WHEN_BLIND:
        return None
    return code


def restart(turn: Turn, command: Restart | Reboot) -> None:
    """Start a part or the computer anew, after the commit of the answer."""
    turn.change(restarted_ms=turn.now.boot_ms)
    if isinstance(command, Restart):
        turn.act(RestartPart(command.component))
    else:
        turn.act(RestartMachine())
