"""What is let into a batch, so that one car that floods harms itself alone (I-31, K23).

Between the link and the batches, before a signature costs anything. Each car has two
buckets (`bridge.allowance`). Telemetry above its rate is dropped: the next sample says
more, and the protocol calls it losable. Everything else waits here above its rate,
without an acknowledgement, and what the same car says later waits behind it. An honest
car does so after a long outage alone, and with no more than its credit
(`bridge.credit`).

The attackers considered: who has a car's TLS identity and sends what it did not sign,
and who has its signing key too, as fast as the broker takes it. A signature, and what
it does not hold for, cost several times what throwing a frame away costs, and an entry
that is stored ten times more.

Rule 1: what one car said stays in its order; telemetry alone overtakes.
Rule 2: only so much waits (`WAITING_LIMIT`): a broker stops serving who leaves too much
unacknowledged, which would harm every car. Beyond it, frames are let in at once, but of
each car no more than it has to spare (`SPARE`): cars that flood together would let in
one another's without a bound. What is above that is lost as by rule 3.
Rule 3: a car of which much is refused, or of which `OWN_LIMIT` wait already, loses what
is above its rate, whatever it is: nothing that is refused counts, no honest car has as
much under way, and what a car did sign it sends again, having no receipt.
Rule 4: the topic names the car. The broker confines each car to its own; whoever could
publish in its name could keep it silent anyway.
Rule 5: cars that say much have a small part of each batch together (`BUSY_LIMIT`), and
share it. So frames are thrown away faster than entries are stored, and a car that says
little (`MODEST`) does not wait in the broker behind ten that flood at their rates.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from bridge.allowance import Allowance, Rate
from bridge.credit import CREDIT_MOST
from bridge.figures import Figures
from bridge.ports import Incoming, Link
from bridge.settings import IntakeSettings
from bridge.wire import LOG
from protocol.codes import FrameClass, FrameType
from protocol.errors import DecodeError
from protocol.identity import VehicleId
from protocol.topic import parse_topic

WAITING_LIMIT: Final = 512
"""Messages that may wait unacknowledged: half of what the embedded NATS hands out
(`bridge.broker.nats.MAXIMUM_PENDING`)."""

OWN_LIMIT: Final = 256
"""Messages of one car that may wait: twice what an honest one can have under way, its
largest credit of 64 entries and a place for each."""

REFUSED: Final = Rate(per_s=1.0, burst=64)
"""How many frames of a car may be refused before much is (rule 3): an honest one has
none, and one that this bridge does not know yet sends a credit's worth and waits."""

SPARE: Final = Rate(per_s=4.0, burst=2 * CREDIT_MOST)
"""What a car may send above its rate where nothing more may wait (rule 2): as much as
an honest one can have under way, and as much again half a minute later."""

MODEST: Final = Rate(per_s=5.0, burst=2 * CREDIT_MOST)
"""What a car says without being busy (rule 5): an honest one tells a few entries a
minute, and after an outage as much as it may have under way."""

BUSY_LIMIT: Final = 64
"""Frames of busy cars in one batch, which costs 30 to 60 ms by it: more than 1,000 a
second, and 50 a second for each of twenty cars."""

ROUNDS: Final = 8
"""How often a batch looks for more where most of what came was kept out: 4,096 frames,
which cost no more than the batch does."""

SAID_AGAIN_S: Final = 60.0
"""Seconds between two warnings of one bridge about cars that flood."""

_TYPE: Final = slice(6, 8)
"""Where a frame says its type (docs/protocol/frame.md). A PLACE comes on the topic of
telemetry and must not be lost."""

_PLACE: Final = int(FrameType.PLACE).to_bytes(2, "big")
_TELEM: Final = FrameClass.TELEM


@dataclass(frozen=True, slots=True)
class IntakeRates:
    """What each car may say."""

    telemetry: Rate
    """Beyond it is dropped."""
    entries: Rate
    """Of everything else; beyond it waits."""


class Turnstile:
    """Lets frames of one connection in, each car at its rate."""

    def __init__(
        self,
        rates: IntakeRates,
        *,
        figures: Figures,
        clock_s: Callable[[], float],
        waiting_limit: int = WAITING_LIMIT,
    ) -> None:
        """Begin with full buckets.

        Args:
            rates: of every car.
            figures: counts what was dropped and delayed.
            clock_s: a clock that nobody sets.
            waiting_limit: how many messages may wait (rule 2).
        """
        self._telemetry = Allowance(rates.telemetry)
        self._entries = Allowance(rates.entries)
        self._refused = Allowance(REFUSED)
        self._spare = Allowance(SPARE)
        self._modest = Allowance(MODEST)
        self._busy_left = BUSY_LIMIT
        """Frames of busy cars that the batch under way still has room for."""
        self._figures = figures
        self._clock_s = clock_s
        self._limit = waiting_limit
        self._queues: dict[VehicleId, deque[Incoming]] = {}
        self._ready: deque[Incoming] = deque()
        self._taking: asyncio.Task[Sequence[Incoming]] | None = None
        self._said_s: float | None = None
        self.waiting = 0
        """Messages that wait for their car's rate."""

    def forget(self) -> None:
        """Forget what a connection left that is over: it comes again on the next."""
        self._queues.clear()
        self._ready.clear()
        self.waiting = 0
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None

    def refused(self, who: VehicleId) -> None:
        """Note that a frame on a topic of this car was not believed."""
        self._refused.take(who, now_s=self._clock_s())

    async def take(self, link: Link, limit: int) -> Sequence[Incoming]:
        """Return the next messages that may come in, at least one, at most `limit`.

        Raises:
            TransportError: as `Link.take`; what waits here comes again.
        """
        self._busy_left = BUSY_LIMIT
        self._release()
        more = 0
        while not self._ready or (more and link.waiting and len(self._ready) < limit):
            if self._taking is None:
                self._taking = asyncio.ensure_future(link.take(limit))
                self._taking.add_done_callback(_heed)
            await asyncio.wait({self._taking}, timeout=self._next_s())
            # What waits is older than what came, so it goes first (rule 1).
            self._release()
            if self._taking.done():
                taken, self._taking = self._taking, None
                had, came = len(self._ready), taken.result()
                self._admit(came)
                is_flood = 2 * (len(self._ready) - had) < len(came)
                more = (more or ROUNDS) - 1 if is_flood else 0
        count = min(limit, len(self._ready))
        return [self._ready.popleft() for _ in range(count)]

    def _admit(self, messages: Sequence[Incoming]) -> None:
        """Sort what came: in, dropped, or waiting."""
        now_s = self._clock_s()
        admitted = self._ready
        dropped: dict[VehicleId, int] = {}
        delayed = 0
        for message in messages:
            try:
                route = parse_topic(message.topic)
            except DecodeError:
                admitted.append(message)
                continue
            who = route.vehicle_id
            if route.frame_class is _TELEM and message.payload[_TYPE] != _PLACE:
                if self._telemetry.take(who, now_s=now_s):
                    admitted.append(message)
                else:
                    message.done()
                    dropped[who] = dropped.get(who, 0) + 1
            elif who not in self._queues and self._may_enter(who, now_s):
                admitted.append(message)
            elif self._is_flood(who, now_s):
                message.done()
                dropped[who] = dropped.get(who, 0) + 1
            elif self.waiting < self._limit:
                self._queues.setdefault(who, deque()).append(message)
                self.waiting += 1
                delayed += 1
            elif not self._spare.take(who, now_s=now_s):
                message.done()
                dropped[who] = dropped.get(who, 0) + 1
            else:
                # Rule 2, and rule 1: what waits of this car longest goes before it.
                queue = self._queues.get(who, deque())
                queue.append(message)
                admitted.append(queue.popleft())
        if dropped or delayed:
            self._tell(dropped, delayed, now_s)

    def _may_enter(self, who: VehicleId, now_s: float) -> bool:
        """Take what a frame costs its car; False if it cannot come in now."""
        if self._entries.wait_s(who, now_s=now_s) > 0:
            return False
        if not self._modest.take(who, now_s=now_s):
            if not self._busy_left:
                return False
            self._busy_left -= 1
        return self._entries.take(who, now_s=now_s)

    def _is_flood(self, who: VehicleId, now_s: float) -> bool:
        """Return whether what a car says above its rate is thrown away (rule 3)."""
        own = len(self._queues.get(who, ()))
        return own >= OWN_LIMIT or self._refused.wait_s(who, now_s=now_s) > 0

    def _release(self) -> None:
        """Let in what waited and has a token now, of each car one after the other."""
        now_s = self._clock_s()
        turns = [*self._queues]
        while turns:
            turns = [who for who in turns if self._release_one(who, now_s)]

    def _release_one(self, who: VehicleId, now_s: float) -> bool:
        """Let in the oldest of a car; False if nothing of it comes in now."""
        queue = self._queues[who]
        if not self._may_enter(who, now_s):
            return False
        self._ready.append(queue.popleft())
        self.waiting -= 1
        if not queue:
            del self._queues[who]
        return bool(queue)

    def _next_s(self) -> float | None:
        """Return in how many seconds somebody has a token; None if nobody waits."""
        now_s = self._clock_s()
        return min(
            (self._entries.wait_s(who, now_s=now_s) for who in self._queues),
            default=None,
        )

    def _tell(self, dropped: dict[VehicleId, int], delayed: int, now_s: float) -> None:
        self._figures.flooded(dropped=sum(dropped.values()), delayed=delayed)
        if self._said_s is not None and now_s - self._said_s < SAID_AGAIN_S:
            return
        self._said_s = now_s
        cars = sorted(map(str, dropped.keys() | self._queues.keys()))
        LOG.warning("= more than its rate is sent by: %s", ", ".join(cars[:3]))


def _heed(task: asyncio.Task[Sequence[Incoming]]) -> None:
    """Look at what ended a task that nobody may come to await any more."""
    if not task.cancelled():
        task.exception()


def open_turnstile(settings: IntakeSettings, figures: Figures) -> Turnstile:
    """Return the turnstile of a bridge, by the clock of the running event loop."""
    rates = IntakeRates(
        telemetry=Rate(settings.telemetry_per_s, settings.telemetry_burst),
        entries=Rate(settings.entries_per_s, settings.entries_burst),
    )
    return Turnstile(rates, figures=figures, clock_s=asyncio.get_running_loop().time)
