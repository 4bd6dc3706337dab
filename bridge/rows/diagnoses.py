"""What a car said to PING, SNAPSHOT or EXPLAIN, found among its newest entries."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, select

from bridge import schema
from bridge.commands import CommandRecord
from protocol.codes import EventType, FrameClass
from protocol.diagnosis import DIAGNOSED, Diagnosed
from protocol.entry import split_entry
from protocol.frame import parse_frame

LOOKED_AT: Final = 512
"""Entries that are looked through, the newest first: an answer follows its question
within seconds, and who asks later asks again."""

_TABLE: Final = schema.frames


@dataclass(frozen=True, slots=True)
class ReceivedDiagnosis:
    """A part of an answer, as it was stored."""

    told: Diagnosed
    """What the car said."""
    signed_wall_ms: int
    """UTC ms on the car's label."""
    received_ms: int
    """UTC ms: when it was stored here."""


def find_diagnosis(
    connection: Connection, asked: CommandRecord
) -> list[ReceivedDiagnosis]:
    """Return the parts of the answer to a command that have come, in order."""
    query = (
        select(_TABLE.c.data, _TABLE.c.received_ms)
        .where(
            _TABLE.c.vehicle_id == str(asked.vehicle_id),
            _TABLE.c.ledger_id == asked.ledger_id,
            _TABLE.c.refused.is_(None),
        )
        .order_by(_TABLE.c.seq.desc())
        .limit(LOOKED_AT)
    )
    found = []
    for data, received_ms in connection.execute(query):
        frame = parse_frame(data)
        header = frame.header
        if (header.frame_class, header.type) != (
            FrameClass.EVENT,
            EventType.DIAGNOSED,
        ):
            continue
        told: Diagnosed = DIAGNOSED.parse(split_entry(frame.payload)[1])
        if told.request_id == asked.command_id:
            found.append(ReceivedDiagnosis(told, header.wall_ms, received_ms))
    return sorted(found, key=lambda each: each.told.part)
