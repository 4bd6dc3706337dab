"""The restore drill, on both engines: backup, loss, restore, and going on (row 37)."""

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bridge.approvals import Approval, Cause, MissingEntries, Wanted
from bridge.audit import AuditCheck, AuditEntry
from bridge.backup import back_up, mark, restore
from bridge.commands import CommandState
from bridge.database import Database
from bridge.errors import GapError, OrderRefusedError, SettingsError
from bridge.gap_acceptance import find_gaps, pass_gap, require_lost
from bridge.postgres_database import PostgresDatabase
from bridge.rows.rentals import Rental
from bridge.rows.restoration import JUMP
from bridge.sqlite_database import SqliteDatabase
from bridge.store import Store
from bridge.workspace import LetterKind
from certs.fleet import FleetDirectory
from protocol.codes import FrameClass, SyncType
from protocol.command import ANY_VERSION, Unlock
from protocol.frame import parse_frame
from protocol.receipt import Gap
from protocol.snapshot import NO_RENTAL
from protocol.sync import Challenge, SyncBody, parse_sync
from tests.bridge.car import RENTAL, REPORT, Car, sample
from tests.bridge.stream import BODIES, TYPES, entries_of
from tests.bridge.test_evidence import proof_of, verified
from tests.bridge.world import BOOT_MS, NOW_MS, World
from tests.postgres import client_program, running_server

APPROVAL = Approval(
    row_id=1,
    approval_id=bytes(16),
    wanted=Wanted((), None, b""),
    cause=Cause.GIVES_UP_ENTRIES,
    digest=bytes(32),
    asked_by="anna",
    asked_ms=NOW_MS,
    expires_ms=NOW_MS,
    note="the disk broke",
    decided_by="otto",
)


@dataclass(slots=True)
class Engine:
    """One way to store, to back up and to restore."""

    open: Callable[[], Database]
    back_up: Callable[..., None]
    """Given a name, `copy` otherwise; the keys of places go where they were before."""
    lose_and_restore: Callable[..., int]
    """Given the fleet's id and a name."""
    files: Path
    """Where backups lie, and nothing of the running store."""


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    path, files = tmp_path / "bridge.sqlite", tmp_path / "backups"
    keys = tmp_path / "keys"
    files.mkdir()
    if request.param == "sqlite":

        def take(name: str = "copy") -> None:
            copy = files / name
            assert_private(back_up(path, copy, keys=keys), copy)
            assert keys.stat().st_mode & 0o777 == 0o600

        def put_back(fleet_id: bytes, name: str = "copy") -> int:
            return restore(
                path, files / name, fleet_id=fleet_id, now=NOW_MS, keys=keys
            )[0]

        yield Engine(lambda: SqliteDatabase(path), take, put_back, files)
        return
    with running_server() as server:
        url = server.make_database()

        def run(program: str, *arguments: str) -> None:
            command = (client_program(program), "--dbname", url, *arguments)
            subprocess.run(command, check=True, timeout=60, capture_output=True)

        def dump(name: str = "copy") -> None:
            run(
                *("pg_dump", "--format=custom", "--compress=0"),
                "--exclude-table-data=place_keys",
                f"--file={files / name}",
            )
            only = ("--data-only", "--table=place_keys", f"--file={keys}")
            run("pg_dump", "--format=custom", *only)

        def lose_and_restore(fleet_id: bytes, name: str = "copy") -> int:
            run("pg_restore", "--clean", "--if-exists", str(files / name))
            run("pg_restore", "--data-only", str(keys))
            return mark(PostgresDatabase(url), fleet_id=fleet_id, now=NOW_MS)

        yield Engine(lambda: PostgresDatabase(url), dump, lose_and_restore, files)


def assert_private(size: int, copy: Path) -> None:
    assert size == copy.stat().st_size > 0
    assert copy.stat().st_mode & 0o777 == 0o600


@contextlib.asynccontextmanager
async def bridge(
    fleet: FleetDirectory, engine: Engine, holder: str, car: Car | None = None
) -> AsyncIterator[World]:
    async with World(
        fleet, Path("unused"), database=engine.open(), holder=holder
    ) as world:
        if car is not None:
            world.car = world.cars[0] = car
        yield world


def sync_of(data: bytes) -> SyncBody:
    frame = parse_frame(data)
    return parse_sync(frame.header.type, frame.header.schema, frame.payload)


def numbers(world: World) -> list[tuple[bytes, bytes, int, int]]:
    """Return what tells each signed frame to the car apart: no two may be the same."""
    headers = [
        parse_frame(data).header
        for frame_class in (FrameClass.CMD, FrameClass.SYNC)
        for data in world.broker.sent_of(frame_class)
    ]
    return [(h.key_id, h.session_id, int(h.lane), h.seq) for h in headers]


async def test_after_a_restore_no_number_is_used_again_and_the_car_is_asked_first(
    fleet: FleetDirectory, engine: Engine
) -> None:
    """Fault row 37, I-6, I-25, FF-SYN-10, K13, K14."""
    fleet_id = fleet.fleet.fleet_id
    async with bridge(fleet, engine, "before") as world:
        entries = entries_of(world.car)
        await world.greet()
        await world.say(FrameClass.EVENT, *entries[:2])
        await world.order(Unlock(RENTAL, ANY_VERSION))
        await world.store.append_audit(
            AuditEntry(NOW_MS, "mia", "operator", "POST /v1/x", "asked")
        )
        engine.back_up()
        # What the backup does not hold: orders, in a session that it never saw too.
        await world.order(Unlock(RENTAL, ANY_VERSION))
        world.car.renew_session()
        await world.greet()
        for _ in range(3):
            await world.order(Unlock(RENTAL, ANY_VERSION))
        await world.steward.sweep()
        used, car = numbers(world), world.car

    doubted = engine.lose_and_restore(fleet_id)

    async with bridge(fleet, engine, "after", car) as world:
        world.advance(30)
        world.steward.wanted(await world.store.online_vehicles())
        with pytest.raises(OrderRefusedError, match="put back from a backup"):
            await world.order(Unlock(RENTAL, ANY_VERSION))
        # The car says HELLO when the link is back; its session is news to the store.
        await world.say(FrameClass.HELLO, car.hello())
        await world.steward.sweep()
        asked = [
            body.nonce
            for body in map(sync_of, world.broker.sent_of(FrameClass.SYNC))
            if isinstance(body, Challenge)
        ]
        car.renew_session()
        await world.say(FrameClass.HELLO, car.hello(nonce=asked[-1]))
        order = await world.order(Unlock(RENTAL, ANY_VERSION))
        command = world.broker.sent_of(FrameClass.CMD)[-1]
        # It sends again what the restored store lacks, and the rest of its ledger.
        await world.say(FrameClass.EVENT, *entries[1:])
        await world.say(FrameClass.RESULT, car.result(command))
        done = await world.store.command(order.command_id)
        told = await world.events()
        await world.broker.until_receipted(car.head)
        check = AuditCheck()
        rows, head = await world.store.audit_after(0, 100)
        for row in rows:
            check.take(row)
        check.end(head)
        later, proof = numbers(world), verified(fleet, await proof_of(world))

    assert doubted == 1
    assert len(used) >= 5
    assert set(used).isdisjoint(later)
    assert min(seq for _, _, _, seq in later) > JUMP
    assert done is not None
    assert done.state is CommandState.SUCCEEDED
    assert told[: len(TYPES)] == TYPES
    assert check.faults == []
    assert len(rows) == 1
    # What was receipted before the loss and what came after it prove one rental.
    assert [entry.frame.header.seq for entry in proof.entries][:2] == [2, 3]
    assert REPORT in [entry.body for entry in proof.entries]


def asked_in(world: World) -> list[bytes]:
    """Return the sessions in which the car was asked where it stands."""
    frames = map(parse_frame, world.broker.sent_of(FrameClass.SYNC))
    return [f.header.session_id for f in frames if f.header.type == SyncType.CHALLENGE]


@pytest.mark.parametrize("frame_class", [FrameClass.EVENT, FrameClass.TELEM])
async def test_a_car_that_stayed_connected_is_asked_in_the_session_it_speaks_in(
    fleet: FleetDirectory, engine: Engine, frame_class: FrameClass
) -> None:
    """Row 37, FF-SYN-01, FF-SYN-10: no other question reaches it, and it says no HELLO.

    Its broker stayed up, and it connected anew between backup and loss.
    """
    async with bridge(fleet, engine, "before") as world:
        car = world.car
        await world.greet()
        engine.back_up()
        car.hello()  # of a connection that this bridge never heard
        car.renew_session()
        over, old = car.session, car.event(BODIES[0], mono_ms=BOOT_MS - 60_000)
        car.hello()
        car.renew_session()
        await world.greet()
    engine.lose_and_restore(fleet.fleet.fleet_id)

    async with bridge(fleet, engine, "after", car) as world:
        car.boot_ms = world.boot_ms
        world.steward.wanted(await world.store.online_vehicles())
        await world.steward.sweep()
        await world.say(FrameClass.EVENT, old)
        world.advance(10)
        await world.steward.sweep()
        before = asked_in(world)
        said = (
            car.event(BODIES[1])
            if frame_class is FrameClass.EVENT
            else car.telemetry(sample())
        )
        await world.say(frame_class, said)
        world.advance(10)
        await world.steward.sweep()
        after = asked_in(world)
        nonce = sync_of(world.broker.sent_of(FrameClass.SYNC)[-1])
        assert isinstance(nonce, Challenge)
        await world.say(FrameClass.HELLO, car.hello(nonce=nonce.nonce))
        order = await world.order(Unlock(RENTAL, ANY_VERSION))

    assert before
    assert {over, car.session}.isdisjoint(before)
    assert after[-1] == car.session
    assert order.state is CommandState.PUBLISHED


async def test_what_a_loss_swallowed_is_given_up_by_two_and_the_ledger_goes_on(
    fleet: FleetDirectory, engine: Engine
) -> None:
    """Fault row 37, I-25, I-27, FF-LED-31, FF-RCP-03, FF-RCP-08: the car has let go."""
    fleet_id = fleet.fleet.fleet_id
    async with bridge(fleet, engine, "before") as world:
        entries = entries_of(world.car)
        await world.greet()
        await world.say(FrameClass.EVENT, *entries[:2])
        engine.back_up()
        await world.say(FrameClass.EVENT, *entries[2:4])
        car = world.car

    engine.lose_and_restore(fleet_id)

    async with bridge(fleet, engine, "after", car) as world:
        lost = MissingEntries(car.id, car.ledger_id, 3, 4)
        approval = replace(APPROVAL, wanted=replace(APPROVAL.wanted, gaps=(lost,)))

        async def give_up() -> None:
            await world.store.write(
                lambda c: pass_gap(
                    c, lost, approval, fleet_id=fleet_id, now=world.now()
                )
            )

        await world.say(FrameClass.EVENT, entries[4])
        with pytest.raises(GapError, match="less than a minute"):
            await give_up()
        world.advance(61)
        with pytest.raises(GapError, match="may still send"):
            await give_up()
        car.renew_session()
        doubt = (await world.vehicle(car)).doubt
        assert doubt is not None
        hello = car.hello(oldest_unreceipted=5, nonce=doubt.nonce)
        await world.say(FrameClass.HELLO, hello)
        [known], count = await world.store.read(lambda c: find_gaps(c, now=world.now()))
        with pytest.raises(GapError, match="oldest gap is 3 to 4"):
            await world.store.read(
                lambda c: require_lost(c, replace(lost, last=3), now=world.now())
            )
        await give_up()
        await give_up()
        told = await world.store.outbox_after(0, 100)
        # What comes all the same is kept and not told: its place is passed.
        await world.say(FrameClass.EVENT, entries[3], entries[4])
        kinds = [letter.kind for letter in await world.store.dead_letters()]
        left = await world.store.read(lambda c: find_gaps(c, now=world.now()))
        await world.broker.until_receipted(car.head)
        proof = await proof_of(world)

    types = [row.type for row in told]
    at = types.index("freefloat.ledger.gap_accepted")
    assert (known.missing, known.problem, count) == (lost, "", 1)
    assert "entries 3 to 4 are missing for good: anna and otto" in str(told[at].body)
    assert types.index("freefloat.rental.ended") > at
    assert types.count("freefloat.rental.ended") == 1
    assert "freefloat.rental.parked" not in types
    assert kinds == [LetterKind.PASSED]
    assert car.seq == 5
    assert left == ([], 0)
    assert proof is not None
    assert proof.missing == (Gap(3, 4),)
    assert [e.frame.header.seq for e in verified(fleet, proof).entries] == [5]


def test_a_backup_is_made_while_the_bridge_writes_and_never_over_another(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    path = tmp_path / "bridge.sqlite"
    store = Store(SqliteDatabase(path), fleet_id=fleet.fleet.fleet_id)
    store.open()
    try:
        back_up(path, tmp_path / "one")
        with pytest.raises(SettingsError, match="exists already"):
            back_up(path, tmp_path / "one")
        with pytest.raises(SettingsError, match=r": no such file or directory$") as no:
            back_up(path, tmp_path / "nowhere" / "one")
    finally:
        asyncio.run(store.close())
    assert sorted(one.name for one in tmp_path.glob("*one*")) == ["one"]
    assert "check the paths" in no.value.advice


@pytest.mark.parametrize(
    ("spoil", "about", "advice"),
    [
        (
            lambda copy: copy.write_bytes(b"SQLite format 3\0" + bytes(9_000)),
            "copied",
            "take another backup",
        ),
        (
            lambda copy: copy.write_bytes(copy.read_bytes()[:8_192]),
            "copied",
            "take another backup",
        ),
        (lambda copy: copy.unlink(), "there is no backup", "name another file"),
    ],
)
def test_a_backup_that_is_no_good_leaves_the_store_in_its_place(
    fleet: FleetDirectory,
    tmp_path: Path,
    spoil: Callable[[Path], object],
    about: str,
    advice: str,
) -> None:
    path, copy = tmp_path / "bridge.sqlite", tmp_path / "copy"
    fleet_id = fleet.fleet.fleet_id
    mark(SqliteDatabase(path), fleet_id=fleet_id, now=NOW_MS)
    back_up(path, copy)
    before = path.read_bytes()
    spoil(copy)

    with pytest.raises(SettingsError, match=about) as refused:
        restore(path, copy, fleet_id=fleet_id, now=NOW_MS)

    assert advice in refused.value.advice
    assert path.read_bytes() == before
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("is_there", [False, True])
def test_a_store_that_root_puts_back_belongs_to_the_bridges_user(
    fleet: FleetDirectory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_there: bool,
) -> None:
    """Row 37: root restores, and a service's user opens the store."""
    folder, copy = tmp_path / "state", tmp_path / "copy"
    folder.mkdir()
    path, fleet_id = folder / "bridge.sqlite", fleet.fleet.fleet_id
    mark(SqliteDatabase(path), fleet_id=fleet_id, now=NOW_MS)
    back_up(path, copy)
    if not is_there:
        for file in folder.iterdir():
            file.unlink()
    given: dict[str, tuple[int, int]] = {}

    def chown(file: Path, *owner: int, follow_symlinks: bool) -> None:
        assert not follow_symlinks, "their link would give them a file of root's"
        given[file.name] = (owner[0], owner[1])

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", chown)

    restore(path, copy, fleet_id=fleet_id, now=NOW_MS)

    theirs = folder.stat()
    owner = (theirs.st_uid, theirs.st_gid)
    assert given == dict.fromkeys(
        (".bridge.sqlite.restored", "bridge.sqlite.lock"), owner
    )


def test_a_store_in_use_or_a_backup_of_another_fleet_is_not_touched(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    path, copy = tmp_path / "bridge.sqlite", tmp_path / "copy"
    fleet_id = fleet.fleet.fleet_id
    mark(SqliteDatabase(path), fleet_id=fleet_id, now=NOW_MS)
    back_up(path, copy)

    with pytest.raises(SettingsError, match="belongs to fleet"):
        restore(path, copy, fleet_id=bytes(16), now=NOW_MS)
    running = SqliteDatabase(path)
    running.open()
    with pytest.raises(SettingsError, match="another bridge uses"):
        restore(path, copy, fleet_id=fleet_id, now=NOW_MS)
    running.close()
    doubted, aside = restore(path, copy, fleet_id=fleet_id, now=NOW_MS)

    assert doubted == 0
    assert Path(aside).name == "bridge.sqlite.before-1"
    assert Path(aside).exists()


@pytest.mark.parametrize("rental_now", [NO_RENTAL, bytes(15) + b"\1"])
async def test_a_rental_whose_end_a_loss_swallowed_is_closed_by_a_person(
    fleet: FleetDirectory, tmp_path: Path, rental_now: bytes
) -> None:
    """Row 37: it would run for ever, for its report was receipted and is lost."""
    states, told = await given_up(fleet, tmp_path, rental_now)

    assert (states[0].state, states[0].needs_close) == ("running", True)
    assert told.count("freefloat.rental.to_close") == 1
    at = told.index("freefloat.ledger.gap_accepted")
    assert told.index("freefloat.rental.to_close") > at
    assert (states[1].state, states[1].needs_close) == ("closed", False)


async def test_a_rental_that_goes_on_behind_a_loss_is_nobodys_to_close(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    """Row 37: the car says that somebody is in it; its report comes."""
    states, told = await given_up(fleet, tmp_path, RENTAL)

    assert [(one.state, one.needs_close) for one in states] == [("running", False)] * 2
    assert "freefloat.rental.to_close" not in told


async def given_up(
    fleet: FleetDirectory, tmp_path: Path, rental_now: bytes
) -> tuple[list[Rental], list[str]]:
    """Lose entries 3 to 5 of a rental; return it before and after a person closed it.

    And what was told.
    """
    fleet_id = fleet.fleet.fleet_id
    async with World(fleet, tmp_path / "store") as world:
        car = world.car
        entries = entries_of(car)
        lost = MissingEntries(car.id, car.ledger_id, 3, 5)
        approval = replace(APPROVAL, wanted=replace(APPROVAL.wanted, gaps=(lost,)))
        await world.greet()
        await world.say(FrameClass.EVENT, *entries[:2], car.event(BODIES[0]))
        car.renew_session()
        car.snapshot = replace(car.snapshot, rental_id=rental_now)
        await world.say(FrameClass.HELLO, car.hello(oldest_unreceipted=6))
        world.advance(61)
        for _ in range(2):
            await world.store.write(
                lambda c: pass_gap(
                    c, lost, approval, fleet_id=fleet_id, now=world.now()
                )
            )
        before = await world.store.rental(RENTAL)
        await world.store.close_rental(RENTAL, now=world.now())
        after = await world.store.rental(RENTAL)
        told = [row.type for row in await world.store.outbox_after(0, 100)]

    assert before is not None
    assert after is not None
    return [before, after], told
