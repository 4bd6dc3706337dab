"""``freefloat conformance``: test somebody's end of the protocol, clause by clause."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

import click

from tools.cli import LazyGroup, Subcommand
from tools.conformance.check import Check, S, Suite
from tools.conformance.report import (
    exit_code,
    print_json_report,
    print_list,
    print_report,
)
from tools.conformance.run import Run
from tools.console import examples, json_option
from tools.errors import OperatorError

C = TypeVar("C", bound=Callable[..., Any])

SUITES: Final = {
    "car": Subcommand(
        "tools.conformance.car:car", "Play the backend against any gateway."
    ),
    "bridge": Subcommand(
        "tools.conformance.bridge:bridge", "Play a car against any bridge."
    ),
}
"""What can be tested, in the order of the help."""

conformance: Final = LazyGroup(
    SUITES,
    name="conformance",
    help="Test somebody's end of the protocol over MQTT, and report clause by clause "
    "of docs/protocol.md. Ends with 0 when every clause passed or does not apply, 1 "
    "when one failed, 3 when none failed and some could not be tried.",
    epilog=examples(
        "freefloat conformance car --list  # what is tested of a gateway",
        "freefloat conformance car --help  # what that needs",
        "freefloat conformance bridge --list  # what is tested of a bridge",
    ),
)


def suite_options(command: C) -> C:
    """Add the options that every suite has.

    The parameters are ``only: tuple[str, ...]``, ``listing: bool``, ``details: bool``
    and ``as_json: bool``.
    """
    for option in reversed(
        (
            click.option(
                "--only",
                multiple=True,
                metavar="CLAUSE",
                help="Only clauses that begin like this, such as FF-CMD. May be "
                "repeated.",
            ),
            click.option(
                "--list",
                "listing",
                is_flag=True,
                help="Print the checks and their clauses, and test nothing.",
            ),
            click.option(
                "--details",
                is_flag=True,
                help="Print what was sent and seen for clauses that passed too.",
            ),
            json_option,
        )
    ):
        command = option(command)
    return command


def select(suite: Suite[S], only: Sequence[str]) -> tuple[Check[S], ...]:
    """Return the checks that are asked for.

    Raises:
        OperatorError: no check decides such a clause.
    """
    checks = suite.selected(only)
    if not checks:
        raise OperatorError(
            f"no check decides a clause {' or '.join(only)}",
            f"list them: freefloat conformance {suite.subject} --list",
        )
    return checks


def list_checks(suite: Suite[S], only: Sequence[str], *, as_json: bool) -> None:
    """Do what ``--list`` asks for."""
    print_list(select(suite, only), as_json=as_json)


def report(
    running: Coroutine[Any, Any, Run], *, subject: str, details: bool, as_json: bool
) -> int:
    """Run a suite, print its report and return the exit code.

    Ctrl-C cancels `running`, which returns what it has found: the report is printed.
    """
    import asyncio  # noqa: PLC0415 - `--help` and `--list` do without

    run = asyncio.run(running)
    if as_json:
        print_json_report(run, subject=subject)
    else:
        print_report(run, subject=subject, details=details)
    return exit_code(run)
