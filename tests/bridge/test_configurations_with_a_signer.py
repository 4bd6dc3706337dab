"""A bridge and a signer's process bring cars what a second person signed, and go on
without one for what cars missed (K28, adr/0022)."""

import asyncio
import base64
import contextlib
import hashlib
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bridge.api.keys import Role
from bridge.consent import consent_to
from bridge.settings import ApprovalSettings, SignerSettings
from bridge.signing.journal import faults_of, read_log
from bridge.signing.settings import SecondPersonSettings
from certs.fleet import FleetDirectory
from protocol.codes import FrameClass, SyncType
from protocol.identity import VehicleId
from protocol.keyfile import build_key
from protocol.keys import Ed25519SigningKey
from protocol.sync import ConfigOffer, parse_sync
from tests.bridge.car import Car, frame_of
from tests.bridge.conftest import make_fleet
from tests.bridge.running import Json, Running, until
from tests.bridge.test_consented_configurations import (
    AREA,
    DAY_MS,
    HERE,
    NOWHERE,
    Thief,
    thief,
)
from tests.bridge.test_roles import KEY, ask, bridge_with_roles
from tests.bridge.test_second_person import ANNA
from tests.bridge.test_signing_socket import folder, is_ready, keyless, service_of
from tests.bridge.world import BOOT_MS
from tests.tools.command_line import freefloat
from tests.tools.command_line import running as running_command
from tools.clock import wall_clock

__all__ = ["folder", "thief"]


def offers_to(running: Running, car: VehicleId) -> list[bytes]:
    """Return the hashes of what a car was offered, in their order."""
    found = []
    for data in running.broker.sent_of(FrameClass.SYNC):
        frame = frame_of(data)
        header = frame.header
        if header.vehicle_id == car and header.type == SyncType.CONFIG:
            body = parse_sync(header.type, header.schema, frame.payload)
            assert isinstance(body, ConfigOffer)
            found.append(body.sha256)
    return found


async def greet(running: Running, *cars: Car) -> None:
    for car in cars:
        topic, hello = car.topic(FrameClass.HELLO), car.hello()
        await running.broker.deliver(topic, hello).is_done.wait()


def wanted_of(body: bytes, *cars: VehicleId) -> Json:
    encoded = base64.b64encode(body).decode()
    return {
        "vehicle_ids": [str(car) for car in cars],
        "configuration": {"kind": "business_area", "body": encoded},
    }


def put_into(folder: Path, fleet: FleetDirectory, own: Ed25519SigningKey) -> None:
    """Write what an approver and a signer have of their own."""
    for name, data in (
        ("approver.key", build_key(own.handle)),
        ("approver.api", KEY[Role.APPROVER].encode()),
    ):
        (folder / name).touch(mode=0o600)
        (folder / name).write_bytes(data)
    (folder / "area.json").write_bytes(HERE)
    (folder / "other.json").write_bytes(NOWHERE)
    (folder / "signer.toml").write_text(
        f'log = "log"\n[fleet]\ndirectory = "{fleet.path}"\n'
        '[socket]\npath = "signer.sock"\n[second_person]\nvehicles = 1\n'
        f'[[approver]]\nname = "anna"\npublic_key = "{own.verify_key.raw.hex()}"\n'
    )


def told_in(folder: Path) -> list[Any]:
    entries = list(read_log(folder / "log"))
    assert faults_of(entries) == []
    return [entry.facts for entry in entries]


@contextlib.asynccontextmanager
async def signer_process(running: Running, folder: Path) -> AsyncIterator[None]:
    """Run a signer inside the block; it is killed at its end."""
    words = ("signer", "run", "--json", "--config", "signer.toml")
    with running_command(*words, cwd=folder) as process:
        await is_ready(running)
        yield
        process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(process.wait)


@pytest.mark.broker
async def test_a_bridge_brings_cars_what_an_approver_signed_and_a_thief_does_not(
    tmp_path: Path, folder: Path
) -> None:
    # K28: a real clock, since the approver's machine and the signer have their own.
    def now_ms() -> int:
        return time.time_ns() // 1_000_000

    fleet = make_fleet(tmp_path / "real", 2, now=wall_clock())
    first, second = fleet.vehicle_ids()
    put_into(folder, fleet, Ed25519SigningKey.generate())
    digest, empty = (hashlib.sha256(body).digest() for body in (HERE, NOWHERE))
    async with bridge_with_roles(
        replace(fleet, path=keyless(fleet, folder)),
        folder,
        now=now_ms,
        approvals=ApprovalSettings(signed=True),
        signer=SignerSettings(socket=str(folder / "signer.sock")),
    ) as running:
        late = Car(fleet.vehicle_directory(second), boot_ms=lambda: BOOT_MS)
        async with signer_process(running, folder):
            await greet(running, running.car)
            _, asked = await ask(
                running,
                Role.OPERATOR,
                "post",
                "/v1/approvals",
                wanted_of(HERE, first, second),
            )
            name = asked["id"]
            approve = f"/v1/approvals/{name}/approve"
            unsigned, _ = await ask(running, Role.APPROVER, "post", approve)
            to = ("--api", running.bridge.api_url, "--api-key-file", "approver.api")
            words = (
                *("bridge", "approvals", "approve", name, *to, "--yes"),
                *("--sign-with", "approver.key", "--document"),
            )
            wrong = await asyncio.to_thread(freefloat, *words, "other.json", cwd=folder)
            done = await asyncio.to_thread(freefloat, *words, "area.json", cwd=folder)
            await until(lambda: offers_to(running, first) == [digest])
        async with signer_process(running, folder):
            # One car comes later, and one got nothing of it after all.
            await greet(running, late, running.car)
            await until(lambda: offers_to(running, second) == [digest])
            await until(lambda: offers_to(running, first) == [digest] * 2)
            # Who owns the bridge's process asks nobody.
            store = running.bridge.store
            for car in (first, second):
                await store.put_configuration(car, AREA, NOWHERE, now=now_ms())
            await greet(running, late, running.car)
            await until(lambda: "refused" in {f["class"] for f in told_in(folder)})

    assert unsigned == 403
    assert (wrong.returncode, done.returncode) == (1, 0), done.stderr
    assert "is not other.json" in wrong.stderr
    assert "you sign: configuration business_area" in done.stderr
    assert f"sha256: {digest.hex()}" in done.stderr
    assert "vehicles: 2" in done.stderr
    told = [fact for fact in told_in(folder) if "configuration" in fact]
    known = [fact for fact in told if fact["sha256"] == digest.hex()]
    assert {(f["vehicle"], f.get("approver"), f.get("outside")) for f in known} == {
        (str(first), "anna", None),
        (str(first), None, None),
        (str(second), "anna", None),
    }
    stolen = {fact["vehicle"] for fact in told if fact["sha256"] == empty.hex()}
    assert len(stolen) == 1, "one car within the window, and no more"


@contextlib.asynccontextmanager
async def bridge_of(
    fleet: FleetDirectory, thief: Thief, folder: Path
) -> AsyncIterator[Running]:
    """Run a bridge and a signer that lets one car alone; both go by the same clock."""
    few = SecondPersonSettings(vehicles=1)
    thief.settings = msgspec.structs.replace(thief.settings, second_person=few)
    async with (
        bridge_with_roles(
            replace(fleet, path=keyless(fleet, folder)),
            folder,
            now=lambda: thief.now,
            approvals=ApprovalSettings(signed=True),
            signer=SignerSettings(socket=thief.settings.socket.path),
        ) as running,
        service_of(fleet, thief.settings, now=lambda: thief.now).serve(),
    ):
        await is_ready(running)
        yield running


async def want_signed(
    running: Running, body: bytes, *cars: VehicleId, now: int
) -> None:
    """Ask for a configuration and have anna sign it."""
    wanted = wanted_of(body, *cars)
    _, asked = await ask(running, Role.OPERATOR, "post", "/v1/approvals", wanted)
    path = f"/v1/approvals/{asked['id']}"
    _, shown = await ask(running, Role.APPROVER, "get", path)
    given = consent_to(base64.b64decode(shown["statement"]), ANNA, now=now)
    signature = {
        "decided_ms": given.decided_ms,
        "key_id": given.key_id.hex(),
        "signature": given.signature.hex(),
    }
    signed = {"signature": signature}
    done, _ = await ask(running, Role.APPROVER, "post", f"{path}/approve", signed)
    assert done == 200


async def come_back_late(
    running: Running, thief: Thief, first: VehicleId, late: Car
) -> None:
    """Let two cars come days after their consent; the signer lets the first have it."""
    await want_signed(running, HERE, first, late.id, now=thief.now)
    thief.now += 3 * DAY_MS
    await greet(running, running.car)
    await until(lambda: offers_to(running, first) == [hashlib.sha256(HERE).digest()])
    await greet(running, late)
    await until(lambda: "refused" in {f["class"] for f in thief.told()})


@pytest.mark.broker
async def test_cars_that_come_back_after_days_get_it_in_their_turn(
    fleet: FleetDirectory, thief: Thief, folder: Path
) -> None:
    # An honest bridge goes on without a person for each car.
    first, second, _ = fleet.vehicle_ids()
    late = Car(fleet.vehicle_directory(second), boot_ms=lambda: BOOT_MS)
    digest = hashlib.sha256(HERE).digest()
    async with bridge_of(fleet, thief, folder) as running:
        await come_back_late(running, thief, first, late)
        thief.now += 600_000
        await greet(running, late)
        await until(lambda: offers_to(running, second) == [digest])

    told = [fact for fact in thief.told() if fact.get("outside")]
    assert [fact["vehicle"] for fact in told] == [str(first), str(second)]


@pytest.mark.broker
async def test_what_waits_for_its_turn_is_let_go_by_a_new_consent(
    fleet: FleetDirectory, thief: Thief, folder: Path
) -> None:
    # K28: the same body, wanted once more.
    first, second, _ = fleet.vehicle_ids()
    late = Car(fleet.vehicle_directory(second), boot_ms=lambda: BOOT_MS)
    digest = hashlib.sha256(HERE).digest()
    async with bridge_of(fleet, thief, folder) as running:
        await come_back_late(running, thief, first, late)
        await want_signed(running, HERE, second, now=thief.now)
        await greet(running, late)
        await until(lambda: offers_to(running, second) == [digest])

    told = [fact for fact in thief.told() if fact["vehicle"] == str(second)]
    assert [f["approver"] for f in told if "configuration" in f] == ["anna"]
