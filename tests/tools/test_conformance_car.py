"""The kit against our own gateway over a real broker, whole and broken on purpose."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bridge.broker.access import BrokerAccess
from bridge.broker.embedded import EmbeddedBroker
from certs.fleet import FleetDirectory, bundle_path, root_part
from certs.trust_change import granted
from certs.vehicle import issue_vehicles, random_vehicle_id
from firmware_emulator.chance import seeded
from firmware_emulator.clock import EmulatedClock
from firmware_emulator.devices import EmulatedDevices, random_car
from firmware_emulator.vehicle import EmulatedVehicle
from protocol.codes import Lane, Opcode, Role, SyncType
from protocol.fleet import FleetPart
from protocol.identity import VehicleId
from protocol.keyfile import parse_signing_key
from protocol.keys import Ed25519SigningKey, SigningKey
from protocol.trust import TrustedKey, sign_bundle
from tools.clock import wall_clock, wall_s
from tools.conformance.car import examine, make_inputs
from tools.conformance.run import Run
from tools.conformance.verdict import Verdict, by_clause, verdict_of
from transport.backoff import Backoff
from transport.link import LinkSettings, MqttLink
from transport.tls import TlsIdentity, client_context, common_name

pytestmark = [
    pytest.mark.broker,
    pytest.mark.mosquitto,
    pytest.mark.timeout(300),
]

YEAR = timedelta(days=365)


@dataclass(frozen=True)
class Laboratory:
    """A fleet whose bundle names a key of every kind."""

    fleet: FleetDirectory
    keys: list[SigningKey]
    bundles: tuple[bytes, bytes, bytes]
    """Older, in use, newer."""


def make_laboratory(path: Path) -> Laboratory:
    now = wall_clock()
    fleet = FleetDirectory.create(path, name="lab", now=now)
    first = fleet.open_trust_bundle()
    roots = tuple(
        parse_signing_key((path / root_part(number, "key")).read_bytes(), name="root")
        for number in (1, 2)
    )
    keys: list[SigningKey] = []
    grants: list[TrustedKey] = []

    def grant(role: Role, **limits: Any) -> SigningKey:
        key = Ed25519SigningKey.generate()
        keys.append(key)
        found = granted(key.verify_key.raw, role, now=now)
        grants.append(replace(found, **limits))
        return key

    command, leaving = grant(Role.RENTAL), grant(Role.OPERATIONS)
    for _ in range(6):
        grant(Role.OPERATIONS)
    grant(Role.RECEIPT)
    ended = int((now - YEAR).timestamp() * 1000)
    grant(Role.RECEIPT, not_before_ms=ended, not_after_ms=ended + 1000)
    grant(Role.RENTAL, not_before_ms=ended, not_after_ms=ended + 1000)
    grant(Role.MONITOR)
    grant(Role.RENTAL, group=77)
    grant(Role.RENTAL, opcodes=(Opcode.LOCK,))
    grant(Role.RENTAL, opcodes=(Opcode.PING, SyncType.CHALLENGE), lanes=(Lane.ACCESS,))
    grant(Role.RENTAL, max_ttl_ms=5_000)
    revoked = grant(Role.RENTAL)
    bundle = replace(first, version=2, keys=tuple(grants), revoked=(revoked.key_id,))
    newer = replace(
        bundle, version=3,
        keys=tuple(one for one in grants if one.key_id != leaving.key_id),
        revoked=(revoked.key_id, leaving.key_id),
    )  # fmt: skip
    assert command.key_id != leaving.key_id
    signed = sign_bundle(bundle, roots)
    bundle_path(path, 2).write_bytes(signed)
    older = bundle_path(path, 1).read_bytes()
    return Laboratory(fleet, keys, (older, signed, sign_bundle(newer, roots)))


@asynccontextmanager
async def broker_of(
    laboratory: Laboratory, ids: list[VehicleId], path: Path
) -> AsyncIterator[EmbeddedBroker]:
    identity = TlsIdentity.of_fleet(laboratory.fleet.path, FleetPart.BROKER)
    async with EmbeddedBroker(
        directory=path,
        identity=identity,
        access=BrokerAccess(is_vehicle=frozenset(map(str, ids)).__contains__),
        clock=wall_clock,
        kind="mosquitto",
    ) as broker:
        yield broker


async def examined(
    laboratory: Laboratory,
    vehicle_id: VehicleId,
    broker: EmbeddedBroker,
    data: Path,
    break_it: Callable[[EmulatedVehicle], None] = lambda _: None,
) -> Run:
    devices = EmulatedDevices(
        random_car(seeded(1, "car", 0)), EmulatedClock(time.monotonic, wall_s)
    )
    vehicle = EmulatedVehicle.on_broker(
        laboratory.fleet.vehicle_directory(vehicle_id),
        host=broker.host,
        port=broker.port,
        data=data,
        devices=devices,
        backoff=Backoff(initial_s=0.5, maximum_s=5.0),
    )
    tls = TlsIdentity.of_fleet(laboratory.fleet.path, FleetPart.BRIDGE)
    older, used, newer = laboratory.bundles
    inputs = make_inputs(
        vehicle_id,
        laboratory.fleet.vehicle_record(vehicle_id).signing_key,
        laboratory.fleet.fleet.fleet_id,
        used,
        laboratory.keys,
    )
    inputs = replace(
        inputs, older_bundle=older, newer_bundle=newer, answer_s=8, silence_s=0.4
    )
    link = MqttLink(
        LinkSettings(
            broker.host, broker.port, client_id=f"{common_name(tls)}-{vehicle_id}"
        ),
        client_context(tls, now=wall_clock()),
    )
    async with vehicle:
        await vehicle.wait_ready(timeout_s=60)
        break_it(vehicle)
        return await examine(link, inputs)


def told(run: Run, verdict: Verdict) -> dict[str, str]:
    return {
        clause: next(one.came for one in found if one.verdict is verdict)
        for clause, found in by_clause(run.findings).items()
        if verdict_of(found) is verdict
    }


async def test_our_gateway_passes_every_clause(tmp_path: Path) -> None:
    laboratory = make_laboratory(tmp_path / "fleet")
    ids = [random_vehicle_id()]
    issue_vehicles(laboratory.fleet, ids, now=wall_clock())
    async with broker_of(laboratory, ids, tmp_path / "broker") as broker:
        run = await examined(laboratory, ids[0], broker, tmp_path / "car")

    assert told(run, Verdict.FAIL) == {}
    assert told(run, Verdict.NOT_REACHED) == {}
    assert told(run, Verdict.NOT_APPLICABLE) == {}
    assert len(by_clause(run.findings)) > 80
