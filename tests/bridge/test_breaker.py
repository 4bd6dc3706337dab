"""A breaker calls nobody while it is open, and always closes again (I-32)."""

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bridge.breaker import Breaker, BreakerLimits, BreakerState

LIMITS = BreakerLimits(window=6, least=4, wait_s=2.0, longest_wait_s=8.0, probes=2)


def fail(breaker: Breaker, times: int, now_s: float = 0.0) -> None:
    for _ in range(times):
        ticket = breaker.admit(now_s)
        assert ticket is not None
        breaker.failed(ticket, now_s)


def succeed(breaker: Breaker, times: int, now_s: float = 0.0) -> None:
    for _ in range(times):
        ticket = breaker.admit(now_s)
        assert ticket is not None
        breaker.succeeded(ticket)


def test_few_failures_open_nothing() -> None:
    breaker = Breaker(LIMITS)

    fail(breaker, LIMITS.least - 1)

    assert breaker.state is BreakerState.CLOSED


def test_half_of_the_window_failing_opens_it_and_nobody_is_called() -> None:
    breaker = Breaker(LIMITS)
    succeed(breaker, 2)

    fail(breaker, 2)

    assert breaker.state is BreakerState.OPEN
    assert breaker.admit(1.99) is None
    assert breaker.wait_s(0.5) == pytest.approx(1.5)


def test_old_outcomes_leave_the_window() -> None:
    breaker = Breaker(LIMITS)
    succeed(breaker, 100)

    states = []
    for _ in range(3):
        fail(breaker, 1)
        states.append(breaker.state)

    assert states == [BreakerState.CLOSED, BreakerState.CLOSED, BreakerState.OPEN]


def test_as_many_probes_as_allowed_go_through_and_close_it() -> None:
    breaker = Breaker(LIMITS)
    fail(breaker, 4)

    first, second = breaker.admit(2.0), breaker.admit(2.0)

    assert breaker.admit(2.0) is None
    assert first is not None
    assert second is not None
    breaker.succeeded(first)
    assert breaker.admit(2.0) is None
    breaker.succeeded(second)
    assert breaker.state is BreakerState.CLOSED
    assert breaker.admit(2.0) is not None


def test_a_probe_that_fails_makes_the_wait_twice_as_long_up_to_a_ceiling() -> None:
    breaker = Breaker(LIMITS)
    fail(breaker, 4)
    now_s, waits = 0.0, []
    for _ in range(5):
        waits.append(breaker.wait_s(now_s))
        now_s += waits[-1]
        fail(breaker, 1, now_s)

    assert waits == [2.0, 4.0, 8.0, 8.0, 8.0]


def test_a_late_answer_to_a_call_from_before_says_nothing() -> None:
    breaker = Breaker(LIMITS)
    late = breaker.admit(0.0)
    fail(breaker, 4)
    assert late is not None

    breaker.succeeded(late)
    breaker.failed(late, 0.0)

    assert breaker.state is BreakerState.OPEN
    assert breaker.openings == 1


def test_one_event_that_fails_again_and_again_opens_nothing_by_itself() -> None:
    breaker = Breaker(LIMITS)
    for number in range(50):
        ticket = breaker.admit(0.0)
        assert ticket is not None
        breaker.failed(ticket, 0.0, is_repeat=number > 0)

    assert breaker.state is BreakerState.CLOSED


def test_a_probe_that_was_cancelled_leaves_room_for_another() -> None:
    breaker = Breaker(LIMITS)
    fail(breaker, 4)
    for _ in range(10):
        ticket = breaker.admit(2.0)
        assert ticket is not None
        breaker.withdrawn(ticket)

    succeed(breaker, 2, 2.0)

    assert breaker.state is BreakerState.CLOSED


@dataclass
class Consumer:
    is_up: bool = True
    under_way: list[int] = field(default_factory=list)
    proved: Counter[int] = field(default_factory=Counter)
    """By ticket, how many calls were answered well."""


class BreakerLife(RuleBasedStateMachine):
    """I-32 (P): open means no calls but probes; it closes soon after a recovery."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(LIMITS)
        self.consumer = Consumer()
        self.now_s = 0.0

    @rule(quarters=st.integers(0, 80))
    def time_passes(self, quarters: int) -> None:
        # Quarters of seconds are exact, so a sum of them meets a wait exactly.
        self.now_s += quarters / 4

    @rule(is_up=st.booleans())
    def the_consumer_changes(self, is_up: bool) -> None:
        self.consumer.is_up = is_up

    @rule()
    def its_wait_is_over(self) -> None:
        self.now_s += self.breaker.wait_s(self.now_s)

    @rule()
    def an_outage_fails_whatever_is_asked(self) -> None:
        # Alone, answers by chance hardly ever open it.
        self.consumer.is_up = False
        for _ in range(LIMITS.window):
            ticket = self.breaker.admit(self.now_s)
            if ticket is None:
                break
            self.breaker.failed(ticket, self.now_s)
        assert self.breaker.state is not BreakerState.CLOSED

    @rule(times=st.integers(1, LIMITS.probes + 1))
    def somebody_asks(self, times: int) -> None:
        for _ in range(times):
            was = self.breaker.state
            waits = self.breaker.wait_s(self.now_s)
            ticket = self.breaker.admit(self.now_s)
            if was is BreakerState.OPEN and waits > 0:
                assert ticket is None
            if was is BreakerState.CLOSED:
                assert ticket is not None
            if ticket is not None:
                self.consumer.under_way.append(ticket)
            if ticket is not None and self.breaker.state is BreakerState.HALF_OPEN:
                probing = self.consumer.under_way.count(ticket)
                assert probing + self.consumer.proved[ticket] <= LIMITS.probes

    @precondition(lambda self: self.consumer.under_way)
    @rule(place=st.integers(0, 100), is_repeat=st.booleans())
    def an_answer_comes(self, place: int, is_repeat: bool) -> None:
        waiting = self.consumer.under_way
        ticket = waiting.pop(place % len(waiting))
        if self.consumer.is_up:
            self.consumer.proved[ticket] += 1
            self.breaker.succeeded(ticket)
        else:
            self.breaker.failed(ticket, self.now_s, is_repeat=is_repeat)

    @precondition(lambda self: self.consumer.under_way)
    @rule(place=st.integers(0, 100))
    def a_call_is_cancelled(self, place: int) -> None:
        waiting = self.consumer.under_way
        self.breaker.withdrawn(waiting.pop(place % len(waiting)))

    @rule()
    def the_consumer_recovers_and_all_is_asked(self) -> None:
        """It closes within its wait and as many answers as there are probes."""
        self.consumer.is_up = True
        while self.consumer.under_way:
            self.breaker.succeeded(self.consumer.under_way.pop())
        self.now_s += self.breaker.wait_s(self.now_s)
        for _ in range(LIMITS.probes):
            ticket = self.breaker.admit(self.now_s)
            assert ticket is not None
            self.breaker.succeeded(ticket)
        assert self.breaker.state is BreakerState.CLOSED

    @invariant()
    def it_never_waits_longer_than_its_ceiling(self) -> None:
        assert 0.0 <= self.breaker.wait_s(self.now_s) <= LIMITS.longest_wait_s


BreakerLife.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestBreakerLife = BreakerLife.TestCase
