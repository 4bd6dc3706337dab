"""What a bridge looks up when Prometheus asks: queues, sinks, cars, dates.

Nothing of it is counted while frames pass. A look reads a few indexes in the store's
reader threads; whoever asks more often than once in `FRESH_S` gets the last look.
What cannot be looked up is left out, and never told as it was some time before.
"""

import asyncio
import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bridge.breaker import BreakerState
from bridge.commands import OPEN
from bridge.errors import StoreError
from bridge.ports import WallClock
from bridge.relay import Relay
from bridge.rows.counts import Counts
from bridge.rows.deliveries import Progress
from bridge.store import Store
from bridge.workspace import LetterKind

FRESH_S: Final = 1.0
"""How old a look may be: a scraper in a loop must not busy the store's readers."""


LOOK_S: Final = 5.0
"""Longest look: a database that hangs must not hang its own alarm. Prometheus waits for
10 s unless told otherwise."""


class Surroundings(Protocol):
    """What the bridge knows of itself without asking the store."""

    @property
    def is_connected(self) -> bool:
        """Whether there is a link to the broker."""

    @property
    def queued_frames(self) -> int:
        """Messages taken from the link that wait to be verified."""

    @property
    def registered(self) -> int:
        """Vehicles in the registry."""

    @property
    def is_signing(self) -> bool:
        """Whether commands can be signed: here, or by the signer's process."""

    def alarms(self) -> Mapping[str, bool]:
        """Return for registry and clock whether they are in alarm."""

    def days_left(self) -> Mapping[str, int]:
        """Return in how many days what ends."""


@dataclass(frozen=True, slots=True)
class SinkState:
    """How one sink is."""

    relay: Relay
    """Drives it."""
    progress: Progress
    """How far it is."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found in the store."""

    counts: Counts
    """Rows."""
    sinks: tuple[SinkState, ...]
    """Every sink."""


class Survey(Collector):
    """Looks, and says what it found as metrics."""

    def __init__(
        self,
        store: Store,
        relays: Sequence[Relay],
        surroundings: Surroundings,
        *,
        now: WallClock,
    ) -> None:
        self._store = store
        self._relays = tuple(relays)
        self._surroundings = surroundings
        self._now = now
        self._looking = asyncio.Lock()
        self._looked_s: float | None = None
        self._is_writable = False
        self._look: Look | None = None

    async def look(self) -> None:
        """Look anew, unless the last look is fresh."""
        clock = asyncio.get_running_loop().time
        async with self._looking:
            if self._looked_s is not None and clock() - self._looked_s < FRESH_S:
                return
            self._is_writable, self._look = False, None
            with contextlib.suppress(TimeoutError, StoreError):
                async with asyncio.timeout(LOOK_S):
                    self._is_writable = await self._store.is_writable()
                    self._look = await self._look_into_store()
            self._looked_s = clock()

    async def _look_into_store(self) -> Look:
        counts, sinks = await self._store.counts(), []
        for relay in self._relays:
            progress = await self._store.progress(relay.name)
            sinks.append(SinkState(relay, progress))
        return Look(counts, tuple(sinks))

    def collect(self) -> Iterator[Metric]:
        """Yield what the last look found, and what needs no look."""
        around = self._surroundings
        yield _gauge(
            "freefloat_link_up",
            "1 if there is a link to the broker.",
            float(around.is_connected),
        )
        yield _gauge(
            "freefloat_store_up",
            "1 if a transaction commits.",
            float(self._is_writable),
        )
        yield _gauge(
            "freefloat_signer_up",
            "1 if commands can be signed, here or by the signer's process.",
            float(around.is_signing),
        )
        yield _gauge(
            "freefloat_verify_queue_frames",
            "Messages that were taken from the broker and wait to be verified.",
            around.queued_frames,
        )
        yield _gauge(
            "freefloat_cars_registered",
            "Vehicles in the registry.",
            around.registered,
        )
        yield _labelled(
            "freefloat_alarm",
            "1 if the registry or this machine's clock cannot be believed.",
            ["name"],
            (((name,), float(is_on)) for name, is_on in around.alarms().items()),
        )
        yield _labelled(
            "freefloat_expiry_days",
            "Whole days until a certificate or the trust bundle ends.",
            ["name"],
            (((name,), days) for name, days in around.days_left().items()),
        )
        yield from self._of_memory()
        if self._look is not None:
            yield from _of_store(self._look, now=self._now())

    def _of_memory(self) -> Iterator[Metric]:
        relays = self._relays
        yield _labelled(
            "freefloat_sink_served",
            "1 if this bridge serves the sink, and not another one.",
            ["sink"],
            (((relay.name,), float(relay.is_serving)) for relay in relays),
        )
        yield _labelled(
            "freefloat_sink_breaker",
            "1 for the state that the sink's breaker is in.",
            ["sink", "state"],
            (
                ((relay.name, state.value), float(relay.breaker.state is state))
                for relay in relays
                for state in BreakerState
            ),
        )
        attempts = CounterMetricFamily(
            "freefloat_sink_attempts",
            "Deliveries since the start, by what became of them.",
            labels=["sink", "outcome"],
        )
        for relay in relays:
            figures = relay.figures
            attempts.add_metric([relay.name, "taken"], figures.taken)
            attempts.add_metric([relay.name, "failed"], figures.failed)
            attempts.add_metric([relay.name, "given_up"], figures.set_aside)
        yield attempts


def _of_store(look: Look, *, now: int) -> Iterator[Metric]:
    counts, sinks = look.counts, look.sinks
    yield _gauge(
        "freefloat_cars_online",
        "Cars that can be reached, as consumers were told.",
        counts.online,
    )
    yield _labelled(
        "freefloat_commands_open",
        "Commands that wait for a signed word, by state.",
        ["state"],
        (((s.value,), counts.open_commands.get(s.value, 0)) for s in OPEN),
    )
    yield _gauge(
        "freefloat_approvals_pending",
        "Orders that wait for a second person.",
        counts.approvals,
    )
    yield _labelled(
        "freefloat_approvals_left_seconds",
        "Until the first order that waits for a second person is over; nothing if none "
        "waits.",
        [],
        ()
        if counts.first_over_ms is None
        else (((), max(counts.first_over_ms - now, 0) / 1000),),
    )
    yield _labelled(
        "freefloat_dead_letters",
        "Messages that are kept and not believed, by kind.",
        ["kind"],
        (((k.value,), counts.letters.get(k.value, 0)) for k in LetterKind),
    )
    yield _labelled(
        "freefloat_outbox_waiting",
        "Events that the sink has not taken.",
        ["sink"],
        (((s.relay.name,), s.progress.waiting) for s in sinks),
    )
    yield _labelled(
        "freefloat_outbox_age_seconds",
        "Age of the oldest event that the sink has not taken; 0 if none waits.",
        ["sink"],
        (((s.relay.name,), _age_s(s.progress, now)) for s in sinks),
    )
    yield _labelled(
        "freefloat_given_up_events",
        "Events that are set aside because the consumer does not want them.",
        ["sink"],
        (((s.relay.name,), s.progress.given_up) for s in sinks),
    )


def _age_s(progress: Progress, now: int) -> float:
    since_ms = progress.waiting_since_ms
    return 0.0 if since_ms is None else max(now - since_ms, 0) / 1000


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _labelled(
    name: str,
    text: str,
    labels: Sequence[str],
    values: Iterable[tuple[tuple[str, ...], float]],
) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for names, value in values:
        family.add_metric(names, value)
    return family
