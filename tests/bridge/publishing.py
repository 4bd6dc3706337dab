"""Settings of what others are given, as tests use them."""

from typing import Final

from bridge.publication import GbfsSettings, MdsSettings

MDS: Final = MdsSettings(provider_id="0b6a2d7c-7a4e-4c52-9a53-1f7d0b8f6f10")

GBFS: Final = GbfsSettings(
    system_id="ours",
    name="Unsere Flotte",
    language="de",
    timezone="Europe/Berlin",
    email="feeds@fleet.example",
    url="https://api.fleet.example",
    ttl_s=30,
)
