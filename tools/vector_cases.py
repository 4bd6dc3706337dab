"""The messages of the test vectors.

One rental is told by the events, and they form one ledger, so that the vectors together
also prove the hash chain.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from protocol.codes import (
    KNOWN_HELLO_FLAGS,
    Bits,
    CancelReason,
    ClockQuality,
    Code,
    Condition,
    ConfigKind,
    EnergyKind,
    EventType,
    Executed,
    FrameClass,
    FrameType,
    HelloFlags,
    HoldReason,
    Lane,
    Light,
    LockDefault,
    LockMode,
    ModeRequest,
    Opcode,
    RentalMode,
    Retry,
)
from protocol.command import (
    ANY_VERSION,
    COMMAND_SCHEMA,
    COMMANDS,
    OPCODE_OF,
    CancelReservation,
    Command,
    EngineHold,
    EngineRelease,
    FlashHazards,
    Lock,
    Ping,
    Reserve,
    SetMode,
    Unlock,
    build_command,
)
from protocol.content import FRAME_SCHEMA, TYPE_OF_CLASS
from protocol.entry import GENESIS, LINK, EntryLink, entry_hash, event_id
from protocol.event import (
    EVENT_SCHEMA,
    TYPE_OF,
    EventBody,
    build_event,
)
from protocol.frame import FLAG_HISTORICAL, Header
from protocol.hello import (
    HELLO,
    NO_NONCE,
    Capability,
    ConfigVersion,
    Hello,
    LaneProgress,
    Outcome,
)
from protocol.place import EVENT_PLACE
from protocol.receipt import RECEIPT, Gap, Receipt, Reject
from protocol.result import RESULT, Result
from protocol.signing import request_hash, sign_frame
from protocol.snapshot import NO_RENTAL, Snapshot
from protocol.telemetry import TELEMETRY, Sample, Telemetry
from tools.published_keys import (
    CAR_A,
    CAR_A_KEY,
    CARD,
    COMMAND_KEY,
    FIRMWARE,
    FLEET_ID,
    LEDGER,
    MONO_MS,
    NEXT_LEDGER,
    RECEIPT_KEY,
    RENTAL,
    SEALED,
    SESSION,
    WALL_MS,
    TestKey,
)
from tools.vector_catalogue import (
    ADDED_OPCODES,
    LATER_COMMANDS,
    LATER_EVENTS,
    next_ledger,
    place_at,
    placed,
)
from tools.vector_story import STORY, message_id


@dataclass(frozen=True, slots=True)
class Case:
    """A message before it is signed."""

    name: str
    """Of its file, without suffix."""
    title: str
    """What it is."""
    why: str
    """Why there is a vector of it."""
    key: TestKey
    """Who signs."""
    header: Header
    """All of its header."""
    payload: bytes
    """All of its payload."""

    @property
    def frame(self) -> bytes:
        """The signed frame."""
        return sign_frame(
            self.header, self.payload, fleet_id=FLEET_ID, key=self.key.key
        )


def header_of(frame_class: FrameClass, key: TestKey, **changes: int | bytes) -> Header:
    """Return a header for a vector, its usual values changed as told."""
    header = Header(
        suite=key.key.suite,
        frame_class=frame_class,
        flags=0,
        type=0,
        schema=FRAME_SCHEMA,
        lane=0,
        vehicle_id=CAR_A,
        key_id=key.key.key_id,
        session_id=SESSION,
        seq=1,
        mono_ms=MONO_MS,
        wall_ms=WALL_MS,
        msg_id=bytes(16),
    )
    if frame_class in TYPE_OF_CLASS:
        header = replace(header, type=int(TYPE_OF_CLASS[frame_class]))
    # The values fit their fields; replace() cannot tell mypy so.
    return replace(header, **changes)  # type: ignore[arg-type] # as said above


_SNAPSHOT: Final = Snapshot(
    mode=RentalMode.STOPPED,
    condition=Condition.OK,
    light=Light.RED,
    energy_kind=EnergyKind.FUEL,
    state_version=8,
    rental_id=RENTAL,
    bits=Bits.KEY_PRESENT | Bits.FUEL_CARD_PRESENT,
    energy_pct=63,
    washer_pct=80,
    range_km=410,
    supply_mv=12_640,
    odometer_m=48_211_300,
)

_RESERVE: Final = Reserve(
    rental_id=RENTAL,
    expected_version=7,
    reserved_until_ms=MONO_MS + 900_000,
    lock_default=LockDefault.END,
    language=b"de",
    cards=(CARD,),
    sealed=SEALED,
)

_COMMANDS: Final[tuple[tuple[str, str, Command], ...]] = (
    ("unlock", "the command that everything is judged by", Unlock(RENTAL, 8)),
    ("lock", "a mode and reserved bytes", Lock(RENTAL, ANY_VERSION, LockMode.PARK)),
    (
        "engine_release",
        "lifts a PIN block",
        EngineRelease(RENTAL, 9, HoldReason.PIN_BLOCK_LIFTED),
    ),
    ("engine_hold", "an operator's", EngineHold(RENTAL, 9, HoldReason.OPERATOR)),
    ("reserve", "a counted list and sealed secrets of variable length", _RESERVE),
    (
        "reserve_bare",
        "no card and no secrets: both lengths are zero",
        replace(_RESERVE, cards=(), sealed=b"", lock_default=LockDefault.PARK),
    ),
    (
        "cancel_reservation",
        "the customer's",
        CancelReservation(RENTAL, ANY_VERSION, CancelReason.CUSTOMER),
    ),
    ("set_mode", "refuel", SetMode(RENTAL, 10, ModeRequest.REFUEL)),
    (
        "flash_hazards",
        "no rental: its id is zeros",
        FlashHazards(NO_RENTAL, ANY_VERSION, 30),
    ),
    ("ping", "moves nothing", Ping(NO_RENTAL, ANY_VERSION, bytes(range(16)))),
)


def commands() -> tuple[Case, ...]:
    """Return a case for every opcode."""
    cases = []
    for number, (name, why, command) in enumerate(_COMMANDS + LATER_COMMANDS, start=1):
        opcode = OPCODE_OF[type(command)]
        rule = COMMANDS[opcode]
        header = header_of(
            FrameClass.CMD,
            COMMAND_KEY,
            type=int(opcode),
            schema=COMMAND_SCHEMA,
            lane=int(rule.lane),
            seq=number,
            mono_ms=MONO_MS + rule.ttl_limit_ms,
            msg_id=message_id(number),
        )
        title = f"CMD {opcode.name}"
        payload = build_command(command)
        cases.append(Case(f"cmd_{name}", title, why, COMMAND_KEY, header, payload))
    return tuple(cases)


def events() -> tuple[Case, ...]:
    """Return a case for every event type of one ledger, in its order."""
    return _chain(STORY + LATER_EVENTS, LEDGER)


def next_events() -> tuple[Case, ...]:
    """Return the beginning of the car's next ledger."""
    last = results()[1]
    rows = next_ledger(last.header.seq, entry_hash(last.frame))
    return _chain(rows, NEXT_LEDGER)


def _chain(
    rows: Iterable[tuple[str, str, EventBody]], ledger: bytes
) -> tuple[Case, ...]:
    cases: list[Case] = []
    previous = GENESIS
    for seq, (name, why, body) in enumerate(rows, start=1):
        event_type: EventType = TYPE_OF[type(body)]
        payload = _entry(previous, build_event(placed(name, body, seq)), ledger)
        header = header_of(
            FrameClass.EVENT,
            CAR_A_KEY,
            type=int(event_type),
            schema=EVENT_SCHEMA,
            seq=seq,
            mono_ms=MONO_MS + 1_000 * seq,
            wall_ms=WALL_MS + 1_000 * seq,
            msg_id=event_id(CAR_A.raw, ledger, seq),
        )
        title = f"EVENT {event_type.name}"
        case = Case(f"event_{name}", title, why, CAR_A_KEY, header, payload)
        previous = entry_hash(case.frame)
        cases.append(case)
    return tuple(cases)


def places() -> tuple[Case, ...]:
    """Return the frames that bring the places of `events`."""
    cases = []
    for case in events():
        name, seq = case.name.removeprefix("event_"), case.header.seq
        told = place_at(name, seq)
        if told is not None:
            header = header_of(
                FrameClass.TELEM,
                CAR_A_KEY,
                type=int(FrameType.PLACE),
                seq=100 + seq,
                msg_id=message_id(0x0500 + seq),
            )
            cases.append(
                Case(
                    f"place_{name}",
                    "TELEM PLACE",
                    f"where {case.name} happened, apart from it",
                    CAR_A_KEY,
                    header,
                    EVENT_PLACE.build(told),
                )
            )
    return tuple(cases)


def _entry(previous: bytes, body: bytes, ledger: bytes = LEDGER) -> bytes:
    return LINK.build(EntryLink(ledger, previous, ClockQuality.GNSS)) + body


def results() -> tuple[Case, ...]:
    """Return stored results, next in the ledger of `events`, and a refusal."""
    unlock = commands()[0]
    last = events()[-1]
    done = Result(
        unlock.header.msg_id,
        request_hash(unlock.frame),
        Code.OK,
        Executed.YES,
        Retry.NEVER,
        _SNAPSHOT,
    )
    unsure = replace(
        done,
        code=Code.ACTUATOR_TIMEOUT,
        executed=Executed.MAYBE,
        retry=Retry.NEW_COMMAND,
        snapshot=replace(
            _SNAPSHOT,
            condition=Condition.FAULT,
            energy_pct=None,
            washer_pct=None,
            range_km=None,
            supply_mv=None,
            odometer_m=None,
        ),
    )
    refused = replace(
        done,
        code=Code.SESSION_STALE,
        executed=Executed.MAYBE,
        retry=Retry.AFTER_RESYNC,
    )
    first = _result("ok", "in the ledger", done, last.header.seq + 1, last.frame)
    second = _result(
        "unsure",
        "executed maybe, and a snapshot in which nothing was measured",
        unsure,
        first.header.seq + 1,
        first.frame,
    )
    why = "a refusal is signed and not stored: sequence 0, previous hash zeros"
    return first, second, _result("refused", why, refused, 0, None)


def _result(
    name: str, why: str, result: Result, seq: int, before: bytes | None
) -> Case:
    previous = GENESIS if before is None else entry_hash(before)
    header = header_of(
        FrameClass.RESULT,
        CAR_A_KEY,
        seq=seq,
        msg_id=event_id(CAR_A.raw, LEDGER, seq) if seq else result.request_id,
    )
    payload = _entry(previous, RESULT.build(result))
    title = f"RESULT {result.code.name}"
    return Case(f"result_{name}", title, why, CAR_A_KEY, header, payload)


_SAMPLE: Final = Sample(
    age_ds=0,
    latitude_e7=481_351_250,
    longitude_e7=115_819_810,
    accuracy_dm=25,
    heading_deg=359,
    speed_dkmh=487,
    odometer_m=48_209_000,
    energy_pct=23,
    range_km=120,
    washer_pct=81,
    supply_mv=13_900,
    bits=Bits.ENGINE_RUNNING | Bits.ENGINE_RELEASED | Bits.IGNITION_ON | Bits.MOVING,
    mode=RentalMode.DRIVING,
    signal_pct=77,
)

_ABSENT: Final = Sample(
    age_ds=65_535,
    latitude_e7=None,
    longitude_e7=None,
    accuracy_dm=None,
    heading_deg=None,
    speed_dkmh=None,
    odometer_m=None,
    energy_pct=None,
    range_km=None,
    washer_pct=None,
    supply_mv=None,
    bits=Bits(0),
    mode=RentalMode.AVAILABLE,
    signal_pct=None,
)


def telemetry() -> tuple[Case, ...]:
    """Return telemetry: one sample, none measured, as many as fit."""
    full = tuple(replace(_SAMPLE, age_ds=10 * age) for age in range(29, -1, -1))
    south_west = replace(_SAMPLE, latitude_e7=-900_000_000, longitude_e7=-1_800_000_000)
    rows = (
        ("one", "negative coordinates", 0, (south_west,)),
        ("absent", "a field that was not measured is not 0", 0, (_ABSENT,)),
        ("full", "30 samples in one TCP segment, sent late", FLAG_HISTORICAL, full),
    )
    return tuple(
        Case(
            f"telem_{name}",
            "TELEM",
            why,
            CAR_A_KEY,
            header_of(
                FrameClass.TELEM,
                CAR_A_KEY,
                flags=flags,
                seq=batch,
                msg_id=message_id(0x0200 + batch),
            ),
            TELEMETRY.build(Telemetry(samples)),
        )
        for batch, (name, why, flags, samples) in enumerate(rows, start=1)
    )


def hellos() -> tuple[Case, ...]:
    """Return the first hello of a car's life and one with all it can say."""
    head = results()[1]
    fresh = Hello(
        bundle_version=1,
        firmware=FIRMWARE,
        capabilities=(),
        lanes=(),
        outcomes=(),
        ledger_id=LEDGER,
        head_seq=0,
        head_hash=GENESIS,
        oldest_unreceipted=1,
        storage_free_kib=65_536,
        snapshot=replace(
            _SNAPSHOT,
            mode=RentalMode.AVAILABLE,
            light=Light.GREEN,
            rental_id=NO_RENTAL,
            state_version=1,
            bits=Bits.LOCKED | Bits.KEY_PRESENT | Bits.FUEL_CARD_PRESENT,
        ),
        nonce=NO_NONCE,
        group=0,
        flags=HelloFlags(0),
        clock_quality=ClockQuality.UNSET,
        trusted_floor_ms=0,
        configs=(),
    )
    full = replace(
        fresh,
        nonce=bytes(range(16)),
        group=7,
        flags=HelloFlags(KNOWN_HELLO_FLAGS),
        clock_quality=ClockQuality.SYNC,
        trusted_floor_ms=WALL_MS,
        configs=tuple(ConfigVersion(kind, 40 + kind) for kind in ConfigKind),
        capabilities=tuple(
            Capability(int(code), COMMAND_SCHEMA)
            for code in Opcode
            if code not in ADDED_OPCODES
        ),
        lanes=tuple(
            LaneProgress(COMMAND_KEY.key.key_id, lane, 40 + lane) for lane in Lane
        ),
        outcomes=tuple(
            Outcome(message_id(number), code)
            for number, code in enumerate([Code.OK] * 31 + [Code.IN_PROGRESS], start=1)
        ),
        head_seq=head.header.seq,
        head_hash=entry_hash(head.frame),
        oldest_unreceipted=20,
        snapshot=_SNAPSHOT,
    )
    rows = (
        ("first", "an empty ledger and no command yet", fresh),
        ("full", "every capability and 32 outcomes, the newest still running", full),
    )
    return tuple(
        Case(
            f"hello_{name}",
            "HELLO",
            why,
            CAR_A_KEY,
            header_of(
                FrameClass.HELLO, CAR_A_KEY, seq=seq, msg_id=message_id(0x0300 + seq)
            ),
            HELLO.build(hello),
        )
        for seq, (name, why, hello) in enumerate(rows, start=1)
    )


def receipts() -> tuple[Case, ...]:
    """Return a plain receipt and one with gaps and rejects."""
    entries = events()
    plain = Receipt(LEDGER, 19, entry_hash(entries[18].frame), 64, (), ())
    trouble = Receipt(
        ledger_id=LEDGER,
        upto=4,
        head_hash=entry_hash(entries[3].frame),
        credit=0,
        gaps=(Gap(5, 5), Gap(8, 12)),
        rejects=(Reject(7, Code.BAD_SIGNATURE), Reject(6, Code.BAD_PARAM)),
    )
    rows = (
        ("plain", "frees the rental's report", plain),
        ("trouble", "asks for entries again and refuses others for good", trouble),
    )
    return tuple(
        Case(
            f"receipt_{name}",
            "RECEIPT",
            why,
            RECEIPT_KEY,
            header_of(
                FrameClass.RECEIPT,
                RECEIPT_KEY,
                seq=seq,
                msg_id=message_id(0x0400 + seq),
            ),
            RECEIPT.build(receipt),
        )
        for seq, (name, why, receipt) in enumerate(rows, start=1)
    )
