"""What an emulated car records, read with the tools that read a real car's."""

import json
from pathlib import Path

import pytest

from tools.cli import run

STORY = "boot-open"


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory into which one story in memory was recorded."""
    place = tmp_path_factory.mktemp("recorded") / "seen"
    code = run(
        ["emulate", "scenario", STORY, "--fast", "--recordings", str(place), "--json"]
    )
    assert code == 0
    return place


def test_a_recorded_story_decides_the_same_again(
    recordings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A test engineer replays what an emulated car was told (ADR 17)."""
    code = run(["gateway", "replay", str(recordings / STORY), "--json"])

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    steps = [line for line in lines if "happened" in line]
    assert code == 0
    assert len(steps) > 10
    assert all(step["same"] for step in steps)


def test_a_recorded_story_says_why_a_tap_did_not_end_the_rental(
    recordings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """H20: the boot was open and the key was gone when the first tap wished to end."""
    where = str(recordings / STORY)
    code = run(["gateway", "explain", "tap", where, "--last", "2", "--json"])

    refused, granted = (
        json.loads(line) for line in capsys.readouterr().out.splitlines()
    )
    assert code == 0
    assert any("boot" in reason for reason in refused["because"]), refused
    assert any("lock" in deed for deed in granted["did"]), granted


def test_a_recording_is_not_mixed_with_an_older_one(
    recordings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted((recordings / STORY).iterdir())

    code = run(
        ["emulate", "scenario", STORY, "--fast", "--recordings", str(recordings)]
    )

    assert code != 0
    assert "exists already" in capsys.readouterr().err
    assert sorted((recordings / STORY).iterdir()) == before
