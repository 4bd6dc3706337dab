"""`protocol.telemetry` again, by hand and unrolled: most of what a fleet says.

One frame holds up to 30 samples of 14 values; a call for each value would cost as much
as everything else together.
"""

import struct
from typing import Final

from protocol.codes import Code, RentalMode
from protocol.errors import DecodeError, EncodeError
from protocol.packed.drafted import drafted
from protocol.packed.record import (
    PERCENTS,
    bits_of,
    built,
    number_of,
    parsed,
    percent_byte,
)
from protocol.telemetry import SAMPLES_LIMIT, Sample, Telemetry

_SAMPLE: Final = struct.Struct(">HiiHHHIBHBHHBB")
"""docs/protocol.md, telemetry: 30 bytes."""

_SAMPLE_OF: Final = drafted(Sample)

_UNPLACED: Final = 0x7FFF_FFFF
_NO_U16: Final = 0xFFFF
_NO_U32: Final = 0xFFFF_FFFF
"""Not measured: the largest number of a field."""

_NORTH: Final = 900_000_000
_EAST: Final = 1_800_000_000
"""90 and 180 degrees times 10^7."""

_CIRCLE: Final = 360
"""Degrees; a heading is below."""

_MODES: Final = {int(mode): mode for mode in RentalMode}


def parse_telemetry(data: bytes) -> Telemetry:
    """Decode the payload of a TELEM frame.

    Raises:
        DecodeError: as the layout `protocol.telemetry.TELEMETRY` raises it.
    """
    return parsed("Telemetry", _read, data)


def build_telemetry(telemetry: Telemetry) -> bytes:
    """Encode the payload of a TELEM frame.

    Raises:
        EncodeError: a value does not fit its field, or there are too many samples.
    """
    return built("Telemetry", _write, telemetry)


def _read(data: bytes) -> tuple[Telemetry, int]:
    count = data[0]
    if count > SAMPLES_LIMIT:
        raise DecodeError(
            Code.BAD_PARAM, f"{count} samples, at most {SAMPLES_LIMIT} fit"
        )
    end = 1 + count * _SAMPLE.size
    if len(data) < end:
        raise DecodeError(
            Code.BAD_PARAM, f"{len(data)} bytes, {count} samples have {end}"
        )
    samples = tuple([_read_sample(raw) for raw in _SAMPLE.iter_unpack(data[1:end])])
    return Telemetry(samples), end


def _read_sample(raw: tuple[int, ...]) -> Sample:
    (
        age_ds,
        latitude_e7,
        longitude_e7,
        accuracy_dm,
        heading_deg,
        speed_dkmh,
        odometer_m,
        energy_pct,
        range_km,
        washer_pct,
        supply_mv,
        bits,
        mode,
        signal_pct,
    ) = raw
    if not -_NORTH <= latitude_e7 <= _NORTH and latitude_e7 != _UNPLACED:
        raise _refused("latitude_e7", latitude_e7)
    if not -_EAST <= longitude_e7 <= _EAST and longitude_e7 != _UNPLACED:
        raise _refused("longitude_e7", longitude_e7)
    if heading_deg >= _CIRCLE and heading_deg != _NO_U16:
        raise _refused("heading_deg", heading_deg)
    try:
        return _SAMPLE_OF(
            age_ds,
            None if latitude_e7 == _UNPLACED else latitude_e7,
            None if longitude_e7 == _UNPLACED else longitude_e7,
            None if accuracy_dm == _NO_U16 else accuracy_dm,
            None if heading_deg == _NO_U16 else heading_deg,
            None if speed_dkmh == _NO_U16 else speed_dkmh,
            None if odometer_m == _NO_U32 else odometer_m,
            PERCENTS[energy_pct],
            None if range_km == _NO_U16 else range_km,
            PERCENTS[washer_pct],
            None if supply_mv == _NO_U16 else supply_mv,
            bits_of(bits),
            _MODES[mode],
            PERCENTS[signal_pct],
        )
    except KeyError as error:
        raise _refused("a level or the mode", error.args[0]) from None


def _refused(name: str, raw: int) -> DecodeError:
    return DecodeError(Code.BAD_PARAM, f"Sample: {name} may not be {raw}")


def _write(telemetry: Telemetry) -> bytes:
    samples = telemetry.samples
    if len(samples) > SAMPLES_LIMIT:
        raise EncodeError(f"{len(samples)} samples, at most {SAMPLES_LIMIT} fit")
    return bytes([len(samples)]) + b"".join([_sample(sample) for sample in samples])


def _sample(sample: Sample) -> bytes:
    latitude, longitude = sample.latitude_e7, sample.longitude_e7
    if latitude is None:
        latitude = _UNPLACED
    elif not -_NORTH <= latitude <= _NORTH:
        raise EncodeError(f"latitude_e7 may not be {latitude}")
    if longitude is None:
        longitude = _UNPLACED
    elif not -_EAST <= longitude <= _EAST:
        raise EncodeError(f"longitude_e7 may not be {longitude}")
    heading = sample.heading_deg
    if heading is None:
        heading = _NO_U16
    elif not 0 <= heading < _CIRCLE:
        raise EncodeError(f"heading_deg may not be {heading}")
    return _SAMPLE.pack(
        sample.age_ds,
        latitude,
        longitude,
        _number(sample.accuracy_dm, _NO_U16),
        heading,
        _number(sample.speed_dkmh, _NO_U16),
        _number(sample.odometer_m, _NO_U32),
        percent_byte(sample.energy_pct),
        _number(sample.range_km, _NO_U16),
        percent_byte(sample.washer_pct),
        _number(sample.supply_mv, _NO_U16),
        number_of(sample.bits),
        _MODES[sample.mode],
        percent_byte(sample.signal_pct),
    )


def _number(value: int | None, absent: int) -> int:
    if value == absent:
        raise EncodeError(f"{absent} is reserved for 'not measured'")
    return absent if value is None else value
