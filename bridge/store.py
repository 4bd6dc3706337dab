"""The bridge's store: one writer, one transaction a batch, nothing told before commit.

Every write runs in one worker thread, one after another, so that the event loop never
waits for a disk and two writes never collide; reads run beside it (WAL). The tables are
in `bridge.schema`, the statements in `bridge.rows`.

Rule 1: WAL with synchronous=FULL on *every* connection, because the pragma belongs to
the connection: NORMAL lost committed rows in 640 of 850 simulated power cuts, FULL in
none (reliability.md L11).
Rule 2: whatever goes wrong in the database becomes `StoreError`, and the transaction
is undone whole.
"""

import asyncio
import fcntl
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import QueuePool

from bridge import schema
from bridge.commands import CommandRecord
from bridge.credit import CREDIT_MOST
from bridge.errors import SettingsError, StoreError
from bridge.ingest import Rejection, Verified
from bridge.key_book import KeyBook, Rotation
from bridge.ledger import Ledger, gaps_of
from bridge.ports import RandomBytes
from bridge.projection import absorb, note_published
from bridge.rows import batches, commands, configurations, letters, outbox, places
from bridge.rows.configurations import ConfigState, Configuration
from bridge.rows.evidence import RentalProof, find_proof
from bridge.rows.letters import StoredLetter
from bridge.rows.outbox import OutboxRow
from bridge.rows.receipts import OpenGap, SignedReceipt, tell_gaps, write_receipts
from bridge.rows.rentals import Rental, close_rental, find_rental
from bridge.rows.rotations import load_key_book
from bridge.rows.statements import insert_new, upsert
from bridge.rows.vehicles import load_vehicles, online_vehicles, tell_silence
from bridge.vehicle import VehicleState
from bridge.whereabouts import receipt_of
from bridge.workspace import Workspace
from protocol.codes import ConfigKind
from protocol.identity import ID_SIZE, VehicleId
from protocol.place import EventPlace
from protocol.receipt import GAPS_LIMIT, REJECTS_LIMIT, Receipt

BUSY_TIMEOUT_S: Final = 5.0
"""How long a reader may wait for a lock: checkpoints take milliseconds."""

READERS: Final = 2
"""Threads for reads: one for the API, one for the sinks."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ReceiptDue:
    """A receipt that may be signed now, because its transaction is committed."""

    vehicle_id: VehicleId
    """Whom it is for."""
    vehicle: VehicleState
    """What is known of it: session and clock go into the frame."""
    receipt: Receipt
    """What it says."""


@dataclass(frozen=True, slots=True)
class Committed:
    """What a committed batch causes."""

    notes: tuple[str, ...]
    """For each record what became of it."""
    receipts: tuple[ReceiptDue, ...]
    """To sign and send."""
    commands: tuple[CommandRecord, ...]
    """Commands that changed."""
    has_events: bool
    """Whether the outbox grew."""
    rotations: tuple[Rotation, ...] = ()
    """Changes of keys that are stored now."""
    greeted: tuple[VehicleId, ...] = ()
    """Cars that said HELLO, doubtful ones included."""


class Store:
    """The store on one SQLite file; `open` it first and `close` it last."""

    def __init__(
        self,
        path: Path,
        *,
        fleet_id: bytes,
        random_bytes: RandomBytes = secrets.token_bytes,
    ) -> None:
        self._path = path
        self._random_bytes = random_bytes
        self._fleet_id = fleet_id
        self._engine: Engine | None = None
        self._writing: Engine | None = None
        self._lock: int | None = None
        self._reserve_lock = asyncio.Lock()
        self._reserving: list[
            tuple[tuple[bytes, bytes, int, int], asyncio.Future[int]]
        ] = []
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="store-writer")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")

    def open(self) -> None:
        """Open or make the file; blocks.

        Raises:
            SettingsError: it cannot be used, another bridge uses it, or it belongs to
                another fleet or version.
        """
        self._take_lock()
        try:
            self._open_file()
        except SettingsError:
            self._drop_lock()
            raise

    def _take_lock(self) -> None:
        """Keep a second bridge out: two would throw each other off the broker for ever.

        The lock lies in a file of its own, since closing the database's file anywhere
        in a process drops SQLite's own locks on it (fcntl(2)).
        """
        path = self._path.with_name(f"{self._path.name}.lock")
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise SettingsError(
                f"store {self._path} cannot be used: {error.strerror}",
                advice="check the path, its owner and the free space on its disk",
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise SettingsError(
                f"another bridge uses the store {self._path}",
                advice="stop the other bridge, or set store.path to another file",
            ) from error
        self._lock = lock

    def _drop_lock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _open_file(self) -> None:
        try:
            # It tells who drove when: nobody else reads it, nor its WAL, which SQLite
            # gives the same mode.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as error:
            raise SettingsError(
                f"store {self._path} cannot be used: {error.strerror}",
                advice="check the path, its owner and the free space on its disk",
            ) from error
        engine = create_engine(
            URL.create("sqlite", database=str(self._path)),
            poolclass=QueuePool,
            pool_size=READERS + 1,
            max_overflow=0,
            connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_S},
        )
        event.listen(engine, "connect", _prepare)
        event.listen(engine, "begin", _begin)
        try:
            with engine.begin() as connection:
                schema.metadata.create_all(connection)
                self._check_meta(connection)
        except (SQLAlchemyError, sqlite3.Error) as error:
            engine.dispose()
            raise SettingsError(
                f"store {self._path} cannot be used: {_sentence(error)}",
                advice="check the path, its owner and the free space on its disk",
            ) from error
        except SettingsError:
            engine.dispose()
            raise
        self._engine = engine
        self._writing = engine.execution_options(**{_WRITES: True})

    async def close(self) -> None:
        """Finish what was begun, then close the file."""
        await asyncio.to_thread(self._shutdown)

    def _shutdown(self) -> None:
        self._writer.shutdown(wait=True)
        self._readers.shutdown(wait=True)
        if self._engine is not None:
            self._engine.dispose()
            self._engine = self._writing = None
        self._drop_lock()

    def _check_meta(self, connection: Connection) -> None:
        table = schema.meta
        wanted = {"schema": str(schema.VERSION), "fleet_id": self._fleet_id.hex()}
        statement = insert_new(connection, table, unique=["name"])
        connection.execute(
            statement, [{"name": name, "value": v} for name, v in wanted.items()]
        )
        found = {row.name: row.value for row in connection.execute(select(table))}
        if found["schema"] != wanted["schema"]:
            raise SettingsError(
                f"store {self._path} has schema {found['schema']}, this bridge has "
                f"{wanted['schema']}",
                advice="use the freefloat that made it, or another file",
            )
        if found["fleet_id"] != wanted["fleet_id"]:
            raise SettingsError(
                f"store {self._path} belongs to fleet {found['fleet_id']}, not to "
                f"{wanted['fleet_id']}",
                advice="name another file: two fleets do not share a store",
            )

    async def commit_batch(
        self,
        records: Sequence[Verified | Rejection],
        *,
        published: Mapping[bytes, int],
        receipts: Sequence[SignedReceipt],
        now: int,
        judged: int | None = None,
    ) -> Committed:
        """Store a batch in one transaction.

        Args:
            records: in the order of their arrival.
            published: sendings of commands to be noted with it: id to UTC ms.
            receipts: sent receipts to be kept with it.
            now: UTC ms.
            judged: the dead letter that the batch consists of, which goes with it.

        Raises:
            StoreError: nothing of it was stored.
        """

        def work(connection: Connection) -> Committed:
            space = batches.load(
                connection,
                records,
                published,
                fleet_id=self._fleet_id,
                fresh_nonce=lambda: self._random_bytes(ID_SIZE),
            )
            before = batches.Before.of(space)
            note_published(space, published)
            for record in records:
                absorb(space, record, now=now)
            if judged is not None:
                letters.take_letter(connection, judged)
            batches.write(connection, space, before, now=now)
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

    async def add_command(self, record: CommandRecord) -> CommandRecord:
        """Store a new command; return it, or the one that has its idempotency key."""
        return await self._write(lambda c: commands.add_command(c, record))

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
        wanted = (key_id, session_id, lane, count)
        reserved: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._reserving.append((wanted, reserved))
        async with self._reserve_lock:
            if not reserved.done():
                await self._reserve_all()
        return reserved.result()

    async def _reserve_all(self) -> None:
        """Reserve for everybody who waits, in one transaction."""
        waiting, self._reserving = self._reserving, []
        try:
            firsts = await self._write(
                lambda c: [
                    commands.reserve_sequences(c, *wanted) for wanted, _ in waiting
                ]
            )
        except asyncio.CancelledError:
            # Who held the pen goes away; the next one reserves for the others.
            self._reserving = [*waiting, *self._reserving]
            raise
        except StoreError as error:
            for _, reserved in waiting:
                reserved.set_exception(error)
            return
        for (_, reserved), first in zip(waiting, firsts, strict=True):
            reserved.set_result(first)

    async def rental(self, rental_id: bytes) -> Rental | None:
        """Return a rental, or None."""
        return await self._read(lambda c: find_rental(c, rental_id))

    async def close_rental(self, rental_id: bytes, *, now: int) -> bool:
        """Note that a person closed a flagged rental; False if there is none."""
        return await self._write(lambda c: close_rental(c, rental_id, now=now))

    async def put_configuration(
        self, vehicle_id: VehicleId, kind: ConfigKind, body: bytes, *, now: int
    ) -> Configuration:
        """Want a body of a car; the same body as before changes nothing."""

        def work(connection: Connection) -> Configuration:
            state = load_vehicles(connection, [vehicle_id]).get(vehicle_id)
            has = 0 if state is None else state.config_version(kind)
            return configurations.put_configuration(
                connection, vehicle_id, kind, body, at_least=has + 1, now=now
            )

        return await self._write(work)

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
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._writer, _cut_log, self._engine)
        return erased

    async def places(self, rental_id: bytes) -> dict[int, EventPlace]:
        """Return the places of a rental that are there and fit, by entry."""
        return await self._read(lambda c: places.find_places(c, rental_id))

    async def rental_proof(self, rental_id: bytes) -> RentalProof | None:
        """Return what proves a rental, or None while nothing of it is receipted."""
        return await self._read(lambda c: find_proof(c, rental_id))

    async def outbox_after(self, position: int, limit: int) -> list[OutboxRow]:
        """Return the next events behind a position."""
        return await self._read(lambda c: outbox.outbox_after(c, position, limit))

    async def cursor(self, sink: str) -> int:
        """Return up to where a sink took everything."""
        return await self._read(lambda c: outbox.cursor_of(c, sink))

    async def set_cursor(
        self, sink: str, position: int, given_up: Mapping[int, str], *, now: int
    ) -> None:
        """Note that a sink took, or gave up, everything up to `position`."""
        await self._write(lambda c: outbox.set_cursor(c, sink, position, given_up, now))

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

    async def is_writable(self) -> bool:
        """Return whether a transaction commits now."""
        try:
            await self._write(
                lambda c: c.execute(
                    upsert(c, schema.meta).values(name="last_check", value="ok")
                )
            )
        except StoreError:
            return False
        return True

    async def _write(self, work: Callable[[Connection], T]) -> T:
        return await self._run(self._writer, self._writing, work)

    async def _read(self, work: Callable[[Connection], T]) -> T:
        return await self._run(self._readers, self._engine, work)

    async def _run(
        self,
        executor: ThreadPoolExecutor,
        engine: Engine | None,
        work: Callable[[Connection], T],
    ) -> T:
        if engine is None:
            raise StoreError("the store is not open")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(executor, _transact, engine, work)


_WRITES: Final = "writes"


def _transact(engine: Engine, work: Callable[[Connection], T]) -> T:
    try:
        with engine.begin() as connection:
            return work(connection)
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise StoreError(f"the store did not commit: {_sentence(error)}") from error


def _cut_log(engine: Engine | None) -> None:
    """Copy the log into the file and cut it; outside of any transaction."""
    if engine is None:
        raise StoreError("the store is not open")
    connection = engine.raw_connection()
    try:
        cursor = connection.cursor()
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        is_busy, *_ = cursor.fetchone() or (1,)
        cursor.close()
    except sqlite3.Error as error:
        raise StoreError(f"the log was not cut: {_sentence(error)}") from error
    finally:
        connection.close()
    if is_busy:
        raise StoreError("the log was not cut: somebody reads it; erase once more")


def _prepare(dbapi_connection: sqlite3.Connection, _record: object) -> None:
    # The driver's own transaction handling begins too late for a read in a write
    # transaction; `_begin` says BEGIN itself (SQLAlchemy, SQLite dialect, pysqlite).
    dbapi_connection.isolation_level = None
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        # An erased place is overwritten, not merely forgotten (K26).
        "secure_delete=ON",
        f"busy_timeout={int(BUSY_TIMEOUT_S * 1000)}",
    ):
        dbapi_connection.execute(f"PRAGMA {pragma}").close()


def _begin(connection: Connection) -> None:
    # A transaction that will write takes the lock first: one that has read already
    # could not take it any more if another process wrote in between.
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _sentence(error: Exception) -> str:
    origin = getattr(error, "orig", None)
    return " ".join(str(origin or error).split())


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
