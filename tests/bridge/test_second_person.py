"""A bridge that was taken over gets no mass order and no hold of an engine signed
without the signature of a second person (K28, adr/0022)."""

import asyncio
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bridge.api.keys import Role
from bridge.approvals import Approval, Cause, Wanted
from bridge.consent import (
    Consent,
    Statement,
    build_consent,
    consent_to,
    parse_statement,
    statement_of,
)
from bridge.errors import SettingsError, SigningError
from bridge.orders import opcode_of
from bridge.settings import ApprovalSettings, SignerSettings
from bridge.signing.approvers import approvers_of
from bridge.signing.journal import faults_of, read_log
from bridge.signing.messages import Ask, Greeting, Inbox, Refused, Signed, encode
from bridge.signing.policy import Policy
from bridge.signing.second_person import SecondPerson
from bridge.signing.settings import (
    ApproverSettings,
    PolicySettings,
    SecondPersonSettings,
    load_signer_settings,
)
from bridge.signing.settings import SignerSettings as ServiceSettings
from certs.fleet import FleetDirectory
from protocol.codes import FrameClass, HoldReason, LockMode, Opcode
from protocol.command import (
    ANY_VERSION,
    COMMANDS,
    Command,
    EngineHold,
    Lock,
    LockAndDisable,
    Unlock,
    build_command,
)
from protocol.frame import build_unsigned
from protocol.identity import VehicleId
from protocol.keyfile import build_key
from protocol.keys import Ed25519SigningKey, P256SigningKey, SigningKey
from protocol.snapshot import NO_RENTAL
from tests.bridge.car import RENTAL
from tests.bridge.conftest import make_fleet
from tests.bridge.test_roles import KEY, ask, bridge_with_roles
from tests.bridge.test_signing_socket import (
    Signer,
    folder,
    is_ready,
    keyless,
    service_of,
    service_settings,
)
from tests.bridge.world import BOOT_MS, NOW_MS
from tests.tools.command_line import freefloat
from tools.clock import wall_clock
from tools.signer import open_signer

__all__ = ["folder"]

ANNA: SigningKey = Ed25519SigningKey.from_seed(bytes([7] * 32))
HOLD = EngineHold(NO_RENTAL, ANY_VERSION, HoldReason.OPERATOR)
UNLOCK = Unlock(NO_RENTAL, ANY_VERSION)


def anna(key: SigningKey = ANNA) -> ApproverSettings:
    return ApproverSettings("anna", key.verify_key.raw.hex(), ("oidc:anna@x",))


class Attacked(Signer):
    """A signer, asked by somebody who owns the bridge and may send what they like."""

    def __init__(self, fleet: FleetDirectory, *, vehicles: int = 2) -> None:
        super().__init__(fleet)
        self.cars = [VehicleId(bytes([n] * 16)) for n in range(1, 6)]
        self.seq = 0
        self.vehicles = vehicles
        self.restart([])

    def restart(self, facts: list[dict[str, int | str]]) -> None:
        self.policy = Policy(
            PolicySettings(),
            SecondPerson(
                SecondPersonSettings(vehicles=self.vehicles),
                approvers_of([anna()]),
                fleet_id=self.fleet.fleet.fleet_id,
            ),
        )
        for fact in facts:
            self.policy.remember(fact, is_counted=True)

    def approval(
        self, command: Command, *cars: VehicleId, by: str = "otto", defer_s: int = 0
    ) -> Approval:
        opcode = opcode_of(command)
        wanted = Wanted(cars, opcode, build_command(command), None, defer_s)
        return Approval(
            row_id=1,
            approval_id=bytes([9] * 16),
            wanted=wanted,
            cause=Cause.IMMOBILISES,
            digest=bytes(32),
            asked_by=by,
            asked_ms=self.now,
            expires_ms=self.now + 900_000,
        )

    def consent(
        self,
        command: Command,
        *cars: VehicleId,
        by: str = "otto",
        key: SigningKey = ANNA,
        defer_s: int = 0,
        **changes: Any,
    ) -> bytes:
        found = self.approval(command, *cars, by=by, defer_s=defer_s)
        data = statement_of(found, self.fleet.fleet.fleet_id)
        if changes:
            stated = msgspec.structs.replace(parse_statement(data), **changes)
            data = msgspec.msgpack.encode(stated)
        return build_consent(consent_to(data, key, now=self.now))

    def order(
        self,
        command: Command,
        car: VehicleId,
        consent: bytes = b"",
        *,
        msg_id: bytes = bytes(16),
    ) -> None:
        opcode = opcode_of(command)
        self.seq += 1
        header = replace(
            self.header,
            type=opcode,
            lane=COMMANDS[opcode].lane,
            vehicle_id=car,
            seq=self.seq,
            wall_ms=self.now,
            msg_id=msg_id,
        )
        unsigned = build_unsigned(header, build_command(command))
        self.policy.judge(
            Ask(1, 1, BOOT_MS, unsigned, consent),
            keys=self.keys,
            trust=self.trust,
            now=self.now,
        )


@pytest.fixture
def attacked(fleet: FleetDirectory) -> Attacked:
    return Attacked(fleet)


@pytest.mark.parametrize(
    "command",
    [
        HOLD,
        EngineHold(RENTAL, ANY_VERSION, HoldReason.OPERATOR),
        EngineHold(NO_RENTAL, ANY_VERSION, HoldReason.RENTAL),
        Lock(NO_RENTAL, ANY_VERSION, LockMode.END),
    ],
)
def test_what_strands_a_car_is_signed_with_a_consent_alone(
    attacked: Attacked, command: Command
) -> None:
    # K28
    car = attacked.cars[0]
    with pytest.raises(SigningError, match="no approver signed"):
        attacked.order(command, car)

    attacked.order(command, car, attacked.consent(command, car))


def test_what_belongs_to_a_rental_needs_nobody(attacked: Attacked) -> None:
    # The car refuses another rental's (gateway.core.orders).
    for car in attacked.cars:
        attacked.order(EngineHold(RENTAL, ANY_VERSION, HoldReason.RENTAL), car)
        attacked.order(Unlock(RENTAL, ANY_VERSION), car)


def test_a_mass_order_stops_at_the_signers_own_count(attacked: Attacked) -> None:
    # K28: whatever the bridge counted, or says that it counted.
    for car in attacked.cars[:2]:
        attacked.order(UNLOCK, car)
    attacked.order(UNLOCK, attacked.cars[1])
    with pytest.raises(SigningError, match="2 vehicles got orders outside rentals"):
        attacked.order(UNLOCK, attacked.cars[2])
    consent = attacked.consent(UNLOCK, *attacked.cars)
    for car in attacked.cars[2:]:
        attacked.order(UNLOCK, car, consent)
    attacked.now += 600_001
    attacked.order(UNLOCK, attacked.cars[2])


@pytest.mark.parametrize(
    ("forged", "said"),
    [
        (lambda _: b"\xff", "no consent"),
        (
            lambda a: a.consent(HOLD, a.cars[0], key=Ed25519SigningKey.generate()),
            "knows no approver",
        ),
        (lambda a: a.consent(HOLD, a.cars[3]), "does not name"),
        (lambda a: a.consent(UNLOCK, a.cars[0]), "another order"),
        (
            lambda a: a.consent(
                EngineHold(NO_RENTAL, ANY_VERSION, HoldReason.RENTAL), a.cars[0]
            ),
            "another order",
        ),
        (lambda a: a.consent(HOLD, a.cars[0], by="anna"), "second person must"),
        (lambda a: a.consent(HOLD, a.cars[0], by="oidc:anna@x"), "second person must"),
        (lambda a: a.consent(HOLD, a.cars[0], fleet_id=bytes(16)), "another fleet"),
        (lambda a: a.consent(HOLD, a.cars[0], expires_ms=NOW_MS - 1), "not count now"),
        (lambda a: a.consent(HOLD, a.cars[0], opcode=0x7777), "no order"),
        (lambda a: edited(a.consent(HOLD, a.cars[3]), a.cars[0]), "does not hold"),
        (lambda a: moved(a.consent(HOLD, a.cars[0]), 1), "does not hold"),
    ],
)
def test_a_consent_that_is_forged_or_another_ones_is_refused(
    attacked: Attacked, forged: Any, said: str
) -> None:
    # K28
    car = attacked.cars[0]
    with pytest.raises(SigningError, match=said):
        attacked.order(HOLD, car, forged(attacked))


def edited(consent: bytes, car: VehicleId) -> bytes:
    """Put another vehicle into what was signed."""
    found = msgspec.msgpack.decode(consent, type=Consent)
    stated = msgspec.msgpack.decode(found.statement, type=Statement)
    stated = msgspec.structs.replace(stated, vehicle_ids=(car.raw,))
    data = msgspec.msgpack.encode(stated)
    return build_consent(msgspec.structs.replace(found, statement=data))


def moved(consent: bytes, by_ms: int) -> bytes:
    """Give it a later instant."""
    found = msgspec.msgpack.decode(consent, type=Consent)
    later = found.decided_ms + by_ms
    return build_consent(msgspec.structs.replace(found, decided_ms=later))


def test_a_consent_is_used_once_for_each_vehicle_also_over_a_restart(
    attacked: Attacked,
) -> None:
    # K28: replayed.
    first, second = attacked.cars[:2]
    consent = attacked.consent(HOLD, first, second)
    attacked.order(HOLD, first, consent, msg_id=bytes([1] * 16))
    # The same command once more: a bridge stopped before it had stored the frame.
    attacked.order(HOLD, first, consent, msg_id=bytes([1] * 16))
    attacked.order(HOLD, second, consent, msg_id=bytes([2] * 16))
    with pytest.raises(SigningError, match="was used"):
        attacked.order(HOLD, first, consent, msg_id=bytes([3] * 16))

    attacked.restart(
        [
            {
                "at_ms": NOW_MS,
                "epoch": 1,
                "class": "cmd",
                "kind": "engine_hold",
                "vehicle": str(first),
                "msg_id": bytes([1] * 16).hex(),
                "approval": bytes([9] * 16).hex(),
                "approver": "anna",
            }
        ]
    )
    with pytest.raises(SigningError, match="was used"):
        attacked.order(HOLD, first, consent, msg_id=bytes([3] * 16))


def test_a_consent_that_was_held_back_is_over(attacked: Attacked) -> None:
    # K28: a bridge cannot keep one for a better moment.
    car = attacked.cars[0]
    soon, late = attacked.consent(HOLD, car), attacked.consent(HOLD, car, defer_s=3_600)
    attacked.now += 60_001
    with pytest.raises(SigningError, match="not count now"):
        attacked.order(HOLD, car, soon)
    attacked.now += 3_500_000
    attacked.order(HOLD, car, late)


def test_a_compounds_consent_is_for_its_two_parts(attacked: Attacked) -> None:
    car = attacked.cars[0]
    whole = LockAndDisable(NO_RENTAL, ANY_VERSION, LockMode.END)
    consent = attacked.consent(whole, car)

    attacked.order(Lock(NO_RENTAL, ANY_VERSION, LockMode.END), car, consent)
    hold = EngineHold(NO_RENTAL, ANY_VERSION, HoldReason.RENTAL)
    attacked.order(hold, car, consent)
    with pytest.raises(SigningError, match="another order"):
        attacked.order(HOLD, car, consent)


def test_where_it_is_not_required_nothing_is_asked(fleet: FleetDirectory) -> None:
    attacked = Attacked(fleet)
    settings = SecondPersonSettings(required=False)
    second = SecondPerson(settings, {}, fleet_id=fleet.fleet.fleet_id)
    attacked.policy = Policy(PolicySettings(), second)

    attacked.order(HOLD, attacked.cars[0])


# At the socket, and through a bridge


def with_anna(settings: ServiceSettings, key: SigningKey) -> ServiceSettings:
    return msgspec.structs.replace(settings, approver=(anna(key),))


async def test_who_took_a_bridge_over_is_refused_at_the_socket_and_written_down(
    fleet: FleetDirectory, folder: Path
) -> None:
    # K28, K14: everything that the attacker has is the socket.
    settings = with_anna(service_settings(fleet, folder), ANNA)
    attacked = Attacked(fleet)
    opcode = Opcode.ENGINE_HOLD
    header = replace(
        attacked.header, type=opcode, lane=COMMANDS[opcode].lane, msg_id=b"x" * 16
    )
    unsigned = build_unsigned(header, build_command(HOLD))
    forged = attacked.consent(HOLD, header.vehicle_id, key=Ed25519SigningKey.generate())
    good = attacked.consent(HOLD, header.vehicle_id)
    async with service_of(fleet, settings).serve():
        reader, writer = await asyncio.open_unix_connection(settings.socket.path)
        answers: list[object] = []
        inbox = Inbox()
        for number, consent in enumerate([b"", forged, good], 1):
            writer.write(encode(Ask(number, 1, BOOT_MS, unsigned, consent)))
        while len(answers) < 4:
            answers += inbox.take(await reader.read(4_096))
        writer.close()
    greeting, *rest = answers
    assert isinstance(greeting, Greeting)
    assert [type(answer) for answer in rest] == [Refused, Refused, Signed]
    entries = list(read_log(Path(settings.log)))
    assert faults_of(entries) == []
    told = [entry.facts for entry in entries]
    assert [fact["class"] for fact in told] == ["refused", "refused", "cmd"]
    assert "no approver" in str(told[0]["why"])
    assert told[0]["vehicle"] == str(header.vehicle_id)
    assert told[2]["approver"] == "anna"

    # The log alone tells the next signer that the consent was used.
    service = service_of(fleet, settings)
    replayed = build_unsigned(
        replace(header, seq=99, msg_id=b"y" * 16), build_command(HOLD)
    )
    with pytest.raises(SigningError, match="was used"):
        service._policy.judge(
            Ask(1, 1, BOOT_MS, replayed, good),
            keys=attacked.keys,
            trust=attacked.trust,
            now=NOW_MS,
        )
    service._journal.close()


@pytest.mark.broker
async def test_an_approver_signs_on_their_own_machine_and_the_car_is_held(
    tmp_path: Path, folder: Path
) -> None:
    # K28: a real clock, since the approver's machine has one of its own.
    def now_ms() -> int:
        return time.time_ns() // 1_000_000

    fleet = make_fleet(tmp_path / "real", 1, now=wall_clock())
    own = P256SigningKey.generate()
    (folder / "approver.key").touch(mode=0o600)
    (folder / "approver.key").write_bytes(build_key(own.handle))
    (folder / "approver.api").touch(mode=0o600)
    (folder / "approver.api").write_text(KEY[Role.APPROVER])
    signer = with_anna(service_settings(fleet, folder), own)
    async with (
        bridge_with_roles(
            replace(fleet, path=keyless(fleet, folder)),
            folder,
            now=now_ms,
            approvals=ApprovalSettings(signed=True),
            signer=SignerSettings(socket=signer.socket.path),
        ) as running,
        open_signer(signer).serve(),
    ):
        await is_ready(running)
        await running.say(FrameClass.HELLO, running.car.hello())
        path = f"/v1/vehicles/{running.car.id}/commands"
        body = {"kind": "engine_hold", "rental_id": None, "reason": "operator"}
        _, problem = await ask(running, Role.OPERATOR, "post", path, body)
        name = problem["approval"]["id"]
        unsigned = await ask(
            running, Role.APPROVER, "post", f"/v1/approvals/{name}/approve"
        )
        other = {"decided_ms": now_ms(), "key_id": "0" * 16, "signature": "0" * 128}
        to = ("--api", running.bridge.api_url, "--api-key-file", "approver.api")
        words = ("bridge", "approvals", "approve", name, *to, "--json", "--yes")
        done = await asyncio.to_thread(
            freefloat, *words, "--no-wait", "--sign-with", "approver.key", cwd=folder
        )
        decided = await ask(
            running,
            Role.APPROVER,
            "post",
            f"/v1/approvals/{name}/approve",
            {"signature": other},
        )
        command = json.loads(done.stdout)["outcomes"][0]["command_id"]
        explain = f"/v1/commands/{command}/explain"
        _, explained = await ask(running, Role.OPERATOR, "get", explain)

    assert (unsigned[0], str(unsigned[1]["type"])[-17:]) == (403, "approval-unsigned")
    assert decided[0] == 200, "the same decision again is no error"
    assert f"vehicle 1: {running.car.id}" in done.stderr
    assert "reason: operator" in done.stderr
    assert "expected_version: any\n" in done.stderr
    # One command: a slow machine sends it again after 2.5 s, byte for byte the same.
    assert len(running.commands()) == 1
    assert "signed with their own key" in str(explained["hops"])
    told = [entry.facts for entry in read_log(Path(signer.log))]
    assert [f["approver"] for f in told if f["class"] == "cmd"] == ["anna"]


@pytest.mark.broker
async def test_an_approval_that_the_signer_does_not_believe_sends_nothing(
    fleet: FleetDirectory, folder: Path
) -> None:
    # K28: the bridge says approved; the signer sees that nobody it knows signed.
    signer = with_anna(service_settings(fleet, folder), ANNA)
    async with (
        bridge_with_roles(
            replace(fleet, path=keyless(fleet, folder)),
            folder,
            approvals=ApprovalSettings(),
            signer=SignerSettings(socket=signer.socket.path),
        ) as running,
        service_of(fleet, signer).serve(),
    ):
        await is_ready(running)
        await running.say(FrameClass.HELLO, running.car.hello())
        path = f"/v1/vehicles/{running.car.id}/commands"
        body = {"kind": "engine_hold", "rental_id": None, "reason": "operator"}
        _, problem = await ask(running, Role.OPERATOR, "post", path, body)
        name = problem["approval"]["id"]
        _, done = await ask(
            running, Role.APPROVER, "post", f"/v1/approvals/{name}/approve"
        )

    assert "no approver signed it" in done["outcomes"][0]["problem"]
    assert running.broker.sent_of(FrameClass.CMD) == []


def test_an_approver_gets_their_block_of_the_signers_settings(folder: Path) -> None:
    own = Ed25519SigningKey.generate()
    key = folder / "own.key"
    key.touch(mode=0o600)
    key.write_bytes(build_key(own.handle))

    done = freefloat("signer", "approver", key, "--name", "anna")

    (folder / "signer.toml").write_text(
        f'[fleet]\ndirectory = "f"\n[socket]\npath = "s"\n{done.stdout}'
    )
    found = load_signer_settings(folder / "signer.toml")
    assert approvers_of(found.approver)[own.key_id].name == "anna"
    (folder / "signer.toml").write_text(
        '[fleet]\ndirectory = "f"\n[socket]\npath = "s"\n'
        f'[[approver]]\nname = "a"\npublic_key = "{"05" * 33}"\n'
    )
    with pytest.raises(SettingsError, match="approver a is none"):
        load_signer_settings(folder / "signer.toml")
