"""The kit's own logic: what findings come to, and that every run ends in a report.

Clause ids are put together here, so that nobody takes these tests for the showing of a
clause.
"""

import asyncio
import json

import pytest

from tests.tools.command_line import freefloat, require_clear_failure
from tools.clauses import all_clauses
from tools.conformance.check import NotApplicableError, NotReachedError, Suite, Trial
from tools.conformance.command import select
from tools.conformance.report import exit_code, print_json_report, print_report
from tools.conformance.run import Progress, Run, run_checks
from tools.conformance.verdict import Finding, Verdict, by_clause, verdict_of
from tools.errors import OperatorError
from transport.errors import LinkError, LinkFailure

ONE, TWO, THREE = (f"FF-AAA-0{number}" for number in (1, 2, 3))
SAID = {"sent": "a thing", "expected": "another", "came": "nothing"}


def suite_of_three() -> Suite[list[str]]:
    suite = Suite[list[str]]("toy")

    @suite.check("does the first", ONE, TWO)
    async def first(trial: Trial, ran: list[str]) -> None:
        ran.append("first")
        trial.judge(ONE, True, **SAID)
        trial.judge(TWO, True, **SAID)

    @suite.check("does the second", TWO)
    async def second(trial: Trial, ran: list[str]) -> None:
        ran.append("second")
        trial.judge(TWO, False, **SAID)

    @suite.check("does the third", THREE)
    async def third(trial: Trial, ran: list[str]) -> None:
        ran.append("third")
        trial.judge(THREE, True, **SAID)

    return suite


async def verdicts(suite: Suite[list[str]]) -> dict[str, Verdict]:
    run = await run_checks(suite.selected(()), [])
    return {one: verdict_of(found) for one, found in by_clause(run.findings).items()}


async def test_one_failure_makes_a_clause_fail_and_no_other() -> None:
    assert await verdicts(suite_of_three()) == {
        ONE: Verdict.PASS,
        TWO: Verdict.FAIL,
        THREE: Verdict.PASS,
    }


def test_what_could_not_be_tried_is_no_pass() -> None:
    passed = Finding(ONE, Verdict.PASS, "", "", "", "")
    missing = Finding(ONE, Verdict.NOT_REACHED, "", "", "", "")

    assert verdict_of([passed, missing]) is Verdict.NOT_REACHED
    assert verdict_of([]) is Verdict.NOT_REACHED


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (NotReachedError("no key"), Verdict.NOT_REACHED),
        (NotApplicableError("has none"), Verdict.NOT_APPLICABLE),
        (LinkError("gone", failure=LinkFailure.LOST), Verdict.NOT_REACHED),
        (None, Verdict.NOT_REACHED),
    ],
)
async def test_a_check_that_ends_early_keeps_what_it_found_and_passes_nothing_else(
    error: Exception | None, verdict: Verdict
) -> None:
    suite = Suite[list[str]]("toy")

    @suite.check("ends early", ONE, TWO)
    async def ends(trial: Trial, _: list[str]) -> None:
        trial.judge(ONE, True, **SAID)
        if error is not None:
            raise error

    assert await verdicts(suite) == {ONE: Verdict.PASS, TWO: verdict}


async def test_a_check_that_hangs_is_ended_and_the_next_runs() -> None:
    suite = Suite[list[str]]("toy")

    @suite.check("hangs", ONE, limit_s=0.01)
    async def hangs(_trial: Trial, _: list[str]) -> None:
        await asyncio.Event().wait()

    @suite.check("goes on", TWO)
    async def goes_on(trial: Trial, _: list[str]) -> None:
        trial.judge(TWO, True, **SAID)

    assert await verdicts(suite) == {ONE: Verdict.NOT_REACHED, TWO: Verdict.PASS}


async def test_a_check_in_which_the_session_was_lost_runs_once_more() -> None:
    suite, sessions = Suite[list[str]]("toy"), [1]

    @suite.check("loses the session", ONE)
    async def loses(trial: Trial, ran: list[str]) -> None:
        ran.append("again")
        trial.judge(ONE, len(ran) > 1, **SAID)
        sessions[0] += 1

    @suite.check("keeps the session", TWO)
    async def keeps(trial: Trial, _: list[str]) -> None:
        trial.judge(TWO, False, **SAID)

    run = await run_checks(suite.selected(()), [], steady=lambda: sessions[0])

    assert [one.verdict for one in run.findings] == [Verdict.PASS, Verdict.FAIL]


async def test_an_interrupted_run_reports_what_it_found_until_then() -> None:
    suite = suite_of_three()
    waits = asyncio.Event()

    @suite.check("waits", f"{ONE[:-1]}4")
    async def wait(_trial: Trial, _: list[str]) -> None:
        waits.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(run_checks(suite.selected(()), []))
    await waits.wait()
    task.cancel()
    run = await task

    assert run.interrupted
    assert exit_code(run) == 130
    assert [one.verdict for one in run.findings][-1] is Verdict.NOT_REACHED
    assert Verdict.FAIL in {one.verdict for one in run.findings}


async def test_only_runs_and_reports_what_was_asked_for() -> None:
    suite, ran = suite_of_three(), list[str]()
    run = await run_checks(suite.selected([ONE]), ran, only=[ONE])

    assert ran == ["first"]
    assert list(by_clause(run.findings)) == [ONE]


def test_asking_for_a_clause_that_nothing_decides_says_where_they_are() -> None:
    with pytest.raises(OperatorError, match="FF-BBB") as error:
        select(suite_of_three(), ["FF-BBB"])
    assert "--list" in error.value.advice


def test_the_list_needs_no_car_and_every_clause_of_it_exists() -> None:
    done = freefloat("conformance", "car", "--list", "--json")

    assert done.returncode == 0, done.stderr
    decided = {one for check in json.loads(done.stdout) for one in check["clauses"]}
    assert len(decided) > 80
    assert decided <= {clause.id for clause in all_clauses()}


def test_a_run_without_its_inputs_says_which_is_missing() -> None:
    done = freefloat("conformance", "car", "--broker", "127.0.0.1:1")

    require_clear_failure(done, "--vehicle", code=2)


def test_a_finding_about_an_unannounced_clause_is_a_defect() -> None:
    with pytest.raises(ValueError, match=TWO):
        Trial("does", (ONE,)).judge(TWO, True, **SAID)


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ([Verdict.PASS, Verdict.NOT_APPLICABLE], 0),
        ([Verdict.PASS, Verdict.NOT_REACHED], 3),
        ([Verdict.FAIL, Verdict.NOT_REACHED], 1),
    ],
)
def test_the_exit_code_tells_failed_from_untried(
    found: list[Verdict], code: int
) -> None:
    findings = tuple(
        Finding(f"{ONE[:-1]}{number}", verdict, "", "", "", "")
        for number, verdict in enumerate(found, start=1)
    )
    assert exit_code(Run(findings, 1.0, interrupted=False)) == code


async def test_the_report_reads_without_colour_and_as_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told: list[Progress] = []
    run = await run_checks(suite_of_three().selected(()), [], observe=told.append)

    print_report(run, subject="toy A")
    text = capsys.readouterr().out
    assert f"FAIL         {TWO}  does the second" in text
    assert "expected  another" in text
    assert "2 passed, 1 failed, 0 not applicable, 0 not reached" in text
    assert [one.verdict for one in told[1::2]] == [
        Verdict.PASS, Verdict.FAIL, Verdict.PASS
    ]  # fmt: skip

    print_json_report(run, subject="toy A")
    document = json.loads(capsys.readouterr().out)
    assert document["counts"] == {
        "pass": 2, "fail": 1, "not applicable": 0, "not reached": 0
    }  # fmt: skip
    assert document["clauses"][1]["findings"][1]["came"] == "nothing"
