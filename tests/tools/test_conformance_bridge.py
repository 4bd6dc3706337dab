"""`freefloat conformance bridge`: our bridge keeps every clause that it decides."""

from pathlib import Path

import pytest

from tests.tools.bridge_laboratory import examined, laboratory, with_verdict
from tools.conformance.bridge_subject import BRIDGE_SUITE, Patience
from tools.conformance.verdict import Verdict

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]

PATIENCE = Patience(answer_s=30.0, quiet_s=0.5)


@pytest.fixture(autouse=True)
def challenges_come_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.steward.CHALLENGE_MS", 200)


@pytest.mark.parametrize(
    "broker", [pytest.param("mosquitto", marks=pytest.mark.mosquitto), "nats"]
)
async def test_our_bridge_passes_every_clause(tmp_path: Path, broker: str) -> None:
    """FF-RCP-03, FF-LED-16 to FF-LED-18, FF-SYN-10, FF-TRU-24, FF-ENR-15."""
    async with laboratory(tmp_path, broker=broker, patience=PATIENCE) as subject:
        run = await examined(subject)

    passed = with_verdict(run, Verdict.PASS)
    others = {
        verdict: with_verdict(run, verdict)
        for verdict in Verdict
        if verdict is not Verdict.PASS and with_verdict(run, verdict)
    }
    assert others == {}
    assert set(passed) == set(BRIDGE_SUITE.clauses)
