"""The ledger's file: what it keeps, what it lets go and what it refuses."""

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest

from gateway.core.appearance import snapshot_of
from gateway.core.known_time import KnownTime
from gateway.core.ledger import LedgerHead, SealedEntry, Signatory, seal_entry
from gateway.core.moment import Moment
from gateway.core.state import State
from gateway.ports import AcceptedCommand, Commit, Stored, StoreError
from gateway.storage.database import SCHEMA_VERSION
from gateway.storage.errors import (
    StoreBrokenError,
    StoreDamagedError,
    StoreForeignError,
    StoreFullError,
    StoreInUseError,
)
from gateway.storage.ledger_rows import JOURNAL_AGE_MS, JOURNAL_RECORDS
from gateway.storage.ledger_store import LedgerStore
from gateway.storage.worker import InlineWorker, ThreadWorker
from protocol.codes import ClockQuality, Code, Executed, Retry
from protocol.event import AgentStarted, EventBody
from protocol.result import Result
from tests.gateway.fleet_end import FLEET_ID, VEHICLE, VEHICLE_KEY
from tests.gateway.powerloss import Disk, DiskVfs
from tests.gateway.world import LEDGER, SIGNER, SeededBytes

SIGNATORY = Signatory(VEHICLE, FLEET_ID, bytes(16), VEHICLE_KEY)
NOW = Moment(1_000, 2_000_000_000_000, ClockQuality.NTP)


def make_store(
    path: Path, vfs: DiskVfs | None = None, limit_kib: int = 4_096
) -> LedgerStore:
    return LedgerStore(
        path,
        worker=InlineWorker(),
        random_bytes=SeededBytes(1),
        limit_kib=limit_kib,
        signer=SIGNER,
        vfs=None if vfs is None else vfs.name,
        files=None if vfs is None else vfs.files,
    )


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[LedgerStore]:
    store = make_store(tmp_path / "data" / "ledger.db")
    yield store
    await store.close()


def started(count: int, head: LedgerHead) -> list[SealedEntry]:
    """Return that many entries after `head`."""
    entries: list[SealedEntry] = []
    for number in range(count):
        body: EventBody = AgentStarted(number + 1, bytes(4))
        entry, head = seal_entry(body, head, SIGNATORY, now=NOW)
        entries.append(entry)
    return entries


async def filled(store: LedgerStore, count: int) -> tuple[Stored, list[SealedEntry]]:
    stored = await store.open(boot_mark="a")
    entries = started(count, stored.head)
    await store.commit(Commit(State(version=7), tuple(entries), None))
    return stored, entries


async def test_a_new_ledger_is_empty_and_has_an_id(store: LedgerStore) -> None:
    stored = await store.open(boot_mark="a")

    assert stored.state == State()
    assert (stored.head.seq, stored.head.hash) == (0, bytes(32))
    assert len(set(stored.head.ledger_id)) > 1
    assert (stored.boot_counter, stored.same_boot) == (1, False)


async def test_what_was_committed_is_there_after_reopening(store: LedgerStore) -> None:
    _, entries = await filled(store, 3)

    stored = await store.open(boot_mark="a")

    assert stored.state == State(version=7)
    assert stored.head.seq == 3
    assert stored.head.hash == entries[-1].hash
    assert list(await store.entries(1, 10)) == entries
    assert list(await store.entries(2, 1)) == [entries[1]]


async def test_every_start_is_counted_and_a_new_boot_is_seen(
    store: LedgerStore,
) -> None:
    # FF-FRE-02.
    starts = []
    for mark in ("a", "a", "b"):
        starts.append(await store.open(boot_mark=mark))
        await store.commit(Commit(State(), (), None))

    assert [s.boot_counter for s in starts] == [1, 2, 3]
    assert [s.same_boot for s in starts] == [False, True, False]


async def test_a_boot_counts_as_new_until_a_state_was_kept_in_it(
    store: LedgerStore,
) -> None:
    # I-28: only a commit puts the state's instants on the clock of the new boot.
    await filled(store, 1)

    starts = [await store.open(boot_mark="b") for _ in range(2)]

    assert [s.same_boot for s in starts] == [False, False]
    assert [s.boot_counter for s in starts] == [2, 3]


async def test_the_chain_continues_from_a_freed_entry(store: LedgerStore) -> None:
    _, entries = await filled(store, 3)

    await store.release(3, ())
    stored = await store.open(boot_mark="a")

    assert (stored.receipted, stored.head.hash) == (3, entries[-1].hash)
    assert await store.entries(1, 10) == []
    assert store.hash_at(3) is None
    more = started(1, stored.head)
    await store.commit(Commit(State(), tuple(more), None))
    assert (await store.open(boot_mark="a")).head.seq == 4


async def test_hashes_are_known_until_the_receipt(store: LedgerStore) -> None:
    _, entries = await filled(store, 3)

    await store.release(1, ((3, Code.BAD_PARAM),))

    assert [store.hash_at(seq) for seq in (1, 2, 3, 4)] == [
        None,
        entries[1].hash,
        entries[2].hash,
        None,
    ]
    assert [entry.seq for entry in await store.entries(1, 10)] == [2]


async def test_an_entry_that_does_not_follow_the_head_is_refused_whole(
    store: LedgerStore,
) -> None:
    stored, _ = await filled(store, 1)
    stray = started(1, stored.head)

    with pytest.raises(StoreDamagedError, match="does not follow the head 1"):
        await store.commit(Commit(State(version=9), tuple(stray), None))

    assert (await store.open(boot_mark="a")).state.version == 7


async def test_a_receipt_beyond_the_head_changes_nothing(store: LedgerStore) -> None:
    await filled(store, 1)

    with pytest.raises(StoreDamagedError, match="up to 2"):
        await store.release(2, ())

    assert len(await store.entries(1, 10)) == 1


def result(number: int) -> Result:
    return Result(
        request_id=number.to_bytes(16, "big"),
        request_hash=number.to_bytes(32, "big"),
        code=Code.OK,
        executed=Executed.YES,
        retry=Retry.NEVER,
        snapshot=snapshot_of(State()),
    )


async def run_command(
    store: LedgerStore, head: LedgerHead, number: int, wall_ms: int
) -> tuple[SealedEntry, LedgerHead]:
    entry, head = seal_entry(result(number), head, SIGNATORY, now=NOW)
    accepted = AcceptedCommand(
        number.to_bytes(16, "big"), number.to_bytes(32, "big"), wall_ms
    )
    await store.commit(Commit(State(), (entry,), accepted))
    return entry, head


async def test_a_result_closes_its_command_with_its_very_bytes(
    store: LedgerStore,
) -> None:
    # FF-FRE-06.
    stored = await store.open(boot_mark="a")
    accepted = AcceptedCommand(bytes(15) + b"\1", bytes(31) + b"\1", 5)
    await store.commit(Commit(State(), (), accepted))
    (running,) = (await store.open(boot_mark="a")).journal
    assert (running.code, running.result_frame) == (Code.IN_PROGRESS, None)

    entry, _ = seal_entry(result(1), stored.head, SIGNATORY, now=NOW)
    await store.commit(Commit(State(), (entry,), None))
    await store.release(1, ())

    (record,) = (await store.open(boot_mark="a")).journal
    assert (record.code, record.result_frame) == (Code.OK, entry.frame)


async def test_the_journal_keeps_the_last_256_and_all_of_a_day(
    store: LedgerStore,
) -> None:
    # FF-CMD-12.
    # protocol-design.md 1.2.
    head = (await store.open(boot_mark="a")).head
    count = JOURNAL_RECORDS + 10
    for number in range(count):
        _, head = await run_command(store, head, number, wall_ms=1_000)
    assert len((await store.open(boot_mark="a")).journal) == count

    _, head = await run_command(store, head, count, wall_ms=1_001 + JOURNAL_AGE_MS)

    journal = (await store.open(boot_mark="a")).journal
    assert len(journal) == JOURNAL_RECORDS
    assert journal[-1].msg_id == count.to_bytes(16, "big")


async def test_a_command_that_still_runs_is_kept_whatever_its_age(
    store: LedgerStore,
) -> None:
    head = (await store.open(boot_mark="a")).head
    accepted = AcceptedCommand(b"r" * 16, b"r" * 32, 0)
    await store.commit(Commit(State(), (), accepted))
    for number in range(JOURNAL_RECORDS + 5):
        _, head = await run_command(store, head, number, wall_ms=10 * JOURNAL_AGE_MS)

    journal = (await store.open(boot_mark="a")).journal

    assert journal[0].msg_id == b"r" * 16


async def test_the_connection_waits_for_the_disk_and_has_the_file_alone(
    store: LedgerStore,
) -> None:
    # FF-LED-08.
    # L11: per connection, so it is asserted per connection.
    await store.open(boot_mark="a")
    connection = store._open_connection

    found = [
        next(iter(connection.execute(f"pragma {name}")))[0]
        for name in ("synchronous", "journal_mode", "locking_mode")
    ]

    assert found == [2, "wal", "exclusive"]


async def test_a_second_gateway_on_one_ledger_is_refused(
    store: LedgerStore, tmp_path: Path
) -> None:
    await store.open(boot_mark="a")
    other = make_store(tmp_path / "data" / "ledger.db")

    with pytest.raises(StoreInUseError, match="stop the other gateway"):
        await other.open(boot_mark="a")


async def test_only_the_owner_can_read_the_ledger(
    store: LedgerStore, tmp_path: Path
) -> None:
    await filled(store, 1)

    for path in [tmp_path / "data", *(tmp_path / "data").iterdir()]:
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077


async def test_the_log_stays_as_room_for_a_full_disk(
    store: LedgerStore, tmp_path: Path
) -> None:
    # FF-LED-11.
    # I-20.
    await filled(store, 20)
    before = (tmp_path / "data" / "ledger.db-wal").stat().st_size

    await store.close()

    assert (tmp_path / "data" / "ledger.db-wal").stat().st_size == before > 20_000


async def test_entries_cannot_be_changed_even_by_hand(store: LedgerStore) -> None:
    # FF-LED-06.
    await filled(store, 1)

    with pytest.raises(apsw.ConstraintError, match="never change"):
        store._open_connection.execute("update entry set frame = x'00'")


async def test_a_dead_letter_that_is_damaged_is_said_to_be(
    store: LedgerStore, tmp_path: Path
) -> None:
    # Found by the fuzzer: nothing holds dead letters against the chain.
    await filled(store, 2)
    await store.release(2, [(2, Code.BAD_PARAM)])
    for statement in (
        "update dead_letter set class = 30583",
        "update dead_letter set class = 130, code = 30583",
    ):
        await store.open(boot_mark="a")
        await store.close()
        connection = apsw.Connection(str(tmp_path / "data" / "ledger.db"))
        connection.execute(statement)
        connection.close()
        await store.open(boot_mark="a")

        with pytest.raises(StoreDamagedError, match="was expected, found 30583"):
            await store.dead_letters()


@pytest.mark.parametrize(
    "statement",
    [
        "update vehicle set boot_counter = 9223372036854775807",
        "update vehicle set boot_counter = -1",
        "update vehicle set head_seq = ~(1 << 63), receipted = ~(1 << 63)",
        "update known_time set floor_ms = 9223372036854775807",
    ],
)
async def test_a_number_that_nobody_wrote_is_damage(
    store: LedgerStore, tmp_path: Path, statement: str
) -> None:
    # Found by the fuzzer: SQLite holds it, and the next number no longer.
    stored = await store.open(boot_mark="a")
    time = KnownTime(2_000_000_000_000, 1_000, ClockQuality.GNSS)
    await store.commit(Commit(State(), (), None, time=time))
    await store.close()
    connection = apsw.Connection(str(tmp_path / "data" / "ledger.db"))
    connection.execute(statement)
    connection.close()

    again = await store.open(boot_mark="a")

    assert again.origin is not None
    assert again.origin.previous.ledger_id == stored.head.ledger_id
    assert list((tmp_path / "data").glob("*damaged*"))


async def test_a_newer_schema_is_refused(store: LedgerStore, tmp_path: Path) -> None:
    await filled(store, 1)
    await store.close()
    connection = apsw.Connection(str(tmp_path / "data" / "ledger.db"))
    connection.execute(f"pragma user_version = {SCHEMA_VERSION + 1}")
    connection.close()

    with pytest.raises(StoreForeignError, match=f"this gateway knows {SCHEMA_VERSION}"):
        await store.open(boot_mark="a")

    assert not list((tmp_path / "data").glob("*damaged*"))


async def test_a_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreBrokenError, match="cannot be made"):
        await make_store(tmp_path / "file" / "ledger.db").open(boot_mark="a")


async def test_a_store_that_is_not_open_says_so(store: LedgerStore) -> None:
    with pytest.raises(StoreBrokenError, match="is not open"):
        await store.entries(1, 1)


async def test_a_full_ledger_refuses_and_takes_again_what_was_freed(
    tmp_path: Path,
) -> None:
    # FF-LED-07.
    # I-20: bounded, and never evicted without a receipt.
    store = make_store(tmp_path / "ledger.db", limit_kib=256)
    head = (await store.open(boot_mark="a")).head
    written = 0
    while store.free_kib() >= 16:
        entries = started(10, head)
        await store.commit(Commit(State(), tuple(entries), None))
        head = LedgerHead(head.ledger_id, entries[-1].seq, entries[-1].hash)
        written += 10
    too_many = Commit(State(), tuple(started(100, head)), None)
    with pytest.raises(StoreFullError, match="no room for the ledger"):
        await store.commit(too_many)
    assert len(await store.entries(1, 10_000)) == written

    await store.release(written, ())

    assert store.free_kib() > 100
    await store.commit(Commit(State(), tuple(started(10, head)), None))
    await store.close()


async def test_after_an_io_error_nothing_works_until_the_file_is_opened_anew() -> None:
    # L13.
    disk = Disk()
    vfs = DiskVfs(disk)
    store = make_store(LEDGER, vfs)
    stored = await store.open(boot_mark="a")
    await store.commit(Commit(State(version=1), tuple(started(1, stored.head)), None))
    disk.fault = lambda kind, _name: apsw.IOError("planted") if kind == "sync" else None
    with pytest.raises(StoreBrokenError, match="cannot be read or written"):
        await store.commit(Commit(State(version=2), (), None))
    disk.fault = None

    with pytest.raises(StoreBrokenError, match="open the ledger anew"):
        await store.commit(Commit(State(version=3), (), None))
    with pytest.raises(StoreError):
        await store.entries(1, 1)
    reopened = await store.open(boot_mark="a")

    assert reopened.state.version in {1, 2}
    assert reopened.head.seq == 1
    await store.commit(Commit(State(version=4), (), None))
    assert (await store.open(boot_mark="a")).state.version == 4
    await store.close()
    vfs.unregister()


async def test_a_failed_checkpoint_belongs_to_the_next_call_not_to_the_commit() -> None:
    disk = Disk()
    vfs = DiskVfs(disk)
    store = LedgerStore(
        LEDGER,
        worker=InlineWorker(),
        random_bytes=SeededBytes(1),
        checkpoint_pages=1,
        vfs=vfs.name,
        files=vfs.files,
    )
    await store.open(boot_mark="a")
    disk.fault = lambda _kind, name: (
        apsw.IOError("planted") if name == str(LEDGER) else None
    )

    await store.commit(Commit(State(version=1), (), None))
    with pytest.raises(StoreBrokenError):
        await store.commit(Commit(State(version=2), (), None))
    disk.fault = None

    assert (await store.open(boot_mark="a")).state.version == 1
    await store.close()
    vfs.unregister()


async def test_the_loop_runs_while_the_disk_is_slow(tmp_path: Path) -> None:
    worker = ThreadWorker("ledger")
    store = LedgerStore(
        tmp_path / "ledger.db", worker=worker, random_bytes=SeededBytes(1)
    )
    await store.open(boot_mark="a")
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counter = asyncio.create_task(count())
    for version in range(20):
        await store.commit(Commit(State(version=version), (), None))
    counter.cancel()

    assert turns > 20
    await store.close()
    worker.close()


async def test_a_full_disk_counts_as_little_room_however_far_the_ledger_may_grow(
    store: LedgerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    # I-20: others fill the disk too, and a rental that is taken must be reportable.
    await filled(store, 1)
    assert store.free_kib() > 1_000
    nearly_full = os.statvfs_result((4_096, 4_096, 9_999, 25, 25, 1, 1, 1, 0, 255))

    monkeypatch.setattr(os, "statvfs", lambda _path: nearly_full)

    assert store.free_kib() == 100


async def test_a_disk_that_cannot_be_asked_leaves_the_ledgers_own_room(
    store: LedgerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(store, 1)

    def fail(_path: object) -> os.statvfs_result:
        raise OSError(5, "planted")

    before = store.free_kib()
    monkeypatch.setattr(os, "statvfs", fail)

    assert 1_000 < before == store.free_kib()
