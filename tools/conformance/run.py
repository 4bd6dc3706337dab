"""Running a suite: one check after the other, and a report whatever happens.

A check that fails, hangs or finds the link gone does not end the run: what it has not
decided is not reached, and the next one begins. Being cancelled (Ctrl-C) ends the run,
and the report has what was found until then.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from protocol.errors import ProtocolError
from tools.conformance.check import (
    Check,
    NotApplicableError,
    NotReachedError,
    Trial,
)
from tools.conformance.verdict import Finding, Verdict, verdict_of
from transport.errors import TransportError

S = TypeVar("S")

INTERRUPTED: Final = "the run was interrupted before"


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is; given to its observer when a check begins and when it ends."""

    number: int
    """Of the check, from 1."""
    total: int
    """Checks of the run."""
    check: str
    """Its name."""
    verdict: Verdict | None
    """The gravest of its findings; None when it begins."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a run found."""

    findings: tuple[Finding, ...]
    """About the clauses that were asked for, in the order in which they were found."""
    duration_s: float
    """How long it took."""
    interrupted: bool
    """Whether it was ended before its end."""


Observer = Callable[[Progress], None]


async def run_checks(
    checks: Sequence[Check[S]],
    subject: S,
    *,
    only: Sequence[str] = (),
    observe: Observer = lambda _: None,
    steady: Callable[[], object] = lambda: None,
) -> Run:
    """Run checks and return what they found; cancelling it ends it with a report.

    Args:
        checks: in their order.
        subject: what they are tried on.
        only: beginnings of the clauses to report; all if empty.
        observe: told of each check, before and after.
        steady: what must not change while a check runs, such as a session; where it
            did, by a lost link, and something failed, the check runs once more.
    """
    began = time.monotonic()
    found: list[Finding] = []
    interrupted = False
    for number, check in enumerate(checks, start=1):
        trial = Trial(check.name, check.clauses)
        if interrupted:
            trial.close(Verdict.NOT_REACHED, INTERRUPTED)
            found += trial.findings
            continue
        observe(Progress(number, len(checks), check.name, None))
        try:
            before = steady()
            await _try(check, trial, subject)
            if verdict_of(trial.findings) is Verdict.FAIL and steady() != before:
                trial = Trial(check.name, check.clauses)
                await _try(check, trial, subject)
        except asyncio.CancelledError:
            interrupted = True
            trial.close(Verdict.NOT_REACHED, INTERRUPTED)
        found += trial.findings
        observe(Progress(number, len(checks), check.name, verdict_of(trial.findings)))
    wanted = tuple(one.upper() for one in only)
    return Run(
        findings=tuple(
            one for one in found if not wanted or one.clause.startswith(wanted)
        ),
        duration_s=time.monotonic() - began,
        interrupted=interrupted,
    )


async def _try(check: Check[S], trial: Trial, subject: S) -> None:
    try:
        async with asyncio.timeout(check.limit_s):
            await check.run(trial, subject)
    except NotApplicableError as error:
        trial.close(Verdict.NOT_APPLICABLE, str(error))
    except NotReachedError as error:
        trial.close(Verdict.NOT_REACHED, str(error))
    except TimeoutError:
        trial.close(
            Verdict.NOT_REACHED, f"the check took longer than {check.limit_s:g} s"
        )
    except (TransportError, ProtocolError) as error:
        trial.close(Verdict.NOT_REACHED, f"{type(error).__name__}: {error}")
    else:
        trial.close(Verdict.NOT_REACHED, "the check ended before it came to this")
