"""The configuration body STATIONS (C15, H17)."""

from dataclasses import replace

import pytest

from protocol.codes import EnergyKind
from protocol.errors import DecodeError
from protocol.station_list import (
    STATIONS_LIMIT,
    Station,
    build_station_list,
    parse_station_list,
)

ELM = Station(7, "Elm Street", 481_000_000, 115_000_000, pays_online=True)
CHARGER = Station(8, "Dock", -481_000_000, -1_799_999_999, EnergyKind.ELECTRIC, 40)


def test_a_list_survives_its_body() -> None:
    assert parse_station_list(build_station_list((ELM, CHARGER))) == (ELM, CHARGER)


def test_a_station_has_75_metres_unless_it_says_otherwise() -> None:
    # H17
    body = b'{"format":1,"stations":[{"id":7,"name":"A","at":[48.1,11.5]}]}'

    [station] = parse_station_list(body)

    assert station == Station(7, "A", 481_000_000, 115_000_000, EnergyKind.FUEL, 75)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"no json", "list of stations"),
        (b'{"format":2,"stations":[]}', "format 2"),
        (b'{"format":1,"stations":[{"id":7,"name":"A"}]}', "at"),
        (
            b'{"format":1,"stations":[{"id":7,"name":"A","at":[1,2],"energy":"tea"}]}',
            "station 7: unknown energy 'tea'",
        ),
        (build_station_list((replace(ELM, station_id=-1),)), "its id is no u32"),
        (build_station_list((replace(ELM, station_id=2**32),)), "its id is no u32"),
        (build_station_list((replace(ELM, name=""),)), "1 to 32 bytes"),
        (build_station_list((replace(ELM, name="ü" * 17),)), "1 to 32 bytes"),
        (build_station_list((replace(ELM, name="a\nb"),)), "control character"),
        (build_station_list((replace(ELM, latitude_e7=10**9),)), "not on the earth"),
        (build_station_list((replace(ELM, longitude_e7=2 * 10**9),)), "on the earth"),
        (build_station_list((replace(ELM, radius_m=0),)), "1 to 500 m"),
        (build_station_list((replace(ELM, radius_m=501),)), "1 to 500 m"),
        (build_station_list((ELM, replace(CHARGER, station_id=7))), "the same id"),
        (
            build_station_list(
                tuple(replace(ELM, station_id=n) for n in range(STATIONS_LIMIT + 1))
            ),
            "limit 1000",
        ),
    ],
)
def test_what_is_no_list_is_refused_with_the_reason(
    body: bytes, complaint: str
) -> None:
    with pytest.raises(DecodeError, match=complaint):
        parse_station_list(body)
