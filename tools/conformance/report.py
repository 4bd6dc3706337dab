"""The report of a run: for people, and as JSON.

A line for each clause; what was sent, expected and seen under each that failed, or with
``--details`` under each. It reads the same without colour.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import Final

import click

from tools.conformance.check import Check, S
from tools.conformance.run import Progress, Run
from tools.conformance.verdict import Finding, Verdict, by_clause, verdict_of
from tools.console import heading, print_json
from tools.errors import EXIT_FAILED, EXIT_INTERRUPTED

EXIT_UNPROVED: Final = 3
"""No clause failed, and some that were asked for could not be tried."""

_WORDS: Final = {
    Verdict.PASS: ("pass", "green"),
    Verdict.FAIL: ("FAIL", "red"),
    Verdict.NOT_APPLICABLE: ("n/a", "blue"),
    Verdict.NOT_REACHED: ("not reached", "yellow"),
}

_WIDTH: Final = max(len(word) for word, _ in _WORDS.values())


def exit_code(run: Run) -> int:
    """Return 0 if every clause passed or does not apply, 1 if one failed, else 3."""
    if run.interrupted:
        return EXIT_INTERRUPTED
    verdicts = {verdict_of(found) for found in by_clause(run.findings).values()}
    if Verdict.FAIL in verdicts:
        return EXIT_FAILED
    return EXIT_UNPROVED if Verdict.NOT_REACHED in verdicts else 0


def tell_progress(progress: Progress) -> None:
    """Print a line on stderr when a check has ended; stdout is the report's."""
    if progress.verdict is None:
        return
    number = f"{progress.number:>{len(str(progress.total))}}/{progress.total}"
    click.echo(f"{number}  {_mark(progress.verdict)}  {progress.check}", err=True)


def print_report(run: Run, *, subject: str, details: bool = False) -> None:
    """Print a run for people.

    Args:
        run: what was found.
        subject: what was tested, for the first line.
        details: show under each clause what was tried, not only where it failed.
    """
    found = by_clause(run.findings)
    heading(f"{subject}: {len(found)} clauses")
    for part, clauses in groupby(found, key=lambda clause: clause.rpartition("-")[0]):
        click.echo()
        heading(part)
        for clause in clauses:
            _print_clause(clause, found[clause], details=details)
    click.echo()
    ended = ", interrupted" if run.interrupted else ""
    heading(f"{_summary(run)}; {run.duration_s:.0f} s{ended}")


def print_json_report(run: Run, *, subject: str) -> None:
    """Print a run as one JSON document."""
    found = by_clause(run.findings)
    print_json(
        {
            "subject": subject,
            "duration_s": round(run.duration_s, 1),
            "interrupted": run.interrupted,
            "counts": {one.value: _counts(run)[one] for one in Verdict},
            "clauses": [
                {
                    "clause": clause,
                    "verdict": verdict_of(findings).value,
                    "findings": [
                        {
                            "check": one.check,
                            "verdict": one.verdict.value,
                            "sent": one.sent,
                            "expected": one.expected,
                            "came": one.came,
                        }
                        for one in findings
                    ],
                }
                for clause, findings in found.items()
            ],
        }
    )


def print_list(checks: Sequence[Check[S]], *, as_json: bool) -> None:
    """Print which checks there are and what each decides; nothing is run."""
    if as_json:
        print_json([{"check": one.name, "clauses": one.clauses} for one in checks])
        return
    for check in checks:
        heading(check.name)
        click.echo(f"  {' '.join(check.clauses)}")


def _print_clause(clause: str, findings: Sequence[Finding], *, details: bool) -> None:
    verdict = verdict_of(findings)
    decisive = [one for one in findings if one.verdict is verdict]
    click.echo(f"  {_mark(verdict)}  {clause}  {decisive[0].check}")
    shown = findings if details else decisive
    if not details and verdict in {Verdict.PASS, Verdict.NOT_APPLICABLE}:
        return
    for finding in shown:
        if details or len(shown) > 1:
            click.echo(_under("check", f"{finding.check}: {finding.verdict}"))
        for label, text in (
            ("sent", finding.sent),
            ("expected", finding.expected),
            ("came" if finding.sent else "why", finding.came),
        ):
            if text:
                click.echo(_under(label, text))


def _under(label: str, text: str) -> str:
    return f"  {'':{_WIDTH}}  {click.style(label.ljust(10), dim=True)}{text}"


def _mark(verdict: Verdict) -> str:
    word, colour = _WORDS[verdict]
    return click.style(word.ljust(_WIDTH), fg=colour)


def _counts(run: Run) -> Counter[Verdict]:
    return Counter(verdict_of(one) for one in by_clause(run.findings).values())


def _summary(run: Run) -> str:
    counts = _counts(run)
    words = {
        Verdict.PASS: "passed",
        Verdict.FAIL: "failed",
        Verdict.NOT_APPLICABLE: "not applicable",
        Verdict.NOT_REACHED: "not reached",
    }
    return ", ".join(f"{counts[one]} {word}" for one, word in words.items())
