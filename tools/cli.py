"""The one command `freefloat`.

Subcommands are named in a table with a line of help each and are imported when they are
called, so that ``freefloat --help`` and a mistyped command cost no import of
cryptography, MQTT, web server or database. `main` is the one place where an error
becomes two lines on stderr and an exit code.
"""

import contextlib
import errno
import importlib
import os
import sys
import threading
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import click

from tools.console import examples, flush, print_error, wants_colour
from tools.errors import (
    EXIT_DEFECT,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    OperatorError,
    explain,
)

LEAVE_S: Final = 2.0
"""How long the process may take to end once its command has; idle threads do at once,
and whatever is to be kept is closed by then."""

PROGRAM: Final = "freefloat"
"""Name of the command and of the distribution."""


@dataclass(frozen=True, slots=True)
class Subcommand:
    """Where a subcommand lives and what is said about it without importing it."""

    target: str
    """``module:attribute`` of its click command."""
    summary: str
    """One line for ``freefloat --help``."""
    extra: str = ""
    """The optional part of the installation that it needs; empty for none."""


SUBCOMMANDS: Final = {
    "demo": Subcommand(
        "tools.demo:demo",
        "Show one rental, step by step, over a real broker.",
        "emulator,bridge,broker",
    ),
    "certs": Subcommand("tools.certs:certs", "Make a fleet's keys and certificates."),
    "gateway": Subcommand(
        "tools.gateway:gateway", "Run the agent in a car.", "vehicle,nfc"
    ),
    "emulate": Subcommand(
        "tools.emulate:emulate", "Run emulated cars against a broker.", "emulator"
    ),
    "bridge": Subcommand(
        "tools.bridge:bridge", "Connect cars to fleet services.", "bridge"
    ),
    "signer": Subcommand(
        "tools.signer:signer",
        "Keep the command keys in a process of its own.",
        "bridge",
    ),
    "broker": Subcommand(
        "tools.broker:broker",
        "Run a broker for a trial, or guard a real one.",
        "bridge",
    ),
    "decode": Subcommand("tools.decode:decode", "Explain the bytes of a frame."),
    "evidence": Subcommand(
        "tools.evidence:evidence", "Prove a rental to a stranger, and check a proof."
    ),
    "explain": Subcommand(
        "tools.explain:explain",
        "Explain a command hop by hop, and check what is signed.",
        "bridge",
    ),
    "watch": Subcommand(
        "tools.watch:watch", "Print the frames of a fleet as they pass.", "bridge"
    ),
    "conformance": Subcommand(
        "tools.conformance.command:conformance",
        "Test somebody's gateway or bridge, clause by clause.",
    ),
    "smoke": Subcommand(
        "tools.smoke:smoke",
        "Drive a canary car over the real path, and try what must fail.",
        "emulator",
    ),
    "send": Subcommand(
        "tools.send:send", "Send a command to a car and show its outcome."
    ),
    "ping": Subcommand(
        "tools.ping:ping", "Ask a car for a sign of life, with the time of each hop."
    ),
}
"""Everything that `freefloat` can do, in the order of its help."""


class LazyGroup(click.Group):
    """A group whose subcommands are imported when they are called."""

    def __init__(self, table: dict[str, Subcommand], **attributes: Any) -> None:  # noqa: ANN401 - click.Group's own
        """Keep the table; nothing is imported."""
        super().__init__(**attributes)
        self.table = table

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names in the table's order."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import and return one subcommand, or None if there is none of that name.

        Raises:
            OperatorError: it is not installed, or an optional part it needs is not.
        """
        entry = self.table.get(cmd_name)
        return None if entry is None else _load(cmd_name, entry)

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        formatter: click.HelpFormatter,
    ) -> None:
        """Write the list of subcommands from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, entry.summary) for name, entry in self.table.items()]
            )

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the subcommand of a command line; a mistyped one gets a suggestion."""
        name = args[0]
        if name not in self.table and not name.startswith("-"):
            from difflib import get_close_matches  # noqa: PLC0415 - only on an error

            close = get_close_matches(name, self.table, n=1)
            hint = (
                f"Did you mean '{close[0]}'?"
                if close
                else f"See '{ctx.command_path} --help'."
            )
            raise click.UsageError(f"No such command '{name}'. {hint}", ctx)
        return super().resolve_command(ctx, args)


def _load(name: str, entry: Subcommand) -> click.Command:
    module_name, _, attribute = entry.target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing == module_name:
            raise OperatorError(
                f"command '{name}' is not part of this installation",
                f"see '{PROGRAM} --version' and the CHANGELOG for what it contains",
            ) from error
        if entry.extra and missing.partition(".")[0] not in _OWN_PACKAGES:
            raise OperatorError(
                f"command '{name}' needs {missing}, which is not installed",
                f"install the optional part: pip install '{PROGRAM}[{entry.extra}]'",
            ) from error
        raise
    command: object = getattr(module, attribute)
    if not isinstance(command, click.Command):
        raise TypeError(f"{entry.target} is no click command")
    return command


_OWN_PACKAGES: Final = frozenset(
    {
        "protocol",
        "keystore",
        "transport",
        "gateway",
        "firmware_emulator",
        "bridge",
        "certs",
        "tools",
    }
)


def _print_version(ctx: click.Context, _option: click.Parameter, asked: bool) -> None:
    if not asked or ctx.resilient_parsing:
        return
    from importlib.metadata import (  # noqa: PLC0415 - slow, and only asked for here
        PackageNotFoundError,
        version,
    )

    try:
        click.echo(f"{PROGRAM} {version(PROGRAM)}")
    except PackageNotFoundError:
        click.echo(f"{PROGRAM}, run from its sources without installation")
    ctx.exit()


@click.pass_context
def _root(ctx: click.Context) -> None:
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


cli: Final = LazyGroup(
    SUBCOMMANDS,
    name=PROGRAM,
    callback=_root,
    invoke_without_command=True,
    help="The software of a free-floating car-sharing module: gateway in the car, "
    "emulated fleets, bridge to fleet services, and their keys.",
    epilog=examples(
        f"{PROGRAM} demo                         # see it work; needs nothing else",
        f"{PROGRAM} certs init fleet             # keys and certificates of a fleet",
        f"{PROGRAM} certs issue fleet --count 5  # five cars",
        f"{PROGRAM} COMMAND --help               # more examples",
    ),
    context_settings={"help_option_names": ["-h", "--help"]},
    params=[
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_print_version,
            help="Show the version and exit.",
        )
    ],
)
"""The root command; `run` and `main` run it."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; errors become two lines.

    Args:
        arguments: without the program's name; None for those of the process.
    """
    try:
        returned = cli.main(
            args=None if arguments is None else list(arguments),
            prog_name=PROGRAM,
            standalone_mode=False,
            color=wants_colour(),
        )
        flush()
    except (click.Abort, KeyboardInterrupt):
        print_error("interrupted")
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        return _report_click(error)
    except BrokenPipeError:
        # Whoever read us has enough: `freefloat watch | head`.
        _discard_output()
        return EXIT_FAILED
    except OSError as error:
        if error.errno == errno.ENOSPC:
            _discard_output()
        return _report(error)
    except Exception as error:  # noqa: BLE001 - the one place where errors end
        return _report(error)
    return returned if isinstance(returned, int) else 0


def _discard_output() -> None:
    """Make stdout the null device: Python would complain at exit when it flushes."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())


def _report_click(error: click.ClickException) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()  # `freefloat certs`: its help says which commands there are
        return error.exit_code
    advice = ""
    if isinstance(error, click.UsageError) and error.ctx is not None:
        advice = f"see '{error.ctx.command_path} --help'"
    message = error.format_message().rstrip(".")
    print_error(message[:1].lower() + message[1:], advice)
    return error.exit_code


def _report(error: Exception) -> int:
    explanation = explain(error)
    if explanation is None:
        traceback.print_exception(error)
        print_error(
            "this is a defect of freefloat, not of what you asked for",
            "please report the lines above, and what you ran",
        )
        return EXIT_DEFECT
    print_error(explanation.sentence, explanation.advice)
    return explanation.exit_code


def main() -> None:
    """Run `freefloat` as a process: the entry point of the installation."""
    _open_standard_streams()
    code = run()
    # Python waits for every thread of every pool (`tools.leaving`).
    late = threading.Timer(LEAVE_S, _leave_at_once, [code])
    late.daemon = True
    late.start()
    sys.exit(code)


def _leave_at_once(code: int) -> None:
    with contextlib.suppress(OSError, ValueError):
        flush()
    os._exit(code)


def _open_standard_streams() -> None:
    """Give a process that was started without them the null device (`>&-`, cron)."""
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115, PTH123 - for as long as the process lives
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - as above
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - as above


if __name__ == "__main__":
    main()
