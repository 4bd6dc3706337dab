"""What a frame costs: encode and sign, verify and decode; and what a tap costs."""

from collections.abc import Iterator

from gateway.core.events import CardPresented
from gateway.core.moment import Moment
from gateway.core.state import Reservation, State
from gateway.core.vehicle import handle
from protocol.codes import (
    Bits,
    ClockQuality,
    FrameClass,
    FrameType,
    Lane,
    LockDefault,
    Opcode,
    RentalMode,
    Suite,
)
from protocol.command import ANY_VERSION, Unlock, build_command, parse_command
from protocol.frame import Header, parse_frame
from protocol.identity import VehicleId, card_digest
from protocol.keys import SigningKey
from protocol.signing import sign_frame, verify_frame
from protocol.telemetry import SAMPLES_LIMIT, TELEMETRY, Sample, Telemetry
from tests.bench.figure import Figure, figure, per_call_us
from tests.gateway.core.scene import RESTING

FLEET = bytes(16)
VEHICLE = VehicleId(bytes(range(16)))
KEY = SigningKey.from_seed(bytes(range(32)))
RENTAL = bytes(range(16, 32))
UID = bytes.fromhex("04a1b2c3d4e5f6")


def measure() -> Iterator[Figure]:
    """Yield the figures of this file."""
    yield from _command()
    yield from _telemetry()
    yield _tap()


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
    verify = per_call_us(lambda: verify_key.verify(signature, message), calls=400)
    yield figure("bare Ed25519 signature", sign, "µs")
    yield figure("bare Ed25519 verification", verify, "µs")
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
        frame = parse_frame(data)
        verify_frame(frame, fleet_id=FLEET, key=verify_key)
        return TELEMETRY.parse(frame.payload)

    note = f"{SAMPLES_LIMIT} samples, {len(data)} bytes"
    yield figure(
        "TELEM frame: encode and sign", per_call_us(encode, calls=40), "µs", note
    )
    yield figure(
        "TELEM frame: verify and decode", per_call_us(decode, calls=40), "µs", note
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
