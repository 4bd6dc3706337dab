"""A check: one thing that is tried, and the clauses that it decides.

A suite is a list of checks over one kind of subject, the other side as the kit reaches
it. A check is a coroutine that is given a `Trial`, where it says what it saw, and the
subject::

    CAR_SUITE = Suite[Car]("car")

    @CAR_SUITE.check("answers a PING once", "FF-CMD-11", "FF-RES-01")
    async def answers(trial: Trial, car: Car) -> None:
        ...
        trial.judge("FF-CMD-11", len(came) == 1, sent="...", expected="...", came="...")

The clauses stand in the decorator so that ``--list`` knows them without running
anything, and so that docs/clauses.md finds them.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from tools.conformance.verdict import Finding, Verdict

S = TypeVar("S")

CHECK_LIMIT_S: Final = 120.0
"""No check may take longer; what it has not decided by then is not reached."""


class NotReachedError(Exception):
    """What a check needs is not there: what it has not decided is not reached."""


class NotApplicableError(Exception):
    """The other side says that it does not have what the check is about."""


class Trial:
    """Where one run of one check says what it found.

    Saying something about a clause that the check did not announce is a defect of the
    kit and raises.
    """

    def __init__(self, check: str, clauses: tuple[str, ...]) -> None:
        """Begin without findings."""
        self._check = check
        self._clauses = clauses
        self.findings: list[Finding] = []
        """What was found, in order; a clause may be found about more than once."""

    def judge(
        self, clause: str, holds: bool, *, sent: str, expected: str, came: str
    ) -> bool:
        """Say that a clause was observed to hold, or not; returns `holds`."""
        verdict = Verdict.PASS if holds else Verdict.FAIL
        self._note(clause, verdict, sent=sent, expected=expected, came=came)
        return holds

    def not_reached(self, clause: str, why: str) -> None:
        """Say that a clause could not be tried."""
        self._note(clause, Verdict.NOT_REACHED, came=why)

    def not_applicable(self, clause: str, why: str) -> None:
        """Say that the other side does not have what a clause is about."""
        self._note(clause, Verdict.NOT_APPLICABLE, came=why)

    def close(self, verdict: Verdict, why: str) -> None:
        """Give this verdict to every announced clause without a finding."""
        decided = {finding.clause for finding in self.findings}
        for clause in self._clauses:
            if clause not in decided:
                self._note(clause, verdict, came=why)

    def _note(
        self,
        clause: str,
        verdict: Verdict,
        *,
        sent: str = "",
        expected: str = "",
        came: str,
    ) -> None:
        if clause not in self._clauses:
            raise ValueError(f"check {self._check!r} did not announce {clause}")
        self.findings.append(
            Finding(clause, verdict, self._check, sent, expected, came)
        )


@dataclass(frozen=True, slots=True)
class Check(Generic[S]):
    """One thing that is tried."""

    name: str
    """A sentence of what the other side does, lower case, without full stop."""
    clauses: tuple[str, ...]
    """What it decides."""
    run: Callable[[Trial, S], Awaitable[None]]
    """Tries it."""
    limit_s: float = CHECK_LIMIT_S
    """How long it may take."""


@dataclass(slots=True)
class Suite(Generic[S]):
    """Checks of one kind of subject, in the order in which they run."""

    subject: str
    """What is tested, one word: car, bridge."""
    checks: list[Check[S]] = field(default_factory=list)
    """All of them."""

    def check(
        self, name: str, *clauses: str, limit_s: float = CHECK_LIMIT_S
    ) -> Callable[
        [Callable[[Trial, S], Awaitable[None]]], Callable[[Trial, S], Awaitable[None]]
    ]:
        """Add the decorated coroutine as a check."""
        if not clauses or any(one.name == name for one in self.checks):
            raise ValueError(f"a check needs clauses and a name of its own: {name!r}")

        def add(
            run: Callable[[Trial, S], Awaitable[None]],
        ) -> Callable[[Trial, S], Awaitable[None]]:
            self.checks.append(Check(name, clauses, run, limit_s))
            return run

        return add

    @property
    def clauses(self) -> tuple[str, ...]:
        """Every clause that the suite can decide, sorted."""
        return tuple(sorted({one for check in self.checks for one in check.clauses}))

    def selected(self, only: Iterable[str]) -> tuple[Check[S], ...]:
        """Return the checks of clauses that begin like one of `only`; all if empty."""
        wanted = tuple(one.upper() for one in only)
        return tuple(
            check
            for check in self.checks
            if not wanted or any(one.startswith(wanted) for one in check.clauses)
        )
