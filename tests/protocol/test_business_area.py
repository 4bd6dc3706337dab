"""The configuration body BUSINESS_AREA (H20)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.business_area import (
    CORNERS_LIMIT,
    BusinessArea,
    build_business_area,
    parse_business_area,
)
from protocol.errors import DecodeError
from protocol.place import E7

Polygon = tuple[tuple[int, int], ...]


def square(lat: int, lon: int, side: int) -> Polygon:
    return ((lat, lon), (lat, lon + side), (lat + side, lon + side), (lat + side, lon))


CITY = square(48 * E7, 11 * E7, E7)
PARK = square(48 * E7 + 4_000_000, 11 * E7 + 4_000_000, 1_000_000)
AREA = BusinessArea((CITY,), (PARK,))


def test_an_area_survives_its_body() -> None:
    assert parse_business_area(build_business_area(AREA)) == AREA


@pytest.mark.parametrize(
    ("lat", "lon", "is_inside"),
    [
        (48.2, 11.2, True),
        (48.45, 11.45, False),
        (47.9, 11.5, False),
        (48.5, 12.1, False),
        (48.5, 10.9, False),
        (49.1, 11.5, False),
    ],
)
def test_a_place_is_inside_the_city_and_not_in_the_park(
    lat: float, lon: float, *, is_inside: bool
) -> None:
    assert AREA.contains(round(lat * E7), round(lon * E7)) is is_inside


@given(
    lat=st.integers(-3_000, 3_000),
    lon=st.integers(-3_000, 3_000),
    turn=st.integers(0, 3),
    backwards=st.booleans(),
)
def test_a_square_holds_what_lies_between_its_sides_however_it_is_drawn(
    lat: int, lon: int, turn: int, *, backwards: bool
) -> None:
    corners = square(-1_000, -1_000, 2_000)
    corners = corners[turn:] + corners[:turn]
    area = BusinessArea((corners[::-1] if backwards else corners,), ())

    inside = -1_000 <= lat < 1_000 and -1_000 <= lon < 1_000
    on_edge = abs(lat) == 1_000 or abs(lon) == 1_000
    assert on_edge or area.contains(lat, lon) is inside


def test_an_area_that_is_not_convex_leaves_its_bay_out() -> None:
    bay = ((0, 0), (0, 300), (300, 300), (300, 200), (100, 150), (300, 100), (300, 0))

    assert BusinessArea((bay,), ()).contains(50, 150)
    assert not BusinessArea((bay,), ()).contains(250, 150)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"[]", "business area"),
        (b'{"format":2,"inside":[]}', "format 2"),
        (b'{"format":1,"inside":[[[1,1],[2,2]]]}', "at least 3 corners"),
        (b'{"format":1,"inside":[[[1,1],[2,2],[91,0]]]}', "not on the earth"),
        (b'{"format":1,"inside":[],"outside":[[[1,1],[2,2],[0,181]]]}', "not on the"),
        (build_business_area(BusinessArea((((0, 0),) * (CORNERS_LIMIT + 1),), ())),
         "limits 200 and 2000"),
        (build_business_area(BusinessArea((CITY,) * 201, ())), "201 polygons"),
    ],
)  # fmt: skip
def test_what_is_no_area_is_refused_with_the_reason(
    body: bytes, complaint: str
) -> None:
    with pytest.raises(DecodeError, match=complaint):
        parse_business_area(body)
