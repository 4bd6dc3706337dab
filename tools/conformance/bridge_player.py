"""The car that the kit plays to a bridge: its keys, its ledger, and its frames.

Pure: time is given. Right frames are built by `protocol`; wrong ones are right ones
that were changed and signed again over their bytes, since `protocol` builds no wrong
frame. A player never minds what the bridge answers.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from protocol.codes import (
    AccessMeans,
    Bits,
    ClockQuality,
    Code,
    Condition,
    EnergyKind,
    EventType,
    Executed,
    FrameClass,
    FrameType,
    HelloFlags,
    Light,
    RentalMode,
    Retry,
)
from protocol.command import COMMANDS
from protocol.entry import FIRST_SEQ, GENESIS, LINK, EntryLink, entry_hash, event_id
from protocol.event import (
    EVENT_SCHEMA,
    TYPE_OF,
    AgentStarted,
    EventBody,
    Parked,
    build_event,
)
from protocol.fleet import VehiclePart, parse_trust_roots, parse_vehicle
from protocol.frame import Header, parse_frame
from protocol.hello import HELLO, NO_NONCE, Capability, Hello
from protocol.identity import session_id
from protocol.keyfile import parse_signing_key
from protocol.keys import SIGNATURE_SIZE, SigningKey, VerifyKey
from protocol.place import EVENT_PLACE, EventPlace, Place, commitment_of
from protocol.rental_codes import ResetReason
from protocol.result import RESULT, Result
from protocol.rotation import rotation_message
from protocol.signing import request_hash, sign_frame, to_be_signed
from protocol.snapshot import NO_RENTAL, Snapshot
from protocol.telemetry import TELEMETRY, Sample, Telemetry
from protocol.trust import TrustBundle, open_bundle
from protocol.vehicle_event import KeyRotated, LedgerReset

FIRMWARE: Final = bytes([0, 0, 1, 0])
RENTAL: Final = b"conformance-kit!"
"""The rental that entries with a place tell of; 16 bytes."""

SNAPSHOT: Final = Snapshot(
    mode=RentalMode.AVAILABLE,
    condition=Condition.OK,
    light=Light.GREEN,
    energy_kind=EnergyKind.FUEL,
    state_version=1,
    rental_id=NO_RENTAL,
    bits=Bits.LOCKED,
    energy_pct=60,
    washer_pct=None,
    range_km=None,
    supply_mv=12_600,
    odometer_m=1_000,
)
"""The state of the played car, which never changes."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When a frame is signed."""

    boot_ms: int
    """The car's boot clock."""
    wall_ms: int
    """UTC."""


class Player:
    """One car that says whatever a check wants."""

    def __init__(self, directory: Path) -> None:
        """Read the car's identity, signing key and trust.

        Args:
            directory: of one vehicle, as `freefloat certs vehicle` makes it.

        Raises:
            ProtocolError, OSError: a file is missing or wrong.
        """

        def read(part: VehiclePart) -> bytes:
            return (directory / part).read_bytes()

        identity = parse_vehicle(read(VehiclePart.IDENTITY))
        self.directory = directory
        """Where its TLS identity lies too."""
        self.vehicle_id = identity.vehicle_id
        self.fleet_id = identity.fleet_id
        self.key = parse_signing_key(
            read(VehiclePart.SIGNING_KEY), name=VehiclePart.SIGNING_KEY
        )
        self.roots = parse_trust_roots(read(VehiclePart.TRUST_ROOTS))
        self.bundle: TrustBundle = open_bundle(
            read(VehiclePart.TRUST_BUNDLE), self.roots, fleet_id=self.fleet_id
        )
        loaded = [(VerifyKey.load(one.public_key), one) for one in self.bundle.keys]
        self.fleet_keys = {key.key_id: (key, one) for key, one in loaded}
        """The fleet's keys of its bundle, by id."""
        self.group = identity.group
        self.session = b""
        self.hello_seq = 0
        self.ledger_id = bytes(8)
        self.seq = 0
        self.head = self.before_head = GENESIS
        self.moment = Moment(0, 0)

    def begin(self, moment: Moment, random_bits: bytes) -> bytes:
        """Lose the ledger, begin another and a session; return its first entry.

        The count of starts is the time in seconds: it rises from run to run without a
        file that somebody could lose.

        Args:
            moment: now.
            random_bits: 20 bytes.
        """
        lost, lost_seq, lost_head = self.ledger_id, self.seq, self.head
        self.restart(moment, random_bits[:12])
        self.ledger_id, self.seq, self.head = random_bits[12:], 0, GENESIS
        return self.event(
            LedgerReset(
                lost, lost_seq, lost_head if lost_seq else GENESIS, ResetReason.LOST
            )
        )

    def restart(self, moment: Moment, random_bits: bytes) -> None:
        """Begin a session with these 12 random bytes; the ledger goes on."""
        self.moment = moment
        self.session = session_id(moment.wall_ms // 1000, random_bits)

    def hello(
        self,
        *,
        nonce: bytes = NO_NONCE,
        bundle_version: int | None = None,
        session: bytes | None = None,
        seq: int | None = None,
    ) -> bytes:
        """Return a hello about the ledger as it is."""
        self.hello_seq = max(self.hello_seq + 1, self.moment.wall_ms)
        version = self.bundle.version if bundle_version is None else bundle_version
        hello = Hello(
            bundle_version=version,
            firmware=FIRMWARE,
            capabilities=tuple(Capability(int(opcode), 1) for opcode in COMMANDS),
            lanes=(),
            outcomes=(),
            ledger_id=self.ledger_id,
            head_seq=self.seq,
            head_hash=self.head,
            oldest_unreceipted=FIRST_SEQ,
            storage_free_kib=1_000,
            snapshot=SNAPSHOT,
            nonce=nonce,
            group=self.group,
            flags=HelloFlags(0),
            clock_quality=ClockQuality.NTP,
            trusted_floor_ms=0,
            configs=(),
        )
        header = self._header(
            FrameClass.HELLO,
            FrameType.HELLO,
            seq=self.hello_seq if seq is None else seq,
        )
        if session is not None:
            header = replace(header, session_id=session)
        return self._sign(header, HELLO.build(hello))

    def event(self, body: EventBody) -> bytes:
        """Append an event and return its frame."""
        return self.entry(FrameClass.EVENT, int(TYPE_OF[type(body)]), build_event(body))

    def started(self) -> bytes:
        """Append an entry that means little, and return its frame."""
        return self.event(AgentStarted(boot_counter=1, firmware=FIRMWARE))

    def beside(self, prev_hash: bytes | None = None) -> bytes:
        """Return another frame for the place of the newest entry; append nothing.

        Args:
            prev_hash: 32 bytes that it names, instead of those that the newest entry
                would.
        """
        if prev_hash is None:
            prev_hash = self.before_head
        body = build_event(AgentStarted(boot_counter=2, firmware=FIRMWARE))
        return self._entry(
            FrameClass.EVENT, int(EventType.AGENT_STARTED), body, self.seq, prev_hash
        )

    def parked(self, place: Place, salt: bytes) -> tuple[bytes, bytes]:
        """Append an entry with a place; return the frame of the place and its own."""
        told = EventPlace(self.ledger_id, self.seq + 1, salt, place)
        entry = self.event(
            Parked(
                RENTAL,
                AccessMeans.CARD,
                None,
                commitment_of(self.vehicle_id, told),
            )
        )
        return self.place(told), entry

    def place(self, told: EventPlace) -> bytes:
        """Return the frame of a place."""
        header = self._header(FrameClass.TELEM, FrameType.PLACE, seq=told.seq)
        return self._sign(header, EVENT_PLACE.build(told))

    def telemetry(self, *, schema: int = EVENT_SCHEMA, number: int = 1) -> bytes:
        """Return a frame with one sample in which nothing was measured."""
        sample = Sample(
            age_ds=0,
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
            bits=Bits.LOCKED,
            mode=RentalMode.AVAILABLE,
            signal_pct=None,
        )
        header = self._header(FrameClass.TELEM, FrameType.TELEMETRY, seq=number)
        payload = TELEMETRY.build(Telemetry((sample,)))
        return self._sign(replace(header, schema=schema), payload)

    def result(self, command: bytes, *, hash_of: bytes | None = None) -> bytes:
        """Append the result OK of a command and return its frame.

        Args:
            command: its frame.
            hash_of: the frame that the request hash is of, instead.
        """
        body = Result(
            request_id=parse_frame(command).header.msg_id,
            request_hash=request_hash(command if hash_of is None else hash_of),
            code=Code.OK,
            executed=Executed.YES,
            retry=Retry.NEVER,
            snapshot=SNAPSHOT,
        )
        return self.entry(FrameClass.RESULT, FrameType.RESULT, RESULT.build(body))

    def rotation(self, new: SigningKey, *, prover: SigningKey | None = None) -> bytes:
        """Append KEY_ROTATED, signed by the old key, and return its frame.

        Args:
            new: the key that it names.
            prover: signs the proof instead of `new`.
        """
        message = rotation_message(
            fleet_id=self.fleet_id,
            vehicle_id=self.vehicle_id,
            old_key_id=self.key.key_id,
            ledger_id=self.ledger_id,
            seq=self.seq + 1,
        )
        proof = (prover or new).sign(message)
        return self.event(KeyRotated(new.verify_key.raw, proof))

    def entry(
        self,
        frame_class: FrameClass,
        number: int,
        body: bytes,
        *,
        schema: int = EVENT_SCHEMA,
    ) -> bytes:
        """Append an entry of any type and body and return its frame."""
        self.before_head = self.head
        self.seq += 1
        data = self._entry(
            frame_class, number, body, self.seq, self.head, schema=schema
        )
        self.head = entry_hash(data)
        return data

    def alone(self, seq: int) -> bytes:
        """Return an event with this sequence that is in no ledger of this car."""
        body = build_event(AgentStarted(boot_counter=3, firmware=FIRMWARE))
        return self._entry(
            FrameClass.EVENT, int(EventType.AGENT_STARTED), body, seq, self.head
        )

    def resigned(
        self,
        unsigned: bytes,
        *,
        label: FrameClass = FrameClass.EVENT,
        fleet_id: bytes | None = None,
        key: SigningKey | None = None,
    ) -> bytes:
        """Return bytes of any form with a signature that holds over them."""
        fleet = self.fleet_id if fleet_id is None else fleet_id
        signer = self.key if key is None else key
        return unsigned + signer.sign(to_be_signed(label, fleet, unsigned))

    def altered(self, data: bytes, offset: int, value: bytes) -> bytes:
        """Return a frame with other bytes at an offset, signed again over them."""
        unsigned = data[:-SIGNATURE_SIZE]
        return self.resigned(
            unsigned[:offset] + value + unsigned[offset + len(value) :]
        )

    def _entry(
        self,
        frame_class: FrameClass,
        number: int,
        body: bytes,
        seq: int,
        prev_hash: bytes,
        *,
        schema: int = EVENT_SCHEMA,
    ) -> bytes:
        link = EntryLink(self.ledger_id, prev_hash, ClockQuality.NTP)
        header = replace(
            self._header(frame_class, number, seq=seq),
            schema=schema,
            msg_id=event_id(self.vehicle_id.raw, self.ledger_id, seq),
        )
        return self._sign(header, LINK.build(link) + body)

    def _header(self, frame_class: FrameClass, number: int, *, seq: int) -> Header:
        return Header(
            suite=self.key.suite,
            frame_class=frame_class,
            flags=0,
            type=int(number),
            schema=EVENT_SCHEMA,
            lane=0,
            vehicle_id=self.vehicle_id,
            key_id=self.key.key_id,
            session_id=self.session,
            seq=seq,
            mono_ms=self.moment.boot_ms,
            wall_ms=self.moment.wall_ms,
            msg_id=bytes(16),
        )

    def _sign(self, header: Header, payload: bytes) -> bytes:
        return sign_frame(header, payload, fleet_id=self.fleet_id, key=self.key)
