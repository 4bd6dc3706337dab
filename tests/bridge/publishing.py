"""Settings of what others are given, as tests use them."""

from typing import Final

from bridge.publication import (
    GbfsSettings,
    MdsSettings,
    PlanSettings,
    SegmentSettings,
    StationSettings,
)

MDS: Final = MdsSettings(provider_id="0b6a2d7c-7a4e-4c52-9a53-1f7d0b8f6f10")

GBFS: Final = GbfsSettings(
    system_id="ours",
    name="Unsere Flotte",
    language="de",
    timezone="Europe/Berlin",
    email="feeds@fleet.example",
    url="https://api.fleet.example",
    ttl_s=30,
    plans=(
        PlanSettings(
            id="minute",
            name="Minutentarif",
            description="31 Cent je Minute, ab dem 100. Kilometer 25 Cent je Kilometer",
            currency="EUR",
            per_minute=(SegmentSettings(rate=0.31),),
            per_km=(SegmentSettings(rate=0.25, start=100),),
        ),
        PlanSettings(
            id="strom-tag",
            name="Stromtag",
            description="Ein Tag mit einem elektrischen Auto",
            currency="EUR",
            price=49.0,
            energy="electric",
            per_minute=(SegmentSettings(rate=0.1, start=1_440, end=2_880),),
        ),
    ),
)

STATIONS: Final = (
    StationSettings(
        id="bahnhof",
        name="Parkplatz am Bahnhof",
        area=((48.13, 11.57), (48.13, 11.58), (48.14, 11.58), (48.14, 11.57)),
        places=12,
        has_chargers=True,
    ),
    StationSettings(
        id="leer",
        name="Wo keines steht",
        area=((48.2, 11.57), (48.2, 11.58), (48.21, 11.58)),
        places=1,
    ),
)
"""In the first one stand the cars of tests."""
