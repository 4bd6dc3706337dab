"""The bridge's store: one transaction a batch, and nothing is told before its commit.

Every write runs in one worker thread, one after another, so that the event loop never
waits for a disk; reads run beside it (`bridge.store_threads`). The tables are in
`bridge.schema`, the statements in `bridge.rows`, the engines behind `bridge.database`.

Whatever goes wrong in the database becomes `StoreError`, and the transaction is undone
whole.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from sqlalchemy import Connection, select

from bridge import schema
from bridge.audit import AuditEntry, AuditHead, AuditRow
from bridge.commands import CommandRecord
from bridge.committed import Committed, ReceiptDue
from bridge.credit import CREDIT_MOST
from bridge.database import Database, Signal
from bridge.errors import SettingsError, StoreError
from bridge.group_commit import GroupCommit
from bridge.ingest import Rejection, Verified
from bridge.instant import Instant
from bridge.key_book import KeyBook
from bridge.ledger import Ledger, gaps_of
from bridge.ports import RandomBytes
from bridge.projection import absorb, note_published
from bridge.rows import (
    audit,
    batches,
    commands,
    configurations,
    counts,
    deliveries,
    leases,
    letters,
    outbox,
    places,
)
from bridge.rows.configurations import ConfigState, Configuration
from bridge.rows.deliveries import GivenUp, Progress
from bridge.rows.evidence import RentalProof, find_proof
from bridge.rows.letters import StoredLetter
from bridge.rows.locks import lock_vehicles
from bridge.rows.outbox import OutboxRow
from bridge.rows.receipts import OpenGap, SignedReceipt, tell_gaps, write_receipts
from bridge.rows.rentals import Rental, close_rental, find_rental
from bridge.rows.rotations import load_key_book
from bridge.rows.statements import insert_new, upsert
from bridge.rows.vehicles import load_vehicles, online_vehicles, tell_silence
from bridge.store_threads import CHECK_S, LATE, StoreThreads
from bridge.vehicle import VehicleState
from bridge.whereabouts import receipt_of
from bridge.workspace import Workspace
from protocol.codes import ConfigKind
from protocol.identity import ID_SIZE, VehicleId
from protocol.place import EventPlace
from protocol.receipt import GAPS_LIMIT, REJECTS_LIMIT, Receipt

T = TypeVar("T")

Reservation = tuple[bytes, bytes, int, int]
"""Key id, session id, lane, and how many sequences of it."""


class Store:
    """The store on one database; `open` it first and `close` it last."""

    def __init__(
        self,
        database: Database,
        *,
        fleet_id: bytes,
        random_bytes: RandomBytes = secrets.token_bytes,
    ) -> None:
        self._database = database
        self._random_bytes = random_bytes
        self._fleet_id = fleet_id
        self._is_open = False
        self._checking: asyncio.Future[bool] | None = None
        self.fault = ""  # why the last look at it failed; empty if it committed
        self._reserving = GroupCommit(self._reserve_all)
        self._auditing = GroupCommit(self._append_all)
        self._threads = StoreThreads(database)

    def open(self) -> None:
        """Open the database and check that it is this fleet's; blocks.

        Raises:
            SettingsError: it cannot be used, or belongs to another fleet.
        """
        self._database.open()
        try:
            self._database.transact(self._begin, writes=True)
        except StoreError as error:
            self._database.close()
            raise SettingsError(
                f"store {self._database.name} cannot be used: {error}",
                advice="check that the bridge may write to it",
            ) from error
        except SettingsError:
            self._database.close()
            raise

        self._is_open = True

    def _begin(self, connection: Connection) -> None:
        fleet_id = self._fleet_id.hex()
        statement = insert_new(connection, schema.meta, unique=["name"])
        connection.execute(statement.values(name="fleet_id", value=fleet_id))
        found = connection.execute(
            select(schema.meta.c.value).where(schema.meta.c.name == "fleet_id")
        ).scalar_one()
        if found != fleet_id:
            raise SettingsError(
                f"store {self._database.name} belongs to fleet {found}, not to "
                f"{fleet_id}",
                advice="name another one: two fleets do not share a store",
            )
        if not self._database.is_shared:
            # Whoever held them is gone: the file is ours alone.
            leases.drop_all_leases(connection)

    async def close(self) -> None:
        """Finish what was begun, then close the database."""
        await asyncio.to_thread(self._shutdown)

    def _shutdown(self) -> None:
        self._is_open = False
        self._threads.shutdown()
        self._database.close()

    @property
    def fleet_id(self) -> bytes:
        """Whose store it is; 16 bytes."""
        return self._fleet_id

    @property
    def is_late(self) -> bool:
        """Whether a write waits longer than it may; then nobody should add another."""
        return self._threads.is_late

    @property
    def is_shared(self) -> bool:
        """Whether other bridges may write to the same database."""
        return self._database.is_shared

    def signals(self) -> AsyncIterator[Signal]:
        """Yield what bridges on this database tell one another, until cancelled."""
        return self._database.signals()

    async def take_lease(self, name: str, holder: str, *, ttl_ms: int) -> int | None:
        """Take a lease that nobody holds; return its epoch, or None."""
        return await self._write(
            lambda c: leases.take_lease(c, name, holder, ttl_ms=ttl_ms)
        )

    async def renew_lease(self, name: str, epoch: int, *, ttl_ms: int) -> bool:
        """Hold a lease longer; False if it passed on."""
        return await self._write(
            lambda c: leases.renew_lease(c, name, epoch, ttl_ms=ttl_ms)
        )

    async def drop_lease(self, name: str, epoch: int) -> None:
        """Let somebody else have a lease at once."""
        await self._write(lambda c: leases.drop_lease(c, name, epoch))

    async def commit_batch(
        self,
        records: Sequence[Verified | Rejection],
        *,
        published: Mapping[bytes, int],
        receipts: Sequence[SignedReceipt],
        at: Instant,
        judged: int | None = None,
    ) -> Committed:
        """Store a batch in one transaction.

        Args:
            records: in the order of their arrival.
            published: sendings of commands to be noted with it: id to UTC ms.
            receipts: sent receipts to be kept with it.
            at: when it is stored.
            judged: the dead letter that the batch consists of, which goes with it.

        Raises:
            StoreError: nothing of it was stored.
        """

        def work(connection: Connection) -> Committed:
            space = batches.load(
                connection,
                records,
                published,
                receipted=(receipt.vehicle_id for receipt in receipts),
                fleet_id=self._fleet_id,
                fresh_nonce=lambda: self._random_bytes(ID_SIZE),
                at=at,
            )
            before = batches.Before.of(space)
            note_published(space, published)
            for record in records:
                absorb(space, record)
            if judged is not None:
                letters.take_letter(connection, judged)
            batches.write(connection, space, before)
            write_receipts(connection, receipts)
            due = tuple(
                ReceiptDue(
                    vehicle_id,
                    space.vehicles.get(vehicle_id, VehicleState()),
                    _receipt(space, (vehicle_id, ledger_id)),
                )
                for vehicle_id, ledger_id in space.receipts
            )
            return Committed(
                tuple(space.notes),
                due,
                tuple(space.changed_commands.values()),
                bool(space.outbox) or bool(space.replaced),
                tuple(space.rotations),
                tuple(space.greeted),
            )

        return await self._write(work)

    async def key_book(self) -> KeyBook:
        """Return every change of a vehicle's key that is stored."""
        return await self._read(load_key_book)

    async def vehicles(
        self, vehicle_ids: Iterable[VehicleId]
    ) -> dict[VehicleId, VehicleState]:
        """Return what is known of these vehicles; unknown ones are missing."""
        wanted = list(vehicle_ids)
        return await self._read(lambda c: load_vehicles(c, wanted))

    async def vehicle(self, vehicle_id: VehicleId) -> VehicleState | None:
        """Return what is known of one vehicle, or None."""
        return (await self.vehicles([vehicle_id])).get(vehicle_id)

    async def add_command(
        self, record: CommandRecord, *parts: CommandRecord
    ) -> CommandRecord:
        """Store a new command; return it, or the one that has its idempotency key.

        Parts of a compound are stored with it or not at all.

        Raises:
            UndecidedError: it may be stored, or may yet be; then it is sent as well.
            StoreError: it is not stored and will not be.
        """

        def work(connection: Connection) -> CommandRecord:
            stored = commands.add_command(connection, record)
            if stored is record:
                for part in parts:
                    commands.add_command(connection, part)
            return stored

        return await self.write_soon(work)

    async def replace_command(
        self, before: CommandRecord, after: CommandRecord
    ) -> bool:
        """Compare and set; False if somebody else was first."""
        return await self._write(lambda c: commands.replace_command(c, before, after))

    async def command(self, command_id: bytes) -> CommandRecord | None:
        """Return a command, or None."""
        found = await self._read(lambda c: commands.load_commands(c, [command_id]))
        return found.get(command_id)

    async def command_by_key(
        self, vehicle_id: VehicleId, idempotency_key: str
    ) -> CommandRecord | None:
        """Return the command that was ordered with this key, or None."""
        return await self._read(
            lambda c: commands.find_by_key(c, vehicle_id, idempotency_key)
        )

    async def open_commands(self) -> list[CommandRecord]:
        """Return every command that waits for a signed word."""
        found = await self._read(lambda c: commands.load_open_commands(c, None))
        return list(found.values())

    async def reserve_sequences(
        self, key_id: bytes, session_id: bytes, lane: int, count: int
    ) -> int:
        """Reserve `count` sequences and return the first.

        Calls that wait at the same time share one transaction: when a thousand cars
        come back at once, an order to one of them must not wait for a thousand disks.
        """
        return await self._reserving.submit((key_id, session_id, lane, count))

    async def _reserve_all(self, wanted: Sequence[Reservation]) -> list[int]:
        # One that is reserved and not used leaves a gap, which harms nobody.
        return await self.write_soon(
            lambda c: [commands.reserve_sequences(c, *each) for each in wanted]
        )

    async def rental(self, rental_id: bytes) -> Rental | None:
        """Return a rental, or None."""
        return await self._read(lambda c: find_rental(c, rental_id))

    async def close_rental(self, rental_id: bytes, *, now: int) -> bool:
        """Note that a person closed a flagged rental; False if there is none."""
        return await self.write_soon(lambda c: close_rental(c, rental_id, now=now))

    async def put_configuration(
        self,
        vehicle_id: VehicleId,
        kind: ConfigKind,
        body: bytes,
        *,
        now: int,
        approval_id: bytes = b"",
    ) -> Configuration:
        """Want a body of a car; the same body as before changes but its approval."""

        def work(connection: Connection) -> Configuration:
            lock_vehicles(connection, [vehicle_id])
            state = load_vehicles(connection, [vehicle_id]).get(vehicle_id)
            has = 0 if state is None else state.config_version(kind)
            return configurations.put_configuration(
                connection,
                vehicle_id,
                kind,
                body,
                at_least=has + 1,
                now=now,
                approval_id=approval_id,
            )

        return await self.write_soon(work)

    async def configurations(self, vehicle_id: VehicleId) -> list[Configuration]:
        """Return what is wanted of a car, by kind."""
        return await self._read(
            lambda c: configurations.find_configurations(c, vehicle_id)
        )

    async def wanted_configurations(self, vehicle_id: VehicleId) -> list[Configuration]:
        """Return what is wanted of a car and not settled yet, by kind."""
        wanted = ConfigState.WANTED
        return await self._read(
            lambda c: configurations.find_configurations(c, vehicle_id, wanted)
        )

    async def erase_places(self, rental_id: bytes) -> int:
        """Erase where a rental began, parked and ended; the ledger still verifies.

        The bytes are overwritten in the file, and the log that may hold them is cut.

        Args:
            rental_id: 16 bytes.

        Returns:
            How many entries had a place, or might still have got one.

        Raises:
            StoreError: nothing was erased, or the log could not be cut; call it again.
        """
        erased = await self._write(lambda c: places.erase_places(c, rental_id))
        await self.forget()
        return erased

    async def forget(self) -> None:
        """Make unreadable what was overwritten or deleted.

        Raises:
            StoreError: it may still be readable; call again.
        """
        await self._threads.alone(self._database.forget)

    async def places(self, rental_id: bytes) -> dict[int, EventPlace]:
        """Return the places of a rental that are there and fit, by entry."""
        return await self._read(lambda c: places.find_places(c, rental_id))

    async def rental_proof(self, rental_id: bytes) -> RentalProof | None:
        """Return what proves a rental, or None while nothing of it is receipted."""
        return await self._read(lambda c: find_proof(c, rental_id))

    async def outbox_after(self, position: int, limit: int) -> list[OutboxRow]:
        """Return the next events behind a position."""
        return await self._read(lambda c: outbox.outbox_after(c, position, limit))

    async def outbox_at(self, positions: Sequence[int]) -> list[OutboxRow]:
        """Return the events at these positions, in order; what is gone is missing."""
        return await self._read(lambda c: outbox.outbox_at(c, positions))

    async def outbox_span(self) -> tuple[int, int]:
        """Return the oldest and the newest position that are kept; 0 for none."""
        return await self._read(outbox.outbox_span)

    async def cursor(self, sink: str) -> int:
        """Return up to where a sink took everything."""
        return await self._read(lambda c: outbox.cursor_of(c, sink))

    async def set_cursor(
        self,
        sink: str,
        position: int,
        given_up: Mapping[int, str],
        *,
        tenure: tuple[str, int],
        now: int,
    ) -> None:
        """Note that a sink took, or gave up, everything up to `position`.

        Args:
            sink: its name.
            position: of the outbox.
            given_up: positions that were set aside, and why.
            tenure: lease and epoch by which we serve this sink.
            now: UTC ms.

        Raises:
            LeaseLostError: another bridge serves it; nothing was written.
            StoreError: nothing was written.
        """

        def work(connection: Connection) -> None:
            leases.require_epoch(connection, *tenure)
            outbox.set_cursor(connection, sink, position, given_up, now)

        await self._write(work)

    async def counts(self) -> counts.Counts:
        """Return how many rows are in what state."""
        return await self._read(counts.count_rows)

    async def progress(self, sink: str) -> Progress:
        """Return how far a sink is."""
        return await self._read(lambda c: deliveries.progress_of(c, sink))

    async def given_up(self, sink: str, *, after: int, limit: int) -> list[GivenUp]:
        """Return what a sink gave up, in order, behind a position."""
        return await self._read(
            lambda c: deliveries.given_up(c, sink, after=after, limit=limit)
        )

    async def position_before(self, since_ms: int) -> int:
        """Return the position before the first event stored at or after UTC ms."""
        return await self._read(lambda c: deliveries.position_before(c, since_ms))

    async def replay(self, sink: str, work: str, position: int) -> None:
        """Let a sink begin again behind a position; `work` is its lease."""
        await self._write(lambda c: deliveries.replay(c, sink, work, position))

    async def online_vehicles(self) -> list[VehicleId]:
        """Return the cars that consumers were told are online."""
        return await self._read(online_vehicles)

    async def open_gaps(self, *, older_than: int) -> list[OpenGap]:
        """Return the gaps that have been open since before `older_than`, UTC ms."""
        return await self._read(lambda c: batches.open_gaps(c, older_than))

    async def tell_gaps(self, *, now: int) -> bool:
        """Put an alarm into the outbox for every gap that is too old; once each."""
        return await self._write(lambda c: tell_gaps(c, self._fleet_id, now))

    async def tell_silence(self, *, now: int) -> bool:
        """Put an event into the outbox for every car that fell silent; once each."""
        return await self._write(lambda c: tell_silence(c, self._fleet_id, now))

    async def dead_letters(
        self, *, before: int | None = None, limit: int = 100
    ) -> list[StoredLetter]:
        """Return dead letters, the newest first; `before` is the last one known."""
        return await self._read(
            lambda c: letters.find_letters(c, before=before, limit=limit)
        )

    async def dead_letter(self, letter_id: int) -> StoredLetter | None:
        """Return a dead letter, or None."""
        return await self._read(lambda c: letters.find_letter(c, letter_id))

    async def append_audit(self, entry: AuditEntry) -> int:
        """Write down who did what; return the row's id."""
        return await self._auditing.submit(entry)

    async def _append_all(self, entries: Sequence[AuditEntry]) -> range:
        last = await self._write(lambda c: audit.append_audit(c, entries))
        return range(last - len(entries) + 1, last + 1)

    async def audit_after(
        self, after: int, limit: int
    ) -> tuple[list[AuditRow], AuditHead]:
        """Return the next rows of the audit trail behind an id, and its head."""
        return await self._read(lambda c: audit.audit_after(c, after, limit))

    async def look(self, work: Callable[[Connection], T]) -> T:
        """Return what `work` reads, in a transaction that writes nothing."""
        return await self._read(work)

    async def feed_secret(self) -> bytes:
        """Return 32 bytes that passing names are made of; made once for the store."""
        name, fresh = "feed_secret", self._random_bytes(32).hex()

        def work(connection: Connection) -> bytes:
            statement = insert_new(connection, schema.meta, unique=["name"])
            connection.execute(statement.values(name=name, value=fresh))
            query = select(schema.meta.c.value).where(schema.meta.c.name == name)
            return bytes.fromhex(connection.execute(query).scalar_one())

        return await self._write(work)

    async def is_writable(self, *, within_s: float | None = CHECK_S) -> bool:
        """Return whether a transaction commits now, or in time; None waits it out."""
        if self._checking is None:
            self._checking = asyncio.ensure_future(self._check())
        # One check for all who ask meanwhile, behind whatever hangs.
        done, _ = await asyncio.wait({self._checking}, timeout=within_s)
        if not done:
            self.fault = LATE
        return any(check.result() for check in done)

    async def _check(self) -> bool:
        try:
            await self._write(
                lambda c: c.execute(
                    upsert(c, schema.meta).values(name="last_check", value="ok")
                )
            )
        except StoreError as error:
            self.fault = str(error)
            return False
        finally:
            self._checking = None
        self.fault = ""
        return True

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Do `work`, of what has statements of its own, in one transaction or not."""
        return await self._write(work)

    async def write_soon(self, work: Callable[[Connection], T]) -> T:
        """Do `work` as `write` does, or not at all if the store is late with it.

        Raises:
            UndecidedError: it may have taken effect, or may yet.
            StoreError: it has not and will not.
        """
        self._require_open()
        return await self._threads.write_soon(work)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Do `work`, which writes nothing, in one transaction."""
        return await self._read(work)

    async def _write(self, work: Callable[[Connection], T]) -> T:
        self._require_open()
        return await self._threads.write(work)

    async def _read(self, work: Callable[[Connection], T]) -> T:
        self._require_open()
        return await self._threads.read(work)

    def _require_open(self) -> None:
        if not self._is_open:
            raise StoreError("the store is not open")


def _receipt(space: Workspace, key: tuple[VehicleId, bytes]) -> Receipt:
    upto, head_hash, again = receipt_of(space, key)
    gaps = gaps_of(space.ledgers.get(key, Ledger()))
    return Receipt(
        ledger_id=key[1],
        upto=upto,
        head_hash=head_hash,
        credit=CREDIT_MOST,
        gaps=(*again, *gaps)[:GAPS_LIMIT],
        rejects=tuple(space.receipts[key][:REJECTS_LIMIT]),
    )
