"""What a check found about one clause, and what several findings come to.

Rule 1: a verdict comes from bytes that were observed, or from their absence for a time
that is said. Rule 2: what could not be observed is "not reached", never "pass".
"""

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@enum.unique
class Verdict(enum.StrEnum):
    """What is said of one clause."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    """Observed as required, in everything that was tried."""
    FAIL = "fail"
    """Observed otherwise."""
    NOT_APPLICABLE = "not applicable"
    """The other side says that it does not have what the clause is about."""
    NOT_REACHED = "not reached"
    """Could not be tried: an input was missing, or a step before did not work."""


_GRAVEST_FIRST = (
    Verdict.FAIL,
    Verdict.NOT_REACHED,
    Verdict.PASS,
    Verdict.NOT_APPLICABLE,
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found about one clause."""

    clause: str
    """``FF-CMD-08``."""
    verdict: Verdict
    """What it comes to."""
    check: str
    """The check's name, a sentence of what the other side does."""
    sent: str
    """What was sent or done to it."""
    expected: str
    """What the clause requires then."""
    came: str
    """What came; why nothing could come, where it was not reached."""


def verdict_of(findings: Iterable[Finding]) -> Verdict:
    """Return what findings about one clause come to: the gravest of them."""
    verdicts = {finding.verdict for finding in findings}
    return next((one for one in _GRAVEST_FIRST if one in verdicts), Verdict.NOT_REACHED)


def by_clause(findings: Iterable[Finding]) -> Mapping[str, tuple[Finding, ...]]:
    """Return the findings of each clause, sorted by clause, each in their order."""
    found: dict[str, list[Finding]] = {}
    for finding in findings:
        found.setdefault(finding.clause, []).append(finding)
    return {clause: tuple(found[clause]) for clause in sorted(found)}
