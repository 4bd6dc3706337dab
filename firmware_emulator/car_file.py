"""A car's physical state in a file, so that it stands where it was left.

A gateway's ledger outlives the emulator; a car whose odometer went back in between
would be no car. Written when an emulated car is put away, read when it is taken out.
"""

from pathlib import Path
from random import Random
from typing import Annotated, Final

import msgspec

from firmware_emulator.car import Car, CarModel
from firmware_emulator.errors import CarFileError
from firmware_emulator.street import City, Heading, Place
from firmware_emulator.upkeep import Upkeep
from protocol.codes import EnergyKind

CAR_FILE: Final = "car.json"
"""Name in a car's data directory."""

FORMAT: Final = 1

_FILE_LIMIT: Final = 4_096

Percent = Annotated[int, msgspec.Meta(ge=0, le=100)]
Litres = Annotated[float, msgspec.Meta(ge=0, le=1_000)]


class _CarFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    east_mm: int
    north_mm: int
    heading_deg: int
    odometer_mm: Annotated[int, msgspec.Meta(ge=0)]
    fuel_l: Litres
    washer_l: Litres
    battery: Annotated[float, msgspec.Meta(ge=0, le=1)]
    locked: bool
    starter_released: bool
    key_in_holder: bool
    fuel_card_in_holder: bool
    electric: bool = False
    service_km: Annotated[int, msgspec.Meta(ge=0, le=65_534)] = 12_000
    oil_pct: Percent = 80
    brake_pct: Percent = 70
    tread_dmm: Annotated[int, msgspec.Meta(ge=0, le=254)] = 60


def save_car(car: Car, path: Path) -> None:
    """Write where and how a car was left; it is taken to stand with its engine off.

    Raises:
        OSError: it could not be written.
    """
    file = _CarFile(
        format=FORMAT,
        east_mm=car.place.east_mm,
        north_mm=car.place.north_mm,
        heading_deg=car.heading.value,
        odometer_mm=car.odometer_mm,
        fuel_l=car.fuel_l,
        washer_l=car.washer_l,
        battery=car.battery,
        locked=car.locked,
        starter_released=car.starter_released,
        key_in_holder=car.key_in_holder,
        fuel_card_in_holder=car.fuel_card_in_holder,
        electric=car.model.energy_kind is EnergyKind.ELECTRIC,
        service_km=car.upkeep.service_km,
        oil_pct=car.upkeep.oil_pct,
        brake_pct=car.upkeep.brake_pct,
        tread_dmm=car.upkeep.tread_dmm,
    )
    partial = path.with_suffix(".partial")
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(file)) + b"\n")
    partial.replace(path)


def load_car(path: Path, rng: Random, city: City | None = None) -> Car | None:
    """Return the car as it was left, None if there is no file.

    Raises:
        CarFileError: it is no car file.
    """
    city = city or City()
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        if len(data) > _FILE_LIMIT:
            raise msgspec.ValidationError(f"more than {_FILE_LIMIT} bytes")
        read = msgspec.json.decode(data, type=_CarFile)
        heading = Heading(read.heading_deg)
    except (msgspec.DecodeError, ValueError) as error:
        raise CarFileError(f"{path} is no car file: {error}") from None
    place = Place(read.east_mm, read.north_mm)
    if read.format != FORMAT or not city.is_street(place):
        raise CarFileError(f"{path} is of another format or city")
    return Car(
        rng,
        model=CarModel.electric() if read.electric else CarModel(),
        city=city,
        place=place,
        heading=heading,
        odometer_mm=read.odometer_mm,
        fuel_l=read.fuel_l,
        washer_l=read.washer_l,
        battery=read.battery,
        locked=read.locked,
        starter_released=read.starter_released,
        key_in_holder=read.key_in_holder,
        fuel_card_in_holder=read.fuel_card_in_holder,
        upkeep=Upkeep(
            service_km=read.service_km,
            oil_pct=read.oil_pct,
            brake_pct=read.brake_pct,
            tread_dmm=read.tread_dmm,
        ),
    )
