"""A signer in a process of its own: it signs little, tells all, and may come and go
(I-34, K14, K28)."""

import asyncio
import contextlib
import gc
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import CapError, SettingsError, SigningError
from bridge.fleet_files import TokenKeys
from bridge.ports import WallClock
from bridge.settings import (
    FleetSettings,
    Settings,
    SignerSettings,
    check_settings,
)
from bridge.signing import client
from bridge.signing.journal import GENESIS, Head, Journal, faults_of, read_log
from bridge.signing.messages import (
    Ask,
    Greeting,
    Inbox,
    Message,
    MessageError,
    Refused,
    Signed,
    encode,
)
from bridge.signing.policy import Policy
from bridge.signing.second_person import SecondPerson
from bridge.signing.service import SigningService
from bridge.signing.settings import (
    PolicySettings,
    SecondPersonSettings,
    SocketSettings,
)
from bridge.signing.settings import SignerSettings as ServiceSettings
from bridge.trust import Trust
from certs.fleet import FleetDirectory
from protocol.codes import FrameClass, Lane, Opcode
from protocol.command import ANY_VERSION, COMMAND_SCHEMA, Unlock, build_command
from protocol.fleet import FleetPart
from protocol.frame import Header, build_unsigned
from protocol.identity import VehicleId
from protocol.keyfile import parse_signing_key
from protocol.keys import Ed25519SigningKey, SigningKey
from protocol.snapshot import NO_RENTAL
from tests.bridge.conftest import make_fleet
from tests.bridge.running import Json, Running, running_bridge, until
from tests.bridge.world import BOOT_MS, NOW_MS
from tools.bridge_settings import local_settings
from tools.clock import wall_clock
from tools.signer import open_signer

UNLOCK = {"kind": "unlock", "rental_id": None}


@pytest.fixture
def folder() -> Iterator[Path]:
    # A socket's path has 107 bytes at most; pytest's own folders can be longer.
    with tempfile.TemporaryDirectory(prefix="ff-signer-") as made:
        yield Path(made)


@given(data=st.binary(max_size=200))
def test_arbitrary_bytes_are_waited_for_or_refused(data: bytes) -> None:
    with contextlib.suppress(MessageError):
        list(Inbox().take(data))


@given(cut=st.integers(0, 300), frame=st.binary(max_size=200))
def test_a_message_is_read_however_it_is_cut(cut: int, frame: bytes) -> None:
    told: list[Message] = [
        Greeting(1, bytes(16), (bytes(32),), 7, bytes(32)),
        Ask(1, 2, 3, frame),
        Signed(1, 2, bytes(64)),
        Refused(1, "no", 3),
    ]
    data = b"".join(map(encode, told))
    inbox = Inbox()

    found = [*inbox.take(data[:cut]), *inbox.take(data[cut:])]

    assert found == told
    with pytest.raises(MessageError):
        list(Inbox().take(b"\xff\xff\xff\xff"))


# What is signed


def key_of(
    fleet: FleetDirectory, part: FleetPart = FleetPart.COMMAND_KEY
) -> SigningKey:
    return parse_signing_key((fleet.path / part).read_bytes(), name=part)


def header_of(fleet: FleetDirectory) -> Header:
    key = key_of(fleet)
    return Header(
        suite=key.suite,
        frame_class=FrameClass.CMD,
        flags=0,
        type=Opcode.UNLOCK,
        schema=COMMAND_SCHEMA,
        lane=Lane.ACCESS,
        vehicle_id=fleet.vehicle_ids()[0],
        key_id=key.key_id,
        session_id=bytes(16),
        seq=1,
        mono_ms=BOOT_MS + 5_000,
        wall_ms=NOW_MS,
        msg_id=bytes(16),
    )


class Signer:
    """A policy with what it is told."""

    def __init__(self, fleet: FleetDirectory, **caps: object) -> None:
        self.keys = (key_of(fleet),)
        self.fleet = fleet
        self.header = header_of(fleet)
        self.trust = Trust.begin(fleet.trust_bundle(), fleet_id=fleet.fleet.fleet_id)
        second = SecondPerson(SecondPersonSettings(), {}, fleet_id=fleet.fleet.fleet_id)
        self.policy = Policy(msgspec.convert(caps, PolicySettings), second)
        self.payload = build_command(Unlock(NO_RENTAL, ANY_VERSION))
        self.now = NOW_MS

    def ask(
        self, *, epoch: int = 1, payload: bytes | None = None, **changes: object
    ) -> None:
        header = replace(self.header, **changes)  # type: ignore[arg-type] # by name
        unsigned = build_unsigned(header, self.payload if payload is None else payload)
        ask = Ask(1, epoch, BOOT_MS, unsigned)
        self.policy.judge(ask, keys=self.keys, trust=self.trust, now=self.now)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mono_ms": BOOT_MS + 3_600_000}, "a life of 3600000 ms"),
        ({"mono_ms": BOOT_MS}, "a life of 0 ms"),
        ({"wall_ms": NOW_MS - 61_000}, "not this machine's"),
        ({"lane": Lane.RENTAL}, "of another lane"),
        ({"key_id": bytes(8)}, "has no key"),
        ({"frame_class": FrameClass.RECEIPT}, "alone"),
        ({"frame_class": FrameClass.TRUST}, "another trust bundle"),
        ({"type": 0x7777}, "no command"),
        ({"schema": 9}, "no command"),
        ({"payload": b"\xff"}, "no command"),
    ],
)
def test_a_signer_reads_what_it_signs(
    fleet: FleetDirectory, changes: Json, said: str
) -> None:
    signer = Signer(fleet)

    with pytest.raises(SigningError, match=said):
        signer.ask(**changes)

    signer.ask()


def test_a_signer_signs_no_opcode_that_it_was_not_given(fleet: FleetDirectory) -> None:
    with pytest.raises(SigningError, match="signs no unlock"):
        Signer(fleet, opcodes=["lock"]).ask()


def test_a_revoked_key_signs_nothing_whatever_the_bridge_says(
    fleet: FleetDirectory,
) -> None:
    # FF-TRU-21
    signer = Signer(fleet)
    newest = replace(signer.trust.newest, revoked=(signer.header.key_id,))
    signer.trust = replace(signer.trust, newest=newest)

    with pytest.raises(SigningError, match="is revoked"):
        signer.ask()


def test_a_sequence_is_signed_once(fleet: FleetDirectory) -> None:
    signer = Signer(fleet)
    signer.ask(seq=5)
    # Two orders of one moment may overtake each other.
    signer.ask(seq=4)

    for seq in (4, 5):
        with pytest.raises(SigningError, match="was used"):
            signer.ask(seq=seq)
    signer.ask(seq=1_000)
    with pytest.raises(SigningError, match="too old"):
        signer.ask(seq=6)


def test_a_bridge_whose_lease_passed_on_gets_no_signature(
    fleet: FleetDirectory,
) -> None:
    # I-34: who froze and wakes finds another epoch.
    signer = Signer(fleet)
    signer.ask(epoch=7, seq=1)

    with pytest.raises(SigningError, match=r"epoch 7, yours is 6"):
        signer.ask(epoch=6, seq=2)
    signer.ask(epoch=8, seq=2)


def test_caps_bound_what_a_stolen_bridge_may_do(fleet: FleetDirectory) -> None:
    # K28
    signer = Signer(fleet, commands_per_minute=3, commands_per_day=5, vehicles=2)
    cars = [VehicleId(bytes([n] * 16)) for n in range(1, 4)]
    signer.ask(seq=1, vehicle_id=cars[0])
    signer.ask(seq=2, vehicle_id=cars[1])
    with pytest.raises(CapError, match="reached 2 vehicles") as mass:
        signer.ask(seq=3, vehicle_id=cars[2])
    assert mass.value.retry_after_s == 600
    signer.ask(seq=3, vehicle_id=cars[1])
    with pytest.raises(CapError, match="signs 3 in 60 s"):
        signer.ask(seq=4, vehicle_id=cars[1])

    signer.now += 600_000
    signer.header = replace(signer.header, wall_ms=signer.now)
    signer.ask(seq=4, vehicle_id=cars[2])
    signer.ask(seq=5, vehicle_id=cars[2])
    with pytest.raises(CapError, match="signs 5 in 86400 s"):
        signer.ask(seq=6, vehicle_id=cars[2])


# What is written down


def written(folder: Path, days: int = 2) -> list[Path]:
    journal = Journal(folder)
    for day in range(days):
        now = NOW_MS + day * 86_400_000
        journal.append([{"at_ms": now, "kind": f"a{n}"} for n in range(3)], now=now)
    journal.close()
    return sorted(folder.glob("*.jsonl"))


def test_a_log_that_nobody_was_at_holds_over_files_and_restarts(folder: Path) -> None:
    paths = written(folder)
    entries = list(read_log(folder))
    noted = Head(4, entries[3].digest)

    assert [len(path.read_bytes().splitlines()) for path in paths] == [3, 3]
    assert faults_of(entries, noted) == []
    assert Journal(folder).head == Head(6, entries[-1].digest)


@pytest.mark.parametrize("place", range(6))
def test_a_line_edited_moved_taken_out_or_cut_off_is_found(
    folder: Path, place: int
) -> None:
    # K14
    written(folder)
    entries = list(read_log(folder))
    noted = Head(6, entries[5].digest)
    edited, moved = list(entries), list(entries)
    edited[place] = replace(entries[place], facts={"kind": "other"})
    other = (place + 1) % 6
    moved[place], moved[other] = moved[other], moved[place]

    assert f"entry {place + 1}: was edited" in faults_of(edited)
    assert faults_of(moved)
    assert faults_of(entries[:place] + entries[place + 1 :], noted)
    assert faults_of(entries[:place], noted) == ["entry 6: was noted and is gone"]


def test_a_line_that_a_crash_left_half_is_cut_off(folder: Path) -> None:
    paths = written(folder)
    with paths[-1].open("ab") as file:
        file.write(b'{"n":7,"at_')

    assert Journal(folder).head.entry == 6
    assert len(list(read_log(folder))) == 6


def test_nobody_signs_on_with_a_log_that_somebody_was_at(folder: Path) -> None:
    # K14
    paths = written(folder)
    lines = paths[-1].read_bytes().splitlines(keepends=True)
    paths[-1].write_bytes(b"".join([lines[0], lines[2]]))

    with pytest.raises(SettingsError, match="does not follow"):
        Journal(folder)


# The socket


def service_settings(fleet: FleetDirectory, folder: Path) -> ServiceSettings:
    return ServiceSettings(
        fleet=FleetSettings(directory=str(fleet.path)),
        socket=SocketSettings(path=str(folder / "signer.sock")),
        log=str(folder / "log"),
    )


def service_of(
    fleet: FleetDirectory,
    settings: ServiceSettings,
    *,
    now: WallClock = lambda: NOW_MS,
) -> SigningService:
    made = open_signer(settings)
    return SigningService(
        settings,
        fleet_id=fleet.fleet.fleet_id,
        keys=made._keys,
        trust=made._trust,
        journal=made._journal,
        now=now,
    )


def mode_of(settings: ServiceSettings) -> int:
    return stat.S_IMODE(Path(settings.socket.path).stat().st_mode)


def keyless(fleet: FleetDirectory, folder: Path) -> Path:
    """Return a fleet directory as a bridge with a signer has it: no command key."""
    copied = folder / "fleet"
    shutil.copytree(fleet.path, copied, ignore=shutil.ignore_patterns("command-*"))
    return copied


def bridge_settings(fleet: Path, folder: Path) -> Settings:
    settings = local_settings(
        fleet, state=folder, broker=("127.0.0.1", 1), api=("127.0.0.1", 0)
    )
    signer = SignerSettings(socket=str(folder / "signer.sock"))
    return msgspec.structs.replace(settings, signer=signer)


@contextlib.asynccontextmanager
async def with_signer(
    fleet: FleetDirectory, folder: Path
) -> AsyncIterator[tuple[Running, ServiceSettings]]:
    settings = bridge_settings(keyless(fleet, folder), folder)
    async with running_bridge(fleet, folder, settings=settings) as running:
        yield running, service_settings(fleet, folder)


async def is_ready(running: Running) -> None:
    for _ in range(500):
        status, _ = await running.get("/ready")
        if status == 200:
            return
        await asyncio.sleep(0.02)
    raise TimeoutError


@pytest.mark.broker
async def test_a_bridge_without_a_command_key_has_its_commands_signed(
    fleet: FleetDirectory, folder: Path
) -> None:
    before = {id(o) for o in gc.get_objects() if isinstance(o, Ed25519SigningKey)}
    async with with_signer(fleet, folder) as (running, settings):
        found = [o for o in gc.get_objects() if isinstance(o, Ed25519SigningKey)]
        made = {key.key_id for key in found if id(key) not in before}
        service = service_of(fleet, settings)
        async with service.serve():
            await is_ready(running)
            mode = mode_of(settings)
            await running.say(FrameClass.HELLO, running.car.hello())
            status, command = await running.order(UNLOCK)
            frames = running.broker.sent_of(FrameClass.CMD)
        _, page = await running.get("/v1/commands/" + command["id"])

    # The receipt key is the only one that this bridge read.
    assert key_of(fleet, FleetPart.RECEIPT_KEY).key_id in made
    assert key_of(fleet).key_id not in made
    assert mode == 0o600
    assert (status, len(frames), page["kind"]) == (202, 1, "unlock")
    logged = list(read_log(Path(settings.log)))
    assert faults_of(logged) == []
    told = [e.facts for e in logged if e.facts["class"] == "cmd"]
    assert [(fact["kind"], fact["msg_id"]) for fact in told] == [
        ("unlock", command["id"])
    ]


@pytest.mark.broker
async def test_without_a_signer_orders_are_answered_honestly_until_it_is_back(
    fleet: FleetDirectory, folder: Path
) -> None:
    async with with_signer(fleet, folder) as (running, settings):
        await running.say(FrameClass.HELLO, running.car.hello())
        for _ in range(2):
            _, waiting = await running.get("/ready")
            path = f"/v1/vehicles/{running.car.id}/commands"
            url = running.bridge.api_url + path
            async with running.client.post(url, json=UNLOCK) as answer:
                problem = await answer.json()
            assert "signer" in waiting["waiting_for"]
            assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
            assert problem["type"].endswith(":signer-unavailable")
            assert "nothing was sent" in problem["detail"]
            async with service_of(fleet, settings).serve():
                await is_ready(running)
                status, _ = await running.order(UNLOCK)
                assert status == 202
            await until(lambda: not Path(settings.socket.path).exists())
            await until(lambda: bool(running.bridge._seal.last_error))  # type: ignore[union-attr] # there is one


@pytest.mark.broker
async def test_a_slow_signer_holds_up_nobody_else_and_its_late_word_is_not_sent(
    fleet: FleetDirectory, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "ANSWER_S", 0.3)
    answer = SigningService._answer

    def slowly(self: SigningService, batch: object) -> object:
        time.sleep(1)
        return answer(self, batch)  # type: ignore[arg-type] # handed on

    async with (
        with_signer(fleet, folder) as (running, settings),
        service_of(fleet, settings).serve(),
    ):
        await is_ready(running)
        await running.say(FrameClass.HELLO, running.car.hello())
        monkeypatch.setattr(SigningService, "_answer", slowly)
        ordering = asyncio.create_task(running.order(UNLOCK))
        healthy, _ = await running.get("/health")
        is_waiting = not ordering.done()
        status, problem = await ordering
        await asyncio.sleep(1)

    assert (healthy, is_waiting) == (200, True)
    assert (status, problem["type"].rpartition(":")[2]) == (503, "signer-unavailable")
    assert running.broker.sent_of(FrameClass.CMD) == []


async def test_strangers_and_babblers_are_cut_off(
    fleet: FleetDirectory, folder: Path
) -> None:
    settings = service_settings(fleet, folder)
    async with service_of(fleet, settings).serve():
        reader, writer = await asyncio.open_unix_connection(settings.socket.path)
        assert isinstance(next(Inbox().take(await reader.read(4_096))), Greeting)
        writer.write(b"\xff\xff\xff\xff")
        assert await reader.read() == b""
        writer.close()
    strict = SocketSettings(path=settings.socket.path, peers=(os.getuid() + 1,))
    settings = msgspec.structs.replace(settings, socket=strict)
    async with service_of(fleet, settings).serve():
        reader, writer = await asyncio.open_unix_connection(settings.socket.path)
        assert await reader.read() == b""
        writer.close()


async def test_two_signers_never_write_one_log(
    fleet: FleetDirectory, folder: Path
) -> None:
    settings = service_settings(fleet, folder)
    async with service_of(fleet, settings).serve():
        with pytest.raises(SettingsError, match="another signer writes"):
            async with service_of(fleet, settings).serve():
                raise AssertionError


async def test_caps_and_epoch_outlive_a_restart(
    fleet: FleetDirectory, folder: Path
) -> None:
    journal = Journal(folder / "log")
    fact: dict[str, int | str] = {
        "at_ms": NOW_MS - 1_000,
        "epoch": 9,
        "class": "cmd",
        "vehicle": str(fleet.vehicle_ids()[0]),
    }
    journal.append([fact], now=NOW_MS)
    journal.close()

    service = service_of(fleet, service_settings(fleet, folder))

    assert service._policy.epoch == 9
    assert len(service._policy._reached) == 1
    assert len(service._policy._day) == 1
    service._journal.close()
    assert bytes(32) == GENESIS


@pytest.mark.broker
async def test_a_signers_process_that_is_killed_comes_back_with_its_log(
    tmp_path: Path, folder: Path
) -> None:
    # A real process and a real clock: what was signed before the kill is in the log.
    def now_ms() -> int:
        return time.time_ns() // 1_000_000

    fleet = make_fleet(tmp_path / "real", 1, now=wall_clock())
    (folder / "signer.toml").write_text(
        f'log = "log"\n[fleet]\ndirectory = "{fleet.path}"\n'
        '[socket]\npath = "signer.sock"\n'
    )
    command = [
        *(sys.executable, "-m", "tools.cli", "signer", "run", "--json"),
        *("--config", str(folder / "signer.toml")),
    ]
    settings = bridge_settings(keyless(fleet, folder), folder)
    async with running_bridge(fleet, folder, settings=settings, now=now_ms) as running:
        for count in (1, 2):
            process = await asyncio.to_thread(
                subprocess.Popen, command, stdout=subprocess.PIPE
            )
            try:
                assert process.stdout is not None
                line = await asyncio.to_thread(process.stdout.readline)
                assert json.loads(line)["pid"] == process.pid
                await is_ready(running)
                await running.say(FrameClass.HELLO, running.car.hello())
                status, _ = await running.order({"kind": "ping"})
                assert status == 202
            finally:
                process.send_signal(signal.SIGKILL)
                await asyncio.to_thread(process.wait)
                process.communicate()
            logged = list(read_log(folder / "log"))
            assert faults_of(logged) == []
            assert [e.facts["kind"] for e in logged].count("ping") == count


def test_a_bridge_with_a_signer_has_no_key_of_its_own(
    fleet: FleetDirectory, folder: Path
) -> None:
    assert TokenKeys(()).keys == ()
    both = msgspec.structs.replace(
        bridge_settings(fleet.path, folder),
        fleet=FleetSettings(directory=str(fleet.path), command_key="x.key"),
    )
    with pytest.raises(SettingsError, match=r"command_key is set, and signer\.socket"):
        check_settings(both)
