"""A car that knows the protocol and nothing else: it signs whatever a test wants."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from protocol.codes import (
    Bits,
    ClockQuality,
    Code,
    Condition,
    DeathReason,
    EndReason,
    EnergyKind,
    Executed,
    FrameClass,
    FrameType,
    HelloFlags,
    Light,
    Opcode,
    RentalMode,
    Retry,
)
from protocol.death import DEATH, Death
from protocol.entry import GENESIS, LINK, EntryLink, entry_hash, event_id
from protocol.event import EVENT_SCHEMA, TYPE_OF, EventBody, RentalEnded, build_event
from protocol.fleet import VehiclePart, parse_vehicle
from protocol.frame import Frame, Header, parse_frame
from protocol.hello import HELLO, NO_NONCE, Capability, Hello, LaneProgress, Outcome
from protocol.identity import session_id
from protocol.keyfile import parse_sealing_key, parse_signing_key
from protocol.keys import SigningKey
from protocol.receipt import RECEIPT, Receipt
from protocol.result import RESULT, Result
from protocol.rotation import rotation_message
from protocol.signing import request_hash, sign_frame
from protocol.snapshot import NO_RENTAL, Snapshot
from protocol.telemetry import TELEMETRY, Sample, Telemetry
from protocol.topic import topic_of
from protocol.vehicle_event import KeyRotated

RENTAL: Final = bytes(range(16))

SNAPSHOT: Final = Snapshot(
    mode=RentalMode.AVAILABLE,
    condition=Condition.OK,
    light=Light.GREEN,
    energy_kind=EnergyKind.FUEL,
    state_version=7,
    rental_id=NO_RENTAL,
    bits=Bits.LOCKED,
    energy_pct=60,
    washer_pct=80,
    range_km=400,
    supply_mv=12_600,
    odometer_m=1_000_000,
)

REPORT: Final = RentalEnded(
    rental_id=RENTAL,
    reason=EndReason.CARD,
    authority=bytes(32),
    started_wall_ms=1_800_000_000_000,
    ended_wall_ms=1_800_001_500_000,
    started_quality=ClockQuality.GNSS,
    ended_quality=ClockQuality.GNSS,
    estimated=False,
    total_ms=1_500_000,
    parking_ms=300_000,
    driving_min=20,
    parking_min=5,
    start_odometer_m=1_000_000,
    end_odometer_m=1_012_500,
    distance_m=12_500,
    start_energy_pct=60,
    end_energy_pct=52,
    lowest_energy_pct=52,
    refuel_gain_pct=0,
    start_washer_pct=80,
    end_washer_pct=79,
    range_km=350,
    bits=Bits.LOCKED,
)

EMPTY_HELLO: Final = Hello(
    bundle_version=1,
    firmware=bytes([0, 1, 0, 0]),
    capabilities=tuple(Capability(int(opcode), 1) for opcode in Opcode),
    lanes=(),
    outcomes=(),
    ledger_id=bytes(range(8)),
    head_seq=0,
    head_hash=bytes(32),
    oldest_unreceipted=1,
    storage_free_kib=1000,
    snapshot=SNAPSHOT,
    nonce=NO_NONCE,
    group=0,
    flags=HelloFlags(0),
    clock_quality=ClockQuality.GNSS,
    trusted_floor_ms=0,
    configs=(),
)


class Car:
    """One car with its keys; `boot_ms` is its own clock."""

    def __init__(self, directory: Path, *, boot_ms: Callable[[], int]) -> None:
        identity = parse_vehicle((directory / VehiclePart.IDENTITY).read_bytes())
        self.id = identity.vehicle_id
        self.fleet_id = identity.fleet_id
        self.key = parse_signing_key(
            (directory / VehiclePart.SIGNING_KEY).read_bytes(), name="signing.key"
        )
        self.sealing_key = parse_sealing_key(
            (directory / VehiclePart.SEALING_KEY).read_bytes(), name="sealing.key"
        )
        self.boot_ms = boot_ms
        self.wall_ms = 1_800_000_000_000
        self.boot_counter = 1
        self.hellos = 0
        self.batches = 0
        self.ledger_id = bytes(range(8))
        self.seq = 0
        self.head = GENESIS
        self.snapshot = SNAPSHOT
        self.outcomes: list[Outcome] = []
        self.lanes: dict[tuple[bytes, int], int] = {}
        self.session = b""
        self.renew_session()

    def renew_session(self) -> None:
        self.session = session_id(self.boot_counter, bytes([self.hellos % 256]) * 12)

    def reboot(self) -> None:
        self.boot_counter += 1
        self.lanes.clear()
        self.renew_session()

    def topic(self, frame_class: FrameClass) -> str:
        return topic_of(self.id, frame_class)

    def hello(self, **changes: object) -> bytes:
        self.hellos += 1
        hello = replace(
            EMPTY_HELLO,
            lanes=tuple(
                LaneProgress(key_id, lane, seq)  # type: ignore[arg-type] # an int will do
                for (key_id, lane), seq in self.lanes.items()
            ),
            outcomes=tuple(self.outcomes[-32:]),
            ledger_id=self.ledger_id,
            head_seq=self.seq,
            head_hash=bytes(32) if self.seq == 0 else self.head,
            snapshot=self.snapshot,
        )
        hello = replace(hello, **changes)  # type: ignore[arg-type] # a test's own fields
        return self.sign(
            FrameClass.HELLO, FrameType.HELLO, HELLO.build(hello), seq=self.hellos
        )

    def event(self, body: EventBody, **header: object) -> bytes:
        return self.entry(
            FrameClass.EVENT, int(TYPE_OF[type(body)]), build_event(body), **header
        )

    def entry(
        self, frame_class: FrameClass, number: int, body: bytes, **header: object
    ) -> bytes:
        """Append an entry to the ledger and return its frame."""
        self.seq += 1
        link = EntryLink(self.ledger_id, self.head, ClockQuality.GNSS)
        data = self.sign(
            frame_class,
            number,
            LINK.build(link) + body,
            seq=self.seq,
            msg_id=event_id(self.id.raw, self.ledger_id, self.seq),
            **header,
        )
        self.head = entry_hash(data)
        return data

    def rotate(self, key: SigningKey, *, prover: SigningKey | None = None) -> bytes:
        """Hand over to another key and return the entry that says so."""
        message = rotation_message(
            fleet_id=self.fleet_id,
            vehicle_id=self.id,
            old_key_id=self.key.key_id,
            ledger_id=self.ledger_id,
            seq=self.seq + 1,
        )
        proof = (prover or key).sign(message)
        entry = self.event(KeyRotated(key.verify_key.raw, proof))
        self.key = key
        return entry

    def result(
        self,
        command: bytes,
        code: Code = Code.OK,
        *,
        executed: Executed = Executed.YES,
        retry: Retry = Retry.NEVER,
        in_ledger: bool = True,
    ) -> bytes:
        frame = parse_frame(command)
        header = frame.header
        body = RESULT.build(
            Result(
                request_id=header.msg_id,
                request_hash=request_hash(command),
                code=code,
                executed=executed,
                retry=retry,
                snapshot=self.snapshot,
            )
        )
        if in_ledger:
            self.outcomes.append(Outcome(header.msg_id, code))
            self.lanes[header.key_id, header.lane] = header.seq
            return self.entry(FrameClass.RESULT, FrameType.RESULT, body)
        link = EntryLink(self.ledger_id, self.head, ClockQuality.GNSS)
        return self.sign(
            FrameClass.RESULT, FrameType.RESULT, LINK.build(link) + body, seq=0
        )

    def telemetry(self, *samples: Sample, **header: object) -> bytes:
        self.batches += 1
        return self.sign(
            FrameClass.TELEM,
            FrameType.TELEMETRY,
            TELEMETRY.build(Telemetry(samples)),
            seq=self.batches,
            **header,
        )

    def death(
        self, seq: int | None = None, *, reason: DeathReason = DeathReason.LOST
    ) -> bytes:
        return self.sign(
            FrameClass.DEATH,
            FrameType.DEATH,
            DEATH.build(Death(reason)),
            seq=self.hellos if seq is None else seq,
        )

    def sign(
        self,
        frame_class: FrameClass,
        number: int,
        payload: bytes,
        *,
        seq: int,
        **changes: object,
    ) -> bytes:
        header = Header(
            suite=self.key.suite,
            frame_class=frame_class,
            flags=0,
            type=int(number),
            schema=EVENT_SCHEMA,
            lane=0,
            vehicle_id=self.id,
            key_id=self.key.key_id,
            session_id=self.session,
            seq=seq,
            mono_ms=self.boot_ms(),
            wall_ms=self.wall_ms,
            msg_id=bytes(16),
        )
        header = replace(header, **changes)  # type: ignore[arg-type] # a test's fields
        return sign_frame(header, payload, fleet_id=self.fleet_id, key=self.key)


def sample(**changes: object) -> Sample:
    """Return a sample of a car at rest."""
    values: dict[str, object] = {
        "age_ds": 0,
        "latitude_e7": 481_000_000,
        "longitude_e7": 115_000_000,
        "accuracy_dm": 50,
        "heading_deg": 90,
        "speed_dkmh": 0,
        "odometer_m": 1_000_000,
        "energy_pct": 60,
        "range_km": 400,
        "washer_pct": 80,
        "supply_mv": 12_600,
        "bits": Bits.LOCKED,
        "mode": RentalMode.AVAILABLE,
        "signal_pct": 70,
    }
    return Sample(**(values | changes))  # type: ignore[arg-type] # a test's own fields


def receipt_of(data: bytes) -> Receipt:
    """Read a receipt frame that a car got."""
    return RECEIPT.parse(parse_frame(data).payload)


def frame_of(data: bytes) -> Frame:
    """Read a frame."""
    return parse_frame(data)
