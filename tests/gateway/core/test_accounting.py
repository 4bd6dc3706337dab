"""What money depends on: no clock and no power cut changes it (C27, I-28, I-29).

The stage here knows what time it truly is, apart from what any clock of the car says.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.core.accounting import GAP_LIMIT_MS, after_reboot, gap_ms
from gateway.core.moment import Moment
from gateway.core.prompts import Choice, Line, LineKey, Prompt, PromptKey
from gateway.core.turn import Decision
from protocol.board.message import Plug
from protocol.codes import ClockQuality, EnergyKind, LockDefault, RentalMode
from protocol.event import RentalEnded, RentalStarted, Resumed
from tests.gateway.core.scene import RENTAL, RESTING, START_WALL_MS, Scene

YEAR_MS: Final = 365 * 86_400_000
DAY_S: Final = 86_400.0
MONTH_MS: Final = 30 * 86_400_000


class TrueTime(Scene):
    """A scene whose wall clock lies as it is told to."""

    def __init__(self, *, kind: EnergyKind = EnergyKind.FUEL) -> None:
        self.true_ms = START_WALL_MS
        self.is_told = True
        """Whether fleet or satellites have told the time since the last boot."""
        super().__init__(replace(RESTING, energy_kind=kind))

    @property
    def now(self) -> Moment:
        trusted_ms = self.true_ms if self.is_told else None
        return Moment(self.boot_ms, self.wall_ms, self.quality, trusted_ms)

    def _pass_to(self, boot_ms: int) -> None:
        self.true_ms += max(0, boot_ms - self.boot_ms)
        super()._pass_to(boot_ms)

    def cut_power(self, off_s: float, *, wall_s: float | None = None) -> Decision:
        """Be without power, and start without knowing the time."""
        self.is_told = False
        self.true_ms += int(off_s * 1000)
        decision = self.restart(off_s=off_s, wall_s=wall_s)
        self.report()
        return decision


Step = Callable[[TrueTime], object]

SCRIPT: Final[tuple[Step, ...]] = (
    lambda scene: scene.tap(),
    lambda scene: scene.look_around(),
    lambda scene: scene.type_pin(),
    lambda scene: scene.advance(25),
    lambda scene: scene.drive_off(),
    lambda scene: scene.advance(600),
    lambda scene: scene.board(
        engine_running=False,
        ignition_on=False,
        speed_dkmh=0,
        odometer_m=12_350_000,
        energy_pct=18,
        washer_pct=55,
    ),
    lambda scene: scene.choose(Choice.REFUEL),
    lambda scene: scene.advance(240),
    lambda scene: scene.board(energy_pct=95, range_km=500),
    lambda scene: scene.choose(Choice.PAID_BY_CARD),
    lambda scene: scene.choose(Choice.REFUEL_DONE),
    lambda scene: scene.choose(Choice.PARK),
    lambda scene: scene.tap_later(),
    lambda scene: scene.advance(3_000),
    lambda scene: scene.tap(),
    lambda scene: scene.type_pin(),
    lambda scene: scene.advance(30),
    lambda scene: scene.board(washer_pct=95),
    lambda scene: scene.choose(Choice.END),
    lambda scene: scene.tap_later(),
)
"""A rental with everything that is billed: 3,907 s, 3,000 s of them parked."""

TOTAL_MS: Final = 3_907_000
PARKING_MS: Final = 3_000_000


def played(scene: TrueTime, before: Callable[[int], object]) -> RentalEnded:
    """Play the script, and let something else happen before each step."""
    scene.reserve()
    for number, step in enumerate(SCRIPT):
        before(number)
        step(scene)
    assert scene.mode is RentalMode.AVAILABLE
    return scene.one(RentalEnded)


def unlabelled(report: RentalEnded) -> RentalEnded:
    """Return a report without what wall clocks say."""
    return replace(
        report,
        started_wall_ms=0,
        ended_wall_ms=0,
        started_quality=ClockQuality.UNSET,
        ended_quality=ClockQuality.UNSET,
    )


def kinds_of(scene: Scene) -> list[list[type[object]]]:
    """Return the kinds of all entries, decision by decision."""
    return [[type(entry) for entry in each.entries] for each in scene.decisions]


def test_the_report_says_all_that_is_billed() -> None:
    # C23, C25, C27, H4, H5, H18: minutes, distance, levels, range, washer fluid
    report = played(TrueTime(), lambda _: None)

    assert report.rental_id == RENTAL
    assert (report.total_ms, report.parking_ms) == (TOTAL_MS, PARKING_MS)
    assert (report.driving_min, report.parking_min) == (16, 50)
    assert report.distance_m == 5_000
    assert (report.start_energy_pct, report.end_energy_pct) == (80, 95)
    assert (report.lowest_energy_pct, report.refuel_gain_pct) == (18, 77)
    assert (report.start_washer_pct, report.end_washer_pct) == (60, 95)
    assert report.range_km == 500
    assert not report.estimated


def test_an_electric_car_reports_its_charge_by_the_same_facts() -> None:
    # H13
    scene = TrueTime(kind=EnergyKind.ELECTRIC)

    report = played(
        scene, lambda step: scene.board(plug=Plug.IN if step == 8 else Plug.OUT)
    )

    assert (report.refuel_gain_pct, report.total_ms) == (77, TOTAL_MS)


@given(
    jumps_ms=st.lists(
        st.integers(-10 * YEAR_MS, 10 * YEAR_MS),
        min_size=len(SCRIPT),
        max_size=len(SCRIPT),
    ),
    qualities=st.lists(
        st.sampled_from(ClockQuality), min_size=len(SCRIPT), max_size=len(SCRIPT)
    ),
)
def test_a_wall_clock_ten_years_off_changes_no_fact(
    jumps_ms: list[int], qualities: list[ClockQuality]
) -> None:
    """I-29: before any step, by ten years either way, whatever quality it claims."""
    usual = TrueTime()
    expected = unlabelled(played(usual, lambda _: None))
    scene = TrueTime()

    def jump(step: int) -> None:
        scene.wall_ms = max(0, scene.wall_ms + jumps_ms[step])
        scene.quality = qualities[step]

    report = played(scene, jump)

    assert unlabelled(report) == expected
    kinds = [[type(entry) for entry in each.entries] for each in scene.decisions]
    assert kinds == [
        [type(entry) for entry in each.entries] for each in usual.decisions
    ]


@pytest.mark.parametrize("place", range(1, len(SCRIPT)))
def test_a_power_cut_before_any_step_costs_no_second_of_the_report(place: int) -> None:
    """I-28, C27: told the time again, the car puts right what it had assumed."""
    for off_s in (0.5, 100.0, 20 * DAY_S):
        scene = TrueTime()

        def cut(step: int, scene: TrueTime = scene, off_s: float = off_s) -> None:
            if step != place:
                return
            mode, rental = scene.mode, scene.rental
            was_released = scene.reading.engine_released
            scene.cut_power(off_s)
            assert scene.mode is mode
            assert scene.rental.reservation == rental.reservation
            assert scene.rental.pin_accepted is rental.pin_accepted
            assert scene.reading.engine_released is was_released
            scene.is_told = True

        report = played(scene, cut)

        off_ms = int(off_s * 1000)
        parked = 14 <= place <= 15
        assert report.total_ms == TOTAL_MS + off_ms
        assert report.parking_ms == PARKING_MS + (off_ms if parked else 0)
        assert report.estimated
        assert (report.distance_m, report.refuel_gain_pct) == (5_000, 77)
        assert (report.start_washer_pct, report.end_washer_pct) == (60, 95)
        assert scene.one(RentalStarted).rental_id == RENTAL


@given(
    cuts=st.lists(
        st.tuples(
            st.integers(1, len(SCRIPT) - 1),
            st.floats(0, 3 * DAY_S),
            st.integers(-10 * YEAR_MS, 10 * YEAR_MS),
            st.sampled_from(ClockQuality),
            st.booleans(),
        ),
        max_size=4,
        unique_by=lambda cut: cut[0],
    )
)
@example(
    # Found by chance: more parking than rental, and minutes below none.
    cuts=[
        (14, 0.0, 907_001, ClockQuality.RTC, False),
        (16, 0.0, 0, ClockQuality.UNSET, False),
    ]
)
def test_power_cuts_and_lying_clocks_together_bill_what_truly_passed(
    cuts: list[tuple[int, float, int, ClockQuality, bool]],
) -> None:
    """I-28, I-29: whatever was assumed, in the end the trusted time counts."""
    scene = TrueTime()
    planned = {cut[0]: cut for cut in cuts}

    def happen(step: int) -> None:
        if step in planned:
            _, off_s, jump_ms, quality, is_told = planned[step]
            scene.quality = quality
            scene.wall_ms = max(0, scene.wall_ms + jump_ms)
            scene.cut_power(off_s)
            scene.is_told = is_told
        elif step == len(SCRIPT) - 1:
            scene.is_told = True

    report = played(scene, happen)

    off_ms = sum(int(cut[1] * 1000) for cut in cuts)
    last_step_untold = len(SCRIPT) - 1 in planned and not planned[len(SCRIPT) - 1][4]
    if not last_step_untold:
        assert report.total_ms == TOTAL_MS + off_ms
    assert report.estimated is bool(cuts)
    assert 0 <= report.parking_ms <= report.total_ms


def test_a_wall_clock_that_jumps_in_the_dark_bills_no_years() -> None:
    """I-29: not even one that claims to be set by a time service."""
    scene = TrueTime()
    scene.rent()
    scene.advance(30)

    scene.cut_power(60, wall_s=10 * YEAR_MS / 1000)
    scene.advance(30)
    scene.tap()

    report = scene.one(RentalEnded)
    assert report.total_ms <= 120_000
    assert report.estimated


@pytest.mark.parametrize("lie_ms", [-YEAR_MS, YEAR_MS])
def test_a_time_far_from_when_the_power_went_is_not_believed(lie_ms: int) -> None:
    # I-28, I-29: satellites can be forged.
    scene = TrueTime()
    scene.rent()
    scene.advance(30)
    scene.cut_power(60)
    assumed_ms = scene.rental.carried_ms

    scene.true_ms += lie_ms
    scene.is_told = True
    scene.advance(1)

    assert scene.rental.carried_ms == assumed_ms
    assert scene.rental.outage is None


def test_a_stay_that_goes_on_is_put_right_too() -> None:
    # C25, I-28
    scene = TrueTime()
    scene.be(RentalMode.PARKED)
    scene.quality = ClockQuality.UNSET
    scene.cut_power(500)

    scene.is_told = True
    scene.advance(10)
    scene.tap_later()
    scene.tap_later()

    assert scene.one(RentalEnded).parking_ms == 516_000


def test_two_times_in_the_dark_are_put_right_as_one() -> None:
    # I-28: nobody told the time in between.
    scene = TrueTime()
    scene.be(RentalMode.PARKED)
    scene.quality = ClockQuality.UNSET
    scene.cut_power(500)
    scene.advance(20)
    scene.cut_power(300)
    scene.advance(10)
    counted = scene.rental.outage

    scene.is_told = True
    scene.tap_later()
    scene.tap_later()

    assert counted is not None
    assert counted.parked
    assert scene.one(RentalEnded).parking_ms == 500_000 + 20_000 + 300_000 + 16_000


def test_a_gap_is_told_by_trusted_times_first() -> None:
    # I-29
    last = Moment(9_000, 1_000, ClockQuality.NTP, 50_000)

    told = gap_ms(last, Moment(5, 10**12, ClockQuality.NTP, 57_000))
    backwards = gap_ms(last, Moment(5, 2_000, ClockQuality.NTP, 49_999))
    assumed = gap_ms(last, Moment(5, 4_000, ClockQuality.RTC))
    a_day = gap_ms(last, Moment(5, 1_000 + GAP_LIMIT_MS, ClockQuality.NTP))
    beyond = gap_ms(last, Moment(5, 1_001 + GAP_LIMIT_MS, ClockQuality.NTP))
    a_month = gap_ms(last, Moment(5, 0, ClockQuality.NTP, 50_000 + MONTH_MS))
    years = gap_ms(last, Moment(5, 0, ClockQuality.NTP, 50_001 + MONTH_MS))
    unset = gap_ms(last, Moment(5, 4_000, ClockQuality.UNSET))

    assert (told, backwards, assumed) == (7_000, None, 3_000)
    assert (a_month, years) == (MONTH_MS, None)
    assert (a_day, beyond, unset) == (GAP_LIMIT_MS, None, None)


def test_a_rental_that_never_knew_the_time_has_nothing_to_put_right() -> None:
    # I-28
    scene = TrueTime()
    scene.rent()
    last = Moment(scene.boot_ms, scene.wall_ms, ClockQuality.RTC)

    carried = after_reboot(scene.rental, last, replace(last, boot_ms=5))

    assert carried.outage is None
    assert carried.estimated


@pytest.mark.parametrize(
    ("range_km", "warned"), [(14, True), (15, True), (16, False), (None, False)]
)
def test_who_ends_with_too_little_range_is_warned(
    range_km: int | None, warned: bool
) -> None:
    # H4, N4, B21: exactly 15 km is too little.
    scene = TrueTime()
    scene.rent_and_release()
    scene.board(range_km=range_km)

    scene.choose(Choice.END)

    lines = (Line(LineKey.SHORT_RANGE, (range_km or 0, 15)),) if warned else ()
    assert scene.state.shown_prompt == Prompt(PromptKey.LOCK_TO_END, lines=lines)
    scene.choose(Choice.PARK)
    assert scene.state.shown_prompt == Prompt(PromptKey.LOCK_TO_PARK)


@pytest.mark.parametrize("default", list(LockDefault))
def test_who_would_end_by_locking_is_warned_before_it(default: LockDefault) -> None:
    # H4, B21, C28: also who locks without a choice ends, if that is the default.
    scene = TrueTime()
    scene.rent_and_release(lock_default=default)
    scene.drive()

    scene.board(range_km=15)

    warned = default is LockDefault.END
    lines = (Line(LineKey.SHORT_RANGE, (15, 15)),) if warned else ()
    assert scene.prompt is PromptKey.CHOOSE_NEXT
    assert scene.state.shown_prompt.lines == lines


def test_a_stay_that_is_over_before_anybody_tells_the_time_is_put_right_too() -> None:
    # C25, I-28: RESUMED told what was assumed, and the report tells what was so.
    scene = TrueTime()
    scene.be(RentalMode.PARKED)
    scene.quality = ClockQuality.UNSET
    scene.cut_power(500)
    scene.tap_later()

    scene.is_told = True
    scene.tap_later()

    assert scene.one(Resumed).parked_ms == 6_000
    assert scene.one(RentalEnded).parking_ms == 506_000
