"""``freefloat gateway`` as an installer meets it, run as a real process."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType

import pytest

from bridge.broker.access import BrokerAccess
from bridge.broker.embedded import EmbeddedBroker
from certs.fleet import FleetDirectory
from certs.profiles import VEHICLE_TLS_LIFETIME
from certs.vehicle import issue_vehicles, random_vehicle_id
from protocol.fleet import FleetPart
from tests.broker.pki import clock
from tests.gateway.hardware.pty_board import PtyBoard, pty_board
from tests.gateway.hardware.simulated_card import card_field
from tests.silent_names import NAME, VARIABLE
from tests.tools.command_line import PYTHON, SOURCES, freefloat, require_clear_failure
from transport.tls import TlsIdentity

NOWHERE = "udp:127.0.0.1:54399"
"""A reader path with nobody behind it: an empty field to nfcpy."""

SETTINGS = """
identity = "vehicle"
data = "data"
[broker]
host = "127.0.0.1"
port = {port}
[reader]
path = "{reader}"
[board]
port = "{board}"
"""


def make_car(directory: Path, *, age: timedelta = timedelta(0)) -> FleetDirectory:
    """Make a fleet of one car; lay the car's directory beside the settings."""
    now = clock() - age
    fleet = FleetDirectory.create(
        directory / "fleet", name="Test Fleet", hosts=("127.0.0.1",), now=now
    )
    vehicle = issue_vehicles(fleet, [random_vehicle_id()], now=now)[0]
    shutil.copytree(fleet.vehicle_directory(vehicle.vehicle_id), directory / "vehicle")
    return fleet


def configure(
    directory: Path,
    *,
    port: int = 1,
    reader: str = NOWHERE,
    board: str = "ttyNONE",
    more: str = "",
) -> Path:
    path = directory / "gateway.toml"
    path.write_text(SETTINGS.format(port=port, reader=reader, board=board) + more)
    return path


@pytest.fixture(scope="module")
def car(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("car")
    make_car(directory)
    return directory


def test_settings_that_do_not_exist_are_named(tmp_path: Path) -> None:
    done = freefloat("gateway", "run", "--config", "car.toml", cwd=tmp_path)

    assert done.returncode == 1
    assert done.stderr.startswith("error: settings file car.toml does not exist")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("brocker = 1\n", "unknown key brocker"),
        ("[broker]\nhost = 'h'\nport = 70000\n", "broker.port is 70000"),
        ("[broker]\nhost = 'h'\nport = 'x'\n", "broker.port is 'x'"),
        ("identity = \n", "not TOML"),
    ],
)
@pytest.mark.parametrize("command", ["run", "check"])
def test_settings_that_cannot_be_used_are_explained(
    tmp_path: Path, command: str, text: str, sentence: str
) -> None:
    complete = SETTINGS.format(port=1, reader=NOWHERE, board="b")
    broker, _, rest = complete.partition("[broker]")
    if text.startswith("[broker]"):
        complete = broker + text + "[reader]" + rest.partition("[reader]")[2]
    else:
        complete = text + complete
    (tmp_path / "gateway.toml").write_text(complete)

    done = freefloat("gateway", command, cwd=tmp_path)

    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("error: ")
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_identity_is_explained(tmp_path: Path) -> None:
    configure(tmp_path)

    done = freefloat("gateway", "run", cwd=tmp_path)

    assert done.returncode == 1
    assert "identity directory" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_certificate_is_explained_also_to_the_unattended(
    car: Path, tmp_path: Path
) -> None:
    shutil.copytree(car / "vehicle", tmp_path / "vehicle")
    (tmp_path / "vehicle" / "tls.crt").unlink()
    configure(tmp_path)

    done = freefloat("gateway", "run", "--unattended", cwd=tmp_path)

    assert done.returncode == 1
    assert "tls.crt" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_expired_certificate_is_explained(tmp_path: Path) -> None:
    make_car(tmp_path, age=VEHICLE_TLS_LIFETIME + timedelta(days=2))
    configure(tmp_path)

    done = freefloat("gateway", "run", cwd=tmp_path)

    require_clear_failure(done, "error: certificate: ", "expired on", "--unattended")


def test_a_missing_port_and_a_broker_that_is_down_are_both_named(car: Path) -> None:
    configure(car)

    done = freefloat("gateway", "run", cwd=car)

    require_clear_failure(
        done,
        "error: board: ttyNONE: no such file or directory",
        "error: broker: 127.0.0.1:1: connection refused",
        "start the broker",
        "--unattended",
    )


def test_a_check_says_of_each_part_whether_it_is_ready(car: Path) -> None:
    configure(car, more='[positioning]\nport = "ttyGNSS"\n')

    done = freefloat("gateway", "check", "--json", cwd=car)

    assert done.returncode == 1
    assert done.stderr == ""
    found = {each["part"]: each for each in json.loads(done.stdout)}
    assert {part: each["ready"] for part, each in found.items()} == {
        "board": False,
        "reader": True,
        "positioning": False,
        "certificate": True,
        "broker": False,
    }


# pyserial is left out: nfcpy requires it, so it cannot be missing alone.
@pytest.mark.parametrize("missing", ["nfc", "aiomqtt", "apsw"])
def test_an_optional_part_that_is_not_installed_is_named(
    tmp_path: Path, missing: str
) -> None:
    program = (
        f"import sys; sys.modules[{missing!r}] = None; sys.argv[0] = 'freefloat'\n"
        "from tools.cli import main; main()"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, "gateway", "run"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    require_clear_failure(
        done, f"needs {missing}", "pip install 'freefloat[vehicle,nfc]'"
    )


def test_a_host_that_can_be_no_name_is_found_and_said(car: Path) -> None:
    # As a dot too many makes it; Python's own error is not one of the system's.
    settings = configure(car)
    text = settings.read_text(encoding="utf-8")
    hosts = 'host = "broker..example"\nother_hosts = ["127.0.0.1"]'
    settings.write_text(text.replace('host = "127.0.0.1"', hosts), encoding="utf-8")

    done = freefloat("gateway", "check", cwd=car)

    assert "Traceback" not in done.stderr
    [broker] = [line for line in done.stderr.splitlines() if "error: broker: " in line]
    assert "broker..example:1: " in broker
    assert "label empty or too long" in broker
    assert "127.0.0.1:1: connection refused" in broker


@asynccontextmanager
async def bench(directory: Path) -> AsyncIterator[PtyBoard]:
    """A car on a bench: its broker, board and reader are there and configured."""
    fleet = make_car(directory)
    broker = EmbeddedBroker(
        directory=directory / "broker",
        identity=TlsIdentity.of_fleet(fleet.path, FleetPart.BROKER),
        access=BrokerAccess(
            is_vehicle=lambda _name: True, bridges=("ff-bridge-1",), engineers=()
        ),
        clock=clock,
    )
    async with broker, card_field() as field:
        with pty_board(directory) as board:
            configure(
                directory, port=broker.port, reader=field.path, board=str(board.path)
            )
            yield board


async def start(
    directory: Path, *arguments: str, more: Mapping[str, str] = MappingProxyType({})
) -> asyncio.subprocess.Process:
    """Start the command, with more in its environment."""
    return await asyncio.create_subprocess_exec(
        *PYTHON,
        "gateway",
        *arguments,
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(SOURCES), **more},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@pytest.mark.broker
async def test_a_complete_car_is_ready_and_a_check_moves_nothing(
    tmp_path: Path,
) -> None:
    async with bench(tmp_path) as board:
        async with asyncio.timeout(30):
            process = await start(tmp_path, "check")
            said, complained = await process.communicate()

    assert process.returncode == 0, complained.decode()
    assert "locked, doors closed, engine held, fuel 62 %" in said.decode()
    assert "accepts our certificate" in said.decode()
    assert complained == b""
    assert board.firmware.acted == []


@pytest.mark.broker
@pytest.mark.parametrize(
    ("end", "hosts"),
    [
        (signal.SIGTERM, 'host = "127.0.0.1"'),
        # Nothing listens at the first one (row 18).
        (signal.SIGINT, 'host = "::1"\nother_hosts = ["127.0.0.1"]'),
    ],
)
async def test_the_agent_connects_and_ends_in_order_by_a_signal(
    tmp_path: Path, end: signal.Signals, hosts: str
) -> None:
    async with bench(tmp_path):
        file = tmp_path / "gateway.toml"
        file.write_text(file.read_text().replace('host = "127.0.0.1"', hosts))
        async with asyncio.timeout(30):
            process = await start(tmp_path, "run")
            assert process.stderr is not None
            log = b""
            while b"link up" not in log or b"board answers" not in log:
                line = await process.stderr.readline()
                assert line, log.decode()
                log += line
            process.send_signal(end)
            said, rest = await process.communicate()

    assert process.returncode == 0, (log + rest).decode()
    assert said == b""
    assert b"Traceback" not in log + rest
    assert (tmp_path / "data" / "ledger.db").exists()


STOP_S = 10
"""`TimeoutStopSec` of deploy/systemd/freefloat-gateway.service."""


@pytest.mark.device
async def test_a_car_that_is_told_to_stop_waits_for_no_name_server(
    tmp_path: Path,
) -> None:
    """Row 18: it asks for its broker's name, which takes a minute, and is told to."""
    make_car(tmp_path)
    file = configure(tmp_path)
    file.write_text(file.read_text().replace('host = "127.0.0.1"', f'host = "{NAME}"'))
    silence = tmp_path / "silence"
    silence.touch()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.silent_names", "gateway", "run", "--unattended"),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(SOURCES), VARIABLE: str(silence)},
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    clock_s = asyncio.get_running_loop().time
    async with asyncio.timeout(120):
        while not silence.with_suffix(".asked").exists():
            assert process.returncode is None
            await asyncio.sleep(0.05)
        begun_s = clock_s()
        process.send_signal(signal.SIGTERM)
        _, log = await process.communicate()
        took_s = clock_s() - begun_s

    assert process.returncode == 0, log.decode()
    assert took_s < STOP_S


@pytest.mark.device
async def test_the_unattended_agent_starts_without_broker_and_board(
    tmp_path: Path,
) -> None:
    make_car(tmp_path, age=VEHICLE_TLS_LIFETIME + timedelta(days=2))
    configure(tmp_path)

    async with asyncio.timeout(30):
        process = await start(tmp_path, "run", "--unattended")
        assert process.stderr is not None
        log = b""
        while b"no link" not in log or b"board lost" not in log:
            line = await process.stderr.readline()
            assert line, log.decode()
            log += line
        process.send_signal(signal.SIGTERM)
        await process.communicate()

    assert process.returncode == 0
    # Whether the certificate has expired is the broker's to say: a car does not take
    # its wall clock's word for it (I-29).
    assert b"nothing listens" in log
