"""`freefloat conformance bridge`: a bridge with one fault fails where it must only.

Each fault is planted into our bridge, which runs over a real broker. The whole suite
runs each time, since what passes beside a fault counts as much.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from bridge.ledger import Ledger, Placed, Placement, place
from bridge.ledger import Place as PlaceInLedger
from bridge.signer import InProcessReceiptSigner
from bridge.vehicle import HelloJudgement, VehicleState
from protocol.receipt import Receipt
from tests.tools.bridge_laboratory import examined, laboratory, with_verdict
from tools.conformance.bridge_subject import BRIDGE_SUITE, Patience
from tools.conformance.run import run_checks
from tools.conformance.verdict import Verdict

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]

PATIENCE: Final = Patience(answer_s=6.0, quiet_s=0.5)
"""Shorter than in a real test: faults make the kit wait for what never comes."""

Plant = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(autouse=True)
def challenges_come_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.steward.CHALLENGE_MS", 200)


def receipts_say(change: Callable[[Receipt], Receipt]) -> Plant:
    """Change every receipt before it is signed."""
    sign = InProcessReceiptSigner.sign

    def changed(self: InProcessReceiptSigner, receipt: Receipt, to: Any) -> bytes:
        return sign(self, change(receipt), to)

    return lambda patch: patch.setattr(InProcessReceiptSigner, "sign", changed)


def believes_any_signature(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("bridge.ingest.verify_frame", lambda *_, **__: None)


def merges_forks(patch: pytest.MonkeyPatch) -> None:
    def merging(
        ledger: Ledger, entry: PlaceInLedger, *, known_hash: bytes | None
    ) -> Placed:
        placed = place(ledger, entry, known_hash=known_hash)
        if placed.placement is not Placement.FORKED:
            return placed
        return Placed(Placement.DUPLICATE, replace(ledger, head_hash=entry.entry_hash))

    patch.setattr("bridge.projection.place", merging)


def ignores_what_went_back(patch: pytest.MonkeyPatch) -> None:
    judge = VehicleState.judge

    def credulous(self: VehicleState, *said: Any) -> HelloJudgement:
        judgement = judge(self, *said)
        is_old = judgement is HelloJudgement.REGRESSED
        return HelloJudgement.NEWER if is_old else judgement

    patch.setattr(VehicleState, "judge", credulous)


def never_asks_for_a_gap(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("bridge.store.gaps_of", lambda *_, **__: ())


def rejects_nothing(receipt: Receipt) -> Receipt:
    return replace(receipt, rejects=())


def names_another_hash(receipt: Receipt) -> Receipt:
    return replace(receipt, head_hash=bytes(31) + b"\1")


def is_one_beyond(receipt: Receipt) -> Receipt:
    return replace(receipt, upto=receipt.upto + 1)


@pytest.mark.parametrize(
    ("plant", "clauses"),
    [
        pytest.param(
            believes_any_signature,
            {"FF-SIG-03", "FF-SIG-04", "FF-SIG-05", "FF-SIG-06", "FF-SIG-07"},
            id="believes any signature",
        ),
        pytest.param(merges_forks, {"FF-LED-17"}, id="merges forks"),
        pytest.param(never_asks_for_a_gap, {"FF-LED-18"}, id="asks for nothing"),
        pytest.param(
            ignores_what_went_back,
            {"FF-HEL-09", "FF-SYN-10", "FF-LED-23"},
            id="takes hellos that went back",
        ),
        pytest.param(
            receipts_say(rejects_nothing),
            {"FF-RCP-11", "FF-ENR-14"},
            id="rejects nothing",
        ),
    ],
)
async def test_a_fault_fails_its_clauses_and_no_other(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    plant: Plant,
    clauses: set[str],
) -> None:
    """FF-SIG-07, FF-LED-17, FF-LED-18, FF-SYN-10, FF-RCP-11."""
    plant(monkeypatch)
    async with laboratory(tmp_path, broker="auto", patience=PATIENCE) as subject:
        run = await examined(subject)

    assert set(with_verdict(run, Verdict.FAIL)) == clauses, with_verdict(
        run, Verdict.FAIL
    )
    assert with_verdict(run, Verdict.NOT_REACHED) == {}


@pytest.mark.parametrize(
    ("plant", "clause"),
    [
        pytest.param(receipts_say(names_another_hash), "FF-SIG-16", id="wrong hash"),
        pytest.param(receipts_say(is_one_beyond), "FF-RCP-03", id="one beyond"),
    ],
)
async def test_wrong_receipts_fail_and_what_rests_on_them_does_not_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plant: Plant, clause: str
) -> None:
    """FF-RCP-03, FF-SIG-16: nearly all that the kit sees rests on receipts."""
    plant(monkeypatch)
    async with laboratory(tmp_path, broker="auto", patience=PATIENCE) as subject:
        run = await run_checks(BRIDGE_SUITE.selected(["FF-RCP-03"]), subject)

    assert clause in with_verdict(run, Verdict.FAIL)
