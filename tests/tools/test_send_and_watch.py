"""`freefloat send` and `freefloat watch` against a real system."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from protocol.codes import FrameClass
from tests.tools.command_line import PYTHON, SOURCES
from tools.rig import Rig, open_rig

pytestmark = [pytest.mark.broker, pytest.mark.timeout(90)]


class Done(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with open_rig(tmp_path / "rig", cars=2, broker="nats") as system:
        async with asyncio.timeout(20):
            for car in system.cars:
                vehicle_id = str(car.vehicle_id)
                while not await is_online(system, vehicle_id):  # noqa: ASYNC110 - asked
                    await asyncio.sleep(0.05)
        yield system


async def is_online(rig: Rig, vehicle_id: str) -> bool:
    listed = await run(rig, "send", "list", "--json")
    assert listed.code == 0, listed.err
    return any(v["id"] == vehicle_id and v["online"] for v in json.loads(listed.out))


async def start(rig: Rig, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *PYTHON,
        *arguments,
        env={
            **os.environ,
            "PYTHONPATH": str(SOURCES),
            "FREEFLOAT_API": rig.bridge.api_url,
            "FREEFLOAT_API_KEY_FILE": str(rig.api_key_file),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def run(rig: Rig, *arguments: str) -> Done:
    process = await start(rig, *arguments)
    out, err = await asyncio.wait_for(process.communicate(), 40)
    assert process.returncode is not None
    return Done(process.returncode, out.decode(), err.decode())


async def test_an_order_is_done_only_with_the_cars_signed_word(rig: Rig) -> None:
    # I-11, C2, C8
    car = rig.cars[0]
    name = str(car.vehicle_id)[:8]

    reserved = await run(
        rig, "send", "reserve", name, "--card", "04a1b2c3d4e5f6", "--pin", "2468"
    )
    unlocked = await run(rig, "send", "unlock", name, "--json")
    told = json.loads(unlocked.out)

    assert reserved.code == 0, reserved.err
    assert "succeeded" in reserved.out
    assert "2468" not in reserved.out + reserved.err
    assert (unlocked.code, told["state"], told["code"]) == (0, "succeeded", "ok")
    assert told["frames"]["result"]
    assert not car.devices.car.locked


async def test_a_refusal_ends_with_1_and_says_why(rig: Rig) -> None:
    name = str(rig.cars[0].vehicle_id)

    refused = await run(rig, "send", "unlock", name, "--rental", "ab" * 16)

    assert refused.code == 1
    assert "rejected" in refused.out
    assert "wrong_rental" in refused.out


async def test_a_bad_order_names_the_field(rig: Rig) -> None:
    name = str(rig.cars[0].vehicle_id)

    refused = await run(rig, "send", "reserve", name, "--pin", "abcd")

    assert refused.code == 1
    assert refused.err.splitlines() == [
        "error: the bridge says no: pin: must be 4 to 8 digits",
        "  nothing was done; correct the value and repeat",
    ]


async def test_an_unknown_car_and_an_ambiguous_one_are_told_apart(rig: Rig) -> None:
    unknown = await run(rig, "send", "show", "ZZZZZZ")
    ambiguous = await run(rig, "send", "show", "")

    assert unknown.code == ambiguous.code == 1
    assert "no vehicle's id begins with" in unknown.err
    assert "2 vehicles' ids begin with" in ambiguous.err


async def test_a_wrong_key_is_told_with_what_to_do(rig: Rig, tmp_path: Path) -> None:
    key_file = tmp_path / "wrong.key"
    key_file.write_text("x" * 40 + "\n")
    key_file.chmod(0o600)

    refused = await run(rig, "send", "--api-key-file", str(key_file), "list")

    assert refused.code == 1
    assert "--api-key-file" in refused.err


async def test_a_car_and_its_state_are_shown_with_their_times(rig: Rig) -> None:
    name = str(rig.cars[0].vehicle_id)

    listed = await run(rig, "send", "list")
    shown = await run(rig, "send", "show", name)

    assert name in listed.out
    assert "available" in listed.out
    assert "observed" in shown.out


async def test_watching_prints_each_frame_with_the_verdict_on_its_signature(
    rig: Rig,
) -> None:
    # K6: the line says what the signature proves, not what the topic claims
    car = rig.cars[0]
    watching = await start(
        rig,
        "watch",
        "--fleet",
        str(rig.fleet.path),
        "--broker",
        f"{rig.broker.host}:{rig.broker.port}",
        "--vehicle",
        str(car.vehicle_id)[:10],
        "--class",
        "cmd",
        "--class",
        "result",
        "--count",
        "2",
        "--json",
    )
    # The watcher prints nothing until a frame passes: ping until it has seen two.
    seen = asyncio.Event()
    pings = asyncio.create_task(_ping_until(seen, rig, str(car.vehicle_id)))
    out, err = await asyncio.wait_for(watching.communicate(), 40)
    seen.set()
    await pings

    lines = [json.loads(line) for line in out.decode().splitlines()]
    assert watching.returncode == 0, err.decode()
    assert len(lines) == 2
    verdicts = {line["topic"].rsplit("/", 1)[1]: line["verdict"] for line in lines}
    assert verdicts == {
        FrameClass.CMD.label: "to the car",
        FrameClass.RESULT.label: "signed",
    }


async def _ping_until(seen: asyncio.Event, rig: Rig, vehicle_id: str) -> None:
    while not seen.is_set():
        await run(rig, "send", "ping", vehicle_id)
