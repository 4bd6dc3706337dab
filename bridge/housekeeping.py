"""What a bridge does by the clock: registry, gaps, silence, its own clock, dates."""

import asyncio
from collections.abc import Iterable
from typing import Final, Protocol

from bridge.clock_watch import ClockWatch
from bridge.errors import SettingsError, StoreError
from bridge.expiry import ExpiryWatch
from bridge.fleet_files import Material
from bridge.intake import Intake
from bridge.ports import WallClock
from bridge.store import Store
from bridge.wire import LOG

HOUSEKEEPING_S: Final = 1.0
"""How often sendings are written, the registry is looked at, and gaps are told."""

EXPIRY_LOOK_S: Final = 600.0
"""How often dates are looked at; a renewed file is noticed as soon."""


class Listener(Protocol):
    """Somebody to whom events are delivered."""

    def wake(self) -> None:
        """Look for new events."""


def wake(listeners: Iterable[Listener]) -> None:
    """Let each look for new events."""
    for listener in listeners:
        listener.wake()


async def keep_house(
    material: Material,
    intake: Intake,
    store: Store,
    listeners: tuple[Listener, ...],
    *,
    now: WallClock,
) -> None:
    """Keep registry, trust and store in step, until cancelled."""
    while True:
        await asyncio.sleep(HOUSEKEEPING_S)
        try:
            has_vehicles, has_trust = await asyncio.to_thread(material.refresh)
            if has_vehicles:
                LOG.info("= registry: %d vehicles", len(material.registry.current))
            if has_trust:
                LOG.info("= trust bundle %d", material.trust.current.newest.version)
            await intake.flush()
            has_gaps = await store.tell_gaps(now=now())
            if await store.tell_silence(now=now()) or has_gaps:
                wake(listeners)
        except (SettingsError, StoreError) as error:
            LOG.warning("= %s", error)


async def keep_time(
    clock_watch: ClockWatch, *, now: WallClock, boot_ms: WallClock
) -> None:
    """Compare our clocks with each other and with the cars', until cancelled."""
    while True:
        before = clock_watch.alarm
        clock_watch.looked(wall_ms=now(), boot_ms=boot_ms())
        if clock_watch.alarm and not before:
            LOG.error("= clock: %s", clock_watch.alarm)
        await asyncio.sleep(HOUSEKEEPING_S)


async def keep_watch(expiry: ExpiryWatch) -> None:
    """Look at the dates of what expires, until cancelled."""
    while True:
        await asyncio.sleep(EXPIRY_LOOK_S)
        await asyncio.to_thread(expiry.look)
