"""`explain`: a command's way hop by hop, and what of it a stranger can check."""

import base64
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from bridge.api.keys import Role
from bridge.commands import CommandRecord
from bridge.evidence import Archive
from bridge.explanation import explanation_of
from bridge.rows.evidence import RentalProof
from bridge.rows.trails import find_trail
from bridge.settings import ApprovalSettings
from certs.fleet import FleetDirectory
from protocol.anchors import EvidenceAnchors
from protocol.codes import Code, Executed, FrameClass, LockMode
from protocol.command import ANY_VERSION, LockAndDisable, Unlock
from protocol.fleet import FleetPart
from tests.bridge.car import RENTAL, sample
from tests.bridge.running import Running, running_bridge
from tests.bridge.test_roles import ask, bridge_with_roles
from tests.bridge.world import NOW_MS, World
from tools.cli import run
from tools.evidence import anchors_of
from tools.explanation_check import Finding, MalformedError, check

UNLOCK: Final = Unlock(RENTAL, ANY_VERSION)
Json = dict[str, Any]


async def explained(world: World, record: CommandRecord) -> Json:
    """Explain a command as the API does, through JSON."""
    trail = await world.store.read(lambda c: find_trail(c, record.command_id))
    assert trail is not None
    path = world.fleet.path
    archive = Archive(
        fleet_id=world.fleet.fleet.fleet_id,
        issuing_certificate=path / FleetPart.ISSUING_CERTIFICATE,
        registry=path / FleetPart.REGISTRY,
        bundles=path / "trust",
    )
    receipt = b"" if trail.receipt is None else trail.receipt.data
    exhibit = archive.exhibit_of(
        RentalProof(world.car.id, trail.entries, receipt, trail.rotations, (), ())
    )
    document: Json = json.loads(json.dumps(explanation_of(trail, exhibit)))
    return document


def anchors(fleet: FleetDirectory) -> EvidenceAnchors:
    return anchors_of(fleet.path)


def hops(document: Json) -> list[str]:
    return [hop["hop"] for hop in document["hops"] if hop["hop"] != "checked"]


def faults(findings: list[Finding]) -> list[str]:
    return [finding.fault for finding in findings if finding.fault]


async def ordered(world: World) -> tuple[CommandRecord, bytes]:
    await world.greet()
    record = await world.order(UNLOCK)
    return record, await world.broker.next_sent(FrameClass.CMD)


async def test_a_command_that_was_done_is_shown_from_order_to_receipt(
    world: World,
) -> None:
    # I-11, K13: each hop says by whom it is shown, and all signatures hold
    record, frame = await ordered(world)
    world.advance(1)
    await world.say(FrameClass.RESULT, world.car.result(frame))
    await world.broker.until_receipted(world.car.head)
    await world.say(FrameClass.TELEM, world.car.telemetry(sample()))

    document = await explained(world, record)
    findings = check(document, anchors(world.fleet))

    assert hops(document) == ["signed", "published", "succeeded", "receipted"]
    shown = {hop["hop"]: hop for hop in document["hops"]}
    assert shown["succeeded"]["after_ms"] == 1_000
    assert shown["succeeded"]["shown_by"] == "signed"
    assert "lane 1, sequence 1" in shown["signed"]["words"]
    assert "of role rental" in shown["signed"]["words"]
    assert {hop["detail"] for hop in document["hops"] if hop["hop"] == "checked"} == {
        *("registered", "online", "not in doubt", "capability", "clock", "trust")
    }
    assert document["snapshot"]["locked"] is True
    assert faults(findings) == []
    assert len(findings) == 5


@pytest.mark.parametrize(
    ("code", "in_ledger", "state"),
    [
        (Code.DOOR_OPEN, False, "rejected"),
        (Code.EXPIRED, False, "expired"),
        (Code.INDETERMINATE_AFTER_REBOOT, True, "indeterminate"),
    ],
)
async def test_a_command_that_was_not_done_shows_the_cars_signed_word(
    world: World, code: Code, in_ledger: bool, state: str
) -> None:
    # I-8, I-11
    record, frame = await ordered(world)
    executed = Executed.MAYBE if in_ledger else Executed.NO
    result = world.car.result(frame, code, executed=executed, in_ledger=in_ledger)
    await world.say(FrameClass.RESULT, result)

    document = await explained(world, record)
    findings = check(document, anchors(world.fleet))

    assert hops(document)[:3] == ["signed", "published", state]
    (told,) = (hop for hop in document["hops"] if hop["hop"] == state)
    assert code.name in told["words"]
    assert faults(findings) == []
    assert "the vehicle signed this result" in {each.what for each in findings}


async def test_a_command_that_is_lost_is_unknown_and_then_settled_by_a_hello(
    world: World,
) -> None:
    # I-11, FF-CMD-29: the hello that proves it is kept with it
    record, _ = await ordered(world)
    world.advance(13)
    await world.dispatcher.sweep()
    lost = await explained(world, record)
    await world.say(FrameClass.HELLO, world.car.hello())
    settled = await explained(world, record)

    assert hops(lost) == ["signed", "published", "timed_out"]
    assert lost["is_final"] is False
    assert lost["proof"]["result"] is None
    assert hops(settled)[-1] == "expired"
    assert settled["hops"][-1]["shown_by"] == "signed"
    assert faults(check(lost, anchors(world.fleet))) == []
    findings = check(settled, anchors(world.fleet))
    assert faults(findings) == []
    assert "the vehicle signed this hello" in {each.what for each in findings}


async def test_a_compound_is_explained_with_its_parts(world: World) -> None:
    await world.greet()
    record = await world.order(LockAndDisable(RENTAL, ANY_VERSION, LockMode.PARK))
    frame = await world.broker.next_sent(FrameClass.CMD)
    refused = world.car.result(frame, Code.DOOR_OPEN, executed=Executed.NO)
    await world.say(FrameClass.RESULT, refused)
    await world.dispatcher.find(record.command_id, wait_s=10)

    document = await explained(world, record)
    lock, hold = document["parts"]

    assert hops(document) == ["under_way", "rejected"]
    assert hops(lock)[:2] == ["begun", "signed"]
    assert hold == {
        "kind": "engine_hold",
        "command_id": hold["command_id"],
        "meaning": "not sent: the part before it was not done",
    }
    assert faults(check(document, anchors(world.fleet))) == []


def _flip(text: str) -> str:
    data = bytearray(base64.b64decode(text))
    data[-1] ^= 1
    return base64.b64encode(data).decode()


def _another_command(document: Json) -> None:
    document["command_id"] = "0" * 32


def _forged(name: str) -> Callable[[Json], None]:
    def forge(document: Json) -> None:
        document["proof"][name] = _flip(document["proof"][name])

    return forge


def _other_fleet(document: Json) -> None:
    document["fleet_id"] = "0" * 32


@pytest.mark.parametrize(
    "forge",
    [
        _another_command,
        _forged("command"),
        _forged("result"),
        _forged("receipt"),
        _other_fleet,
    ],
)
async def test_whatever_is_changed_in_an_explanation_is_found(
    world: World, forge: Callable[[Json], None]
) -> None:
    # K13, K14
    record, frame = await ordered(world)
    await world.say(FrameClass.RESULT, world.car.result(frame))
    await world.broker.until_receipted(world.car.head)
    await world.say(FrameClass.TELEM, world.car.telemetry(sample()))
    document = await explained(world, record)
    forged = copy.deepcopy(document)

    forge(forged)

    assert faults(check(document, anchors(world.fleet))) == []
    assert faults(check(forged, anchors(world.fleet)))


async def test_a_result_of_another_command_proves_nothing(world: World) -> None:
    # K13: signed by the right car, and not an answer to this
    record, frame = await ordered(world)
    await world.say(FrameClass.RESULT, world.car.result(frame))
    other = await world.order(UNLOCK)
    frame = await world.broker.next_sent(FrameClass.CMD)
    await world.say(FrameClass.RESULT, world.car.result(frame))
    document, stranger = await explained(world, record), await explained(world, other)

    document["proof"]["result"] = stranger["proof"]["result"]

    assert "it does not" in faults(check(document, anchors(world.fleet)))


@pytest.mark.parametrize(
    "document", [{}, {"format": "x"}, {"format": "freefloat-explanation-1"}]
)
def test_what_is_no_explanation_is_said_to_be_none(
    fleet: FleetDirectory, document: Json
) -> None:
    with pytest.raises(MalformedError):
        check(document, anchors(fleet))


async def answered(running: Running) -> str:
    """Let an operator order something, and the car do it; return the command's id."""
    await running.say(FrameClass.HELLO, running.car.hello())
    _status, command = await running.order({"kind": "unlock", "rental_id": None})
    frame = await running.broker.next_sent(FrameClass.CMD)
    await running.say(FrameClass.RESULT, running.car.result(frame))
    return str(command["id"])


@pytest.mark.broker
async def test_who_approved_is_shown_with_who_asked(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    # K28
    hold = {"kind": "engine_hold", "rental_id": None}
    async with bridge_with_roles(
        fleet, tmp_path, approvals=ApprovalSettings()
    ) as running:
        await running.say(FrameClass.HELLO, running.car.hello())
        path = f"/v1/vehicles/{running.car.id}/commands"
        _, problem = await ask(running, Role.OPERATOR, "post", path, hold)
        approve = f"/v1/approvals/{problem['approval']['id']}/approve"
        _, approved = await ask(running, Role.APPROVER, "post", approve)
        command_id = approved["outcomes"][0]["command_id"]
        explain = f"/v1/commands/{command_id}/explain"
        _, document = await ask(running, Role.OPERATOR, "get", explain)
        looking, _ = await ask(running, Role.VIEWER, "get", explain)

    assert looking == 403
    assert hops(document)[:4] == ["asked", "answered", "approved", "signed"]
    asked, answered, approved = document["hops"][:3]
    assert asked["words"].startswith("operator, operator, asked: POST")
    assert "409" in answered["words"]
    assert "approver approved what operator asked" in approved["words"]
    told = [(row["who"], row["outcome"][:5]) for row in document["audit"]]
    assert told[:2] == [("operator", "asked"), ("approver", "asked")]
    assert f"audit row {document['audit'][1]['id']}" in approved["detail"]


@pytest.mark.broker
async def test_who_asked_is_shown_and_all_is_checked_offline(
    fleet: FleetDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # K14, K28
    async with running_bridge(fleet, tmp_path) as running:
        command_id = await answered(running)
        status, document = 0, Json()
        while not document or hops(document)[-1] != "answered":
            # what the caller was answered is written down behind the answer
            status, document = await running.get(f"/v1/commands/{command_id}/explain")
        missing, problem = await running.get(f"/v1/commands/{'0' * 32}/explain")
    file = tmp_path / "why.json"
    file.write_text(json.dumps(document))
    offline = ["explain", "--file", str(file), "--fleet", str(fleet.path)]

    code = run(offline)
    shown = capsys.readouterr().out
    as_json = run([*offline, "--json"])
    told = json.loads(capsys.readouterr().out)
    document["audit"][0]["who"] = "somebody else"
    file.write_text(json.dumps(document))
    forged = run(offline)
    accused = capsys.readouterr().out

    assert status == 200
    assert hops(document)[0] == "asked"
    assert hops(document)[-1] == "answered"
    assert "operator" in document["hops"][0]["words"]
    assert (missing, problem["type"]) == (404, "urn:freefloat:problem:unknown-command")
    assert (code, as_json, forged) == (0, 0, 1)
    assert "asked" in shown
    assert "FAILED" not in shown
    assert all(each["holds"] for each in told["checks"])
    assert "FAILED audit row" in accused


@pytest.mark.broker
async def test_an_order_that_waited_for_its_car_is_explained_in_the_order_of_time(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    """It was answered long before it was checked and signed."""
    now = NOW_MS
    async with bridge_with_roles(fleet, tmp_path, now=lambda: now) as running:
        path = f"/v1/vehicles/{running.car.id}/commands?defer_s=600"
        lock = {"kind": "lock", "rental_id": RENTAL.hex()}
        _, command = await ask(running, Role.SERVICE, "post", path, lock)
        now += 5_000
        await running.say(FrameClass.HELLO, running.car.hello())
        await running.broker.next_sent(FrameClass.CMD)
        explain = f"/v1/commands/{command['id']}/explain"
        document = Json()
        while "published" not in hops(document or {"hops": []}):
            _, document = await ask(running, Role.OPERATOR, "get", explain)

    every = [hop["hop"] for hop in document["hops"]]
    assert every == [
        *("asked", "deferred", "answered"),
        *["checked"] * 6,
        *("signed", "published"),
    ]
    assert all(hop["after_ms"] >= 0 for hop in document["hops"][1:])
    shown = [hop["after_ms"] for hop in document["hops"] if hop["hop"] == "checked"]
    assert shown[0] == 5_000
