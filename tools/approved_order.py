"""How an approved order ended in each of its cars: waited for, counted and shown.

"Given" is never counted as "done": a car did it when it signed so, and is unknown while
it signed nothing (I-11).
"""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from tools.bridge_api import BridgeApi
from tools.console import facts, table
from tools.errors import EXIT_FAILED, OperatorError
from tools.ordering import EXIT_UNKNOWN, text_of

WAIT_S: Final = 70.0
"""A lock or a hold lives for 30 s and is unknown 2 s later, and the second part of a
compound order may begin then."""

LOOK_S: Final = 0.5
"""Between two looks whether the bridge has given the order to every car."""

POLL_S: Final = 2.0
"""Of one long poll, which waits for a final state and not for "unknown"."""

CALL_S: Final = 0.02
"""For each car asked about again: half of what a key may call (`rates.calls`)."""


class Fate(StrEnum):
    """What is known of one car."""

    DID_IT = "did_it"
    REFUSED = "refused"
    """By the car, by the bridge, or too late: nothing was done."""
    FAILED = "failed"
    """Tried, and not or only partly done."""
    UNKNOWN = "unknown"
    """No signed word."""
    WAITING = "waiting"
    """Unsigned at the bridge, for a car that is offline (``defer_s``)."""

    @property
    def words(self) -> str:
        """For a person."""
        return self.value.replace("_", " ")


_FATES: Final = {
    "succeeded": Fate.DID_IT,
    **dict.fromkeys(("rejected", "expired", "superseded", "cancelled"), Fate.REFUSED),
    **dict.fromkeys(("failed", "partial"), Fate.FAILED),
    "deferred": Fate.WAITING,
}
"""By state of a command; any other is unknown."""

_STOPS: Final = frozenset({"timed_out", "deferred"})
"""States that are not final and that waiting does not change soon."""

_ALWAYS_TOLD: Final = (Fate.DID_IT, Fate.REFUSED, Fate.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Ending:
    """What came of the order in one car."""

    vehicle_id: str
    command_id: str | None
    """None if the bridge gave it no order."""
    state: str
    """Of the command, as the API names it; ``not given`` without one."""
    code: str | None
    """The car's own word."""
    why: str
    """What the bridge says of it."""

    @property
    def fate(self) -> Fate:
        """What is known of this car."""
        if self.command_id is None:
            return Fate.REFUSED if self.state == "not given" else Fate.UNKNOWN
        return _FATES.get(self.state, Fate.UNKNOWN)

    def document(self) -> dict[str, object]:
        """Return it for a program."""
        return {
            "vehicle_id": self.vehicle_id,
            "command_id": self.command_id,
            "outcome": self.fate.value,
            "state": self.state,
            "code": self.code,
            "why": self.why,
        }


def await_endings(
    bridge: BridgeApi, approval: Mapping[str, Any], *, wait_s: float
) -> list[Ending]:
    """Return what came of an approved order in each car, as far as it came in time.

    Args:
        bridge: which carries it out.
        approval: its document.
        wait_s: how long to wait for signed ends; cars without one are unknown then.

    Raises:
        OperatorError: the bridge does not answer any more; the order goes on.
    """
    until = time.monotonic() + wait_s
    try:
        while not approval["is_carried_out"] and time.monotonic() < until:
            time.sleep(LOOK_S)
            approval = bridge.get(f"/v1/approvals/{approval['id']}")
        return _endings(bridge, approval, until)
    except OperatorError as error:
        raise OperatorError(
            error.sentence,
            "the order is approved and goes on; see how it ends with "
            f"'freefloat bridge approvals show {approval['id']}'",
        ) from error


def _endings(
    bridge: BridgeApi, approval: Mapping[str, Any], until: float
) -> list[Ending]:
    given = {outcome["vehicle_id"]: outcome for outcome in approval["outcomes"]}
    commands: dict[str, Mapping[str, Any]] = {}
    pending = [one["command_id"] for one in given.values() if one["command_id"]]
    poll_s = 0.0
    while pending:
        # The first one is waited for; the others are looked at after it.
        for number, name in enumerate(pending):
            wait_s = 0.0 if number else poll_s
            commands[name] = bridge.get(
                f"/v1/commands/{name}?wait_s={wait_s:.1f}", timeout_s=wait_s + 10
            )
        pending = [name for name in pending if not _is_over(commands[name])]
        left_s = until - time.monotonic()
        if left_s <= 0:
            break
        poll_s = min(max(POLL_S, len(pending) * CALL_S), left_s, 30.0)
    return [
        _ending(name, given.get(name), commands) for name in approval["vehicle_ids"]
    ]


def _is_over(command: Mapping[str, Any]) -> bool:
    return command["is_final"] or command["state"] in _STOPS


def _ending(
    vehicle_id: str,
    outcome: Mapping[str, Any] | None,
    commands: Mapping[str, Mapping[str, Any]],
) -> Ending:
    if outcome is None:
        return Ending(
            vehicle_id, None, "not known", None, "the bridge has not said yet"
        )
    if outcome["command_id"] is None:
        return Ending(vehicle_id, None, "not given", None, outcome["problem"])
    command = commands[outcome["command_id"]]
    return Ending(
        vehicle_id, command["id"], command["state"], command["code"], command["meaning"]
    )


def counts_of(endings: Iterable[Ending]) -> dict[str, int]:
    """Return how many cars there are of each fate."""
    found = Counter(ending.fate for ending in endings)
    return {fate.value: found[fate] for fate in Fate}


def show_endings(endings: Iterable[Ending]) -> None:
    """Print what came of it in each car, and at the end how many did what."""
    listed = list(endings)
    counts = counts_of(listed)
    table(
        ("vehicle", "outcome", "state", "code", "command", "why"),
        (
            (
                ending.vehicle_id,
                ending.fate.words,
                ending.state,
                text_of(ending.code),
                text_of(ending.command_id),
                "" if ending.fate is Fate.DID_IT else ending.why,
            )
            for ending in listed
        ),
    )
    facts(
        {
            fate.words: _cars(counts[fate])
            for fate in Fate
            if counts[fate] or fate in _ALWAYS_TOLD
        }
    )
    if counts[Fate.UNKNOWN]:
        facts({"next": "do not order it again: a car's next hello settles it"})


def exit_code_of(endings: Iterable[Ending]) -> int:
    """Return 0 if every car did it, 1 if one did not, else 3."""
    fates = {ending.fate for ending in endings}
    if fates & {Fate.REFUSED, Fate.FAILED}:
        return EXIT_FAILED
    return EXIT_UNKNOWN if fates - {Fate.DID_IT} else 0


def _cars(count: int) -> str:
    return "1 car" if count == 1 else f"{count} cars"
