"""``freefloat emulate`` as a user calls it: what it refuses, and a script it plays."""

from datetime import timedelta
from pathlib import Path

import pytest

from certs.fleet import FleetDirectory
from certs.vehicle import issue_vehicles, random_vehicle_id
from tools.cli import run
from tools.clock import wall_clock

NOBODY = "127.0.0.1:1"
"""A port at which nothing listens: a car must live without its broker (I-19)."""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fleet of two cars."""
    now = wall_clock() - timedelta(minutes=1)
    made = FleetDirectory.create(
        tmp_path_factory.mktemp("emulate") / "fleet", name="test", now=now
    )
    issue_vehicles(made, [random_vehicle_id(), random_vehicle_id()], now=now)
    return made.path


def script(tmp_path: Path, *lines: str) -> str:
    path = tmp_path / "script.txt"
    path.write_text("\n".join(lines))
    return str(path)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["car", "--fleet", "nowhere"], "nowhere holds no fleet"),
        (["car", "--card", "04zz"], "--card is no UID"),
        (["car", "--pin", "12a4"], "--pin is no PIN"),
        (["car", "--vehicle", "A1"], "has 0 issued vehicles whose id begins with A1"),
        (["car", "--api", "ftp://x"], "is no address of an API"),
        (["fleet", "--cars", "3"], "has 2 issued vehicles, 3 are wanted"),
        (["fleet", "--cars", "51"], "51 is not in the range"),
        (["fleet", "--minutes", "0"], "0.0 is not in the range"),
        (["fleet", "--broker", "host:99999"], "not HOST:PORT"),
        (["rental"], "no API is named"),
        (["rental", "--api", "http://x", "--api-key-file", "none"], "none"),
    ],
)
def test_what_cannot_be_done_is_said_without_a_traceback(
    fleet: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    command, *rest = arguments
    code = run(["emulate", command, "--fleet", str(fleet), *rest])

    errors = capsys.readouterr().err
    assert code != 0
    assert sentence in errors
    assert "Traceback" not in errors


def test_a_key_file_that_others_can_read_is_refused(
    fleet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = tmp_path / "api.keys"
    keys.write_text("secret-secret-secret-secret\n")
    keys.chmod(0o644)

    code = run(
        [
            "emulate",
            "rental",
            "--fleet",
            str(fleet),
            "--api",
            "http://127.0.0.1:1",
            "--api-key-file",
            str(keys),
        ]
    )

    assert code == 1
    assert "has mode 0644" in capsys.readouterr().err


def test_what_is_no_collector_is_refused(
    fleet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--fleet", str(fleet), "--data", str(tmp_path / "data"))
    lines = script(tmp_path, "expect light green")

    code = run(["emulate", "car", *where, "--script", lines, "--traces", "collector"])

    assert code == 1
    assert "no URL of a collector" in capsys.readouterr().err


def test_a_token_of_the_environment_is_taken_like_everywhere_else(
    fleet: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # K28: one way to open the API for all commands.
    api = ("--fleet", str(fleet), "--api", "http://127.0.0.1:1")
    monkeypatch.setenv("FREEFLOAT_TOKEN", "no-token-at-all")

    code = run(["emulate", "rental", *api])

    errors = capsys.readouterr().err
    assert code != 0
    assert "FREEFLOAT_TOKEN holds no token" in errors
    assert "no-token-at-all" not in errors


@pytest.mark.device
def test_a_script_is_a_test_with_an_exit_code(
    fleet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # I-12, I-28: a stranger's card opens nothing; a power cut changes nothing.
    lines = script(
        tmp_path,
        "expect light green",
        "stranger          # refused",
        "expect entry CardRefused",
        "expect locked",
        "power cut",
        "expect entry AgentStarted",
        "expect light green",
    )

    code = run(
        [
            "emulate",
            "car",
            "--fleet",
            str(fleet),
            "--broker",
            NOBODY,
            "--data",
            str(tmp_path / "data"),
            "--script",
            lines,
        ]
    )

    shown = capsys.readouterr().out
    assert code == 0
    assert "ok    stranger\n" in shown
    assert list((tmp_path / "data").glob("*/ledger.db"))
    assert list((tmp_path / "data").glob("*/car.json"))


@pytest.mark.device
def test_a_script_that_does_not_come_about_fails_with_what_was_missing(
    fleet: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("firmware_emulator.spoken_expect.STEP_TIMEOUT_S", 0.3)
    lines = script(tmp_path, "tap", "expect unlocked")

    code = run(
        [
            "emulate",
            "car",
            "--fleet",
            str(fleet),
            "--broker",
            NOBODY,
            "--data",
            str(tmp_path / "data"),
            "--script",
            lines,
        ]
    )

    assert code == 1
    assert "in vain for the doors to be unlocked" in capsys.readouterr().err
