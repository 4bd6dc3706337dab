"""Answers to PING, SNAPSHOT and EXPLAIN, beside their results (FF-DIA).

The result says that the car lives and has the command; what takes time or words follows
as entries of the ledger. Nothing here holds the mind up: devices are asked in a task of
their own, and what does not answer in time is told as "-". One snapshot and one
explanation is answered at a time. Pings have their own times each, a few at once: one
too many lets the oldest answer with what it has, so that none stays without an answer
and nobody fills memory by asking (I-20, I-33).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final, Protocol

from gateway.core.appearance import condition_of
from gateway.core.events import CommandReceived
from gateway.core.maintenance import upkeep_lines
from gateway.core.moment import Moment
from gateway.core.payment import holds
from gateway.core.state import State
from gateway.ports import Clock, Store
from gateway.runtime.standing import Standing
from protocol.codes import FaultKind
from protocol.command import Explain, Ping, RequestSnapshot
from protocol.diagnosis import Diagnosed, DiagnosisKind, ExplainSubject, in_parts
from protocol.rental_codes import Component

PROBE_MS: Final = 3_000
"""How long a device may take to answer: a scan of an empty field takes a second, and a
board is called silent after three."""

PINGS_LIMIT: Final = 8
"""Pings under way at once: more than engineers who look at one car, and each of them
holds two probes of at most `PROBE_MS`."""

_LOG: Final = logging.getLogger(__name__)

Probe = Callable[[], Awaitable[None]]
"""Returns when a device has answered something that it was asked after the call."""

Tell = Callable[[Sequence[Diagnosed]], Awaitable[None]]
"""Writes to the ledger, in its turn."""


class Insight(Protocol):
    """What is known of the car beside its state: versions, starts, certificates."""

    def facts(self) -> Sequence[str]:
        """Return lines ``name=value``."""

    def explain(self, subject: ExplainSubject, about_id: bytes) -> Sequence[str]:
        """Return why the car did what it did; without lines if nothing is known."""


class NoInsight:
    """Of a car without recorder."""

    def facts(self) -> Sequence[str]:
        """Return nothing."""
        return ()

    def explain(self, _subject: ExplainSubject, _about_id: bytes) -> Sequence[str]:
        """Return nothing."""
        return ()


class Diagnostician:
    """Answers questions about the car.

    Args:
        standing: what stands.
        probes: how each device is asked.
        insight: what else is known.
        store: the ledger.
        clock: time.
        tell: writes the answer to the ledger.
    """

    def __init__(
        self,
        standing: Standing,
        *,
        probes: Mapping[Component, Probe],
        insight: Insight,
        store: Store,
        clock: Clock,
        tell: Tell,
    ) -> None:
        self._standing = standing
        self._probes = probes
        self._insight = insight
        self._store = store
        self._clock = clock
        self._tell = tell
        self._answering: dict[DiagnosisKind, asyncio.Task[None]] = {}
        self._pings: dict[asyncio.Task[None], asyncio.Event] = {}
        """Each with what tells it to wait no longer, the oldest first."""

    def take(self, command: CommandReceived, *, received: Moment) -> None:
        """Answer a command that was accepted, if it is a question; returns at once.

        Args:
            command: accepted, and its result durable.
            received: when the agent had it.
        """
        match command.command:
            case Ping(nonce=nonce):
                self._begin_ping(command.msg_id, nonce, received)
            case RequestSnapshot():
                self._begin(
                    DiagnosisKind.SNAPSHOT,
                    self._say(command, DiagnosisKind.SNAPSHOT, self._snapshot()),
                )
            case Explain(subject=subject, about_id=about_id):
                lines = self._insight.explain(subject, about_id)
                lines = lines or ("nothing of this kind is recorded",)
                self._begin(
                    DiagnosisKind.EXPLANATION,
                    self._say(command, DiagnosisKind.EXPLANATION, lines),
                )
            case _:
                pass

    async def close(self) -> None:
        """Give up answers that are under way; who asked asks again."""
        tasks = (*self._answering.values(), *self._pings)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, kind: DiagnosisKind, work: "asyncio._CoroutineLike[None]") -> None:
        running = self._answering.get(kind)
        if running is not None and not running.done():
            _LOG.warning("= a second %s while one is answered", kind.name)
            running.cancel()
        self._answering[kind] = asyncio.create_task(work)

    # -- ping -------------------------------------------------------------------------

    def _begin_ping(self, request_id: bytes, nonce: bytes, received: Moment) -> None:
        waiting = [hurry for hurry in self._pings.values() if not hurry.is_set()]
        if len(waiting) >= PINGS_LIMIT:
            waiting[0].set()
        hurry = asyncio.Event()
        task = asyncio.create_task(self._ping(request_id, nonce, received, hurry))
        self._pings[task] = hurry
        task.add_done_callback(self._pings.pop)

    async def _ping(
        self,
        request_id: bytes,
        nonce: bytes,
        received: Moment,
        hurry: asyncio.Event,
    ) -> None:
        since_ms = received.boot_ms
        committed_ms = self._clock.now().boot_ms - since_ms
        board_ms, reader_ms = await asyncio.gather(
            self._probe(Component.BOARD, since_ms, hurry),
            self._probe(Component.READER, since_ms, hurry),
        )
        lines = (
            f"nonce={nonce.hex()}",
            f"received_wall_ms={received.wall_ms}",
            f"committed_ms={committed_ms}",
            f"board_ms={board_ms}",
            f"reader_ms={reader_ms}",
            f"signed_ms={self._clock.now().boot_ms - since_ms}",
        )
        await self._tell(in_parts(request_id, DiagnosisKind.PING, lines))

    async def _probe(
        self, component: Component, since_ms: int, hurry: asyncio.Event
    ) -> str:
        """Return after how many ms a device answered, "-" if it did not in time."""
        probe = self._probes.get(component)
        if probe is None:
            return "-"
        asked = asyncio.ensure_future(probe())
        until_ms = self._clock.now().boot_ms + PROBE_MS
        over = asyncio.ensure_future(self._clock.sleep_until(until_ms))
        hurried = asyncio.ensure_future(hurry.wait())
        waits = (asked, over, hurried)
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if not asked.done():
                return "-"
            asked.result()
            return str(self._clock.now().boot_ms - since_ms)
        finally:
            for task in waits:
                task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.gather(*waits, return_exceptions=True)

    # -- snapshot ---------------------------------------------------------------------

    async def _say(
        self, command: CommandReceived, kind: DiagnosisKind, lines: Sequence[str]
    ) -> None:
        await self._tell(in_parts(command.msg_id, kind, lines))

    def _snapshot(self) -> Sequence[str]:
        standing, now = self._standing, self._clock.now()
        state, reading = standing.state, standing.state.reading
        faults = sorted(FaultKind(fault).name for fault in state.faults)
        pending = "-" if state.pending is None else state.pending.purpose.value
        supply = "-" if reading is None else reading.supply_mv
        firmware = ".".join(str(part) for part in standing.persona.firmware[:3])
        waiting = standing.head.seq - standing.receipted
        return (
            f"firmware={firmware}",
            f"mode={state.mode.name} condition={condition_of(state).name}",
            f"faults={','.join(faults) or '-'}",
            f"board={_word(is_well=FaultKind.BOARD_SILENT not in state.faults)}",
            f"reader={_word(is_well=FaultKind.READER_GONE not in state.faults)}",
            f"disk={_word(is_well=not standing.is_in_service)}",
            *upkeep_lines(state),
            f"actuation={pending}",
            _payment_line(state),
            f"supply_mv={'-' if supply is None else supply}",
            f"ledger_head={standing.head.seq} waiting={waiting}",
            f"ledger_free_kib={self._store.free_kib()}",
            f"trust_bundle={standing.trust.bundle.version}",
            f"clock={now.quality.name} boot_ms={now.boot_ms}",
            f"agent_starts={standing.session.starts}",
            f"time_from={standing.time.known.quality.name}",
            *self._insight.facts(),
        )


def _payment_line(state: State) -> str:
    """Return the rental's last payment, and whether it holds the engine (H3)."""
    rental = state.rental
    if rental is None or rental.payment is None:
        return "payment=-"
    payment = rental.payment
    return (
        f"payment={payment.payment_id.hex()} stage={payment.stage.name} "
        f"payment_holds={'yes' if holds(rental) else 'no'}"
    )


def _word(*, is_well: bool) -> str:
    return "ok" if is_well else "fault"
