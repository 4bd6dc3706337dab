"""Settings of what others are given: a city by MDS, everybody by GBFS.

Both are off unless their section is there::

    [mds]
    provider_id = "0b6a2d7c-7a4e-4c52-9a53-1f7d0b8f6f10"

    [gbfs]
    system_id = "stadtflotte"
    name = "Stadtflotte"
    language = "de"
    timezone = "Europe/Berlin"
    email = "feeds@stadtflotte.example"
    url = "https://api.stadtflotte.example"

    [[gbfs.plans]]
    id = "minute"
    name = "Minutentarif"
    description = "31 Cent je Minute"
    currency = "EUR"
    per_minute = [{ rate = 0.31 }]

    [[stations]]
    id = "bahnhof"
    name = "Parkplatz am Bahnhof"
    area = [[48.1, 11.5], [48.1, 11.51], [48.11, 11.51]]
    places = 12
"""

from typing import Annotated, Literal

import msgspec

UUID: str = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"

Word = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
Identifier = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
Latitude = Annotated[float, msgspec.Meta(ge=-90, le=90)]
Longitude = Annotated[float, msgspec.Meta(ge=-180, le=180)]
Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
Uuid = Annotated[str, msgspec.Meta(pattern=UUID)]
Kilometres = Annotated[int, msgspec.Meta(ge=1, le=3_000)]


class MdsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a city is given: MDS 2.0, mode car-share."""

    provider_id: Uuid
    """The operator's id in the list of MDS providers, or one that the city gave."""
    geography_id: Uuid | None = None
    """The city's id of the whole area: what an event names whose place is not known or
    is erased. Without it one is made of the provider's id."""


class StationSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A place where cars have room of their own: a car park, a row of chargers."""

    id: Identifier
    """Stays the same for ever."""
    name: Word
    """For people."""
    area: Annotated[tuple[tuple[Latitude, Longitude], ...], msgspec.Meta(min_length=3)]
    """Its corners, latitude and longitude in degrees, in order around it."""
    places: Annotated[int, msgspec.Meta(ge=1, le=10_000)]
    """How many cars there is room for."""
    has_chargers: bool = False
    """Whether electric cars are charged there."""


class SegmentSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a price that grows with minutes or kilometres."""

    rate: float
    """What each interval costs, in the plan's currency; less than 0 is a discount."""
    start: Count = 0
    """Minutes or kilometres after which it begins."""
    interval: Count = 1
    """Minutes or kilometres for which one rate is paid; 0 is paid once."""
    end: Count | None = None
    """Minutes or kilometres at which it ends; None for never."""


class PlanSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What renting costs, for people and journey planners; the bridge bills nobody."""

    id: Identifier
    """Stays the same for ever."""
    name: Word
    """For people."""
    description: Annotated[str, msgspec.Meta(min_length=1, max_length=2_000)]
    """For people, in words."""
    currency: Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{3}$")]
    """By ISO 4217, such as EUR."""
    price: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """What a rental costs before minutes and kilometres."""
    is_taxable: bool = False
    """Whether tax comes on top of these prices."""
    per_minute: tuple[SegmentSettings, ...] = ()
    """What time costs."""
    per_km: tuple[SegmentSettings, ...] = ()
    """What distance costs."""
    energy: Literal["fuel", "electric"] | None = None
    """Which cars it is for; None for all."""


class GbfsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What everybody is given: GBFS 3.0."""

    system_id: Identifier
    """Stays the same for ever."""
    name: Word
    """Of the service, for people."""
    timezone: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_]+(/[A-Za-z0-9_+-]+)*$")]
    """Such as Europe/Berlin."""
    email: Annotated[str, msgspec.Meta(pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$")]
    """Who is told of mistakes in the feeds."""
    url: Annotated[str, msgspec.Meta(pattern=r"^https?://[^\s/@]+(/[^\s@]*[^/\s@])?$")]
    """Where others reach this API, without a slash at the end."""
    language: Annotated[str, msgspec.Meta(pattern=r"^[a-z]{2,3}(-[A-Z]{2})?$")] = "en"
    """Of the name."""
    opening_hours: Word = "24/7"
    """As OpenStreetMap writes them."""
    fuel_range_km: Kilometres = 600
    """How far a fuelled car drives with a full tank."""
    electric_range_km: Kilometres = 300
    """How far an electric car drives with a full battery."""
    ttl_s: Annotated[int, msgspec.Meta(ge=5, le=300)] = 60
    """How long a feed may be kept; it is made once in this time."""
    plans: tuple[PlanSettings, ...] = ()
    """What renting costs; the first one for a kind of car is that kind's usual one."""
