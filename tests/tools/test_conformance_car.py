"""The kit against our own gateway over a real broker, whole and broken on purpose."""

import asyncio
import secrets
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
from certs.authority import new_tls_key
from certs.files import write_new
from certs.fleet import FleetDirectory, bundle_path, root_part
from certs.profiles import Kind
from certs.trust_change import granted
from certs.vehicle import issue_vehicles, random_vehicle_id
from firmware_emulator.chance import seeded
from firmware_emulator.clock import EmulatedClock
from firmware_emulator.devices import EmulatedDevices, random_car
from firmware_emulator.vehicle import EmulatedVehicle
from gateway.core.acceptance import Refused, Repeated
from gateway.core.authentication import Dropped
from gateway.core.state import Request
from gateway.runtime import intake
from protocol.codes import Code, Executed, Lane, Opcode, Role, SyncType
from protocol.fleet import FleetPart
from protocol.frame import parse_frame
from protocol.identity import VehicleId
from protocol.keyfile import build_key, parse_signing_key
from protocol.keys import Ed25519SigningKey, SigningKey
from protocol.receipt import Receipt
from protocol.signing import request_hash
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


def backend_identity(laboratory: Laboratory, directory: Path, name: str) -> TlsIdentity:
    """A certificate of its own: a broker knows a client by it."""
    fleet = laboratory.fleet
    key = new_tls_key()
    leaf = fleet.issuing_authority().issue(
        Kind.BRIDGE, name, key.public_key(), now=wall_clock()
    )
    identity = TlsIdentity(
        directory / f"{name}.crt",
        directory / f"{name}.key",
        fleet.path / FleetPart.TRUST_ANCHORS,
    )
    write_new(identity.certificate, fleet.chain(leaf), private=False)
    write_new(identity.key, build_key(key), private=True)
    return identity


@asynccontextmanager
async def broker_of(
    laboratory: Laboratory, ids: list[VehicleId], path: Path
) -> AsyncIterator[EmbeddedBroker]:
    identity = TlsIdentity.of_fleet(laboratory.fleet.path, FleetPart.BROKER)
    async with EmbeddedBroker(
        directory=path,
        identity=identity,
        access=BrokerAccess(
            is_vehicle=frozenset(map(str, ids)).__contains__,
            bridges=tuple(f"ff-bridge-{number}" for number in range(1, len(ids) + 1)),
        ),
        clock=wall_clock,
        kind="mosquitto",
    ) as broker:
        yield broker


async def examined(
    laboratory: Laboratory,
    vehicle_id: VehicleId,
    broker: EmbeddedBroker,
    tls: TlsIdentity,
    data: Path,
    *,
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
        LinkSettings(broker.host, broker.port, client_id=common_name(tls)),
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


# -- gateways that are broken on purpose -----------------------------------------------

Judge = Callable[..., Any]


class Faults:
    """What stands in the place of the gateway's judges, for each car by itself."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.by_car: dict[VehicleId, tuple[str, Judge]] = {}
        for name in ("judge", "judge_sync", "open_receipt"):
            monkeypatch.setattr(intake, name, self._routed(name, getattr(intake, name)))

    def plant(self, vehicle: EmulatedVehicle, name: str, fault: Judge) -> None:
        self.by_car[vehicle.vehicle_id] = (name, fault)

    def _routed(self, name: str, honest: Judge) -> Judge:
        def judged(data: bytes, *args: Any, **more: Any) -> Any:
            desk = more["desk"] if "desk" in more else args[0]
            where, fault = self.by_car.get(desk.vehicle_id, ("", honest))
            if where != name:
                return honest(data, *args, **more)
            return fault(honest, data, *args, **more)

        return judged


def mind_of(vehicle: EmulatedVehicle) -> Any:
    assert vehicle.gateway is not None
    return vehicle.gateway._runtime


def ignores_expiry(vehicle: EmulatedVehicle, faults: Faults) -> None:
    def fault(honest: Judge, data: bytes, *, now: Any, **more: Any) -> Any:
        verdict = honest(data, now=now, **more)
        if isinstance(verdict, Refused) and verdict.code is Code.EXPIRED:
            before = parse_frame(data).header.mono_ms - 1_000
            return honest(data, now=replace(now, boot_ms=before), **more)
        return verdict

    faults.plant(vehicle, "judge", fault)


def names_another_request(vehicle: EmulatedVehicle, _: Faults) -> None:
    herald = mind_of(vehicle)._herald
    honest = herald.send_refusal
    herald.send_refusal = lambda result: honest(replace(result, request_hash=bytes(32)))


def acts_again(vehicle: EmulatedVehicle, faults: Faults) -> None:
    def fault(honest: Judge, data: bytes, *, desk: Any, **more: Any) -> Any:
        verdict = honest(data, desk=desk, **more)
        if isinstance(verdict, Repeated):
            forgetful = replace(desk, journal=lambda _: None, lanes={})
            again = honest(data, desk=forgetful, **more)
            return replace(again, msg_id=secrets.token_bytes(16))
        return verdict

    faults.plant(vehicle, "judge", fault)


def lets_overtake(vehicle: EmulatedVehicle, faults: Faults) -> None:
    def fault(honest: Judge, data: bytes, *, desk: Any, **more: Any) -> Any:
        return honest(data, desk=replace(desk, lanes={}), **more)

    faults.plant(vehicle, "judge", fault)


def _answers(vehicle: EmulatedVehicle, faults: Faults, dropped: Code) -> None:
    def fault(honest: Judge, data: bytes, **more: Any) -> Any:
        verdict = honest(data, **more)
        if isinstance(verdict, Dropped) and verdict.code is dropped:
            request = Request(parse_frame(data).header.msg_id, request_hash(data))
            return Refused(request, Code.ROLE_FORBIDDEN, Executed.NO)
        return verdict

    faults.plant(vehicle, "judge", fault)


def answers_strangers(vehicle: EmulatedVehicle, faults: Faults) -> None:
    _answers(vehicle, faults, Code.UNKNOWN_KEY)


def answers_forgers(vehicle: EmulatedVehicle, faults: Faults) -> None:
    # All of them: its bound on answers would hide what comes after the first few.
    mind_of(vehicle)._herald._may_answer = lambda _now: True
    _answers(vehicle, faults, Code.BAD_SIGNATURE)


def believes_any_head(vehicle: EmulatedVehicle, faults: Faults) -> None:
    store = mind_of(vehicle)._store

    def fault(honest: Judge, data: bytes, *args: Any, **more: Any) -> Any:
        receipt = honest(data, *args, **more)
        if isinstance(receipt, Receipt):
            known = store.hash_at(receipt.upto) or receipt.head_hash
            return replace(receipt, head_hash=known)
        return receipt

    faults.plant(vehicle, "open_receipt", fault)


def sends_nothing_again(vehicle: EmulatedVehicle, _: Faults) -> None:
    uplink = mind_of(vehicle)._outlet
    honest = uplink.receipted
    uplink.resend = lambda *_: None
    uplink.receipted = lambda upto, *, credit, gaps: honest(  # noqa: ARG005 - the port
        upto, credit=credit, gaps=()
    )


def synchronises_by_any_session(vehicle: EmulatedVehicle, faults: Faults) -> None:
    def fault(honest: Judge, data: bytes, *, desk: Any, **more: Any) -> Any:
        session_id = parse_frame(data).header.session_id
        return honest(data, desk=replace(desk, session_id=session_id), **more)

    faults.plant(vehicle, "judge_sync", fault)


Fault = Callable[[EmulatedVehicle, Faults], None]

BROKEN: dict[Fault, str] = {
    # Order shows it too: what has expired comes before what is overtaken.
    ignores_expiry: "FF-FRE-19 FF-AUTH-01",
    names_another_request: "FF-RES-01",
    acts_again: "FF-FRE-06 FF-CMD-08",
    # A refusal that spent its sequence is carried out when it comes again.
    lets_overtake: "FF-FRE-22 FF-FRE-24 FF-FRE-25 FF-FRE-26 FF-AUTH-01",
    # A changed bit may be one of the key's id.
    answers_strangers: "FF-AUTH-02 FF-AUTH-08 FF-SIG-07",
    answers_forgers: "FF-AUTH-02 FF-AUTH-10 FF-SIG-03 FF-SIG-04 FF-SIG-06 FF-SIG-07 "
    "FF-SIG-09 FF-CMD-15",
    believes_any_head: "FF-RCP-08",
    sends_nothing_again: "FF-SYN-07 FF-RCP-13",
    synchronises_by_any_session: "FF-SYN-01 FF-TIM-01",
}
"""Each fault, and the clauses in which it must show."""


async def test_our_gateway_passes_and_broken_copies_fail_in_their_clauses_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All at once on one broker: an honest car, and one for each fault."""
    laboratory = make_laboratory(tmp_path / "fleet")
    ids = [random_vehicle_id() for _ in range(len(BROKEN) + 1)]
    issue_vehicles(laboratory.fleet, ids, now=wall_clock())
    faults = Faults(monkeypatch)
    async with broker_of(laboratory, ids, tmp_path / "broker") as broker:

        async def run_of(vehicle_id: VehicleId, fault: Fault | None) -> Run:
            def break_it(vehicle: EmulatedVehicle) -> None:
                if fault is not None:
                    fault(vehicle, faults)

            data = tmp_path / f"car-{vehicle_id}"
            name = f"ff-bridge-{ids.index(vehicle_id) + 1}"
            tls = backend_identity(laboratory, tmp_path, name)
            return await examined(
                laboratory, vehicle_id, broker, tls, data, break_it=break_it
            )

        honest, *broken = await asyncio.gather(
            *(run_of(*pair) for pair in zip(ids, [None, *BROKEN], strict=True))
        )

    assert told(honest, Verdict.FAIL) == {}
    assert told(honest, Verdict.NOT_REACHED) == {}
    assert told(honest, Verdict.NOT_APPLICABLE) == {}
    assert len(by_clause(honest.findings)) > 80
    found = {
        fault.__name__: told(run, Verdict.FAIL)
        for fault, run in zip(BROKEN, broken, strict=True)
    }
    wanted = {fault.__name__: set(text.split()) for fault, text in BROKEN.items()}
    assert {name: set(one) for name, one in found.items()} == wanted, found
