"""``freefloat emulate scenario``: named stories of an emulated car, with a verdict.

The composition root of scenarios: with --fast a fleet in memory on virtual time, else a
real broker and bridge that it starts and ends itself.
"""

import asyncio
import logging
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from firmware_emulator import virtual_time
from firmware_emulator.memory_stage import memory_stage
from firmware_emulator.saying import Stage
from firmware_emulator.scenario import Scenario, scenarios
from firmware_emulator.scenario_run import Check, StepSeen, Verdict, perform
from gateway.catalogue.words import LANGUAGES
from tools.console import examples, heading, json_option, print_json, step, table
from tools.errors import OperatorError

EVERYTHING = "all"
"""In place of a name: every scenario, one after another."""

_WIDTH = 10
"""Of the column that says who acts."""

Show = Callable[[Scenario, StepSeen | Verdict | None], None]
"""Told of the beginning (None), of each step and of the verdict."""


@dataclass(frozen=True, slots=True)
class Telling:
    """How a story is told."""

    show: Show
    """Shows it."""
    language: str
    """What the customer speaks, two letters."""
    kept: Path | None
    """Where the car's flight recording goes; None for nowhere."""


@click.command(
    "scenario",
    epilog=examples(
        "freefloat emulate scenario --list",
        "freefloat emulate scenario blink --fast     # in memory, within a second",
        "freefloat emulate scenario blink            # with a broker and a bridge",
        "freefloat emulate scenario all --fast --json",
        "freefloat emulate scenario refuel-online --fast --language de",
        "freefloat emulate scenario blink --fast --recordings seen",
        "freefloat gateway explain command seen/blink # why did it blink?",
    ),
)
@click.argument("names", nargs=-1, metavar="[NAME...]")
@click.option("--list", "as_list", is_flag=True, help="Say which there are.")
@click.option(
    "--fast",
    is_flag=True,
    help="In one process without broker and bridge, on a clock that does not wait.",
)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option(
    "--language",
    type=click.Choice(LANGUAGES),
    default=LANGUAGES[0],
    show_default=True,
    help="What the customer speaks, and so the display.",
)
@click.option(
    "--recordings",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep each car's flight recording in a directory of the story's name here.",
)
@json_option
def scenario(
    names: tuple[str, ...],
    as_list: bool,
    fast: bool,
    seed: int,
    language: str,
    recordings: Path | None,
    as_json: bool,
) -> int:
    """Play named stories on a car and say whether they came about.

    The car is the production gateway on emulated hardware. Without --fast a broker and
    a bridge are started for it and ended with it. The exit code is 0 only if every
    expectation of every story was met.
    """
    logging.basicConfig(level=logging.CRITICAL)
    if as_list or not names:
        _print_list(as_json=as_json)
        return 0
    chosen = _chosen(names)
    show: Show = _show_json if as_json else _show
    verdicts = []
    for each in chosen:
        kept = None if recordings is None else _place(recordings, each)
        told = Telling(show, language, kept)
        verdicts.append(_play(each, told, fast=fast, seed=seed))
        if kept is not None and not as_json:
            step(f"recorded: freefloat gateway replay {kept}")
    if len(verdicts) > 1 and not as_json:
        passed = sum(verdict.passed for verdict in verdicts)
        heading(f"{passed} of {len(verdicts)} scenarios passed")
    return 0 if all(verdict.passed for verdict in verdicts) else 1


def _chosen(names: Iterable[str]) -> list[Scenario]:
    known = scenarios()
    chosen: list[Scenario] = []
    for name in names:
        if name == EVERYTHING:
            chosen += known.values()
            continue
        found = known.get(name)
        if found is None:
            raise OperatorError(
                f"there is no scenario {name[:40]!r}",
                "say one of those of 'freefloat emulate scenario --list', or 'all'",
            )
        chosen.append(found)
    return chosen


def _place(recordings: Path, each: Scenario) -> Path:
    """Return where a story's recording goes, which must not be there yet."""
    place = recordings / each.name
    if place.exists():
        # Of two runs in one ring nobody could tell which he reads.
        raise OperatorError(
            f"{place} exists already", "name another directory, or take it away first"
        )
    return place


def _play(each: Scenario, told: Telling, *, fast: bool, seed: int) -> Verdict:
    with tempfile.TemporaryDirectory(prefix="freefloat-scenario-") as directory:
        path = Path(directory)
        if fast:
            records = told.kept is not None
            stage = memory_stage(path, each.car, seed=seed, recorder=records)
            return virtual_time.run(_perform(each, stage, told))
        # A car in memory needs neither broker nor bridge, nor what they install.
        from tools.scenario_stage import broker_stage  # noqa: PLC0415

        return asyncio.run(_guarded(each, broker_stage(path, each.car, seed), told))


async def _guarded(
    each: Scenario, stage: AbstractAsyncContextManager[Stage], told: Telling
) -> Verdict:
    """Perform it; SIGTERM ends it in order, as Ctrl-C does."""
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await _perform(each, stage, told)
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def _perform(
    each: Scenario, stage: AbstractAsyncContextManager[Stage], told: Telling
) -> Verdict:
    where: Path | None = None
    try:
        async with stage as ready:
            where = ready.vehicle.recordings
            ready.customer.language = told.language
            told.show(each, None)
            story: AsyncIterator[StepSeen | Verdict] = perform(each, ready)
            async for seen in story:
                told.show(each, seen)
                if isinstance(seen, Verdict):
                    return seen
    finally:
        # The recorder writes its last when the car ends; then the place is cleared.
        if told.kept is not None and where is not None and where.is_dir():
            shutil.copytree(where, told.kept)
    raise OperatorError(f"{each.name} came to no verdict", "report this")


# --- showing --------------------------------------------------------------------------


def _print_list(*, as_json: bool) -> None:
    known = scenarios().values()
    if as_json:
        for each in known:
            print_json(
                {
                    "scenario": each.name,
                    "family": each.family,
                    "title": each.title,
                    "shows": each.shows,
                }
            )
        return
    table(
        ("scenario", "shows", "what happens"),
        [(each.name, " ".join(each.shows), each.title) for each in known],
    )


def _show_json(each: Scenario, seen: StepSeen | Verdict | None) -> None:
    if seen is None:
        print_json({"scenario": each.name, "title": each.title, "shows": each.shows})
        return
    document = {"scenario": each.name, **asdict(seen), "passed": seen.passed}
    print_json(document)


def _show(each: Scenario, seen: StepSeen | Verdict | None) -> None:
    if seen is None:
        heading(f"{each.name}: {each.title}  [{', '.join(each.shows)}]")
        return
    if isinstance(seen, Verdict):
        _show_verdict(seen)
        return
    time_s = f"{seen.at_ms / 1_000:8.1f} s"
    light = _lights(seen)
    click.echo(f"{time_s}  {seen.who.ljust(_WIDTH)}{seen.what}  [{light}]")
    for frame in seen.frames:
        click.echo(click.style(f"{'':24}{frame}", dim=True))
    if seen.display not in {"", seen.display_before}:
        words = " / ".join(seen.display.splitlines())
        click.echo(click.style(f"{'':24}display: {words}", dim=True))
        if seen.menu:
            menu = " | ".join(seen.menu)
            click.echo(click.style(f"{'':24}   menu: {menu}", dim=True))
    for check in seen.checks:
        _show_check(check)


def _lights(seen: StepSeen) -> str:
    if seen.light == seen.light_before:
        return seen.light
    return f"{seen.light_before} -> {seen.light}"


def _show_check(check: Check) -> None:
    mark = (
        click.style("ok", fg="green")
        if check.passed
        else click.style("FAILED", fg="red", bold=True)
    )
    click.echo(f"{'':12}{mark}  {check.what}")
    if check.why:
        click.echo(f"{'':12}    {check.why}")


def _show_verdict(verdict: Verdict) -> None:
    seconds = verdict.took_ms / 1_000
    if verdict.passed:
        mark = click.style("PASSED", fg="green", bold=True)
        click.echo(
            f"{mark}  {verdict.name}: {verdict.checks} expectations met, "
            f"{seconds:.1f} s of the car's time"
        )
        return
    mark = click.style("FAILED", fg="red", bold=True)
    click.echo(
        f"{mark}  {verdict.name}: {'; '.join(verdict.failed)}; "
        f"{verdict.not_reached} expectations not reached"
    )
