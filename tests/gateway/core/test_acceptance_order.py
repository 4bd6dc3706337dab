"""The order of the acceptance pipeline: of two faults the earlier step answers."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any, Final

import pytest

from gateway.core.acceptance import Verdict
from gateway.core.authentication import JournalRecord
from gateway.core.known_time import KnownTime
from protocol.codes import Code, FrameClass, Role, Suite
from protocol.command import build_command
from protocol.trust import TrustBundle
from tests.gateway.core.desk import (
    BUNDLE,
    DAY_MS,
    HEADER,
    KNOWN,
    NOW,
    OLD_SESSION,
    RENTAL_KEY,
    UNLOCK,
    FrontDesk,
    command_frame,
    outcome,
    told,
)
from tools.published_keys import CAR_B, OTHER_FLEET_ID


@dataclass
class Case:
    """An unlock that a car would accept, and what is wrong with it."""

    frame: dict[str, Any] = field(default_factory=dict)
    bundle: TrustBundle = BUNDLE
    journal: dict[bytes, JournalRecord] = field(default_factory=dict)
    retained: bool = False
    time: KnownTime = KNOWN

    def judge(self) -> Verdict:
        desk = FrontDesk(bundle=self.bundle, journal=self.journal, time=self.time)
        return desk.judge(command_frame(**self.frame), retained=self.retained)

    def key(self, **changes: object) -> None:
        keys = tuple(
            replace(key, **changes) if key.key_id == RENTAL_KEY.key_id else key  # type: ignore[arg-type] # by name
            for key in self.bundle.keys
        )
        self.bundle = replace(self.bundle, keys=keys)


def _frame(**changes: object) -> Callable[[Case], None]:
    return lambda case: case.frame.update(changes)


def _only_p256(case: Case) -> None:
    case.bundle = replace(case.bundle, suites=(Suite.P256,))


def _revoked(case: Case) -> None:
    case.bundle = replace(case.bundle, revoked=(RENTAL_KEY.key_id,))


def _unknown_key(case: Case) -> None:
    keys = tuple(k for k in case.bundle.keys if k.key_id != RENTAL_KEY.key_id)
    case.bundle = replace(case.bundle, keys=keys)


def _id_used(case: Case) -> None:
    other = JournalRecord(HEADER.msg_id, bytes(32), None, Code.IN_PROGRESS)
    case.journal[HEADER.msg_id] = other


def _retained(case: Case) -> None:
    case.retained = True


def _late_year(case: Case) -> None:
    case.time = told(NOW.wall_ms + 2 * DAY_MS)


STEPS: Final[tuple[tuple[str, Code, Callable[[Case], None]], ...]] = (
    ("2 class", Code.WRONG_DIRECTION, _frame(frame_class=FrameClass.SYNC)),
    ("2 vehicle", Code.WRONG_VEHICLE, _frame(vehicle_id=CAR_B)),
    ("2 suite", Code.SUITE_FORBIDDEN, _only_p256),
    ("4 revoked", Code.REVOKED, _revoked),
    ("4 unknown key", Code.UNKNOWN_KEY, _unknown_key),
    ("5 signature", Code.BAD_SIGNATURE, _frame(fleet_id=OTHER_FLEET_ID)),
    ("6 id", Code.ID_REUSED, _id_used),
    ("7 session", Code.SESSION_STALE, _frame(session_id=OLD_SESSION)),
    ("8 opcode", Code.UNKNOWN_OPCODE, _frame(type=0x0999)),
    ("8 retained", Code.RETAINED, _retained),
    ("8 role", Code.ROLE_FORBIDDEN, lambda case: case.key(role=Role.MONITOR)),
    ("8 dates", Code.KEY_EXPIRED, _late_year),
    ("8 group", Code.GROUP_MISMATCH, lambda case: case.key(group=9)),
    ("8 mask", Code.OPCODE_FORBIDDEN, lambda case: case.key(opcodes=())),
    ("8 lane", Code.BAD_PARAM, _frame(lane=2)),
    ("8 lanes", Code.OPCODE_FORBIDDEN, lambda case: case.key(lanes=())),
    ("8 expired", Code.EXPIRED, _frame(mono_ms=0)),
    ("9 sequence", Code.SUPERSEDED, _frame(seq=0)),
    ("10 schema", Code.UNSUPPORTED_SCHEMA, _frame(schema=9)),
    ("10 form", Code.NON_CANONICAL, _frame(payload=build_command(UNLOCK) + b"\0")),
)
"""Step, code and fault, in the order of docs/protocol.md, section 8."""

FIRST_ANSWERED: Final = 6

PAIRS: Final = [*combinations(STEPS, 2)]


@pytest.mark.parametrize(
    ("name", "code", "spoil"), STEPS, ids=[step[0] for step in STEPS]
)
def test_each_step_has_its_code(
    name: str, code: Code, spoil: Callable[[Case], None]
) -> None:
    """FF-AUTH-01, FF-AUTH-02: steps 2 to 5 are dropped, later ones refused."""
    case = Case()
    spoil(case)

    assert outcome(case.judge()) == (
        "dropped" if int(name.split(maxsplit=1)[0]) < 6 else "refused",
        code,
    )


@pytest.mark.parametrize(
    ("first", "second"),
    PAIRS,
    ids=[f"{one[0]} and {two[0]}" for one, two in PAIRS],
)
def test_of_two_faults_the_earlier_step_answers(
    first: tuple[str, Code, Callable[[Case], None]],
    second: tuple[str, Code, Callable[[Case], None]],
) -> None:
    """FF-AUTH-01, FF-AUTH-11: what nobody signed is not read as a payload."""
    case = Case()
    second[2](case)
    first[2](case)

    assert outcome(case.judge())[1] is first[1]
