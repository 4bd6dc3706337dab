"""The uplink: keeps a link up and moves frames between it and the runtime.

It decides nothing about frames: the runtime judges what comes, `schedule` says what
goes. What it owns is the order of a connection (subscribe, session, HELLO, entries) and
the patience with a broker that is not there.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

from gateway.ports import Agent, Clock, Store, StoreError
from gateway.uplink.journeys import Journeys
from gateway.uplink.link import Link, LinkFactory, Message
from gateway.uplink.patience import Patience
from gateway.uplink.schedule import Overdue, Schedule
from protocol.codes import FrameClass
from protocol.errors import DecodeError
from protocol.identity import VehicleId
from protocol.rendering import render_bytes
from protocol.topic import downlinks_of, parse_topic, topic_of
from transport.backoff import Backoff
from transport.errors import LinkError, LinkFailure, TransportError

OFFERS_LIMIT: Final = 64
"""Answers that wait, and as many frames that can wait; the oldest is dropped, as a
newer one says more."""

PARTING_S: Final = 2.0
"""How long a car that stops waits for the broker to take its last word."""

STEADY_MS: Final = 60_000
"""A link that stood so long has proved itself even if nobody gave a receipt."""


QUIET_MS: Final = 30_000
"""A link on which the fleet has said nothing for so long is in no dialogue."""

QUIET_PATIENCE_MS: Final = 600_000
"""How long a new certificate waits for such a moment."""


class _RetiredError(LinkError):
    """We end a link that stands, to connect with the new certificate."""


class MqttUplink:
    """Implements `gateway.ports.Outlet`; `run` is its life.

    Args:
        vehicle_id: this vehicle; its topics follow from it.
        links: makes a link for each attempt.
        store: where entries are read.
        clock: time.
        random: returns a number within 0 and 1, for the jitter.
        backoff: waits between attempts.
        journeys: makes spans of what passes; None where nobody traces.
    """

    def __init__(
        self,
        vehicle_id: VehicleId,
        *,
        links: LinkFactory,
        store: Store,
        clock: Clock,
        random: Callable[[], float],
        backoff: Backoff | None = None,
        journeys: Journeys | None = None,
    ) -> None:
        self._vehicle_id = vehicle_id
        self._links = links
        self._store = store
        self._clock = clock
        self._patience = Patience(backoff or Backoff(), random=random)
        self._log = logging.getLogger(f"{__name__}.{vehicle_id.short}")
        self._journeys = journeys
        self._schedule = Schedule(random=random)
        self._offers: deque[tuple[FrameClass, bytes]] = deque(maxlen=OFFERS_LIMIT)
        self._backlog: deque[tuple[FrameClass, bytes]] = deque(maxlen=OFFERS_LIMIT)
        self._wake = asyncio.Event()
        self._last_failure = ""
        self._retire = asyncio.Event()
        self._heard_ms = 0

    # -- gateway.ports.Outlet ---

    def entries_grew(self) -> None:
        """New entries are durable and may be sent."""
        self._schedule.entries_grew()
        self._wake.set()

    def offer(
        self, frame_class: FrameClass, data: bytes, *, can_wait: bool = False
    ) -> None:
        """Send a frame of no ledger; dropped without a link."""
        queue = self._backlog if can_wait else self._offers
        queue.append((frame_class, data))
        self._wake.set()

    def resend(self, first: int, last: int) -> None:
        """Send entries of this range again, if they are held."""
        self._schedule.resend(first, last)
        self._wake.set()

    def heard(self) -> None:
        """The fleet signed something for this session, so its hello has arrived."""
        self._schedule.heard()

    def receipted(
        self, upto: int, *, credit: int, gaps: Sequence[tuple[int, int]]
    ) -> None:
        """A receipt was taken: free the window, send ranges again."""
        self._schedule.receipted(
            upto, credit=credit, gaps=gaps, now_ms=self._clock.now().boot_ms
        )
        if self._journeys is not None:
            self._journeys.receipted(upto)
        # The link has proved itself: whoever signs receipts is at its other end.
        self._patience.proved()
        self._wake.set()

    def renew_link(self) -> None:
        """Connect anew at a quiet moment: there is a new certificate."""
        self._retire.set()

    # -- life ---

    async def run(self, agent: Agent) -> None:
        """Connect, and connect again whenever the link is lost, until cancelled.

        Args:
            agent: judges what comes.

        Raises:
            StoreError: the ledger failed; the process must start anew (L13).
        """
        while True:
            began_ms = self._clock.now().boot_ms
            self._retire.clear()
            reason: TransportError | None = None
            try:
                will = await agent.prepare_session()
                async with self._links(will) as link:
                    await self._serve(link, agent)
            except _RetiredError:
                self._log.info("= link made anew")
                self._patience.proved()
            except TransportError as error:
                reason = error
                self._patience.failed(error)
                self._note_failure(error)
            # Not when we are cancelled: the runtime may be gone by then.
            await agent.close_session()
            now_ms = self._clock.now().boot_ms
            if now_ms - began_ms >= STEADY_MS:
                self._patience.stood()
            delay_s = self._patience.delay_s(reason)
            await self._clock.sleep_until(now_ms + round(delay_s * 1000))

    async def _wait_retired(self) -> None:
        """Raise at the first quiet moment after `renew_link`, or when none comes."""
        await self._retire.wait()
        latest_ms = self._clock.now().boot_ms + QUIET_PATIENCE_MS
        while True:
            now_ms = self._clock.now().boot_ms
            quiet_ms = min(self._heard_ms + QUIET_MS, latest_ms)
            if now_ms >= quiet_ms:
                raise _RetiredError("retired", failure=LinkFailure.LOST)
            await self._clock.sleep_until(quiet_ms)

    async def _part(self, link: Link, agent: Agent) -> None:
        """Say that the car stops, which no will does after an orderly end (FF-DTH)."""
        with suppress(TransportError, TimeoutError):
            async with asyncio.timeout(PARTING_S):
                await self._publish(link, FrameClass.DEATH, agent.farewell())

    def _note_failure(self, error: TransportError) -> None:
        # One line for each new reason: a broker that is down for a day says it once.
        text = str(error)
        if text != self._last_failure:
            self._log.warning(
                "= no link, the car goes on without it and keeps trying: %s", text
            )
        self._last_failure = text

    async def _serve(self, link: Link, agent: Agent) -> None:
        await link.subscribe(downlinks_of(self._vehicle_id))
        await self._announce(link, agent.open_session)
        self._log.info("= link up")
        if not self._patience.is_refused:
            self._last_failure = ""
        try:
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._receive(link, agent))
                ways.create_task(self._send(link, agent))
                ways.create_task(self._wait_retired())
        except BaseExceptionGroup as group:
            raise _reason(group) from None
        except asyncio.CancelledError:
            await self._part(link, agent)
            raise

    # -- receiving ---

    async def _receive(self, link: Link, agent: Agent) -> None:
        async for message in link.messages():
            if await self._take(message, agent):
                message.done()
        # Only a link that we closed ourselves ends quietly.
        raise LinkError("the link was closed", failure=LinkFailure.LOST)

    async def _take(self, message: Message, agent: Agent) -> bool:
        """Hand one message on; False leaves it with the broker."""
        try:
            route = parse_topic(message.topic)
        except DecodeError as error:
            self._log.warning("= a message on a strange topic: %s", error)
            return True
        if self._log.isEnabledFor(logging.DEBUG):
            self._log.debug("< %s", render_bytes(message.payload))
        if self._journeys is not None:
            self._journeys.arrived(route.frame_class, message.payload)
        self._heard_ms = self._clock.now().boot_ms
        try:
            await agent.receive(
                route.frame_class, message.payload, retained=message.retain
            )
        except StoreError as error:
            if not error.retryable:
                raise
            self._log.warning("= a frame was not kept: %s", error)
            return False
        return True

    # -- sending ---

    async def _announce(
        self, link: Link, open_session: Callable[[], Awaitable[bytes]]
    ) -> None:
        """Begin a session: nothing that waited for an older one is sent in it."""
        self._offers.clear()
        self._backlog.clear()
        hello = await open_session()
        self._schedule.begin_session(now_ms=self._clock.now().boot_ms)
        await self._publish(link, FrameClass.HELLO, hello)

    async def _send(self, link: Link, agent: Agent) -> None:
        # Publishing does not wait for the broker's word on the frame before, so that a
        # result costs no second round trip; tasks write in the order of their making.
        async with asyncio.TaskGroup() as on_the_way:
            while True:
                self._wake.clear()
                if await self._send_entries(link, agent, on_the_way):
                    continue
                if self._send_offer(link, on_the_way):
                    # Let it be written, and an entry that has come since go first.
                    await asyncio.sleep(0)
                    continue
                overdue = self._schedule.overdue(now_ms=self._clock.now().boot_ms)
                if overdue is Overdue.HELLO:
                    await self._announce(link, agent.renew_session)
                elif overdue is None:
                    await self._sleep()

    async def _send_entries(
        self, link: Link, agent: Agent, on_the_way: asyncio.TaskGroup
    ) -> bool:
        wanted = self._schedule.wanted()
        if wanted is None:
            return False
        entries = await self._store.entries(wanted.first, wanted.limit)
        for entry in entries:
            if entry.place is not None:
                place = agent.place_frame(entry.place)
                on_the_way.create_task(self._publish(link, FrameClass.TELEM, place))
            on_the_way.create_task(self._publish(link, entry.frame_class, entry.frame))
        self._schedule.sent(
            wanted,
            [entry.seq for entry in entries],
            now_ms=self._clock.now().boot_ms,
        )
        return True

    def _send_offer(self, link: Link, on_the_way: asyncio.TaskGroup) -> bool:
        if self._offers:
            on_the_way.create_task(self._publish(link, *self._offers.popleft()))
            return True
        if self._backlog and self._schedule.may_send_telemetry():
            self._schedule.telemetry_sent()
            task = self._publish(link, *self._backlog.popleft())
            on_the_way.create_task(task).add_done_callback(self._make_room)
            return True
        return False

    def _make_room(self, _sent: "asyncio.Task[None]") -> None:
        self._schedule.telemetry_arrived()
        self._wake.set()

    async def _publish(self, link: Link, frame_class: FrameClass, data: bytes) -> None:
        if self._log.isEnabledFor(logging.DEBUG):
            self._log.debug("> %s", render_bytes(data))
        topic = topic_of(self._vehicle_id, frame_class)
        if self._journeys is None:
            await link.publish(topic, data)
            return
        begun_ms, is_taken = self._clock.now().boot_ms, False
        self._journeys.handed_over(frame_class, data)
        try:
            await link.publish(topic, data)
            is_taken = True
        finally:
            self._journeys.published(
                frame_class, data, begun_ms=begun_ms, is_taken=is_taken
            )

    async def _sleep(self) -> None:
        """Wait until there is something to send or something is overdue."""
        at_ms = self._schedule.overdue_at_ms()
        if at_ms is None:
            await self._wake.wait()
            return
        waits = (
            asyncio.create_task(self._clock.sleep_until(at_ms)),
            asyncio.create_task(self._wake.wait()),
        )
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)


def _reason(error: BaseException) -> BaseException:
    """Return what ended a connection; what is not the link's fault comes first."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    reasons = [_reason(part) for part in error.exceptions]
    foreign = [part for part in reasons if not isinstance(part, TransportError)]
    return (foreign or reasons)[0]
