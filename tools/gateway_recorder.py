"""``freefloat gateway recorder``, ``replay``, ``explain``: why a car did what it did.

They read the flight recorder's files, of a car or fetched from one, and feed them to
the mind of this program again. Reads only, also while the agent runs.
"""

import gzip
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from gateway.core.events import CommandReceived
from gateway.recorder.explanation import Explanation, explain
from gateway.recorder.insight import is_about
from gateway.recorder.record import Frame, RecordError
from gateway.recorder.replay import Replayed, replay
from gateway.recorder.ring import RING_LIMIT, read_lines, read_records, recordings
from gateway.settings import load_settings
from protocol.diagnosis import ExplainSubject
from tools.console import (
    examples,
    facts,
    heading,
    json_option,
    print_error,
    print_json,
    step,
)
from tools.errors import EXIT_FAILED, OperatorError
from tools.gateway_look import config_option

_file_argument: Final = click.argument(
    "file", type=click.Path(path_type=Path), required=False
)

_QUESTIONS: Final = {
    "tap": "card taps",
    "command": "orders of the fleet",
    "lock": "locking and unlocking",
    "light": "changes of the indicator",
    "all": "everything",
}


@click.command(
    epilog=examples(
        "freefloat gateway recorder                    # what there is",
        "freefloat gateway recorder --output car.gz    # fetch all of it",
        "freefloat gateway recorder --json | jq .bytes",
    )
)
@config_option
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the whole recording into one file, to be replayed elsewhere.",
)
@json_option
def recorder(config: Path, output: Path | None, as_json: bool) -> None:
    """Show what the flight recorder of this car holds, or fetch it.

    It holds what the mind was told, without PINs, cards and places.
    """
    directory = load_settings(config).recordings
    files = recordings(directory)
    if not files:
        raise OperatorError(
            f"{directory} has no recording yet", "start the agent once: it records"
        )
    size = sum(path.stat().st_size for path in files)
    if output is not None:
        with gzip.open(output, "wb") as packed:
            packed.writelines(line + b"\n" for line in read_lines(directory))
    if as_json:
        print_json(
            {
                "directory": str(directory),
                "files": [path.name for path in files],
                "bytes": size,
                "limit": RING_LIMIT,
                "written": None if output is None else str(output),
            }
        )
        return
    heading(f"Flight recorder in {directory}")
    facts({"files": str(len(files)), "bytes": f"{size} of at most {RING_LIMIT}"})
    if output is not None:
        step(f"written to {output}: freefloat gateway replay {output}")


@click.command(
    "replay",
    epilog=examples(
        "freefloat gateway replay                      # this car's own recording",
        "freefloat gateway replay car.gz               # one that was fetched",
        "freefloat gateway replay car.gz --json | jq 'select(.same | not)'",
    ),
)
@_file_argument
@config_option
@json_option
def replay_command(file: Path | None, config: Path, as_json: bool) -> int:
    """Feed a recording to the mind again, and show step by step what it decides.

    The exit code is 0 if every decision is the one that the car made, and 1 if one
    differs. FILE is a file or directory of the flight recorder.
    """
    steps = diverged = 0
    for found in _replayed(file, config):
        if isinstance(found, Frame):
            _show_frame(found, as_json=as_json)
            continue
        steps += 1
        diverged += found.diverged
        told = explain(found)
        if as_json:
            print_json(_document(told) | {"same": not found.diverged})
        else:
            _show(told, is_short=True)
            if found.diverged:
                print_error(f"step {told.number}: the car decided otherwise then")
    if not as_json:
        heading(f"{steps} steps, {diverged} decided otherwise")
    return EXIT_FAILED if diverged else 0


@click.command(
    "explain",
    epilog=examples(
        "freefloat gateway explain tap                 # why did it (not) open?",
        "freefloat gateway explain command --last 3    # the last three orders",
        "freefloat gateway explain command --id 4f1a   # the order whose id begins so",
        "freefloat gateway explain lock car.gz         # of a fetched recording",
        "freefloat gateway explain light               # why is it red?",
        "freefloat gateway explain tap --json | jq -r '.because[]'",
    ),
)
@click.argument("question", type=click.Choice(list(_QUESTIONS)))
@_file_argument
@config_option
@click.option(
    "--last",
    type=click.IntRange(1, 100_000),
    default=1,
    show_default=True,
    help="Explain so many of the newest.",
)
@click.option("--id", "msg_id", default="", help="Explain the order with this id.")
@json_option
def explain_command(
    question: str,
    file: Path | None,
    config: Path,
    last: int,
    msg_id: str,
    as_json: bool,
) -> None:
    r"""Say why the car did what it did: which rule, which right, what refused.

    \b
    QUESTION is one of
      tap       a card was held to the reader
      command   the fleet ordered something
      lock      the car locked or unlocked
      light     the indicator changed
      all       whatever happened
    """
    asked = [
        found
        for found in _replayed(file, config)
        if isinstance(found, Replayed)
        and _is_asked(found, question)
        and _has_id(found, msg_id)
    ]
    if not asked:
        raise OperatorError(
            f"the recording has nothing of this kind: {_QUESTIONS[question]}",
            "look at everything: freefloat gateway replay",
        )
    for found in asked[-last:]:
        told = explain(found)
        if as_json:
            print_json(_document(told))
        else:
            _show(told, is_short=False)


def _is_asked(found: Replayed, question: str) -> bool:
    return question == "all" or is_about(found, ExplainSubject[question.upper()])


def _has_id(found: Replayed, msg_id: str) -> bool:
    event = found.step.event
    if not msg_id:
        return True
    return isinstance(event, CommandReceived) and event.msg_id.hex().startswith(
        msg_id.lower()
    )


def _replayed(file: Path | None, config: Path) -> Iterator[Frame | Replayed]:
    path = load_settings(config).recordings if file is None else file
    try:
        yield from replay(read_records(path))
    except OSError as error:
        raise OperatorError(
            f"{path} cannot be read: {error.strerror}", "check path and mode"
        ) from None
    except RecordError as error:
        raise OperatorError(str(error)) from None


def _document(told: Explanation) -> dict[str, object]:
    return {
        "step": told.number,
        "at": _instant(told.wall_ms),
        "boot_ms": told.boot_ms,
        "happened": told.happened,
        "because": list(told.because),
        "did": list(told.did),
    }


def _show_frame(frame: Frame, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "frame": frame.why,
                "vehicle": frame.vehicle,
                "version": frame.version,
                "mode": frame.state.mode.name,
            }
        )
    else:
        heading(
            f"Vehicle {frame.vehicle}, version {frame.version}, from "
            f"{frame.state.mode.name} ({frame.why})"
        )


def _show(told: Explanation, *, is_short: bool) -> None:
    click.echo(f"{told.number:6}  {_instant(told.wall_ms)}  {told.happened}")
    if not is_short:
        for reason in told.because:
            click.echo(f"          because  {reason}")
    for deed in told.did:
        click.echo(f"             then  {deed}")


def _instant(ms: int) -> str:
    try:
        found = datetime.fromtimestamp(ms / 1000, UTC)
    except (OverflowError, OSError, ValueError):
        return f"{ms} ms"
    return found.isoformat(timespec="milliseconds")
