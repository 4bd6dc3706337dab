"""Brings configuration bodies to cars: announced, in chunks, until the car says so.

Theory of operation. What is wanted stands in the store, one body for each car and kind
with a version that rises. A car whose HELLO names a lower version gets the announcement
and the chunks, as slowly as `CHUNK_S` says; it is done when its ledger says
CONFIGURATION_ACTIVATED, or its HELLO names the version. Without either it is sent anew,
ever more rarely. A body that the car refuses is told and not sent again.

A body for many cars was let go by a second person, whose signed word goes with the
announcement to a signer in a process of its own. Such a signer may also say that too
many cars got one without it for now, as when an outage of days is over: asked later.

Rule 1: a car gets one body at a time and each frame waits for the broker to take the
one before, so a command finds at most one chunk before it.
Rule 2: chunks are signed as they are sent: they live 30 s, a body takes minutes.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Final

from bridge.consent import counts_still
from bridge.errors import CapError, NotConnectedError, SigningError, StoreError
from bridge.instant import InstantClock
from bridge.ports import SyncSigner
from bridge.rows.approvals import find_consent
from bridge.rows.configurations import Configuration
from bridge.store import Store
from bridge.vehicle import VehicleState
from bridge.wire import LOG, Wire
from protocol.codes import FrameClass
from protocol.identity import VehicleId
from protocol.sync import CHUNK_LIMIT, ConfigChunk, ConfigOffer, SyncBody
from protocol.topic import topic_of
from transport.errors import TransportError

CHUNK_S: Final = 0.2
"""Between two chunks to one car: a sixth of what its token bucket lets through, so
that commands find tokens; the largest body takes 66 s."""

EXPIRY_S: Final = 30
"""How long a broker may keep a chunk."""

CARS_LIMIT: Final = 64
"""Cars that get a body at the same time."""

AGAIN_MS: Final = 60_000
"""How long after a body the car may take to say that it is active."""

AGAIN_LIMIT_MS: Final = 3_600_000
"""The longest pause before a body is sent anew."""

Sleep = Callable[[float], Coroutine[None, None, None]]


@dataclass(slots=True)
class _Attempt:
    """What was sent to a car last."""

    version: int
    kind: int
    times: int
    sent_ms: int

    @property
    def again_ms(self) -> int:
        """When it may be sent anew, by this machine's boot clock."""
        pause = min(AGAIN_MS << min(self.times - 1, 6), AGAIN_LIMIT_MS)
        return self.sent_ms + pause


class Configurator:
    """Sends bodies in the background; `bridge.steward` says when to look."""

    def __init__(
        self,
        *,
        store: Store,
        signer: SyncSigner,
        wire: Wire,
        instant: InstantClock,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._store = store
        self._signer = signer
        self._wire = wire
        self._instant = instant
        self._sleep = sleep
        self._attempts: dict[VehicleId, _Attempt] = {}
        self._sending: dict[VehicleId, asyncio.Task[None]] = {}

    @property
    def is_sending(self) -> bool:
        """Whether any car gets a body now."""
        return bool(self._sending)

    async def look_after(self, vehicle_id: VehicleId, vehicle: VehicleState) -> bool:
        """Begin to send what the car lacks; return whether anything is open.

        Raises:
            StoreError: looked again later.
        """
        wanted = [
            configuration
            for configuration in await self._store.wanted_configurations(vehicle_id)
            if configuration.version > vehicle.config_version(configuration.kind)
        ]
        if not wanted:
            self._attempts.pop(vehicle_id, None)
            return False
        if vehicle_id in self._sending or len(self._sending) >= CARS_LIMIT:
            return True
        chosen = self._next(vehicle_id, wanted)
        if chosen is not None:
            task = asyncio.create_task(self._send(vehicle_id, chosen))
            self._sending[vehicle_id] = task
            task.add_done_callback(lambda _done: self._sending.pop(vehicle_id, None))
        return True

    def greeted(self, vehicle_id: VehicleId) -> None:
        """A car said HELLO: what it lacks may be sent at once."""
        self._attempts.pop(vehicle_id, None)

    async def close(self) -> None:
        """End what is being sent; it begins anew."""
        tasks = list(self._sending.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _next(
        self, vehicle_id: VehicleId, wanted: list[Configuration]
    ) -> Configuration | None:
        """Choose the kind after the last one, unless it is too early to begin anew."""
        last = self._attempts.get(vehicle_id)
        if last is None:
            return wanted[0]
        later = [c for c in wanted if c.kind > last.kind]
        if later:
            return later[0]
        is_other = all(c.kind != last.kind or c.version != last.version for c in wanted)
        is_due = self._instant().boot_ms >= last.again_ms
        return wanted[0] if is_other or is_due else None

    async def _send(self, vehicle_id: VehicleId, wanted: Configuration) -> None:
        last = self._attempts.get(vehicle_id)
        times = 1
        if last is not None and (last.kind, last.version) == (
            wanted.kind,
            wanted.version,
        ):
            times = last.times + 1
        try:
            await self._send_all(vehicle_id, wanted)
        except (CapError, NotConnectedError, TransportError, StoreError) as error:
            LOG.warning("= configuration for %s not sent: %s", vehicle_id, error)
        except SigningError as error:
            LOG.error("= configuration for %s not signed: %s", vehicle_id, error)
        self._attempts[vehicle_id] = _Attempt(
            wanted.version, wanted.kind, times, self._instant().boot_ms
        )

    async def _send_all(self, vehicle_id: VehicleId, wanted: Configuration) -> None:
        body = wanted.body
        offer = ConfigOffer(wanted.kind, wanted.version, len(body), wanted.sha256)
        consent = await self._consent_to(wanted)
        if not await self._send_one(vehicle_id, offer, consent):
            return
        for offset in range(0, len(body), CHUNK_LIMIT):
            await self._sleep(CHUNK_S)
            data = body[offset : offset + CHUNK_LIMIT]
            chunk = ConfigChunk(wanted.kind, wanted.version, offset, data)
            if not await self._send_one(vehicle_id, chunk):
                return

    async def _consent_to(self, wanted: Configuration) -> bytes:
        """Return the second person's word, as long as a signer would take it."""
        name = wanted.approval_id
        if not name:
            return b""
        consent = await self._store.read(lambda c: find_consent(c, name))
        return consent if counts_still(consent, now=self._instant().utc_ms) else b""

    async def _send_one(
        self, vehicle_id: VehicleId, body: SyncBody, consent: bytes = b""
    ) -> bool:
        """Sign for the car's session as it is now; False if the car is gone."""
        vehicle = await self._store.vehicle(vehicle_id)
        at = self._instant()
        if vehicle is None or vehicle.doubt or not vehicle.is_online(now=at.utc_ms):
            return False
        car_now_ms = vehicle.clock.car_now_ms(at=at)
        if car_now_ms is None:
            return False
        to = vehicle.addressee(vehicle_id, car_now_ms, now=at.utc_ms)
        data = await self._signer.synchronise(to, body, consent=consent)
        topic = topic_of(vehicle_id, FrameClass.SYNC)
        await self._wire.send(topic, data, expiry_s=EXPIRY_S)
        return True
