"""The messages of the test vectors that are neither command nor report.

Synchronisation, trust bundles and deaths, and frames that P-256 keys sign.
"""

from dataclasses import replace
from typing import Final

from protocol.codes import ClockQuality, ConfigKind, DeathReason, FrameClass
from protocol.death import DEATH, Death
from protocol.sync import (
    CHUNK_LIMIT,
    CONFIG_LIMIT,
    SYNC_SCHEMA,
    SYNC_TTL_LIMIT_MS,
    SYNC_TYPE_OF,
    Challenge,
    ConfigChunk,
    ConfigOffer,
    FleetTime,
    Resend,
    SyncBody,
    build_sync,
)
from tools.published_keys import (
    CAR_A_KEY,
    CAR_C,
    CAR_C_KEY,
    COMMAND_KEY,
    LEDGER,
    MONO_MS,
    SERVICE_KEY,
    TestKey,
)
from tools.vector_cases import (
    Case,
    commands,
    events,
    header_of,
    hellos,
    next_events,
    places,
    receipts,
    results,
    telemetry,
)
from tools.vector_story import message_id
from tools.vector_trust import successions

_CONFIG: Final = bytes(range(256)) * 3 + bytes(32)
"""800 bytes: what a chunk holds at most."""

_SYNCS: Final[tuple[tuple[str, str, SyncBody], ...]] = (
    ("resend", "a range of entries", Resend(LEDGER, 3, 7)),
    (
        "resend_one",
        "a range of one, the highest there can be",
        Resend(LEDGER, 2**64 - 1, 2**64 - 1),
    ),
    (
        "config",
        "announces the largest configuration",
        ConfigOffer(ConfigKind.STATIONS, 12, CONFIG_LIMIT, bytes(range(32))),
    ),
    (
        "config_chunk",
        "the largest chunk",
        ConfigChunk(ConfigKind.STATIONS, 12, CHUNK_LIMIT, _CONFIG),
    ),
    (
        "config_chunk_last",
        "one byte at the very end",
        ConfigChunk(ConfigKind.POLICY, 1, CONFIG_LIMIT - 1, b"\x7d"),
    ),
    ("challenge", "asks whether the car speaks now", Challenge(bytes(range(16)))),
    ("time", "the time is the header's", FleetTime(ClockQuality.NTP)),
)


def syncs() -> tuple[Case, ...]:
    """Return a case for every type of SYNC."""
    cases = []
    for seq, (name, why, body) in enumerate(_SYNCS, start=1):
        sync_type = SYNC_TYPE_OF[type(body)]
        header = header_of(
            FrameClass.SYNC,
            COMMAND_KEY,
            type=int(sync_type),
            schema=SYNC_SCHEMA,
            seq=seq,
            mono_ms=MONO_MS + SYNC_TTL_LIMIT_MS,
            msg_id=message_id(0x0500 + seq),
        )
        title = f"SYNC {sync_type.name}"
        case = Case(f"sync_{name}", title, why, COMMAND_KEY, header, build_sync(body))
        cases.append(case)
    return tuple(cases)


def trusts() -> tuple[Case, ...]:
    """Return a frame around every bundle that may follow the first."""
    taken = [succession for succession in successions() if succession.code is None]
    return tuple(
        Case(
            f"trust_{succession.name}",
            "TRUST",
            f"{succession.why}; any key of the fleet may carry it",
            COMMAND_KEY,
            header_of(
                FrameClass.TRUST,
                COMMAND_KEY,
                seq=seq,
                msg_id=message_id(0x0600 + seq),
            ),
            succession.data,
        )
        for seq, succession in enumerate(taken, start=1)
    )


def deaths() -> tuple[Case, ...]:
    """Return both deaths, of the connections that the hellos opened."""
    rows = (
        ("lost", "the will of the first connection", DeathReason.LOST),
        ("stopped", "said by a car that goes", DeathReason.STOPPED),
    )
    return tuple(
        Case(
            f"death_{name}",
            "DEATH",
            why,
            CAR_A_KEY,
            header_of(
                FrameClass.DEATH, CAR_A_KEY, seq=seq, msg_id=message_id(0x0700 + seq)
            ),
            DEATH.build(Death(reason)),
        )
        for seq, (name, why, reason) in enumerate(rows, start=1)
    )


def p256_frames() -> tuple[Case, ...]:
    """Return frames of the other suite: a command, and what a car says first."""
    unlock, hello, result = commands()[0], hellos()[0], results()[2]
    death, sample = deaths()[0], telemetry()[0]
    rows = (
        (unlock, SERVICE_KEY),
        (hello, CAR_C_KEY),
        (result, CAR_C_KEY),
        (sample, CAR_C_KEY),
        (death, CAR_C_KEY),
    )
    return tuple(_in_p256(case, key) for case, key in rows)


def _in_p256(case: Case, key: TestKey) -> Case:
    header = replace(
        case.header, suite=key.key.suite, key_id=key.key.key_id, vehicle_id=CAR_C
    )
    return replace(
        case,
        name=f"p256_{case.name}",
        why="64 bytes of r and s, s in the lower half (RFC 6979)",
        key=key,
        header=header,
    )


def messages() -> tuple[Case, ...]:
    """Return every message that version 1 defines."""
    return (
        *commands(),
        *events(),
        *results(),
        *next_events(),
        *places(),
        *telemetry(),
        *hellos(),
        *receipts(),
        *syncs(),
        *trusts(),
        *deaths(),
        *p256_frames(),
    )
