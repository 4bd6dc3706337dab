"""Makes the feeds once in their time to live, however many ask."""

import asyncio
import hashlib
from dataclasses import dataclass
from typing import Final

import msgspec
from sqlalchemy import Connection

from bridge.gbfs.feeds import Fleet, feeds_of
from bridge.ports import WallClock
from bridge.publication import GbfsSettings, StationSettings
from bridge.registry import RegistryDirectory
from bridge.rows.city import common_area
from bridge.rows.vehicles import load_vehicles
from bridge.stations import Station
from bridge.store import Store
from bridge.wire import LOG
from protocol.business_area import BusinessArea, parse_business_area
from protocol.errors import DecodeError

NAMES: Final = (
    "gbfs",
    "system_information",
    "vehicle_types",
    "vehicle_status",
    "manifest",
    "station_information",
    "station_status",
    "system_pricing_plans",
    "geofencing_zones",
)
"""Feeds that there may be; stations and plans only where settings have some, zones only
where a business area is set."""


@dataclass(frozen=True, slots=True)
class Feed:
    """One feed, ready to be sent."""

    body: bytes
    """JSON."""
    etag: str
    """Strong; the same for the same bytes."""
    left_s: int
    """How long it may still be kept."""


class Publisher:
    """Has the feeds; `feed` makes them anew when their time is over."""

    def __init__(
        self,
        settings: GbfsSettings,
        store: Store,
        registry: RegistryDirectory,
        *,
        stations: tuple[StationSettings, ...] = (),
        now: WallClock,
    ) -> None:
        self._settings = settings
        self._store = store
        self._registry = registry
        self._stations = tuple(map(Station.of, stations))
        self._now = now
        self._lock = asyncio.Lock()
        self._secret = b""
        self._made_ms = 0
        self._bodies: dict[str, bytes] = {}

    async def feed(self, name: str) -> Feed | None:
        """Return a feed, or None if there is none of this name now.

        Raises:
            StoreError: it has to be made anew and the store cannot be read.
        """
        async with self._lock:
            age_ms = self._now() - self._made_ms
            if not 0 <= age_ms < self._settings.ttl_s * 1_000:
                await self._make()
                age_ms = 0
        body = self._bodies.get(name)
        if body is None:
            return None
        digest = hashlib.sha256(body).hexdigest()[:32]
        left_s = self._settings.ttl_s - age_ms // 1_000
        return Feed(body, f'"{digest}"', left_s)

    async def _make(self) -> None:
        if not self._secret:
            # One for all bridges on this store, and the same after a restart.
            self._secret = await self._store.feed_secret()
        now = self._now()
        feeds = feeds_of(
            self._settings,
            await self._store.look(self._look),
            secret=self._secret,
            now=now,
        )
        self._bodies = {name: msgspec.json.encode(feed) for name, feed in feeds.items()}
        self._made_ms = now

    def _look(self, connection: Connection) -> Fleet:
        states = load_vehicles(connection, self._registry.current)
        return Fleet(states, _area(common_area(connection)), self._stations)


def _area(body: bytes | None) -> BusinessArea | None:
    if body is None:
        return None
    try:
        return parse_business_area(body)
    except DecodeError as error:
        LOG.warning("= GBFS: no zones: %s", error)
        return None
