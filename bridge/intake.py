"""From the broker to the store and back to the car: the loop that loses nothing.

The order is the point (I-23): receive, verify, commit, acknowledge to the broker, then
the signed receipt. If the commit fails, nothing is acknowledged and no receipt is
signed; the link is dropped, because a broker sends again only after a reconnect
(a negative PUBACK is not repeated: gmqtt #113).

Batches go through four stages (`bridge.conveyor`): read in a thread, which asks about
their signatures; judged in another; committed in the store's and acknowledged;
receipted. So the process that verifies has its next batch before it has answered for
the one before. While a batch is in one stage the next one gathers, which makes batches
as large as the load demands.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Final

from bridge import traces
from bridge.admission import Turnstile
from bridge.clock_watch import ClockWatch
from bridge.commands import CommandRecord, Sendings
from bridge.committed import Committed, ReceiptDue
from bridge.conveyor import Conveyor
from bridge.credit import credit_for
from bridge.errors import (
    BridgeError,
    NotConnectedError,
    SigningError,
    StoreError,
)
from bridge.figures import Figures
from bridge.ingest import Rejection, Verified, VerifiedEntry, VerifiedHello, verify
from bridge.instant import InstantClock
from bridge.key_book import EMPTY
from bridge.ports import (
    Connect,
    Direction,
    Incoming,
    Link,
    ReceiptSigner,
    WallClock,
)
from bridge.prover import Asked, Prover
from bridge.receipt_pace import ReceiptPace, Told
from bridge.registry import RegistryDirectory
from bridge.rows.receipts import SignedReceipt
from bridge.store import Store
from bridge.traces import Times
from bridge.verifier import Verifier
from bridge.wire import LOG, Wire
from bridge.workspace import LetterKind
from protocol.codes import Code, FrameClass
from protocol.errors import DecodeError
from protocol.identity import VehicleId
from protocol.topic import ALL_UPLINKS, parse_topic, topic_of
from transport.backoff import Backoff
from transport.collector import Tracer
from transport.errors import TransportError

BATCH_LIMIT: Final = 512
"""Frames in one transaction: about 20 ms of work, so that a command's answer behind a
full batch still comes in time. Half as many cost a frame 4 µs more."""

GATHER_LIMIT: Final = 1024
"""Messages that may wait for a batch: the link's inbox. Then reading stops, and TCP
makes the broker wait (reliability.md L4: waiting, never dropping)."""

COMPANY_S: Final = 0.012
"""How long after one batch the next one begins at the earliest, while it is not full: a
transaction costs as much as the work for 70 frames, and nobody notices 12 ms."""

COMPANY_LEAST: Final = 4
"""Messages in a batch behind which the next one waits for company. Below it the bridge
has time to spare, and a command's answer goes through at once."""

BACKOFF: Final = Backoff(initial_s=0.5, maximum_s=15.0)
"""A bridge is one client among thousands: it may ask a dead broker more often."""

RECEIPT_EXPIRY_S: Final = 60
"""A receipt that waits longer in a broker is superseded by the next HELLO's."""

RECEIPTS_KEPT: Final = 4096
"""Sent receipts that wait for the next transaction; more are not kept, since the next
receipt of the same ledger says the same and more."""


@dataclass(slots=True, eq=False)
class _Batch:
    """Messages on their way through the stages, and what each stage leaves."""

    messages: Sequence[Incoming]
    asked: Sequence[Asked] = ()
    records: list[Verified | Rejection] = field(default_factory=list)
    verify_s: float = 0.0
    """Time in the first two stages, without waiting for a stage to be free."""
    due: Sequence[ReceiptDue] = ()
    received_ms: int = 0
    verified_ms: int = 0
    stored_ms: int = 0

    @property
    def entries(self) -> list[VerifiedEntry]:
        """Return the ledger entries and results in it."""
        return [one for one in self.records if isinstance(one, VerifiedEntry)]


class Intake:
    """Receives, proves, stores and confirms, until it is told to stop."""

    def __init__(
        self,
        *,
        connect: Connect,
        wire: Wire,
        store: Store,
        registry: RegistryDirectory,
        receipt_signer: ReceiptSigner,
        fleet_id: bytes,
        instant: InstantClock,
        random: Callable[[], float],
        sendings: Sendings,
        on_commands: Callable[[Sequence[CommandRecord]], None],
        on_events: Callable[[], None],
        on_greeted: Callable[[Sequence[VehicleId]], None],
        on_receipt: Callable[[VehicleId], None],
        clock_watch: ClockWatch,
        figures: Figures,
        turnstile: Turnstile | None = None,
        share: str | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        """Name the shared subscription, if other bridges take part in it.

        Without a turnstile every car may send as much as it likes.
        """
        self._tracer = tracer
        self._connect = connect
        self._wire = wire
        self._store = store
        self._registry = registry
        self._signer = receipt_signer
        self._fleet_id = fleet_id
        self._instant = instant
        self._now: WallClock = lambda: instant().utc_ms
        self._random = random
        self._sendings = sendings
        self._on_commands = on_commands
        self._on_events = on_events
        self._on_greeted = on_greeted
        self._on_receipt = on_receipt
        self._clock_watch = clock_watch
        self._figures = figures
        self._turnstile = turnstile
        self._filter = ALL_UPLINKS if share is None else f"$share/{share}/{ALL_UPLINKS}"
        self._prover = Prover(registry, fleet_id=fleet_id, verifier=Verifier())
        self._asking = ThreadPoolExecutor(1, thread_name_prefix="ask")
        self._proving = ThreadPoolExecutor(1, thread_name_prefix="verify")
        self._sent_receipts: list[SignedReceipt] = []
        self._pace = ReceiptPace()
        self._pacing: asyncio.TimerHandle | None = None
        self._committing = asyncio.Lock()
        self._keys = EMPTY
        self._has_keys = False
        self._link: Link | None = None
        self._company_until_s = 0.0
        self._rotated = asyncio.Event()
        self._rotated.set()
        self.last_error: str | None = None
        """Why there is no link; None while there is one. For readiness."""

    @property
    def queued(self) -> int:
        """Messages that have arrived and wait for a batch."""
        return 0 if self._link is None else self._link.waiting

    async def run(self) -> None:
        """Connect, receive, and reconnect with back-off, until cancelled.

        On cancellation the batch under way is finished first.
        """
        failures = 0
        try:
            while True:
                try:
                    await self._session()
                except (TransportError, BridgeError) as error:
                    failures = 1 if self.last_error is None else failures + 1
                    self.last_error = str(error)
                    delay_s = BACKOFF.delay_s(failures, random=self._random)
                    LOG.warning("= no link: %s; next try in %.1f s", error, delay_s)
                    await asyncio.sleep(delay_s)
        finally:
            self._asking.shutdown(wait=False)
            self._proving.submit(self._prover.close)
            self._proving.shutdown(wait=False)

    async def flush(self) -> None:
        """Store what waits for a transaction; called when idle and before the end.

        Raises:
            StoreError: it waits on.
        """
        if self._sendings.unwritten() or self._sent_receipts:
            await self._commit([])

    async def _session(self) -> None:
        if not await self._store.is_writable(within_s=None):
            raise StoreError("the store does not commit, so nothing is received")
        await self._load_keys()
        async with self._connect() as link:
            await link.subscribe(self._filter)
            self._wire.attach(link)
            self.last_error = None
            LOG.info("= connected to the broker")
            try:
                await self._receive(link)
            finally:
                self._wire.detach()

    def forget_keys(self) -> None:
        """Read anew which vehicles changed their keys: another bridge stored one."""
        self._has_keys = False

    async def _load_keys(self) -> None:
        """Read once which vehicles changed their keys; then batches bring the rest."""
        if not self._has_keys:
            self._keys = await self._store.key_book()
            self._has_keys = True

    async def _receive(self, link: Link) -> None:
        # What an earlier link left unacknowledged comes again on this one.
        self._link = link
        self._rotated.set()
        conveyor = Conveyor(self._ask, self._prove, self._settle, self._confirm)
        self._company_until_s = 0.0
        try:
            while True:
                conveyor.put(_Batch(await conveyor.next(lambda: self._take(link))))
        except asyncio.CancelledError:
            # Who is told to stop stops, also when the batch under way fails: nothing
            # of it was acknowledged, and every car sends it again.
            with contextlib.suppress(TransportError, BridgeError):
                await conveyor.finish()
            raise
        except Exception:
            # A batch that was begun is finished: half of one is never undone, but its
            # acknowledgements would be missing and every car would resend.
            await conveyor.finish()
            raise
        finally:
            self._link = None
            if self._pacing is not None:
                self._pacing.cancel()
                self._pacing = None
            self._confirm_now(self._pace.rest())
            if self._turnstile is not None:
                self._turnstile.forget()

    async def _take(self, link: Link) -> Sequence[Incoming]:
        clock = asyncio.get_running_loop().time
        wait_s = self._company_until_s - clock()
        if wait_s > 0 and link.waiting < BATCH_LIMIT:
            await asyncio.sleep(wait_s)
        if self._turnstile is None:
            taken = await link.take(BATCH_LIMIT)
        else:
            taken = await self._turnstile.take(link, BATCH_LIMIT)
        is_busy = len(taken) >= COMPANY_LEAST
        self._company_until_s = clock() + COMPANY_S if is_busy else 0.0
        return taken

    async def _ask(self, batch: _Batch) -> None:
        """Read a batch in a thread and ask about its signatures."""
        await self._load_keys()
        loop = asyncio.get_running_loop()
        self._figures.received(len(batch.messages))
        begun_s, batch.received_ms = loop.time(), self._now()
        batch.asked = await loop.run_in_executor(
            self._asking, self._prover.ask, batch.messages, self._keys
        )
        batch.verify_s = loop.time() - begun_s

    async def _prove(self, batch: _Batch) -> None:
        """Judge a batch in a thread."""
        # Keys that the batch before gives up or takes count once it is committed.
        await self._rotated.wait()
        await self._load_keys()
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        batch.records = await loop.run_in_executor(
            self._proving, self._prover.judge, batch.asked, self._keys
        )
        batch.asked = ()
        batch.verify_s += loop.time() - begun_s
        batch.verified_ms = self._now()
        if any(entry.rotation is not None for entry in batch.entries):
            self._rotated.clear()

    async def _settle(self, batch: _Batch) -> None:
        """Commit a batch, then acknowledge it and tell of it."""
        loop = asyncio.get_running_loop()
        begun_s, begun_ms = loop.time(), self._now()
        try:
            committed = await self._commit_kept(batch.messages, batch.records)
        except StoreError:
            self._figures.not_committed()
            raise
        finally:
            self._rotated.set()
        self._figures.committed(
            batch.records, verify_s=batch.verify_s, commit_s=loop.time() - begun_s
        )
        batch.stored_ms = self._now()
        for message in batch.messages:
            message.done()
        self._note_refused(batch.records)
        self._trace_stored(batch, begun_ms)
        if self._wire.is_watched:
            for message, note in zip(batch.messages, committed.notes, strict=True):
                self._wire.watch(Direction.IN, message.topic, message.payload, note)
        self._watch_clock(batch.records, committed.notes)
        self._tell(committed)
        batch.due = committed.receipts

    async def _confirm(self, batch: _Batch) -> None:
        """Send the receipts of a batch, except to whom one went a moment ago."""
        if batch.due:
            now_s = asyncio.get_running_loop().time()
            self._confirm_now(self._pace.take(self._told(batch), now_s=now_s))
            self._pace_on()

    def _told(self, batch: _Batch) -> list[Told]:
        if self._tracer is None:
            return [Told(due) for due in batch.due]
        entries: dict[tuple[VehicleId, bytes], list[tuple[VerifiedEntry, int]]] = {}
        for entry in batch.entries:
            key = (entry.frame.header.vehicle_id, entry.link.ledger_id)
            entries.setdefault(key, []).append((entry, batch.stored_ms))
        return [
            Told(due, tuple(entries.get((due.vehicle_id, due.receipt.ledger_id), ())))
            for due in batch.due
        ]

    def _pace_on(self) -> None:
        """Look again when the first receipt that waits is due."""
        if self._pacing is None and (next_s := self._pace.next_s) is not None:
            loop = asyncio.get_running_loop()
            self._pacing = loop.call_at(next_s, self._confirm_ripe)

    def _confirm_ripe(self) -> None:
        self._pacing = None
        now_s = asyncio.get_running_loop().time()
        self._confirm_now(self._pace.ripe(now_s=now_s))
        self._pace_on()

    def _confirm_now(self, told: Sequence[Told]) -> None:
        self._send_receipts([one.due for one in told])
        if self._tracer is not None:
            now = self._now()
            self._tracer.record(
                traces.receipted(entry, stored_ms=stored_ms, now=now)
                for one in told
                for entry, stored_ms in one.entries
            )

    def _trace_stored(self, batch: _Batch, begun_ms: int) -> None:
        if self._tracer is None:
            return
        times = Times(batch.received_ms, batch.verified_ms, begun_ms, batch.stored_ms)
        for entry in batch.entries:
            self._tracer.record(traces.stored(entry, times))

    def _note_refused(self, records: Sequence[Verified | Rejection]) -> None:
        if self._turnstile is None:
            return
        for record in records:
            if isinstance(record, Rejection):
                with contextlib.suppress(DecodeError):
                    self._turnstile.refused(parse_topic(record.topic).vehicle_id)

    def _watch_clock(
        self, records: Sequence[Verified | Rejection], notes: Sequence[str]
    ) -> None:
        """Note the labels of fresh HELLOs: whatever else may have waited for days."""
        now = self._now()
        for record, note in zip(records, notes, strict=True):
            if isinstance(record, VerifiedHello) and not note:
                header, quality = record.frame.header, record.hello.clock_quality
                self._clock_watch.heard(
                    header.vehicle_id, header.wall_ms, quality, now=now
                )

    async def _commit_kept(
        self, batch: Sequence[Incoming], records: list[Verified | Rejection]
    ) -> Committed:
        """Commit; one record that this program cannot digest is kept by itself.

        A defect that one frame provokes would otherwise stop every car's frames for
        ever (I-31).
        """
        try:
            return await self._commit(records)
        except StoreError:
            raise
        except Exception:  # noqa: BLE001 - a defect, whose kind nobody can name before
            if len(records) == 1:
                LOG.exception("= a verified frame could not be processed; it is kept")
                kept = Rejection(
                    Code.INTERNAL,
                    "a defect of this bridge; see its log",
                    batch[0].topic,
                    batch[0].payload,
                    None,
                )
                return await self._commit([kept])
        parts = [
            await self._commit_kept([message], [record])
            for message, record in zip(batch, records, strict=True)
        ]
        return _joined(parts)

    async def judge(self, letter_id: int) -> str | None:
        """Judge a dead letter anew, as if it came now (docs/operations.md).

        Returns:
            What became of it, or None if there is no such letter. Nobody can make the
            bridge believe what a vehicle did not sign: the same rules are asked again,
            with today's registry and today's program.

        Raises:
            StoreError: the letter is as it was.
        """
        letter = await self._store.dead_letter(letter_id)
        if letter is None:
            return None
        if letter.kind is LetterKind.RETAINED:
            return "kept: a retained message is never believed"
        await asyncio.to_thread(self._prover.refresh)
        await self._load_keys()
        record = await asyncio.to_thread(
            verify,
            letter.topic,
            letter.data,
            retain=False,
            registry=self._registry.current,
            fleet_id=self._fleet_id,
            keys=self._keys,
        )
        if isinstance(record, Rejection):
            return f"kept: {record.code.name}: {record.detail}"
        async with self._committing:
            committed = await self._store.commit_batch(
                [record],
                published={},
                receipts=[],
                at=self._instant(),
                judged=letter_id,
            )
        self._tell(committed)
        self._send_receipts(committed.receipts)
        [note] = committed.notes
        return note or "taken"

    async def _commit(self, records: Sequence[Verified | Rejection]) -> Committed:
        async with self._committing:
            published = self._sendings.unwritten()
            receipts = self._sent_receipts[:]
            committed = await self._store.commit_batch(
                records, published=published, receipts=receipts, at=self._instant()
            )
            self._sendings.written(published)
            del self._sent_receipts[: len(receipts)]
            return committed

    def _tell(self, committed: Committed) -> None:
        if committed.rotations:
            self._keys = self._keys.with_rotations(committed.rotations)
        if committed.commands:
            self._on_commands(committed.commands)
        if committed.has_events:
            self._on_events()
        if committed.greeted:
            self._on_greeted(committed.greeted)

    def _send_receipts(self, due: Sequence[ReceiptDue]) -> None:
        if not due:
            return
        at = self._instant()
        credit = credit_for(self.queued, GATHER_LIMIT)
        signed = refused = 0
        for receipt in due:
            vehicle = receipt.vehicle
            if vehicle.doubt is not None:
                # The answer to the challenge is a HELLO, which gets one.
                continue
            car_now_ms = vehicle.clock.car_now_ms(at=at) or 0
            to = vehicle.addressee(receipt.vehicle_id, car_now_ms, now=at.utc_ms)
            told = receipt.receipt
            if told.credit != credit:
                told = replace(told, credit=credit)
            try:
                data = self._signer.sign(told, to)
            except SigningError as error:
                # The car keeps its entries and asks again.
                LOG.error("= no receipt: %s", error)
                refused += 1
                continue
            topic = topic_of(receipt.vehicle_id, FrameClass.RECEIPT)
            self._post(topic, data)
            signed += 1
            self._on_receipt(receipt.vehicle_id)
            self._keep(
                SignedReceipt(
                    receipt.vehicle_id,
                    receipt.receipt.ledger_id,
                    receipt.receipt.upto,
                    data,
                    at.utc_ms,
                )
            )
        self._figures.receipted(signed=signed, refused=refused)

    def _keep(self, receipt: SignedReceipt) -> None:
        if len(self._sent_receipts) < RECEIPTS_KEPT:
            self._sent_receipts.append(receipt)

    def _post(self, topic: str, data: bytes) -> None:
        # A lost receipt is harmless: the car resends and gets the next one. So nobody
        # waits for the broker's word, which comes behind everything that cars sent.
        with contextlib.suppress(TransportError, NotConnectedError):
            self._wire.post(topic, data, expiry_s=RECEIPT_EXPIRY_S)


def _joined(parts: Sequence[Committed]) -> Committed:
    return Committed(
        tuple(note for part in parts for note in part.notes),
        tuple(receipt for part in parts for receipt in part.receipts),
        tuple(record for part in parts for record in part.commands),
        any(part.has_events for part in parts),
        tuple(rotation for part in parts for rotation in part.rotations),
        tuple(vehicle for part in parts for vehicle in part.greeted),
    )
