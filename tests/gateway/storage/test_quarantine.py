"""A ledger that is damaged, lost or old: found, kept, replaced, and never continued."""

import asyncio
import hashlib
import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.ledger import LedgerHead, SealedEntry
from gateway.core.state import State
from gateway.ports import Commit, Origin, Stored, StoreError
from gateway.storage.errors import StoreForeignError
from gateway.storage.head_note import NOTE_PERIOD, Loss, Note, decode_note, encode_note
from gateway.storage.ledger_store import LedgerStore
from gateway.storage.quarantine import QUARANTINED, quarantined
from gateway.storage.rows import SEQ_LIMIT
from gateway.storage.signer import Signer
from gateway.storage.worker import InlineWorker
from protocol.codes import RentalMode
from protocol.entry import GENESIS, entry_hash
from tests.depth import UNCOUNTED, times
from tests.gateway.fleet_end import FLEET_ID, STRANGER_KEY, VEHICLE
from tests.gateway.powerloss import Disk, DiskVfs
from tests.gateway.storage.test_ledger_store import started
from tests.gateway.world import LEDGER, MARKER, SIGNER, SeededBytes, production_store

pytestmark = [
    UNCOUNTED,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class Car:
    """A store on real files, and what it has written."""

    def __init__(self, directory: Path, *, signer: Signer | None = SIGNER) -> None:
        self.path = directory / "data" / "ledger.db"
        self.marker = directory / "ledger-begun"
        self.signer = signer
        self.entries: list[SealedEntry] = []
        self._starts = 0
        self.store = self.make()

    def make(self) -> LedgerStore:
        self._starts += 1
        return LedgerStore(
            self.path,
            worker=InlineWorker(),
            random_bytes=SeededBytes(self._starts),
            signer=self.signer,
            marker=self.marker,
        )

    async def start(self) -> Stored:
        await self.store.close()
        self.store = self.make()
        return await self.store.open(boot_mark="a")

    async def fill(self, count: int) -> Stored:
        stored = await self.start()
        self.entries = started(count, stored.head)
        await self.store.commit(Commit(_RESERVED, tuple(self.entries), None))
        return stored

    async def close(self) -> None:
        await self.store.close()

    def edit(self, statement: str) -> None:
        connection = apsw.Connection(str(self.path))
        connection.execute("pragma ignore_check_constraints = on")
        connection.execute("drop trigger entry_is_immutable;" + statement)
        connection.close()

    @property
    def kept(self) -> list[Path]:
        directory = self.path.parent
        return sorted(path for path in directory.iterdir() if "damaged" in path.name)


_RESERVED = State(mode=RentalMode.AVAILABLE, version=7)


async def test_a_first_start_replaces_nothing(tmp_path: Path) -> None:
    car = Car(tmp_path)

    stored = await car.start()

    assert (stored.origin, stored.salvaged) == (None, ())
    assert car.marker.exists()
    assert (await car.start()).origin is None
    await car.close()


@pytest.mark.parametrize(
    ("statement", "complaint"),
    [
        ("delete from entry where seq = 2", "entry 2 is missing"),
        ("delete from entry where seq = 3", "ends at entry 2"),
        ("update vehicle set head_hash = zeroblob(32)", "another hash"),
        ("update vehicle set ledger_id = zeroblob(8)", "does not continue"),
        (
            "update entry set frame = zeroblob(220)",
            "entry 1 is not what was written",
        ),
        (
            "update entry set hash = zeroblob(32)",
            "entry 1 is not what was written",
        ),
        ("update vehicle set state = x'7b7d'", "state is not what was written"),
        (
            "update vehicle set state = x'7b7d', state_sum = null",
            "not readable JSON",
        ),
        (
            "insert into configuration values (1, 1, zeroblob(32), x'00')",
            "configuration 1, version 1, is not what was written",
        ),
    ],
)
async def test_a_damaged_ledger_is_kept_aside_and_replaced(
    tmp_path: Path,
    statement: str,
    complaint: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # FF-LED-10.
    # Row 5: found, quarantined, a new id, and what is known of the old one.
    car = Car(tmp_path)
    old = await car.fill(3)
    await car.close()
    car.edit(statement)
    before = car.path.read_bytes()

    stored = await car.start()

    assert complaint in caplog.text
    assert stored.head.ledger_id != old.head.ledger_id
    assert (stored.head.seq, stored.state) == (0, State())
    assert stored.boot_counter == 3
    assert stored.origin is not None
    assert stored.origin.reason == Loss.CORRUPT
    assert stored.origin.previous.ledger_id == old.head.ledger_id
    aside = car.path.with_name("ledger.db.damaged-0001")
    assert aside.read_bytes() == before
    again = await car.start()
    assert again.head.ledger_id == stored.head.ledger_id
    assert again.origin == stored.origin
    await car.close()


async def test_what_this_car_has_signed_is_salvaged(tmp_path: Path) -> None:
    # A rental end that somebody was told must not be lost with its neighbour.
    car = Car(tmp_path)
    old = await car.fill(5)
    await car.store.release(1, ())
    await car.close()
    car.edit("update entry set frame = zeroblob(220) where seq = 3")

    stored = await car.start()

    assert [entry.frame for entry in stored.salvaged] == [
        car.entries[place].frame for place in (1, 3, 4)
    ]
    assert stored.origin == Origin(
        LedgerHead(old.head.ledger_id, 5, car.entries[-1].hash), Loss.CORRUPT
    )
    await car.store.release_salvaged(bytes(8), 5)
    assert len((await car.start()).salvaged) == 3
    await car.store.release_salvaged(old.head.ledger_id, 4)
    assert [entry.seq for entry in (await car.start()).salvaged] == [5]
    await car.close()


async def test_what_another_key_has_signed_is_not_salvaged(tmp_path: Path) -> None:
    car = Car(tmp_path)
    await car.fill(3)
    await car.close()
    car.edit("delete from entry where seq = 2")
    car.signer = Signer(VEHICLE, FLEET_ID, (STRANGER_KEY.verify_key,))

    assert (await car.start()).salvaged == ()
    await car.close()


async def test_entries_that_a_hand_has_chained_anew_are_found_by_their_signature(
    tmp_path: Path,
) -> None:
    car = Car(tmp_path)
    await car.fill(2)
    await car.close()
    forged = car.entries[1].frame[:-1] + bytes([car.entries[1].frame[-1] ^ 1])
    digest = entry_hash(forged).hex()
    statement = (
        "update entry set frame = x'FRAME', hash = x'HASH' where seq = 2; "
        "update vehicle set head_hash = x'HASH'"
    )
    car.edit(statement.replace("FRAME", forged.hex()).replace("HASH", digest))

    stored = await car.start()

    assert stored.origin is not None
    assert [entry.seq for entry in stored.salvaged] == [1]
    await car.close()


def _overwrite(path: Path) -> None:
    image = bytearray(path.read_bytes())
    for page in range(1, len(image) // 4096):
        image[page * 4096 : page * 4096 + 16] = b"\xff" * 16
    path.write_bytes(image)


def _another_program(path: Path) -> None:
    path.unlink()
    connection = apsw.Connection(str(path))
    connection.execute("create table recipe (name)")
    connection.close()


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(
            lambda path: path.write_bytes(b"a shopping list, and long enough" * 40),
            id="no database",
        ),
        pytest.param(_overwrite, id="broken pages"),
        pytest.param(_another_program, id="another program's"),
    ],
)
async def test_whatever_lies_there_is_kept_and_the_car_starts(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    car = Car(tmp_path)
    old = await car.fill(40)
    await car.close()
    (car.path.parent / "ledger.db-wal").unlink()
    spoil(car.path)
    spoiled = car.path.read_bytes()

    stored = await car.start()

    assert stored.origin is not None
    assert stored.origin.previous.ledger_id == old.head.ledger_id
    assert stored.origin.reason == Loss.CORRUPT
    assert car.kept[0].read_bytes() == spoiled
    await car.close()


async def test_a_lost_ledger_is_told_from_a_first_start(tmp_path: Path) -> None:
    car = Car(tmp_path)
    old = await car.fill(NOTE_PERIOD)
    await car.close()
    car.path.unlink()
    car.path.with_name("ledger.db-wal").unlink()

    stored = await car.start()

    assert stored.origin == Origin(
        LedgerHead(old.head.ledger_id, NOTE_PERIOD, car.entries[-1].hash), Loss.LOST
    )
    assert stored.boot_counter == 3
    await car.close()


async def test_the_marker_tells_that_the_whole_directory_was_lost(
    tmp_path: Path,
) -> None:
    car = Car(tmp_path)
    old = await car.fill(3)
    await car.close()
    shutil.rmtree(car.path.parent)

    stored = await car.start()

    assert stored.origin == Origin(
        LedgerHead(old.head.ledger_id, 0, GENESIS), Loss.LOST
    )
    assert stored.boot_counter == 3
    shutil.rmtree(car.path.parent)
    second = await car.start()
    assert second.origin is not None
    assert second.origin.previous.ledger_id == stored.head.ledger_id
    await car.close()


async def test_an_identity_directory_that_cannot_be_written_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    car = Car(tmp_path)
    car.marker = tmp_path / "nowhere" / "ledger-begun"

    await car.start()

    assert "marker cannot be written" in caplog.text
    await car.close()


async def test_an_old_copy_is_not_continued(tmp_path: Path) -> None:
    # FF-LED-10, FF-FRE-02.
    # I-27: its sequences would be given a second time.
    car = Car(tmp_path)
    await car.fill(3)
    await car.close()
    copy = tmp_path / "copy"
    shutil.copytree(car.path.parent, copy)
    stored = await car.start()
    await car.store.commit(
        Commit(State(), tuple(started(NOTE_PERIOD, stored.head)), None)
    )
    await car.close()
    for name in ("ledger.db", "ledger.db-wal"):
        shutil.copy(copy / name, car.path.with_name(name))

    restored = await car.start()

    assert restored.origin is not None
    assert restored.origin.reason == Loss.RESTORED
    assert restored.origin.previous.seq == 3 + NOTE_PERIOD
    assert restored.boot_counter == 4
    assert [entry.seq for entry in restored.salvaged] == [1, 2, 3]
    await car.close()


async def test_only_the_newest_damaged_ledgers_are_kept(tmp_path: Path) -> None:
    car = Car(tmp_path)
    for _ in range(QUARANTINED + 2):
        await car.fill(2)
        await car.close()
        car.edit("delete from entry where seq = 1")
    await car.start()

    names = {path.name.removesuffix("-wal") for path in car.kept}

    assert names == {
        f"ledger.db.damaged-{number:04d}" for number in range(3, QUARANTINED + 3)
    }
    await car.close()


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_flipped_bits_are_found_or_change_nothing(seed: int) -> None:
    # Row 5: never a ledger that seems whole and is another one.
    asyncio.run(_flip(random.Random(seed)))  # noqa: S311 - repeatable on purpose


async def _flip(rng: random.Random) -> None:
    disk, before = await _filled_disk(rng.randrange(4))
    for _ in range(rng.randrange(1, 4)):
        name = rng.choice([name for name in disk.files if name != str(MARKER)])
        file = disk.files[name]
        if file.cache:
            place = rng.randrange(len(file.cache))
            file.cache[place] ^= 1 << rng.randrange(8)
            file.durable = bytearray(file.cache)

    vfs = DiskVfs(disk)
    store = production_store(vfs)
    try:
        found = await store.open(boot_mark="a")
        if found.origin is None:
            assert found.head == before.head
            assert found.state == before.state
            assert found.receipted == before.receipted
        else:
            assert found.head.ledger_id != before.head.ledger_id
            assert found.boot_counter > before.boot_counter
    except StoreForeignError:
        pass  # the number of the schema itself: a newer gateway is asked for
    finally:
        await store.close()
        vfs.unregister()


async def _filled_disk(receipted: int) -> tuple[Disk, Stored]:
    disk = Disk()
    vfs = DiskVfs(disk)
    store = production_store(vfs)
    stored = await store.open(boot_mark="a")
    entries = started(6, stored.head)
    await store.commit(Commit(_RESERVED, tuple(entries), None))
    await store.release(receipted * 2, ())
    await store.close()
    before = await store.open(boot_mark="a")
    await store.close()
    vfs.unregister()
    return disk, before


async def _damaged_disk() -> tuple[Disk, Stored]:
    disk, before = await _filled_disk(1)
    vfs = DiskVfs(disk)
    connection = apsw.Connection(str(LEDGER), vfs=vfs.name)
    # The damage is in the log, which must go the same way as its file.
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.execute("pragma locking_mode = exclusive")
    connection.execute("delete from entry where seq = 4")
    connection.close()
    assert f"{LEDGER}-wal" in disk.files
    vfs.unregister()
    return disk, before


async def _open(disk: Disk) -> Stored:
    vfs = DiskVfs(disk)
    store = production_store(vfs)
    try:
        return await store.open(boot_mark="a")
    finally:
        await store.close()
        vfs.unregister()


async def test_a_cut_at_every_write_of_a_quarantine_is_survived() -> None:
    # FF-LED-10.
    # I-28, row 5: with torn writes and renames that reach the disk or do not.
    disk, before = await _damaged_disk()
    disk.operations = 0
    await _open(disk)
    operations = disk.operations
    assert operations > 20
    reasons = set()
    for cut_at in range(operations):
        for seed in range(times(1, deep=3)):
            disk, before = await _damaged_disk()
            disk.cut_at = disk.operations + cut_at
            rng = random.Random(1_000 * seed + cut_at)  # noqa: S311 - repeatable
            with suppress(StoreError):
                await _open(disk)
            disk = disk.after_power_cut(rng)

            stored = await _open(disk)

            assert stored.origin is not None, (
                f"cut at {cut_at}: taken for a first start"
            )
            assert stored.origin.previous.ledger_id == before.head.ledger_id
            assert [entry.seq for entry in stored.salvaged] == [3, 5, 6], cut_at
            assert stored.boot_counter > before.boot_counter
            vfs = DiskVfs(disk)
            kept = quarantined(vfs.files, LEDGER)
            vfs.unregister()
            assert len(kept) == 1, f"cut at {cut_at}: {kept}"
            reasons.add(stored.origin.reason)
    assert reasons == {Loss.CORRUPT}


@pytest.mark.parametrize("error", [apsw.IOError, apsw.FullError])
async def test_a_disk_that_fails_at_any_write_of_a_quarantine_is_tried_again(
    error: type[apsw.Error],
) -> None:
    # L13, I-20: whatever failed, the next start ends where this one would have.
    disk, before = await _damaged_disk()
    disk.operations = 0
    await _open(disk)
    for failing in range(disk.operations):
        disk, before = await _damaged_disk()
        first = disk.operations

        def fault(
            _kind: str, _name: str, disk: Disk = disk, at: int = first + failing + 1
        ) -> apsw.Error | None:
            return error("planted") if disk.operations == at else None

        disk.fault = fault
        with suppress(StoreError):
            await _open(disk)
        disk.fault = None

        stored = await _open(disk)

        assert stored.origin is not None, f"failed at {failing}"
        assert stored.origin.previous.ledger_id == before.head.ledger_id
        assert [entry.seq for entry in stored.salvaged] == [3, 5, 6]


def test_a_note_survives_its_bytes_and_nothing_else_is_one() -> None:
    note = Note(b"ledger-1", 7, b"h" * 32, 9, Loss.RESTORED)
    data = encode_note(note)

    assert decode_note(data) == note
    assert decode_note(data[:-1]) is None
    assert decode_note(data + b"\0") is None
    for place in range(len(data)):
        flipped = bytearray(data)
        flipped[place] ^= 1
        assert decode_note(bytes(flipped)) is None


def test_a_note_of_a_newer_gateway_s_reason_still_condemns_its_ledger() -> None:
    # I-27. Found by the fuzzer: the car did not start any more.
    known = encode_note(Note(b"ledger-1", 7, b"h" * 32, 9, Loss.RESTORED))
    fields = bytearray(known[:-16])
    fields[-4] = 0x31

    newer = bytes(fields) + hashlib.sha256(fields).digest()[:16]

    read = decode_note(newer)
    assert read is not None
    assert read.condemned is Loss.CORRUPT


def test_a_note_of_a_sequence_that_no_ledger_reaches_is_none() -> None:
    # Found by the fuzzer: SQLite's integers are smaller than the note's.
    note = Note(b"ledger-1", SEQ_LIMIT, b"h" * 32, 9)

    assert decode_note(encode_note(note)) == note
    for seq in (SEQ_LIMIT + 1, 2**64 - 1):
        assert decode_note(encode_note(replace(note, seq=seq))) is None


async def test_a_note_that_is_torn_leaves_the_other_copy() -> None:
    disk, before = await _filled_disk(1)
    for copy in ("-note1", "-note2"):
        torn = disk.after_power_cut(random.Random(1))  # noqa: S311 - repeatable
        torn.files[f"{LEDGER}{copy}"].cache[20:] = bytes(12)
        torn.files.pop(str(LEDGER))
        torn.files.pop(f"{LEDGER}-wal", None)

        stored = await _open(torn)

        assert stored.origin is not None
        assert stored.origin.previous.ledger_id == before.head.ledger_id
        assert stored.origin.previous.seq in {2, 6}
