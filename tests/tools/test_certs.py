"""``freefloat certs`` as an operator meets it, run as a real process."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.tools.command_line import SOURCES, freefloat, require_clear_failure
from tools import certs as certs_command


def files_below(path: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


def test_a_fleet_is_made_in_the_default_place_and_the_next_steps_are_told(
    tmp_path: Path,
) -> None:
    done = freefloat("certs", "init", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert (tmp_path / "fleet" / "fleet.json").exists()
    for part in ("ca/root.key", "trust/root-1.key", "freefloat certs issue fleet"):
        assert part in done.stdout
    assert "\x1b" not in done.stdout, "colour without a terminal"


def test_vehicles_are_issued_and_shown(tmp_path: Path) -> None:
    freefloat("certs", "init", cwd=tmp_path)

    issued = freefloat("certs", "issue", "--count", "12", cwd=tmp_path)
    shown = freefloat("certs", "show", cwd=tmp_path)

    assert issued.returncode == 0, issued.stderr
    assert "12 vehicles issued" in issued.stdout
    assert "and 2 more" in issued.stdout
    assert shown.returncode == 0, shown.stderr
    assert "12 registered" in shown.stdout
    assert "issuing CA" in shown.stdout
    assert "belongs offline: ca/root.key" in shown.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_long_issuing_that_is_ended_leaves_whole_cars_and_goes_on(
    tmp_path: Path, number: signal.Signals
) -> None:
    freefloat("certs", "init", cwd=tmp_path)
    command = ("certs", "issue", "fleet", "--total", "500")
    process = subprocess.Popen(
        (sys.executable, "-m", "tools.cli", *command),
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(SOURCES)},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    registry, cars = tmp_path / "fleet/registry", tmp_path / "fleet/vehicles"
    while len(list(registry.glob("*.json"))) < 3 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    before = {path.stem for path in registry.glob("*.json")}
    more = len(before) + 4

    again = freefloat("certs", "issue", "fleet", "--total", str(more), cwd=tmp_path)
    last = freefloat("certs", "issue", "fleet", "--total", str(more), cwd=tmp_path)

    assert process.returncode == 1
    assert f"stopped: {len(before)} of 500" in said
    after = {path.stem for path in registry.glob("*.json")}
    assert before < after
    assert len(after) == more
    # No car is registered whose keys are not there, and no keys lie about.
    assert {path.name for path in cars.iterdir()} == after
    assert "4 vehicles issued" in again.stdout
    assert "nothing to issue" in last.stdout
    assert (again.returncode, last.returncode) == (0, 0)


def test_a_long_issuing_says_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certs_command, "PROGRESS_S", 0.0)
    CliRunner().invoke(certs_command.certs, ["init", str(tmp_path / "f")])
    done = CliRunner().invoke(
        certs_command.certs, ["issue", str(tmp_path / "f"), "--total", "3"]
    )

    assert re.findall(r"(\d of 3), \d s left", done.stderr) == ["1 of 3", "2 of 3"]


def test_json_output_is_one_document(tmp_path: Path) -> None:
    made = json.loads(
        freefloat(
            *("certs", "init", "--name", "Pilot", "--host", "192.0.2.7", "--json"),
            cwd=tmp_path,
        ).stdout
    )
    issued = json.loads(
        freefloat("certs", "issue", "--count", "2", "--json", cwd=tmp_path).stdout
    )
    shown = json.loads(freefloat("certs", "show", "--json", cwd=tmp_path).stdout)

    assert made["name"] == "Pilot"
    assert made["keep_offline"][0] == "ca/root.key"
    ids = {vehicle["vehicle_id"] for vehicle in issued["vehicles"]}
    assert ids == {item["name"] for item in shown["vehicles"]}
    for vehicle in issued["vehicles"]:
        assert (tmp_path / vehicle["directory"] / "vehicle.json").exists()
    assert shown["fleet_id"] == made["fleet_id"]
    assert shown["problems"] == []


def test_no_command_prints_a_key(tmp_path: Path) -> None:
    # K2
    said = [
        freefloat("certs", *arguments, cwd=tmp_path)
        for arguments in (
            ["init"],
            ["issue"],
            ["issue", "--json"],
            ["show"],
            ["show", "--json"],
            ["init"],
        )
    ]
    output = "".join(done.stdout + done.stderr for done in said)

    keys = [data for name, data in files_below(tmp_path).items() if ".key" in name]
    assert len(keys) == 17
    for key in keys:
        assert key.splitlines()[1].decode() not in output
    assert "PRIVATE KEY" not in output


def test_a_second_init_fails_and_changes_no_byte(tmp_path: Path) -> None:
    freefloat("certs", "init", cwd=tmp_path)
    freefloat("certs", "issue", cwd=tmp_path)
    before = files_below(tmp_path)

    done = freefloat("certs", "init", cwd=tmp_path)

    require_clear_failure(
        done, "fleet holds a fleet already", "freefloat certs issue fleet"
    )
    assert files_below(tmp_path) == before


@pytest.mark.parametrize("command", ["issue", "show"])
def test_a_missing_directory_says_how_to_make_one(command: str, tmp_path: Path) -> None:
    done = freefloat("certs", command, "nowhere", cwd=tmp_path)

    require_clear_failure(
        done, "nowhere holds no fleet", "freefloat certs init nowhere"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["issue", "show"])
def test_a_directory_without_a_fleet_says_so(command: str, tmp_path: Path) -> None:
    require_clear_failure(
        freefloat("certs", command, tmp_path), "there is no fleet.json in it"
    )


def test_a_damaged_fleet_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "fleet.json").write_text("{")

    require_clear_failure(freefloat("certs", "show", tmp_path), "fleet.json")


def test_a_missing_parent_directory_says_what_to_make(tmp_path: Path) -> None:
    done = freefloat("certs", "init", tmp_path / "a" / "b")

    require_clear_failure(done, "is no directory", "mkdir -p")


def test_a_file_in_the_way_says_so(tmp_path: Path) -> None:
    (tmp_path / "fleet").write_text("dear")

    require_clear_failure(freefloat("certs", "init", cwd=tmp_path), "is no directory")
    assert (tmp_path / "fleet").read_text() == "dear"


def test_a_directory_that_may_not_be_written_says_so(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    # Root may write everywhere, so it becomes somebody else once all is imported.
    program = (
        "import os, sys\n"
        "import tools.certs, tools.cli\n"
        "if os.geteuid() == 0:\n"
        "    os.setuid(65534)\n"
        "sys.exit(tools.cli.run(['certs', 'init', 'closed/fleet']))\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    require_clear_failure(done, "permission denied", "owner and mode")
    assert list(closed.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [
        "CAR1/cmd",
        "2ikz3icpo6wdlgq2qwqyyj2c4e",
        "2IKZ3ICPO6WDLGQ2QWQYYJ2C4B",
        "+",
        "",
    ],
)
def test_a_bad_vehicle_id_is_refused_before_anything_is_made(
    text: str, tmp_path: Path
) -> None:
    # L7
    freefloat("certs", "init", cwd=tmp_path)
    before = files_below(tmp_path)

    done = freefloat("certs", "issue", "--vehicle-id", text, cwd=tmp_path)

    require_clear_failure(done, "26 characters", "leave --vehicle-id out")
    assert files_below(tmp_path) == before


def test_an_id_that_is_taken_says_so(tmp_path: Path) -> None:
    freefloat("certs", "init", cwd=tmp_path)
    taken = "2IKZ3ICPO6WDLGQ2QWQYYJ2C4E"
    freefloat("certs", "issue", "--vehicle-id", taken, cwd=tmp_path)

    done = freefloat("certs", "issue", "--vehicle-id", taken, cwd=tmp_path)

    require_clear_failure(done, "is registered already")


def test_count_and_ids_exclude_each_other(tmp_path: Path) -> None:
    done = freefloat(
        *("certs", "issue", "--count", "2"),
        *("--vehicle-id", "2IKZ3ICPO6WDLGQ2QWQYYJ2C4E"),
        cwd=tmp_path,
    )

    require_clear_failure(done, "exclude one another")


@pytest.mark.parametrize(
    "option", [("--name", "a,O=b"), ("--host", "*"), ("--host", "mqtt://x")]
)
def test_a_bad_name_or_host_says_what_to_give(
    option: tuple[str, str], tmp_path: Path
) -> None:
    done = freefloat("certs", "init", *option, cwd=tmp_path)

    require_clear_failure(done, "give ")
    assert list(tmp_path.iterdir()) == []


def test_something_wrong_in_a_fleet_is_shown_and_fails(tmp_path: Path) -> None:
    freefloat("certs", "init", cwd=tmp_path)
    key = tmp_path / "fleet" / "signer" / "command-1.key"
    key.chmod(0o644)

    done = freefloat("certs", "show", cwd=tmp_path)

    assert done.returncode == 1
    assert "chmod 600" in done.stderr
    assert "1 problems and 0 expired" in done.stderr
    assert "Traceback" not in done.stderr
    assert "issuing CA" in done.stdout
