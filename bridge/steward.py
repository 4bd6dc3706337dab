"""Keeps each car in step: proof, time, trust, missing entries, configuration.

Nothing here is an order: it moves no car, and losing any of it is harmless, because it
is asked or told again. A car becomes due when it says HELLO, when the trust changes,
when something is wanted of it, and at the start of the bridge; it stays due until
nothing is open or it is offline.

Rule 1: for a car in doubt nothing but the challenge is signed (`bridge.doubt`).
Rule 2: a bundle that revokes a key goes to every connected car at once; any other goes
to a car at its HELLO, and to the rest a few at a time, since each begins a session.
Rule 3: what is sent here never stands in the way of a command: each car has one frame
under way at most, and all cars together `SIDE_BY_SIDE`.
Rule 4: what is wanted of a car while it is looked after counts after that: the look may
rest on what was stored before.
"""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from bridge.configurator import Configurator
from bridge.errors import (
    CapError,
    NoSignerError,
    NotConnectedError,
    OrderRefusedError,
    Refusal,
    SigningError,
    StoreError,
    refused_by_signer,
)
from bridge.instant import NEVER_MS, InstantClock
from bridge.ports import SyncSigner, WallClock
from bridge.rows.receipts import OpenGap
from bridge.signer import HeldTrust
from bridge.store import Store
from bridge.trust import is_emergency
from bridge.vehicle import VehicleState
from bridge.wire import LOG, Wire
from protocol.codes import ClockQuality, FrameClass
from protocol.identity import VehicleId
from protocol.receipt import GAPS_LIMIT
from protocol.sync import Challenge, FleetTime, Resend, SyncBody
from protocol.topic import topic_of
from transport.errors import TransportError

SWEEP_S: Final = 1.0
"""How often due cars are looked at without a wake-up."""

SIDE_BY_SIDE: Final = 32
"""Cars that are sent something at the same time."""

EXPIRY_S: Final = 30
"""How long a broker may keep such a frame: as long as the frame lives itself."""

TIME_MS: Final = 600_000
"""A car that got neither receipt nor time for so long is told the time: its own clock
drifts 60 ms in it at 100 ppm."""

LOOK_MS: Final = 10_000
"""How often every car's chart is looked at for that: 14,000 take the event loop 15 ms,
for which every frame would wait once a second."""

CHALLENGE_MS: Final = 10_000
"""Between two challenges: an answer takes a second or is lost."""

TRUST_MS: Final = 60_000
"""Between two sendings of a bundle: the car writes it to its disk and says HELLO."""

RESEND_MS: Final = 20_000
"""Between two requests for the same missing entries."""

RESEND_DOUBLINGS: Final = 6
"""It doubles so often: what a car has lost for ever is asked for every 21 minutes."""

GAP_MS: Final = 10_000
"""A gap that is older was not closed by the receipt that named it."""

TRUST_RATE: Final = 20
"""Cars that get a bundle in one sweep without emergency."""


@dataclass(slots=True)
class _Chart:
    """When a car was last sent what, by this machine's boot clock.

    A wall clock that is set back must not make a car wait.
    """

    time_ms: int = NEVER_MS
    challenge_ms: int = NEVER_MS
    trust_ms: int = NEVER_MS
    is_new: bool = True
    """Whether it said HELLO since it was last told the time."""
    is_urgent: bool = False
    """Whether its bundle is to go out at once."""
    trouble: str = ""
    """Why nothing can be signed for it, as the log has it already."""


class Steward:
    """Looks after the cars that are due, until cancelled."""

    def __init__(
        self,
        *,
        store: Store,
        trust: HeldTrust,
        signer: SyncSigner,
        configurator: Configurator,
        wire: Wire,
        instant: InstantClock,
    ) -> None:
        self._store = store
        self._trust = trust
        self._brought = trust()
        self._signer = signer
        self._configurator = configurator
        self._wire = wire
        self._instant = instant
        self._now: WallClock = lambda: instant().utc_ms
        self._wake = asyncio.Event()
        self._side_by_side = asyncio.Semaphore(SIDE_BY_SIDE)
        self._charts: dict[VehicleId, _Chart] = {}
        self._looked_ms = NEVER_MS
        self._due: set[VehicleId] = set()
        self._asked: dict[tuple[VehicleId, bytes], tuple[int, int]] = {}
        """When and how often each gap's entries were asked for."""

    def greeted(self, vehicle_ids: Sequence[VehicleId]) -> None:
        """Look after cars that said HELLO; called after its commit."""
        for vehicle_id in vehicle_ids:
            # Another object: a look that is under way ticks off in its own (rule 4).
            chart = self._charts.get(vehicle_id, _Chart())
            self._charts[vehicle_id] = replace(chart, is_new=True, trust_ms=NEVER_MS)
            self._configurator.greeted(vehicle_id)
        self.wanted(vehicle_ids)

    def wanted(self, vehicle_ids: Iterable[VehicleId]) -> None:
        """Look after these cars soon."""
        self._due.update(vehicle_ids)
        self._wake.set()

    def receipted(self, vehicle_id: VehicleId) -> None:
        """Note that a car was told the time by a receipt."""
        chart = self._charts.setdefault(vehicle_id, _Chart())
        chart.time_ms = self._instant().boot_ms

    async def _follow_trust(self) -> None:
        """Bring a newer bundle to the cars; at once if it revokes a key (rule 2)."""
        after = self._trust()
        if after.newest.version == self._brought.newest.version:
            return
        is_urgent = is_emergency(self._brought.newest, after.newest)
        online = await self._store.online_vehicles()
        for vehicle_id in online:
            chart = self._charts.setdefault(vehicle_id, _Chart(is_new=False))
            chart.is_urgent |= is_urgent
        self._due.update(online)
        self._brought = after
        if is_urgent:
            LOG.warning("= trust bundle %d revokes a key", after.newest.version)

    async def resend(
        self, vehicle_id: VehicleId, first: int, last: int, ledger_id: bytes | None
    ) -> bytes:
        """Ask a car for entries again, as an operator wants it; return the ledger's id.

        Raises:
            OrderRefusedError: the car cannot be asked now; nothing was sent.
            StoreError: nothing was sent.
        """
        vehicle = await self._store.vehicle(vehicle_id) or VehicleState()
        if not vehicle.is_online(now=self._now()) or not self._wire.is_connected:
            raise OrderRefusedError(
                Refusal.OFFLINE, "the vehicle is offline; nothing was sent"
            )
        if vehicle.doubt is not None:
            raise OrderRefusedError(
                Refusal.IN_DOUBT, f"the vehicle is in doubt: {vehicle.doubt.reason}"
            )
        wanted = ledger_id or vehicle.ledger_id
        try:
            await self._synchronise(vehicle_id, vehicle, Resend(wanted, first, last))
        except (SigningError, NoSignerError) as error:
            raise refused_by_signer(error) from error
        return wanted

    async def run(self) -> None:
        """Look after due cars until cancelled."""
        is_begun = False
        try:
            while True:
                with contextlib.suppress(StoreError):
                    if not is_begun:
                        self._due.update(await self._store.online_vehicles())
                        is_begun = True
                    await self.sweep()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(SWEEP_S):
                        await self._wake.wait()
                self._wake.clear()
        finally:
            await self._configurator.close()

    async def sweep(self) -> None:
        """Look once at every due car, at gaps, and at cars that need the time.

        Raises:
            StoreError: the next sweep tries again.
        """
        if not self._wire.is_connected:
            return
        at = self._instant()
        await self._follow_trust()
        if at.boot_ms - self._looked_ms >= LOOK_MS:
            self._looked_ms = at.boot_ms
            self._due.update(
                vehicle_id
                for vehicle_id, chart in self._charts.items()
                if at.boot_ms - chart.time_ms >= TIME_MS
            )
        gaps = await self._store.open_gaps(older_than=at.utc_ms - GAP_MS)
        self._due.update(gap.vehicle_id for gap in gaps)
        due = sorted(self._due, key=str)
        if not due:
            return
        # Before anything is read: from here on others may add a car again (rule 4).
        self._due.clear()
        charts = {one: self._charts.setdefault(one, _Chart()) for one in due}
        try:
            states = await self._store.vehicles(due)
        except StoreError:
            self._due.update(due)
            raise
        self._pace(charts, states)
        await asyncio.gather(
            *(
                self._look_after(
                    vehicle_id,
                    states.get(vehicle_id, VehicleState()),
                    chart,
                    [gap for gap in gaps if gap.vehicle_id == vehicle_id],
                )
                for vehicle_id, chart in charts.items()
            )
        )

    def _pace(
        self,
        charts: Mapping[VehicleId, _Chart],
        states: Mapping[VehicleId, VehicleState],
    ) -> None:
        """Put off bundles beyond the rate, but none that is urgent or new (rule 2)."""
        now, newest = self._instant().boot_ms, self._trust().newest.version
        room = TRUST_RATE
        for vehicle_id, chart in charts.items():
            state = states.get(vehicle_id)
            if state is None or state.bundle_version >= newest:
                continue
            if chart.is_urgent or chart.is_new or now - chart.trust_ms < TRUST_MS:
                continue
            room -= 1
            if room < 0:
                # The next sweep but a few; due all the same.
                chart.trust_ms = now - TRUST_MS + round(SWEEP_S * 1000)

    async def _look_after(
        self,
        vehicle_id: VehicleId,
        vehicle: VehicleState,
        chart: _Chart,
        gaps: Sequence[OpenGap],
    ) -> None:
        if not vehicle.is_online(now=self._now()):
            if self._charts.get(vehicle_id) is chart:
                del self._charts[vehicle_id]
            return
        async with self._side_by_side:
            try:
                is_open = await self._send_what_is_due(vehicle_id, vehicle, chart, gaps)
            except CapError:
                # Told again by the next sweep, when the signer may have room.
                is_open = True
            except SigningError as error:
                if chart.trouble != str(error):
                    LOG.error("= vehicle %s is not kept in step: %s", vehicle_id, error)
                    chart.trouble = str(error)
                is_open = False
            except (NotConnectedError, TransportError, StoreError):
                # Told again by the next sweep.
                is_open = True
        if is_open:
            self._due.add(vehicle_id)

    async def _send_what_is_due(
        self,
        vehicle_id: VehicleId,
        vehicle: VehicleState,
        chart: _Chart,
        gaps: Sequence[OpenGap],
    ) -> bool:
        """Send it; return whether the car stays due."""
        now = self._instant().boot_ms
        if vehicle.doubt is not None:
            if vehicle.doubt.is_barred:
                return False
            if now - chart.challenge_ms >= CHALLENGE_MS:
                await self._challenge(vehicle_id, vehicle)
                chart.challenge_ms = now
            return True
        if chart.is_new or now - chart.time_ms >= TIME_MS:
            await self._synchronise(vehicle_id, vehicle, FleetTime(ClockQuality.NTP))
            chart.time_ms, chart.is_new = now, False
        is_lagging = vehicle.bundle_version < self._trust().newest.version
        if is_lagging and (chart.is_urgent or now - chart.trust_ms >= TRUST_MS):
            await self._bring_trust(vehicle_id, vehicle)
            chart.trust_ms, chart.is_urgent = now, False
        for gap in gaps:
            await self._ask_again(vehicle_id, vehicle, gap)
        is_open = await self._configurator.look_after(vehicle_id, vehicle)
        return is_lagging or is_open or bool(gaps)

    async def _ask_again(
        self, vehicle_id: VehicleId, vehicle: VehicleState, gap: OpenGap
    ) -> None:
        """Ask for what receipts did not bring: those beyond their list come first."""
        now, name = self._instant().boot_ms, (vehicle_id, gap.ledger_id)
        if gap.ledger_id != vehicle.ledger_id:
            return
        asked_ms, times = self._asked.get(name, (NEVER_MS, 0))
        if now - asked_ms < RESEND_MS << min(times, RESEND_DOUBLINGS):
            return
        if len(self._asked) > _ASKED_LIMIT:
            self._asked.clear()
        self._asked[name] = (now, times + 1)
        ranges = (*gap.ranges[GAPS_LIMIT:], *gap.ranges[:GAPS_LIMIT])
        for missing in ranges[:GAPS_LIMIT]:
            wanted = Resend(gap.ledger_id, missing.first, missing.last)
            await self._synchronise(vehicle_id, vehicle, wanted)

    async def _challenge(self, vehicle_id: VehicleId, vehicle: VehicleState) -> None:
        doubt, at = vehicle.doubt, self._instant()
        if doubt is None:
            return
        known_ms = vehicle.clock.car_now_ms(at=at)
        sessions = {doubt.session_id: doubt.clock.car_now_ms(at=at) or 0}
        if vehicle.session_id and known_ms is not None:
            sessions.setdefault(vehicle.session_id, known_ms)
        if doubt.running:
            running_ms = doubt.running_clock.car_now_ms(at=at) or 0
            sessions.setdefault(doubt.running, running_ms)
        for session_id, car_now_ms in sessions.items():
            to = vehicle.addressee(vehicle_id, car_now_ms, now=at.utc_ms).in_session(
                session_id
            )
            data = await self._signer.synchronise(to, Challenge(doubt.nonce))
            await self._send(vehicle_id, FrameClass.SYNC, data)

    async def _bring_trust(self, vehicle_id: VehicleId, vehicle: VehicleState) -> None:
        at = self._instant()
        car_now_ms = vehicle.clock.car_now_ms(at=at) or 0
        to = vehicle.addressee(vehicle_id, car_now_ms, now=at.utc_ms)
        data = await self._signer.carry(to)
        await self._send(vehicle_id, FrameClass.TRUST, data)

    async def _synchronise(
        self, vehicle_id: VehicleId, vehicle: VehicleState, body: SyncBody
    ) -> None:
        at = self._instant()
        car_now_ms = vehicle.clock.car_now_ms(at=at)
        if car_now_ms is None:
            return
        to = vehicle.addressee(vehicle_id, car_now_ms, now=at.utc_ms)
        data = await self._signer.synchronise(to, body)
        await self._send(vehicle_id, FrameClass.SYNC, data)

    async def _send(
        self, vehicle_id: VehicleId, frame_class: FrameClass, data: bytes
    ) -> None:
        await self._wire.send(
            topic_of(vehicle_id, frame_class), data, expiry_s=EXPIRY_S
        )


_ASKED_LIMIT: Final = 10_000
"""Ledgers whose last request is remembered; forgetting one asks once more."""
