"""Looking into a ledger: nothing is touched, and every change is named (K14)."""

import shutil
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from gateway.core.state import State
from gateway.ports import Commit
from gateway.storage.errors import StoreForeignError, StoreInUseError
from gateway.storage.inspection import damaged_ledgers, look_into
from protocol.codes import Code
from tests.gateway.storage.test_ledger_store import filled, make_store
from tests.gateway.world import SIGNER

COUNT = 8

Edit = Callable[[apsw.Connection, int], None]
"""Changes one row."""


@pytest.fixture
async def ledger(tmp_path: Path) -> Path:
    """Return a ledger of an agent that has ended."""
    path = tmp_path / "data" / "ledger.db"
    store = make_store(path)
    await filled(store, COUNT)
    await store.close()
    return path


def edited(ledger: Path, edit: Edit, seq: int) -> Path:
    copy = ledger.with_name(f"edited-{seq}.db")
    shutil.copyfile(ledger, copy)
    connection = apsw.Connection(str(copy))
    connection.execute("drop trigger entry_is_immutable")
    edit(connection, seq)
    connection.close()
    return copy


def delete(connection: apsw.Connection, seq: int) -> None:
    connection.execute("delete from entry where seq = ?", (seq,))


def change_a_byte(connection: apsw.Connection, seq: int) -> None:
    ((frame,),) = connection.execute("select frame from entry where seq = ?", (seq,))
    assert isinstance(frame, bytes)
    middle = len(frame) // 2
    other = frame[:middle] + bytes([frame[middle] ^ 1]) + frame[middle + 1 :]
    connection.execute("update entry set frame = ? where seq = ?", (other, seq))


def change_its_hash(connection: apsw.Connection, seq: int) -> None:
    connection.execute("update entry set hash = zeroblob(32) where seq = ?", (seq,))


def swap_with_the_next(connection: apsw.Connection, seq: int) -> None:
    connection.execute("update entry set seq = 99 where seq = ?", (seq,))
    connection.execute("update entry set seq = ? where seq = ?", (seq, seq + 1))
    connection.execute("update entry set seq = ? where seq = 99", (seq + 1,))


def put_another_s_there(connection: apsw.Connection, seq: int) -> None:
    connection.execute(
        "update entry set frame = (select frame from entry where seq = ?1 % 8 + 1), "
        "hash = (select hash from entry where seq = ?1 % 8 + 1) where seq = ?1",
        (seq,),
    )


@pytest.mark.parametrize(
    "edit",
    [delete, change_a_byte, change_its_hash, swap_with_the_next, put_another_s_there],
)
async def test_one_row_deleted_moved_or_edited_anywhere_is_named(
    ledger: Path, edit: Edit
) -> None:
    # FF-LED-02.
    # K14: anywhere in the ledger, and the verifier names the row.
    last = COUNT - 1 if edit is swap_with_the_next else COUNT
    for seq in range(1, last + 1):
        with look_into(edited(ledger, edit, seq)) as copy:
            fault = copy.ledger(SIGNER).fault

        assert fault is not None, seq
        named = f"ledger entry {seq} "
        # The end of a chain is missed by the head that stands beside it.
        at_end = edit is delete and seq == COUNT
        assert (named in fault) or (at_end and f"ends at entry {seq - 1}" in fault)


async def test_a_sound_ledger_is_shown_and_not_touched(ledger: Path) -> None:
    before = {path: path.read_bytes() for path in ledger.parent.iterdir()}

    with look_into(ledger) as copy:
        kept = copy.ledger(SIGNER)
        trust = copy.trust()
        assert copy.dead_letters() == []
        assert copy.configurations() == []

    assert kept.fault is None
    assert [entry.seq for entry in kept.entries] == list(range(1, COUNT + 1))
    assert (kept.head.seq, kept.receipted, kept.boot_counter) == (COUNT, 0, 1)
    assert trust.bundle is None
    assert {path: path.read_bytes() for path in ledger.parent.iterdir()} == before


async def test_a_running_agents_ledger_can_be_looked_into(tmp_path: Path) -> None:
    # It holds its file alone; what it has committed is in its log.
    path = tmp_path / "data" / "ledger.db"
    store = make_store(path)
    _, entries = await filled(store, 3)

    with look_into(path) as copy:
        shown = copy.ledger(SIGNER)

    assert list(shown.entries) == entries
    assert shown.fault is None
    await store.commit(Commit(State(), (), None))
    await store.close()


async def test_what_the_fleet_refused_is_shown_with_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "data" / "ledger.db"
    store = make_store(path)
    _, entries = await filled(store, 3)
    await store.release(1, ((2, Code.BAD_PARAM),))

    with look_into(path) as copy:
        letters = copy.dead_letters()
        kept = copy.ledger(SIGNER)

    assert letters == [(entries[1], Code.BAD_PARAM)]
    assert kept.fault is None
    assert kept.receipted == 1
    await store.close()


async def test_a_file_that_changes_all_the_time_is_given_up(
    ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copyfile = shutil.copyfile

    def disturbed(source: Path, to: Path) -> None:
        copyfile(source, to)
        with ledger.open("ab") as file:
            file.write(b"more")

    monkeypatch.setattr(shutil, "copyfile", disturbed)

    with pytest.raises(StoreInUseError, match="try again"), look_into(ledger):
        pass


async def test_what_is_no_ledger_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    connection = apsw.Connection(str(other))
    connection.execute("create table vehicle (id integer)")
    connection.close()

    with pytest.raises(StoreForeignError, match="no ledger of this"), look_into(other):
        pass
    with pytest.raises(FileNotFoundError), look_into(tmp_path / "none.db"):
        pass
    assert damaged_ledgers(tmp_path / "nowhere" / "ledger.db") == []
