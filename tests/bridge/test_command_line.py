"""`freefloat bridge run` as a person runs it: what is wrong is said, nothing hangs."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

import click
import pytest

from certs.fleet import FleetDirectory
from protocol.fleet import FleetPart
from tests.bridge.conftest import make_fleet
from tests.bridge.test_real_broker import clock
from tests.tools.command_line import SOURCES, freefloat, require_clear_failure, running
from tests.tools.listening import ports_of
from tools.bridge import SUBCOMMANDS, bridge

pytestmark = pytest.mark.demo

ASKING: Final = SUBCOMMANDS.keys() - {"run", "audit", "backup", "restore"}
"""Commands that ask a bridge over its API, and hold no store in their hands."""


@pytest.fixture(scope="module")
def today(tmp_path_factory: pytest.TempPathFactory) -> FleetDirectory:
    return make_fleet(tmp_path_factory.mktemp("today") / "fleet", 1, now=clock())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_with_the_broker_down_it_says_so_keeps_trying_and_ends_cleanly(
    today: FleetDirectory, tmp_path: Path, number: signal.Signals
) -> None:
    arguments = (
        *("--fleet", today.path, "--broker", "127.0.0.1:1"),
        *("--api", "127.0.0.1:0", "--json"),
    )
    with running("bridge", "run", *arguments, cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        told = json.loads(process.stdout.readline())
        line = ""
        while "no link" not in line:
            line = process.stderr.readline()
            assert line, "ended without saying that there is no broker"
        ports = ports_of(process.pid)
        process.send_signal(number)
        _out, errors = process.communicate(timeout=15)

    # K17: the API's port is open, and no other.
    assert told["api"] == f"http://127.0.0.1:{ports.pop()}"
    assert ports == set()
    assert "nothing listens at 127.0.0.1:1" in line
    assert "next try in" in line
    assert process.returncode == 0, errors
    assert "Traceback" not in errors


def test_a_port_in_use_is_said(today: FleetDirectory, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = freefloat(
            *("bridge", "run", "--fleet", today.path),
            *("--broker", "127.0.0.1:1", "--api", f"127.0.0.1:{port}"),
            cwd=tmp_path,
        )

    require_clear_failure(
        done, f"127.0.0.1:{port}", "Address already in use", "api.port"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[fleet]\ndirectory = "fleet"\ncolour = 1\n', "unknown field 'colour'"),
        ('[fleet]\ndirectory = "fleet"\n[broker]\nport = 99999\n', "$.broker.port"),
        ("[fleet", "not TOML"),
    ],
)
def test_a_settings_file_that_is_wrong_is_said(
    tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "bridge.toml").write_text(text)

    done = freefloat("bridge", "run", "--config", "bridge.toml", cwd=tmp_path)

    require_clear_failure(done, said)


def test_a_settings_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    done = freefloat("bridge", "run", "--config", "bridge.toml", cwd=tmp_path)

    require_clear_failure(done, "bridge.toml", "No such file")


def test_a_missing_or_expired_certificate_is_said(
    tmp_path: Path, fleet: FleetDirectory
) -> None:
    # The session's fleet is of 2027: its certificates are not valid yet, or no more.
    dated = freefloat("bridge", "run", "--fleet", fleet.path, cwd=tmp_path)
    missing = make_fleet(tmp_path / "fleet", 1, now=clock())
    (missing.path / FleetPart.BRIDGE / "tls.crt").unlink()
    gone = freefloat("bridge", "run", "--fleet", missing.path, cwd=tmp_path)

    # The transport's sentences hold their own advice.
    for done, what in ((dated, "is not valid before"), (gone, "does not exist")):
        assert done.returncode == 1
        assert done.stderr.startswith("error: certificate ")
        assert what in done.stderr
        assert ": check " in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--config FILE or --fleet DIR"),
        (("--config", "x.toml", "--fleet", "fleet"), "--config already says"),
        (("--fleet", "fleet", "--broker", "host:0"), "1 to 65535"),
        (("--fleet", "fleet", "--api", "host:70000"), "0 to 65535"),
    ],
)
def test_a_command_line_that_contradicts_itself_is_said(
    tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = freefloat("bridge", "run", *arguments, cwd=tmp_path)

    require_clear_failure(done, said, code=2)


@pytest.mark.parametrize("name", sorted(ASKING))
def test_who_asks_a_bridge_loads_no_server_and_no_database(name: str) -> None:
    # An engineer's machine starts them many times a day: a fifth of the time.
    program = (
        "import sys, importlib\n"
        "import tools.bridge\n"
        "importlib.import_module(sys.argv[1])\n"
        "print(*{'fastapi', 'uvicorn', 'sqlalchemy', 'alembic'} & set(sys.modules))\n"
    )
    module, _, _ = SUBCOMMANDS[name].target.partition(":")
    done = subprocess.run(
        [sys.executable, "-c", program, module],
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )

    assert done.stdout == "\n"


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_the_table_says_of_a_command_what_it_says_of_itself(name: str) -> None:
    command = bridge.get_command(click.Context(bridge), name)

    assert command is not None
    assert command.get_short_help_str(limit=200) == SUBCOMMANDS[name].summary


def test_a_mistyped_command_of_the_bridge_points_to_its_own_help() -> None:
    done = freefloat("bridge", "xyzzy")

    require_clear_failure(done, "See 'freefloat bridge --help'", code=2)


def test_importing_the_bridge_has_no_side_effect(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import bridge.bootstrap, tools.bridge, tools.bridge_run",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []
