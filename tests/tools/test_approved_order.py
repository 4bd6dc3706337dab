"""Who approves an order is told how it ended, car by car (K28, I-11)."""

import asyncio
import json
import subprocess
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bridge.api.keys import Role
from bridge.commands import CommandState
from bridge.settings import ApprovalSettings
from protocol.codes import Code, Executed, FrameClass
from protocol.topic import parse_topic
from tests.bridge.car import Car
from tests.bridge.conftest import make_fleet
from tests.bridge.running import Running, until
from tests.bridge.test_roles import KEY, ask, bridge_with_roles
from tests.bridge.world import BOOT_MS
from tests.tools.command_line import freefloat
from tools.approved_order import Ending, Fate, counts_of, exit_code_of

pytestmark = pytest.mark.broker

HOLD = {"kind": "engine_hold", "rental_id": None, "reason": "operator"}
Done = subprocess.CompletedProcess[str]


@dataclass
class Desk:
    """Cars at a bridge, and who approves on the command line."""

    running: Running
    cars: list[Car]
    folder: Path

    async def asked(self, cars: list[Car]) -> str:
        body = {"vehicle_ids": [str(car.id) for car in cars], "order": HOLD}
        _, approval = await ask(
            self.running, Role.OPERATOR, "post", "/v1/approvals", body
        )
        return str(approval["id"])

    async def say(self, verb: str, approval: str, *words: str) -> Done:
        key = self.folder / "approver.key"
        key.touch(mode=0o600)
        key.write_text(KEY[Role.APPROVER])
        to = ("--api", self.running.bridge.api_url, "--api-key-file", key)
        return await asyncio.to_thread(
            freefloat, "bridge", "approvals", verb, approval, *to, *words
        )

    async def hello(self, car: Car) -> None:
        message = self.running.broker.deliver(car.topic(FrameClass.HELLO), car.hello())
        await message.is_done.wait()

    def ordered(self, car: Car) -> list[bytes]:
        """Return what was sent to a car, each frame once."""
        sent = [
            payload
            for topic, payload in self.running.broker.sent
            if parse_topic(topic).vehicle_id == car.id
            and parse_topic(topic).frame_class is FrameClass.CMD
        ]
        return list(dict.fromkeys(sent))

    async def answer(self, car: Car, code: Code, executed: Executed) -> None:
        await until(lambda: bool(self.ordered(car)))
        [frame] = self.ordered(car)
        result = car.result(frame, code, executed=executed)
        topic = car.topic(FrameClass.RESULT)
        await self.running.broker.deliver(topic, result).is_done.wait()


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    fleet = make_fleet(tmp_path / "four", 4)
    cars = [
        Car(fleet.vehicle_directory(vehicle_id), boot_ms=lambda: BOOT_MS)
        for vehicle_id in fleet.vehicle_ids()
    ]
    async with bridge_with_roles(
        fleet, tmp_path, approvals=ApprovalSettings()
    ) as running:
        yield Desk(running, cars, tmp_path)


async def test_cars_that_did_it_refused_and_are_unknown_are_told_apart(
    desk: Desk,
) -> None:
    # K28, I-11: of each car what it signed, and "unknown" where it signed nothing
    does, refuses, silent, offline = desk.cars
    for car in (does, refuses, silent):
        await desk.hello(car)
    approval = await desk.asked(desk.cars)

    approved, _, _ = await asyncio.gather(
        desk.say("approve", approval, "--wait", "4"),
        desk.answer(does, Code.OK, Executed.YES),
        desk.answer(refuses, Code.VEHICLE_MOVING, Executed.NO),
    )
    shown = await desk.say("show", approval, "--wait", "0", "--json")

    of_car = {line.split()[0]: line for line in approved.stdout.splitlines()}
    assert "did it   succeeded  ok" in of_car[str(does.id)]
    assert "refused  rejected   vehicle_moving" in of_car[str(refuses.id)]
    assert "unknown  published" in of_car[str(silent.id)]
    assert "refused  not given" in of_car[str(offline.id)]
    assert "offline" in of_car[str(offline.id)]
    told = [line.split() for line in approved.stdout.splitlines()[-4:]]
    assert told[0] == ["did", "it", "1", "car"]
    assert told[1:3] == [["refused", "2", "cars"], ["unknown", "1", "car"]]
    assert "do not order it again" in " ".join(told[3])
    assert (approved.returncode, shown.returncode) == (1, 1), approved.stderr
    document = json.loads(shown.stdout)
    assert document["summary"] == {
        **dict.fromkeys(("failed", "waiting"), 0),
        "did_it": 1,
        "refused": 2,
        "unknown": 1,
    }
    assert [one["vehicle_id"] for one in document["results"]] == [
        str(car.id) for car in desk.cars
    ]


async def test_the_wait_is_over_as_soon_as_every_car_has_done_it(desk: Desk) -> None:
    [car] = desk.cars[:1]
    await desk.hello(car)
    approval = await desk.asked([car])
    begun = time.monotonic()

    done, _ = await asyncio.gather(
        desk.say("approve", approval, "--wait", "600"),
        desk.answer(car, Code.OK, Executed.YES),
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert time.monotonic() - begun < 25  # the process is killed after 30 s


async def test_who_does_not_wait_is_told_what_was_given_and_no_more(
    desk: Desk,
) -> None:
    [car] = desk.cars[:1]
    await desk.hello(car)
    approval = await desk.asked([car])

    pending = await desk.say("show", approval)
    done = await desk.say("approve", approval, "--no-wait")
    later = await desk.say("show", approval, "--wait", "0")

    assert (pending.returncode, "pending" in pending.stdout) == (3, True)
    assert (done.returncode, "did it" in done.stdout) == (0, False)
    assert str(car.id) in done.stdout
    assert later.returncode == 3
    assert "unknown     1 car" in later.stdout


async def test_a_bridge_that_stops_meanwhile_leaves_no_doubt_that_it_was_approved(
    tmp_path: Path,
) -> None:
    fleet = make_fleet(tmp_path / "one", 1)
    async with bridge_with_roles(
        fleet, tmp_path, approvals=ApprovalSettings()
    ) as running:
        desk = Desk(running, [running.car], tmp_path)
        await desk.hello(running.car)
        approval = await desk.asked([running.car])
        waits = asyncio.create_task(desk.say("approve", approval))
        await until(lambda: bool(desk.ordered(running.car)))
    done = await waits

    assert f"approval {approval}  approved" in done.stdout
    assert done.returncode == 1
    assert "goes on" in done.stderr
    assert f"approvals show {approval}" in done.stderr


STATES = [
    (CommandState.SUCCEEDED, Fate.DID_IT, 0),
    (CommandState.REJECTED, Fate.REFUSED, 1),
    (CommandState.EXPIRED, Fate.REFUSED, 1),
    (CommandState.SUPERSEDED, Fate.REFUSED, 1),
    (CommandState.CANCELLED, Fate.REFUSED, 1),
    (CommandState.FAILED, Fate.FAILED, 1),
    (CommandState.PARTIAL, Fate.FAILED, 1),
    (CommandState.DEFERRED, Fate.WAITING, 3),
    (CommandState.INDETERMINATE, Fate.UNKNOWN, 3),
    (CommandState.TIMED_OUT, Fate.UNKNOWN, 3),
    (CommandState.REQUESTED, Fate.UNKNOWN, 3),
    (CommandState.SIGNED, Fate.UNKNOWN, 3),
    (CommandState.PUBLISHED, Fate.UNKNOWN, 3),
    (CommandState.RECEIVED, Fate.UNKNOWN, 3),
    (CommandState.ACCEPTED, Fate.UNKNOWN, 3),
    (CommandState.UNDER_WAY, Fate.UNKNOWN, 3),
]


@pytest.mark.parametrize(("state", "fate", "code"), STATES)
def test_every_state_of_a_command_is_counted_as_what_is_known(
    state: CommandState, fate: Fate, code: int
) -> None:
    # I-11
    done = Ending("A", "0" * 32, "succeeded", "ok", "")
    endings = [done, Ending("B", "1" * 32, state, None, "")]

    assert endings[1].fate is fate
    assert exit_code_of(endings) == code
    assert counts_of(endings)[fate] == (2 if fate is Fate.DID_IT else 1)


def test_every_state_that_there_is_was_tried() -> None:
    assert {state for state, _, _ in STATES} == set(CommandState)
