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
"""

from typing import Annotated

import msgspec

UUID: str = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"

Word = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
Uuid = Annotated[str, msgspec.Meta(pattern=UUID)]
Kilometres = Annotated[int, msgspec.Meta(ge=1, le=3_000)]


class MdsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a city is given: MDS 2.0, mode car-share."""

    provider_id: Uuid
    """The operator's id in the list of MDS providers, or one that the city gave."""
    geography_id: Uuid | None = None
    """The city's id of the whole area: what an event names whose place is not known or
    is erased. Without it one is made of the provider's id."""


class GbfsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What everybody is given: GBFS 3.0."""

    system_id: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
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
