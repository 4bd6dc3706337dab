"""A car's desk for frames from the fleet, and a fleet that signs them.

Keys are the published test keys. Nothing of the core is replaced.
"""

from dataclasses import dataclass, field, replace
from typing import Final

from gateway.core.acceptance import Refused, Repeated, Verdict, judge
from gateway.core.authentication import Desk, Dropped, JournalRecord
from gateway.core.events import CommandReceived
from gateway.core.known_time import KnownTime
from gateway.core.moment import Moment
from protocol.codes import ClockQuality, Code, FrameClass, Lane, Role, Suite
from protocol.command import (
    ANY_VERSION,
    COMMANDS,
    OPCODE_OF,
    Command,
    Unlock,
    build_command,
)
from protocol.frame import Header
from protocol.identity import session_id
from protocol.keys import Ed25519SigningKey, SigningKey
from protocol.signing import sign_frame
from protocol.trust import ALL_OPCODES, EVERY_GROUP, TrustBundle, TrustedKey
from tools.published_keys import CAR_A, COMMAND_KEY, FLEET_ID, RECEIPT_KEY, ROOT_KEYS

SESSION: Final = session_id(7, b"this session")
OLD_SESSION: Final = session_id(6, b"some session")
NOW: Final = Moment(500_000, 1_767_261_600_000, ClockQuality.NTP)
KNOWN: Final = KnownTime(NOW.wall_ms, NOW.boot_ms, ClockQuality.SYNC)
"""The fleet has told the time just now."""
DAY_MS: Final = 86_400_000
RENTAL: Final = bytes.fromhex("11" * 16)
UNLOCK: Final = Unlock(RENTAL, ANY_VERSION)

RENTAL_KEY: Final = COMMAND_KEY.key
RECEIPTS_KEY: Final = RECEIPT_KEY.key
MONITOR_KEY: Final = Ed25519SigningKey.from_seed(b"\x31" * 32)
HAZARD_KEY: Final = Ed25519SigningKey.from_seed(b"\x32" * 32)
"""May sign one opcode in its lane."""
UNKNOWN_KEY: Final = Ed25519SigningKey.from_seed(b"\x33" * 32)


def trusted(
    key: SigningKey,
    role: Role = Role.RENTAL,
    *,
    opcodes: tuple[int, ...] = ALL_OPCODES,
    lanes: tuple[Lane, ...] = tuple(Lane),
    group: int = EVERY_GROUP,
    max_ttl_ms: int = 60_000,
) -> TrustedKey:
    return TrustedKey(
        public_key=key.verify_key.raw,
        role=role,
        group=group,
        opcodes=opcodes,
        lanes=lanes,
        max_ttl_ms=max_ttl_ms,
        not_before_ms=NOW.wall_ms - DAY_MS,
        not_after_ms=NOW.wall_ms + DAY_MS,
    )


BUNDLE: Final = TrustBundle(
    fleet_id=FLEET_ID,
    version=1,
    issued_ms=NOW.wall_ms - DAY_MS,
    expires_ms=NOW.wall_ms + DAY_MS,
    threshold=2,
    roots=tuple(root.key.verify_key.raw for root in ROOT_KEYS),
    suites=(Suite.ED25519,),
    keys=(
        trusted(MONITOR_KEY, Role.MONITOR),
        trusted(RECEIPTS_KEY, Role.RECEIPT),
        trusted(RENTAL_KEY),
    ),
    revoked=(),
)

HEADER: Final = Header(
    suite=Suite.ED25519,
    frame_class=FrameClass.CMD,
    flags=0,
    type=OPCODE_OF[Unlock],
    schema=1,
    lane=Lane.ACCESS,
    vehicle_id=CAR_A,
    key_id=RENTAL_KEY.key_id,
    session_id=SESSION,
    seq=1,
    mono_ms=NOW.boot_ms + 5_000,
    wall_ms=NOW.wall_ms,
    msg_id=bytes.fromhex("ab" * 16),
)
"""Of an unlock that a car accepts."""


def command_frame(
    command: Command = UNLOCK,
    *,
    key: SigningKey = RENTAL_KEY,
    fleet_id: bytes = FLEET_ID,
    payload: bytes | None = None,
    **header: object,
) -> bytes:
    """Sign a command; whatever is not given is as a car accepts it."""
    opcode = OPCODE_OF[type(command)]
    fields: dict[str, object] = {
        "type": opcode,
        "lane": COMMANDS[opcode].lane,
        "key_id": key.key_id,
    }
    return sign_frame(
        replace(HEADER, **(fields | header)),  # type: ignore[arg-type] # by name
        build_command(command) if payload is None else payload,
        fleet_id=fleet_id,
        key=key,
    )


@dataclass
class FrontDesk:
    """The shell's part of the pipeline: journal and lanes, kept as the runtime does."""

    bundle: TrustBundle = BUNDLE
    session_id: bytes = SESSION
    journal: dict[bytes, JournalRecord] = field(default_factory=dict)
    lanes: dict[tuple[bytes, Lane], int] = field(default_factory=dict)
    journal_is_complete: bool = True
    group: int = 0
    time: KnownTime = KNOWN

    @property
    def desk(self) -> Desk:
        return Desk(
            vehicle_id=CAR_A,
            fleet_id=FLEET_ID,
            session_id=self.session_id,
            bundle=self.bundle,
            lanes=self.lanes,
            journal=self.journal.get,
            journal_is_complete=self.journal_is_complete,
            group=self.group,
            time=self.time,
        )

    def judge(
        self, data: bytes, *, retained: bool = False, now: Moment = NOW
    ) -> Verdict:
        return judge(data, retained=retained, desk=self.desk, now=now)

    def accept(self, data: bytes, *, now: Moment = NOW) -> CommandReceived:
        """Judge a frame that must pass, and journal it."""
        verdict = self.judge(data, now=now)
        assert isinstance(verdict, CommandReceived), verdict
        self.journal[verdict.msg_id] = JournalRecord(
            verdict.msg_id, verdict.request_hash, None, Code.IN_PROGRESS
        )
        self.lanes[verdict.key_id, verdict.lane] = verdict.seq
        return verdict

    def close(self, accepted: CommandReceived, result_frame: bytes) -> None:
        """Store the result of an accepted command."""
        self.journal[accepted.msg_id] = JournalRecord(
            accepted.msg_id, accepted.request_hash, result_frame, Code.OK
        )

    def with_key(self, key: TrustedKey) -> "FrontDesk":
        return FrontDesk(bundle=replace(BUNDLE, keys=(*BUNDLE.keys, key)))


def told(wall_ms: int) -> KnownTime:
    """Return the knowledge of a car that the fleet has told this time just now."""
    return KnownTime(wall_ms, NOW.boot_ms, ClockQuality.SYNC)


def outcome(verdict: Verdict) -> tuple[str, Code | None]:
    """Return how a frame fared: accepted, repeated, refused or dropped, and why."""
    match verdict:
        case Dropped(code=code):
            return "dropped", code
        case Refused(code=code):
            return "refused", code
        case Repeated():
            return "repeated", None
        case CommandReceived():
            return "accepted", None
