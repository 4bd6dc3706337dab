"""Every scenario by its name on the fast form, and verdicts that can fail."""

import json
import re
from pathlib import Path

import pytest

from bridge.orders import KINDS
from firmware_emulator import virtual_time
from firmware_emulator.backend import Backend, Fields
from firmware_emulator.customer import Customer
from firmware_emulator.errors import ScriptError
from firmware_emulator.memory_stage import memory_stage
from firmware_emulator.saying import Stage
from firmware_emulator.scenario import (
    CarSettings,
    Scenario,
    parse_family,
    scenarios,
)
from firmware_emulator.scenario_run import StepSeen, Verdict, perform
from firmware_emulator.spoken import say
from protocol.codes import ConfigKind
from tools.cli import run
from tools.scenario_stage import broker_stage

ROOT = Path(__file__).parents[2]


def played(scenario: Scenario, directory: Path) -> list[StepSeen | Verdict]:
    """Perform a scenario in memory and return all that was told."""

    async def main() -> list[StepSeen | Verdict]:
        async with memory_stage(directory, scenario.car) as stage:
            return [seen async for seen in perform(scenario, stage)]

    return virtual_time.run(main())


def verdict_of(told: list[StepSeen | Verdict]) -> Verdict:
    """The last thing told."""
    assert isinstance(told[-1], Verdict)
    return told[-1]


@pytest.mark.parametrize("name", scenarios())
def test_each_scenario_comes_about_by_its_name(name: str, tmp_path: Path) -> None:
    """F1 to F16 as far as the car is concerned; each file names what it shows."""
    verdict = verdict_of(played(scenarios()[name], tmp_path))

    assert verdict.failed == ()
    assert verdict.passed
    assert verdict.checks > 0


def test_the_manual_says_which_scenarios_show_each_sequence() -> None:
    """F1 to F16."""
    manual = (ROOT / "docs" / "test-engineers.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (F\d+) \| [^|]+ \| ([^|]+) \|$", manual, re.MULTILINE)
    told = {number: re.findall("`([^`]+)`", names) for number, names in rows}

    assert told == {
        f"F{number}": [
            each.name for each in scenarios().values() if f"F{number}" in each.shows
        ]
        for number in range(1, 17)
    }
    assert all(told.values())


@pytest.mark.parametrize("name", ["offline-reserved", "end-by-app", "handover-offered"])
def test_frames_are_told_in_the_order_in_which_the_car_sent_them(
    name: str, tmp_path: Path
) -> None:
    """F6, F11, F15: as on one connection, also when many wait for the link."""
    told = played(scenarios()[name], tmp_path)

    steps = [seen for seen in told if isinstance(seen, StepSeen)]
    frames = [frame for step in steps for frame in step.frames]
    sent = {
        "offline-reserved": [
            *("> AccessGranted", "> RentalStarted", "> CleanlinessRated"),
            *("> InspectionDone", "> PinAccepted", "> EngineReleased"),
            "> EngineStarted",
        ],
        "end-by-app": ["< LOCK", "> RentalEnded", "> Result OK"],
        "handover-offered": [
            *("> HandoverDone", "> RentalEnded", "> RentalStarted"),
            *("> PinAccepted", "> EngineReleased"),
        ],
    }[name]
    assert frames[-len(sent) :] == sent
    # What the car tells of its start belongs to no step.
    assert (steps[0].at_ms, steps[0].frames[0]) == (0, "< RESERVE")
    assert "> AgentStarted" not in frames


PLANTED = """
[planted]
title = "A card that nobody knows is said to open the car"
shows = ["I-12"]
steps = '''
fleet reserve
  expect light yellow
stranger               # a stranger's card
  expect entry CardRefused
  expect unlocked
  expect light red
tap
  expect unlocked
'''
"""


def test_a_wrong_expectation_fails_with_its_name_and_stops_the_story(
    tmp_path: Path,
) -> None:
    """I-12: the verdict is of what was seen and not of what was hoped."""
    told = played(parse_family("planted", PLANTED)["planted"], tmp_path)

    verdict = verdict_of(told)
    assert not verdict.passed
    (failed,) = verdict.failed
    assert failed.startswith("expect unlocked: waited")
    assert (verdict.checks, verdict.not_reached) == (3, 2)
    steps = [seen for seen in told if isinstance(seen, StepSeen)]
    assert [seen.passed for seen in steps] == [True, False]


SENT = """
[planted]
title = "What came to the fleet is looked at, and not its name alone"
shows = ["F11"]
steps = '''
sky on
wait 60
  expect sent Telemetry mode=available latitude_e7>=480000000
fleet reserve
  expect sent Result OK
tap
  expect sent EventPlace accuracy_dm=30
wait 6
tap
  expect sent RentalEnded distance_m=1
'''
"""


def test_what_came_to_the_fleet_may_say_something_else_than_expected(
    tmp_path: Path,
) -> None:
    """F2, F11: a report of the right name with a wrong number fails the story."""
    told = played(parse_family("planted", SENT)["planted"], tmp_path)

    verdict = verdict_of(told)
    (failed,) = verdict.failed
    assert failed.startswith("expect sent RentalEnded distance_m=1: waited")
    assert verdict.checks == 4


def test_what_must_never_come_and_comes_fails_too(tmp_path: Path) -> None:
    """The other half of an expectation can fail as well."""
    text = PLANTED.replace("  expect unlocked\n", "  never light red blinking\n", 1)
    told = played(parse_family("planted", text)["planted"], tmp_path)

    (failed,) = verdict_of(told).failed
    assert failed.startswith("never light red blinking: this came about")


def test_a_deed_that_is_impossible_fails_as_a_deed(tmp_path: Path) -> None:
    """Nobody starts the engine of a locked car."""
    text = PLANTED.replace("stranger ", "start ", 1)
    told = played(parse_family("planted", text)["planted"], tmp_path)

    verdict = verdict_of(told)
    assert "nobody sits at the wheel" in verdict.failed[0]
    assert (verdict.checks, verdict.not_reached) == (1, 4)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[a]\n", "missing required field"),
        ("not toml", "planted"),
        (PLANTED.replace("expect unlocked", "expect rain"), "line 5: expect"),
        (PLANTED.replace("[planted]", "[Not_A_Name]"), "matching regex"),
        ('[a]\ntitle = "t"\nshows = []\nsteps = "tap"\n', "it expects nothing"),
    ],
)
def test_a_file_that_is_no_family_is_refused_with_the_place(
    text: str, why: str
) -> None:
    """A misspelt scenario is never played half."""
    with pytest.raises(ScriptError, match=why):
        parse_family("planted", text)


# --- the command ----------------------------------------------------------------------


def test_a_scenario_is_played_by_name_and_told_for_people(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """F5: time, who, what, light, frames and the verdict."""
    code = run(["emulate", "scenario", "blink", "--fast"])

    shown = capsys.readouterr().out
    assert code == 0
    assert "taps 'blink' in the app" in shown
    assert "< FLASH_HAZARDS" in shown
    assert "> Result OK" in shown
    assert "ok  expect hazards" in shown
    assert "PASSED  blink: 4 expectations met" in shown


def test_a_verdict_in_json_is_one_document_a_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A program reads the same as a person."""
    code = run(["emulate", "scenario", "blink", "--fast", "--json"])

    documents = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert code == 0
    assert documents[0]["shows"] == ["F5", "C6", "H16"]
    assert documents[-1]["passed"]
    assert documents[-1]["checks"] == 4


@pytest.mark.parametrize(
    ("language", "words", "menu"),
    [
        ("en", "Please enter your PIN", "Continue | Report damage | End the rental"),
        ("de", "Ihre PIN ein", "Weiter | Schaden melden | Miete beenden"),
        ("ru", "Введите ваш PIN-код", "Дальше | Сообщить"),
    ],
)
def test_a_story_is_told_in_the_language_of_its_customer(
    language: str, words: str, menu: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """C9, C11: the display's words, by reservation and by a stored grant."""
    names = ["open-and-start", "offline-grant"]
    run(["emulate", "scenario", *names, "--fast", "--language", language])

    shown = capsys.readouterr().out
    assert words in shown
    assert menu in shown
    assert ("No damage of this car is known" in shown) is (language == "en")


def test_a_scenario_that_fails_has_exit_code_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """I-12: a pipeline sees it."""
    known = parse_family("planted", PLANTED)
    monkeypatch.setattr("tools.scenario.scenarios", lambda: known)

    code = run(["emulate", "scenario", "planted", "--fast"])

    shown = capsys.readouterr().out
    assert code == 1
    assert "FAILED  expect unlocked" in shown
    assert "2 expectations not reached" in shown


def test_all_scenarios_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """The list says what each shows."""
    code = run(["emulate", "scenario", "--list"])

    shown = capsys.readouterr().out
    assert code == 0
    assert all(name in shown for name in scenarios())


def test_an_unknown_name_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """What to do next is said too."""
    code = run(["emulate", "scenario", "flying", "--fast"])

    errors = capsys.readouterr().err
    assert code != 0
    assert "no scenario 'flying'" in errors
    assert "--list" in errors


def test_the_run_in_the_manual_is_what_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """docs/test-engineers.md shows a real run, to the last letter."""
    manual = (ROOT / "docs" / "test-engineers.md").read_text("utf-8")
    (printed,) = re.findall(r"```text\n(boot-open:.*?)```", manual, flags=re.DOTALL)

    run(["emulate", "scenario", "boot-open", "--fast"])

    assert capsys.readouterr().out == printed


@pytest.mark.broker
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", ["blink", "technician"])
async def test_a_scenario_comes_about_over_a_real_broker_and_bridge_too(
    name: str, tmp_path: Path
) -> None:
    """F5, F6, C9, C11: the same story by TLS, MQTT and the bridge's API."""
    scenario = scenarios()[name]

    async with broker_stage(tmp_path / "rig", scenario.car, 1) as stage:
        told = [seen async for seen in perform(scenario, stage)]

    assert verdict_of(told).failed == ()
    assert verdict_of(told).passed


class Listening(Backend):
    """A backend that only notes what is ordered."""

    def __init__(self) -> None:
        self.frames = []
        self.kinds: set[str] = set()

    async def reserve(self, _customer: Customer, _fields: Fields) -> str:
        self.kinds.add("reserve")
        return "ok"

    async def order(self, kind: str, _fields: Fields) -> str:
        self.kinds.add(kind)
        return "ok"

    async def configure(self, _kind: ConfigKind, _body: bytes) -> None:
        pass


async def test_what_scenarios_order_is_an_order_of_the_bridge_too(
    tmp_path: Path,
) -> None:
    """Every story comes about over a real bridge, by its own name."""
    listening = Listening()
    async with memory_stage(tmp_path, CarSettings()) as stage:
        heard = Stage(stage.vehicle, stage.customer, listening)
        for scenario in scenarios().values():
            for line in scenario.steps:
                if line.who == "fleet":
                    await say(line, heard)

    assert {"grant", "payment_decision", "service"} <= listening.kinds
    assert listening.kinds <= set(KINDS.values())
