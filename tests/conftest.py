"""What holds for every test: which may open sockets, and which need a server.

Unit tests reach no network at all. Tests marked ``broker``, ``postgres``, ``device`` or
``demo`` may connect to loopback and nothing else. Tests marked with a server's name are
left out where it is not installed and listed at the end of the run; with
FREEFLOAT_ALL=1, which the CI script sets, they fail instead. Coverage is counted in the
tests of a few packages only (``COVERING``).
"""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

from bridge.broker.errors import BrokerSetupError
from bridge.broker.program import BrokerKind, find_broker
from tests.bench.fleet.program import missing_program
from tests.faketime import missing_faketime
from tests.mosquitto_plugin import missing_plugin
from tests.postgres import missing_postgres
from tests.softhsm import missing_softhsm

# A loaded machine is no fault of a test: how long an example takes decides nothing.
settings.register_profile(
    "freefloat", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("freefloat")

LOOPBACK_MARKS: Final = ("broker", "device", "demo", "postgres")
LOOPBACK: Final = ["127.0.0.1"]

COVERING: Final = ("protocol", "gateway", "transport", "keystore")
"""Folders of tests whose statements are counted. They alone must cover ``protocol`` and
``gateway.core``; counting costs as much again as running, and was a third of CI. Of
these folders, what ``tests/depth.py`` calls uncounted is left out too."""


def _missing_mosquitto() -> str | None:
    try:
        find_broker(BrokerKind.MOSQUITTO)
    except BrokerSetupError as error:
        return str(error)
    return None


def _missing_fuzzer() -> str | None:
    if find_spec("atheris") is None:
        return "atheris is not installed: 'make .venv/.fuzz'"
    return None


SERVERS: Final = {
    "mosquitto": _missing_mosquitto,
    "plugin": missing_plugin,
    "generator": missing_program,
    "softhsm": missing_softhsm,
    "faketime": missing_faketime,
    "fuzzer": _missing_fuzzer,
    "postgres": missing_postgres,
}
"""Mark -> a function that returns what is missing, or None."""

_REASON: Final = pytest.StashKey[dict[str, str]]()
_LEFT_OUT: Final = pytest.StashKey[dict[str, list[str]]]()


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    missing = {mark: reason for mark, find in SERVERS.items() if (reason := find())}
    config.stash[_REASON] = missing
    left_out: dict[str, list[str]] = {}
    here = Path(__file__).parent
    for item in items:
        if item.path.relative_to(here).parts[0] not in COVERING:
            item.add_marker(pytest.mark.no_cover)
        if any(item.get_closest_marker(mark) for mark in LOOPBACK_MARKS):
            item.add_marker(pytest.mark.allow_hosts(LOOPBACK))
        for mark, reason in missing.items():
            if item.get_closest_marker(mark) and not _is_everything_required():
                item.add_marker(pytest.mark.skip(reason=reason))
                left_out.setdefault(mark, []).append(item.nodeid)
    config.stash[_LEFT_OUT] = left_out


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark, reason in item.config.stash[_REASON].items():
        if item.get_closest_marker(mark) and _is_everything_required():
            pytest.fail(f"FREEFLOAT_ALL=1 wants {mark}: {reason}", pytrace=False)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    left_out = config.stash.get(_LEFT_OUT, {})
    if not left_out:
        return
    terminalreporter.section("left out for want of a server")
    for mark, tests in left_out.items():
        reason = config.stash[_REASON][mark]
        terminalreporter.write_line(f"{mark}: {len(tests)} tests ({reason})")


def _is_everything_required() -> bool:
    return os.environ.get("FREEFLOAT_ALL") == "1"
