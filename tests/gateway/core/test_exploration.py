"""No reachable state of the abstracted core violates a safety invariant."""

import re
from collections.abc import Callable

import pytest

from gateway.core.appearance import light_of
from gateway.core.state import Handover, Rental, State
from protocol.codes import Light, RentalMode
from tests.depth import UNCOUNTED
from tests.gateway.core.alphabet import MEDIUM, SHORT, STRANGERS_TAP, WORKSHOP
from tests.gateway.core.exploration import explore

pytestmark = UNCOUNTED


@pytest.mark.timeout(1_200)  # seconds, and more with coverage on a loaded machine
def test_every_reachable_state_keeps_the_invariants(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """I-1 (M), I-2, I-12, I-16, I-17 (M), C21, H11: breadth first, all of it.

    Online payment and handover are part of it.
    """
    findings = explore(MEDIUM)

    with capsys.disabled():
        print(f"\n{findings}")  # noqa: T201 - the figures are the finding
    assert findings.violation is None, str(findings)
    assert findings.is_complete
    assert findings.modes == set(RentalMode)
    assert findings.states > 1_000


def test_service_update_and_rental_exclude_one_another_in_every_reachable_state() -> (
    None
):
    """I-17 (M): by command, card and update, with a disk that fails."""
    findings = explore((*SHORT, *WORKSHOP))

    assert findings.violation is None, str(findings)
    assert findings.is_complete
    assert findings.states > 100


@pytest.mark.parametrize(
    "question", ["orders.may_begin_service", "vehicle.may_begin_update"]
)
def test_a_car_that_asks_nobody_before_service_or_update_is_found(
    monkeypatch: pytest.MonkeyPatch, question: str
) -> None:
    # I-17 (M): the plants
    monkeypatch.setattr(f"gateway.core.{question}", lambda _state: True)

    findings = explore((*SHORT, *WORKSHOP))

    assert findings.violation is not None
    assert re.search("service in a rental|update in service", str(findings))


def _locks_whatever_stands_open(*_args: object) -> None:
    """Plant: no look at doors and engine before the bolts close (I-1)."""


def _holds_whatever_drives(*_args: object) -> None:
    """Plant: no look at speed and engine before the engine is held (I-2)."""


def _asks_before_the_card(state: State) -> Handover | None:
    """Plant: the second driver's PIN counts without card or app (H11)."""
    return None if state.rental is None else state.rental.handover


def _holds_no_engine(_rental: Rental) -> bool:
    """Plant: an open payment that holds nothing (C21)."""
    return False


def _knows_no_refusal(_state: State) -> tuple[Light, bool]:
    """Plant: a light that says free, whatever the state (I-16)."""
    return Light.GREEN, False


@pytest.mark.parametrize(
    ("where", "plant", "last_step"),
    [
        ("access.why_not_lock", _locks_whatever_stands_open, "the customer's card"),
        (
            "pin.second_at_wheel",
            _asks_before_the_card,
            "the second driver's right PIN",
        ),
        ("payment.holds", _holds_no_engine, None),
        ("orders.why_not_lock", _locks_whatever_stands_open, "order: lock to end"),
        ("orders.why_not_hold", _holds_whatever_drives, "order: hold the engine"),
        ("turn.light_of", _knows_no_refusal, None),
    ],
)
def test_a_planted_violation_is_found_with_a_shortest_way_to_it(
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    plant: Callable[..., object],
    last_step: str | None,
) -> None:
    # I-1, I-2, I-16, C21, H11: what the exploration is worth
    monkeypatch.setattr(f"gateway.core.{where}", plant)

    findings = explore(MEDIUM, limit=20_000)

    assert findings.violation is not None, str(findings)
    assert not findings.is_complete
    assert 1 <= len(findings.violation.way) <= 10
    if last_step is not None:
        assert findings.violation.way[-1] == last_step
    assert light_of(State())[0] is Light.FAULT_PATTERN


def test_a_card_that_is_taken_for_another_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # I-12
    monkeypatch.setattr("gateway.core.access._cards", lambda _state: (b"anything",))
    monkeypatch.setattr(
        "gateway.core.access.card_digest", lambda _rental_id, _uid: b"anything"
    )

    findings = explore((*SHORT, STRANGERS_TAP), limit=20_000)

    assert findings.violation is not None
    assert "I-12" in findings.violation.complaint
    assert findings.violation.way[-1] == "a stranger's card"
