"""What a frame costs: encode and sign, verify and decode; and what a tap costs.

Both codecs and both verifiers are measured in one run, so that their ratios hold
whatever the machine does (docs/adr/0010-two-codecs.md).
"""

from collections.abc import Callable, Iterator

from bridge.verification import Claim, holds
from bridge.verification import verify_frame as verify_sooner
from gateway.core.events import CardPresented
from gateway.core.moment import Moment
from gateway.core.state import Reservation, State
from gateway.core.vehicle import handle
from protocol.codes import (
    Bits,
    ClockQuality,
    EventType,
    FrameClass,
    FrameType,
    Lane,
    LockDefault,
    Opcode,
    RentalMode,
    Suite,
)
from protocol.command import ANY_VERSION, Unlock, build_command, parse_command
from protocol.entry import GENESIS, LINK, EntryLink, split_entry
from protocol.event import EngineStopped, build_event, parse_event
from protocol.frame import Header, build_unsigned, parse_frame
from protocol.identity import VehicleId, card_digest
from protocol.keys import Ed25519SigningKey
from protocol.packed import entry as packed_entry
from protocol.packed import event as packed_event
from protocol.packed import frame as packed_frame
from protocol.packed import telemetry as packed_telemetry
from protocol.signing import sign_frame, verify_frame
from protocol.telemetry import SAMPLES_LIMIT, TELEMETRY, Sample, Telemetry
from tests.bench.figure import Figure, figure, per_call_us
from tests.gateway.core.scene import RESTING

FLEET = bytes(16)
VEHICLE = VehicleId(bytes(range(16)))
KEY = Ed25519SigningKey.from_seed(bytes(range(32)))
RENTAL = bytes(range(16, 32))
UID = bytes.fromhex("04a1b2c3d4e5f6")

FAST = 10
"""Calls of what is expected to be fast, for each of what is slow."""


def measure() -> Iterator[Figure]:
    """Yield the figures of this file."""
    yield from _command()
    yield from _telemetry()
    yield from _event()
    yield _tap()


def _compared(
    name: str,
    slow: tuple[str, Callable[[], object]],
    fast: tuple[str, Callable[[], object]],
    *,
    calls: int,
    note: str = "",
) -> Iterator[Figure]:
    """Yield both figures and how many times faster the second is.

    The second is called more often, so that a round of it lasts long enough to be
    disturbed as much as one of the first; the ratio is that of the fastest rounds,
    which were disturbed least.
    """
    slow_rounds = per_call_us(slow[1], calls=calls)
    fast_rounds = per_call_us(fast[1], calls=calls * FAST)
    yield figure(f"{name}: {slow[0]}", slow_rounds, "µs", note)
    yield figure(f"{name}: {fast[0]}", fast_rounds, "µs")
    ratio = min(slow_rounds) / min(fast_rounds)
    yield Figure(f"{name}: {slow[0]} / {fast[0]}", ratio, "x", 0.0)


def _header(frame_class: FrameClass, frame_type: int, lane: int) -> Header:
    return Header(
        suite=Suite.ED25519,
        frame_class=frame_class,
        flags=0,
        type=frame_type,
        schema=1,
        lane=lane,
        vehicle_id=VEHICLE,
        key_id=KEY.key_id,
        session_id=bytes(16),
        seq=1,
        mono_ms=1_000,
        wall_ms=1_000,
        msg_id=bytes(16),
    )


def _command() -> Iterator[Figure]:
    header = _header(FrameClass.CMD, Opcode.UNLOCK, Lane.ACCESS)
    unlock = Unlock(RENTAL, ANY_VERSION)

    def encode() -> bytes:
        return sign_frame(header, build_command(unlock), fleet_id=FLEET, key=KEY)

    data, verify_key = encode(), KEY.verify_key
    message, signature = data[:-64], KEY.sign(data[:-64])

    def decode() -> object:
        frame = parse_frame(data)
        verify_frame(frame, fleet_id=FLEET, key=verify_key)
        return parse_command(frame.header.type, frame.header.schema, frame.payload)

    sign = per_call_us(lambda: KEY.sign(message), calls=400)
    yield figure("bare Ed25519 signature", sign, "µs")
    yield from _compared(
        "bare Ed25519 verification",
        ("cryptography", lambda: verify_key.verify(signature, message)),
        ("vodozemac", lambda: holds(Claim(verify_key.raw, signature, message))),
        calls=400,
    )
    yield figure(
        "UNLOCK frame: encode and sign",
        per_call_us(encode, calls=400),
        "µs",
        f"{len(data)} bytes",
    )
    yield figure(
        "UNLOCK frame: verify and decode", per_call_us(decode, calls=400), "µs"
    )


def _telemetry() -> Iterator[Figure]:
    header = _header(FrameClass.TELEM, FrameType.TELEMETRY, 0)
    sample = Sample(
        age_ds=10,
        latitude_e7=None,
        longitude_e7=None,
        accuracy_dm=None,
        heading_deg=None,
        speed_dkmh=412,
        odometer_m=12_345_678,
        energy_pct=61,
        range_km=380,
        washer_pct=70,
        supply_mv=13_900,
        bits=Bits.ENGINE_RUNNING | Bits.MOVING,
        mode=RentalMode.DRIVING,
        signal_pct=80,
    )
    batch = Telemetry((sample,) * SAMPLES_LIMIT)

    def encode() -> bytes:
        return sign_frame(header, TELEMETRY.build(batch), fleet_id=FLEET, key=KEY)

    data, verify_key = encode(), KEY.verify_key

    def decode() -> object:
        return TELEMETRY.parse(parse_frame(data).payload)

    def decode_packed() -> object:
        frame = packed_frame.parse_frame(data)
        return packed_telemetry.parse_telemetry(frame.payload)

    def take() -> object:
        frame = parse_frame(data)
        verify_frame(frame, fleet_id=FLEET, key=verify_key)
        return TELEMETRY.parse(frame.payload)

    def take_packed() -> object:
        frame = packed_frame.parse_frame(data)
        verify_sooner(frame, fleet_id=FLEET, key=verify_key)
        return packed_telemetry.parse_telemetry(frame.payload)

    def build_packed() -> object:
        payload = packed_telemetry.build_telemetry(batch)
        return packed_frame.build_unsigned(header, payload)

    note = f"{SAMPLES_LIMIT} samples, {len(data)} bytes"
    yield figure(
        "TELEM frame: encode and sign", per_call_us(encode, calls=40), "µs", note
    )
    yield from _compared(
        "TELEM frame: encode",
        ("construct", lambda: build_unsigned(header, TELEMETRY.build(batch))),
        ("struct", build_packed),
        calls=40,
    )
    yield from _compared(
        "TELEM frame: decode",
        ("construct", decode),
        ("struct", decode_packed),
        calls=40,
    )
    yield from _compared(
        "TELEM frame: verify and decode",
        ("construct and cryptography", take),
        ("struct and vodozemac", take_packed),
        calls=40,
    )


def _event() -> Iterator[Figure]:
    header = _header(FrameClass.EVENT, EventType.ENGINE_STOPPED, 0)
    stopped = EngineStopped(RENTAL, 12_345_678, 61)
    link = EntryLink(bytes(8), GENESIS, ClockQuality.NTP)
    payload = LINK.build(link) + build_event(stopped)
    data = sign_frame(header, payload, fleet_id=FLEET, key=KEY)

    def decode() -> object:
        frame = parse_frame(data)
        _, body = split_entry(frame.payload)
        return parse_event(frame.header.type, frame.header.schema, body)

    def decode_packed() -> object:
        frame = packed_frame.parse_frame(data)
        _, body = packed_entry.split_entry(frame.payload)
        return packed_event.parse_event(frame.header.type, frame.header.schema, body)

    yield from _compared(
        "EVENT frame: decode",
        ("construct", decode),
        ("struct", decode_packed),
        calls=400,
        note=f"ENGINE_STOPPED, {len(data)} bytes",
    )


def _tap() -> Figure:
    state = State(
        mode=RentalMode.RESERVED,
        reservation=Reservation(
            rental_id=RENTAL,
            until_ms=10_000_000,
            lock_default=LockDefault.END,
            language=b"en",
            cards=(card_digest(RENTAL, UID),),
            sealed=b"",
        ),
        reading=RESTING,
        reading_at_ms=1_000,
    )
    now = Moment(1_000, 1_000, ClockQuality.NTP)
    rounds = per_call_us(
        lambda: handle(state, CardPresented(UID), now=now), calls=1_000
    )
    return figure("card tap: decision of the core", rounds, "µs", "without the disk")
