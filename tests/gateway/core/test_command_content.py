"""What a command may say: of a newer fleet, too much, nothing known, as it went in.

That it is authentic and fresh is judged before (test_acceptance.py).
"""

from typing import Final

import pytest

from gateway.core.acceptance import Refused, Repeated
from gateway.core.authentication import JournalRecord
from protocol.codes import (
    Code,
    Executed,
    LockDefault,
    LockMode,
)
from protocol.command import (
    ANY_VERSION,
    Command,
    Lock,
    Ping,
    Reserve,
    build_command,
)
from protocol.frame import FLAG_HISTORICAL
from protocol.signing import request_hash
from protocol.snapshot import NO_RENTAL
from tests.gateway.core.desk import (
    HAZARD_KEY,
    HEADER,
    MONITOR_KEY,
    NOW,
    OLD_SESSION,
    RENTAL,
    UNLOCK,
    FrontDesk,
    command_frame,
    outcome,
    trusted,
)

LOCK: Final = Lock(RENTAL, ANY_VERSION, LockMode.DEFAULT)
PING: Final = Ping(NO_RENTAL, ANY_VERSION, bytes(16))


def test_an_opcode_of_a_newer_fleet_is_refused() -> None:
    # FF-FRE-11, I-9.
    verdict = FrontDesk().judge(command_frame(type=0x0299))

    assert outcome(verdict) == ("refused", Code.UNKNOWN_OPCODE)


@pytest.mark.parametrize("schema", [0, 2, 255])
def test_a_schema_of_a_newer_fleet_is_refused_whole(schema: int) -> None:
    # FF-CMD-01, I-9: of an unknown version.
    verdict = FrontDesk().judge(command_frame(schema=schema))

    assert outcome(verdict) == ("refused", Code.UNSUPPORTED_SCHEMA)


def test_a_payload_with_a_tail_is_refused() -> None:
    # FF-FRM-03.
    payload = build_command(UNLOCK) + b"\0"

    verdict = FrontDesk().judge(command_frame(payload=payload))

    assert outcome(verdict) == ("refused", Code.NON_CANONICAL)


def test_a_payload_that_says_nothing_known_is_refused() -> None:
    # FF-CMD-02, FF-FRM-18.
    payload = build_command(LOCK)[:20] + b"\x09\0\0\0"

    verdict = FrontDesk().judge(command_frame(LOCK, payload=payload))

    assert outcome(verdict) == ("refused", Code.BAD_PARAM)


def test_an_unknown_critical_flag_is_dropped() -> None:
    # FF-FRM-12.
    data = bytearray(command_frame())
    data[5] = 0x10

    verdict = FrontDesk().judge(bytes(data))

    assert outcome(verdict) == ("dropped", Code.CRITICAL_FLAG)


def test_an_advisory_flag_is_allowed() -> None:
    # FF-FRM-13.
    verdict = FrontDesk().judge(command_frame(flags=FLAG_HISTORICAL))

    assert outcome(verdict) == ("accepted", None)


@pytest.mark.parametrize(
    "command",
    [
        UNLOCK,
        LOCK,
        PING,
        Reserve(
            RENTAL,
            ANY_VERSION,
            NOW.boot_ms + 900_000,
            lock_default=LockDefault.END,
            language=b"en",
            cards=(),
            sealed=b"",
        ),
    ],
    ids=lambda c: type(c).__name__,
)
def test_commands_come_out_as_they_went_in(command: Command) -> None:
    assert FrontDesk().accept(command_frame(command)).command == command


def test_the_journal_is_asked_before_the_session() -> None:
    # FF-AUTH-01.
    # Step 6 before 7: the answer of a past session's command can still be had.
    data = command_frame()
    record = JournalRecord(HEADER.msg_id, request_hash(data), b"result", Code.OK)
    desk = FrontDesk(session_id=OLD_SESSION, journal={HEADER.msg_id: record})

    assert desk.judge(data) == Repeated(b"result")


def test_every_refusal_is_one_that_may_be_sent() -> None:
    # FF-RES-08.
    # Codes of 0x07xx are never answered.
    desk = FrontDesk().with_key(trusted(HAZARD_KEY, opcodes=()))
    refused = [
        desk.judge(command_frame(), retained=True),
        desk.judge(command_frame(key=HAZARD_KEY)),
        desk.judge(command_frame(key=MONITOR_KEY)),
        desk.judge(command_frame(mono_ms=0)),
        desk.judge(command_frame(mono_ms=2**63)),
        desk.judge(command_frame(seq=0)),
        desk.judge(command_frame(schema=9)),
        desk.judge(command_frame(type=9)),
        desk.judge(command_frame(payload=b"")),
    ]

    for verdict in refused:
        assert isinstance(verdict, Refused)
        assert not verdict.code.local_only
        assert verdict.executed is Executed.NO
