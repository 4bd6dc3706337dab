"""What is sent first, how much at once, and when again."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.uplink.schedule import (
    AGAIN_LIMIT,
    BATCH,
    FIRST_CREDIT,
    PATIENCE_LIMIT_MS,
    PATIENCE_MS,
    TELEMETRY_WINDOW,
    Overdue,
    Schedule,
    Wanted,
)

FIRST_MS = 6_000
"""The longest that a car waits for an answer to its first hello."""


def begun(share: float = 0.0) -> Schedule:
    """Return a schedule in its first session; its waits are the longest by default."""
    schedule = Schedule(random=lambda: share)
    schedule.begin_session(now_ms=0)
    return schedule


def send_all(schedule: Schedule, stored: range, *, now_ms: int = 0) -> list[int]:
    """Send until nothing more may go, as the uplink does; returns what went."""
    went: list[int] = []
    while (wanted := schedule.wanted()) is not None:
        seqs = [seq for seq in stored if seq >= wanted.first][: wanted.limit]
        schedule.sent(wanted, seqs, now_ms=now_ms)
        went.extend(seqs)
    return went


def test_a_session_begins_with_the_oldest_entry() -> None:
    assert begun().wanted() == Wanted(1, BATCH)


def test_entries_go_in_order_and_once() -> None:
    assert send_all(begun(), range(5, 12)) == list(range(5, 12))


def test_no_more_goes_than_there_is_credit_for() -> None:
    # FF-RCP-14.
    schedule = begun()

    assert len(send_all(schedule, range(1, 100))) == FIRST_CREDIT
    schedule.receipted(10, credit=3, gaps=(), now_ms=0)
    assert send_all(schedule, range(11, 100)) == []
    schedule.receipted(FIRST_CREDIT, credit=3, gaps=(), now_ms=0)
    assert send_all(schedule, range(33, 100)) == [33, 34, 35]


def test_new_entries_are_wanted_when_the_store_grew() -> None:
    schedule = begun()
    send_all(schedule, range(1, 4))
    assert schedule.wanted() is None

    schedule.entries_grew()

    assert schedule.wanted() == Wanted(4, BATCH)


def test_gaps_go_before_everything_else() -> None:
    # FF-RCP-13.
    schedule = begun()
    send_all(schedule, range(1, 11))
    schedule.entries_grew()

    schedule.receipted(2, credit=64, gaps=((4, 5), (8, 8)), now_ms=0)

    assert send_all(schedule, range(3, 13)) == [4, 5, 8, 11, 12]


def test_a_gap_of_what_was_not_sent_yet_changes_nothing() -> None:
    schedule = begun()
    send_all(schedule, range(1, 4))

    schedule.receipted(3, credit=64, gaps=((4, 9),), now_ms=0)

    assert send_all(schedule, range(4, 8)) == [4, 5, 6, 7]


def test_a_gap_of_rejected_entries_ends() -> None:
    schedule = begun()
    send_all(schedule, range(1, 6))
    schedule.receipted(1, credit=64, gaps=((2, 3),), now_ms=0)

    wanted = schedule.wanted()
    assert wanted == Wanted(2, 2)
    schedule.sent(wanted, [4, 5], now_ms=0)

    assert schedule.wanted() != Wanted(2, 2)


def test_a_new_session_sends_everything_again() -> None:
    schedule = begun()
    send_all(schedule, range(1, 4))

    schedule.begin_session(now_ms=0)

    assert send_all(schedule, range(1, 4)) == [1, 2, 3]


def test_receipts_of_another_session_do_not_put_the_hello_off() -> None:
    # FF-HEL-03: a car that drives has an entry every few seconds.
    schedule = begun()
    for seq, at_ms in enumerate((1_000, 3_000, 5_000), start=1):
        schedule.entries_grew()
        schedule.sent(Wanted(seq, 1), [seq], now_ms=at_ms)
        schedule.receipted(seq, credit=32, gaps=(), now_ms=at_ms)

    assert schedule.overdue(now_ms=FIRST_MS - 1) is None
    assert schedule.overdue(now_ms=FIRST_MS) is Overdue.HELLO


def test_a_session_that_nobody_answers_is_announced_again_ever_more_rarely() -> None:
    # FF-HEL-03.
    schedule, now_ms, waits = begun(), 0, []
    for _ in range(8):
        at_ms = schedule.overdue_at_ms()
        assert at_ms is not None
        assert schedule.overdue(now_ms=at_ms - 1) is None
        assert schedule.overdue(now_ms=at_ms) is Overdue.HELLO
        waits.append(at_ms - now_ms)
        now_ms = at_ms
        schedule.begin_session(now_ms=now_ms)

    assert waits[:3] == [FIRST_MS, 2 * FIRST_MS, 4 * FIRST_MS]
    assert waits[-1] == PATIENCE_LIMIT_MS


def test_a_hello_is_said_again_within_seconds_and_not_before_a_slow_link_answers() -> (
    None
):
    # A second of the bridge's, and the longest round trip of a link that was made.
    latest, earliest = begun(0.0).overdue_at_ms(), begun(1.0).overdue_at_ms()

    assert latest == FIRST_MS
    assert earliest == 4_500


def test_an_answer_renews_the_patience_with_hellos() -> None:
    schedule = begun()
    for _ in range(5):
        schedule.begin_session(now_ms=0)
    schedule.heard()

    schedule.begin_session(now_ms=100_000)

    assert schedule.overdue_at_ms() == 100_000 + FIRST_MS


def test_hellos_do_not_cost_the_patience_with_receipts() -> None:
    schedule = begun()
    schedule.overdue(now_ms=FIRST_MS)
    schedule.begin_session(now_ms=FIRST_MS)
    schedule.heard()
    send_all(schedule, range(1, 3), now_ms=10_000)

    assert schedule.overdue_at_ms() == 10_000 + PATIENCE_MS


def test_entries_without_a_receipt_are_sent_again_in_a_session_that_lives() -> None:
    schedule = begun()
    schedule.heard()
    send_all(schedule, range(3, 6), now_ms=1_000)

    assert schedule.overdue_at_ms() == 1_000 + PATIENCE_MS
    assert schedule.overdue(now_ms=1_000 + PATIENCE_MS) is Overdue.RECEIPT

    assert send_all(schedule, range(3, 6)) == [3, 4, 5]


def test_a_receipt_that_frees_something_renews_the_patience() -> None:
    schedule = begun()
    schedule.heard()
    send_all(schedule, range(1, 6))
    schedule.overdue(now_ms=PATIENCE_MS)
    send_all(schedule, range(1, 6))

    schedule.receipted(2, credit=64, gaps=(), now_ms=20_000)

    assert schedule.overdue_at_ms() == 20_000 + PATIENCE_MS


def test_nothing_is_awaited_when_all_is_receipted() -> None:
    schedule = begun()
    schedule.heard()
    send_all(schedule, range(1, 6))

    schedule.receipted(5, credit=64, gaps=(), now_ms=0)

    assert schedule.overdue_at_ms() is None


def test_a_range_that_the_fleet_asks_for_goes_again_before_everything_else() -> None:
    # FF-SYN-07.
    schedule = begun()
    send_all(schedule, range(1, 11))
    schedule.entries_grew()

    schedule.resend(3, 4)
    schedule.resend(9, 50)
    schedule.resend(12, 20)

    assert send_all(schedule, range(1, 13)) == [3, 4, 9, 10, 11, 12]


def test_ranges_that_wait_are_bounded() -> None:
    schedule = begun()
    send_all(schedule, range(1, 11))

    for _ in range(10 * AGAIN_LIMIT):
        schedule.resend(1, 2)

    assert len(schedule._again) == AGAIN_LIMIT


def test_telemetry_has_a_window_of_its_own_and_leaves_that_of_entries_alone() -> None:
    # FF-LED-13: the end of a rental waits for two frames of telemetry at most.
    schedule = begun()
    sent = 0
    while schedule.may_send_telemetry():
        schedule.telemetry_sent()
        sent += 1
    assert sent == TELEMETRY_WINDOW

    schedule.begin_session(now_ms=0)
    assert not schedule.may_send_telemetry()
    assert len(send_all(schedule, range(1, 20))) == 19

    schedule.telemetry_arrived()
    assert schedule.may_send_telemetry()


def test_telemetry_waits_for_entries_that_only_lack_credit() -> None:
    # FF-TEL-07, row 13: what the rental was comes first, however long the outage was.
    schedule, stored = begun(), range(1, FIRST_CREDIT + 2)
    send_all(schedule, stored)
    assert not schedule.may_send_telemetry()

    schedule.receipted(FIRST_CREDIT - 1, credit=1, gaps=(), now_ms=0)
    assert not send_all(schedule, stored)
    assert not schedule.may_send_telemetry()

    schedule.receipted(FIRST_CREDIT, credit=2, gaps=(), now_ms=0)
    assert send_all(schedule, stored) == [FIRST_CREDIT + 1]
    assert schedule.may_send_telemetry()


def test_telemetry_waits_for_what_the_fleet_asks_for_again() -> None:
    # FF-TEL-07.
    schedule, stored = begun(), range(1, 5)
    send_all(schedule, stored)

    schedule.receipted(1, credit=1, gaps=((2, 4),), now_ms=0)
    assert send_all(schedule, stored) == [2]
    assert not schedule.may_send_telemetry()


def test_telemetry_waits_no_longer_for_a_fleet_that_gives_no_receipts() -> None:
    # FF-TEL-07: a fleet that stores nothing still sees its cars.
    schedule, stored = begun(), range(1, 2 * FIRST_CREDIT + 1)
    schedule.heard()
    send_all(schedule, stored)

    assert schedule.overdue(now_ms=PATIENCE_MS) is Overdue.RECEIPT
    send_all(schedule, stored, now_ms=PATIENCE_MS)
    assert schedule.may_send_telemetry()

    schedule.receipted(1, credit=1, gaps=(), now_ms=PATIENCE_MS)
    assert not schedule.may_send_telemetry()


def test_telemetry_waits_for_no_entry_that_the_fleet_wants_none_of() -> None:
    # FF-TEL-07: without credit and with nothing under way nobody can say when.
    schedule = begun()

    schedule.receipted(0, credit=0, gaps=(), now_ms=0)

    assert schedule.wanted() is None
    assert schedule.may_send_telemetry()


@given(
    receipts=st.lists(
        st.tuples(
            st.integers(0, 40),
            st.integers(0, 20),
            st.integers(1, 40),
            st.integers(0, 5),
        ),
        max_size=12,
    ),
    stored=st.integers(0, 40),
)
def test_whatever_receipts_come_nothing_goes_twice_unasked_or_beyond_credit(
    receipts: list[tuple[int, int, int, int]], stored: int
) -> None:
    # FF-RCP-14.
    schedule = begun()
    under_way: set[int] = set(send_all(schedule, range(1, stored + 1)))
    upto = 0
    for receipt, credit, first, length in receipts:
        upto = max(upto, min(receipt, stored))
        gap = (first, first + length)
        schedule.receipted(upto, credit=credit, gaps=(gap,), now_ms=0)
        under_way = {seq for seq in under_way if seq > upto}
        asked = {seq for seq in under_way if gap[0] <= seq <= gap[1]}
        before = under_way - asked

        went = send_all(schedule, range(upto + 1, stored + 1))

        assert not before & set(went)
        assert len(went) == len(set(went))
        under_way = before | set(went)
        assert not went or len(under_way) <= max(credit, len(before))


@given(credits=st.lists(st.integers(1, 10), min_size=1, max_size=60))
def test_with_any_credit_above_zero_everything_arrives(credits: list[int]) -> None:  # noqa: A002 - a fleet's word for it
    schedule, arrived = begun(), 0
    for credit in credits:
        went = send_all(schedule, range(arrived + 1, 31))
        if went:
            assert went == list(range(went[0], went[-1] + 1))
            arrived = max(arrived, went[-1])
        schedule.receipted(arrived, credit=credit, gaps=(), now_ms=0)

    assert arrived >= min(30, FIRST_CREDIT)
