"""`freefloat ping` against a real system: each hop, and the one that is missing."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.tools.test_send_and_watch import is_online, run
from tools.ping import Pong, _show, percentile
from tools.rig import open_rig


@pytest.mark.broker
@pytest.mark.timeout(180)
async def test_a_ping_names_each_hop_and_the_one_that_is_missing(
    tmp_path: Path,
) -> None:
    """I-33, FF-DIA-03: answered; the board mute; the car without a link."""
    async with open_rig(tmp_path / "rig", cars=1, broker="nats") as rig:
        [car] = rig.cars
        name = str(car.vehicle_id)
        async with asyncio.timeout(60):
            while not await is_online(rig, name):  # noqa: ASYNC110 - asked
                await asyncio.sleep(0.05)

        well = await run(rig, "ping", name, "--count", "2", "--json")
        car.devices.board.cable_cut = True
        mute = await run(rig, "ping", name)
        car.devices.board.cable_cut = False
        car.cut_link()
        async with asyncio.timeout(60):
            while await is_online(rig, name):  # noqa: ASYNC110 - asked
                await asyncio.sleep(0.05)
        offline = await run(rig, "ping", name)

    told = json.loads(well.out)
    assert well.code == 0, well.err
    assert [pong["missing"] for pong in told["pongs"]] == [[], []]
    for pong in told["pongs"]:
        assert {"requested", "signed", "published"} <= set(pong["bridge_ms"])
        assert set(pong["car_ms"]) == {"committed", "board", "reader", "signed"}
        assert pong["stored_ms"] >= 0
    assert told["summary"]["car.board"]["count"] == 2
    assert mute.code == 1
    assert "no answer from board" in mute.err
    assert offline.code == 1
    assert "is offline" in offline.err


def test_hops_that_a_quick_car_passes_by_are_no_line_and_a_silent_one_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    # I-33: "0 answers" beside an exit code of 0 looked like a hop that is missing
    quick = {"requested": 0, "signed": 1, "published": 2, "succeeded": 9}
    well: dict[str, int | None] = {"committed": 1, "board": None, "signed": 4}

    _show("A", [Pong("succeeded", quick, well, 10)])

    said = capsys.readouterr().out
    assert "car has it" not in said
    assert [line.split()[-4:] for line in said.splitlines() if "board" in line] == [
        ["0", "-", "-", "-"]
    ]


def test_percentiles_are_of_what_was_measured() -> None:
    times = list(range(1, 101))

    assert (percentile(times, 50), percentile(times, 99)) == (50, 99)
    assert percentile([7], 99) == 7


def test_a_ping_without_its_own_times_misses_them() -> None:
    assert Pong("succeeded", {}, {}, None).missing == ["the car's own times"]
    assert Pong("timed_out", {}, {}, None).missing == ["car"]
