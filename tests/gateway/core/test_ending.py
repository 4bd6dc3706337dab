"""What is missing to end a rental, and what locking means without a choice."""

from dataclasses import replace
from itertools import combinations

import pytest

from gateway.catalogue.words import words_of
from gateway.core.ending import FIX_LIMIT_MS
from gateway.core.events import ConfigurationTold, PositionFixed
from gateway.core.prompts import Choice, Line, LineKey, Prompt, PromptKey
from gateway.core.reading import Position
from protocol.business_area import BusinessArea, build_business_area
from protocol.codes import Code, ConfigKind, LockDefault, LockMode, RentalMode
from protocol.command import ANY_VERSION
from protocol.event import RentalEnded
from protocol.rental_command import SetDefaultMode
from tests.gateway.core.scene import OTHER_RENTAL, RENTAL, Scene, lock

CITY = ((480_000_000, 110_000_000), (480_000_000, 120_000_000),
        (490_000_000, 120_000_000), (490_000_000, 110_000_000))  # fmt: skip
INSIDE = Position(485_000_000, 115_000_000, 30, 90)
OUTSIDE = Position(475_000_000, 115_000_000, 30, 90)
VAGUE = Position(475_000_000, 115_000_000, 501, 90)

HINDRANCES: dict[LineKey, dict[str, object]] = {
    LineKey.MISSING_ENGINE: {"ignition_on": True},
    LineKey.MISSING_DOORS: {"door_open": True},
    LineKey.MISSING_BOOT: {"boot_open": True},
    LineKey.MISSING_KEY: {"key_present": False},
    LineKey.MISSING_FUEL_CARD: {"fuel_card_present": False},
}


def about_to_end(*, area: bool = False, position: Position | None = None) -> Scene:
    scene = Scene()
    if area:
        body = build_business_area(BusinessArea((CITY,), ()))
        scene.happen(ConfigurationTold(ConfigKind.BUSINESS_AREA, body))
    if position is not None:
        scene.happen(PositionFixed(position))
    scene.rent_and_release()
    scene.advance(6)
    return scene


@pytest.mark.parametrize(
    "missing",
    [keys for size in (1, 2, 5) for keys in combinations(HINDRANCES, size)],
)
def test_the_car_says_everything_that_is_missing_stays_rented_and_open(
    missing: tuple[LineKey, ...],
) -> None:
    # H20
    scene = about_to_end()
    for key in missing:
        scene.board(**HINDRANCES[key])

    scene.tap()

    assert scene.prompt is PromptKey.MISSING_TO_END
    assert tuple(line.key for line in scene.state.shown_prompt.lines) == missing
    assert scene.mode is RentalMode.STOPPED
    assert not scene.reading.locked
    assert scene.reading.engine_released


def test_what_is_missing_is_said_in_words() -> None:
    # H20
    scene = about_to_end()
    scene.board(boot_open=True, key_present=False)

    scene.tap()

    assert words_of(scene.state.shown_prompt).splitlines() == [
        "To end the rental, please:",
        "close the boot",
        "put the key into its holder",
    ]


@pytest.mark.parametrize("position", [INSIDE, VAGUE, None])
def test_a_rental_ends_inside_the_area_and_where_nobody_knows_the_place(
    position: Position | None,
) -> None:
    # H20, I-19
    scene = about_to_end(area=True, position=position)

    scene.tap()

    assert scene.mode is RentalMode.AVAILABLE


def test_a_rental_does_not_end_outside_the_area() -> None:
    # H20
    scene = about_to_end(area=True, position=OUTSIDE)

    scene.tap()

    assert [line.key for line in scene.state.shown_prompt.lines] == [
        LineKey.MISSING_AREA
    ]
    assert scene.mode is RentalMode.STOPPED
    assert scene.answer(lock(LockMode.END)).code is Code.OUT_OF_ZONE
    assert not scene.reading.locked


@pytest.mark.parametrize(
    ("age_ms", "code"),
    [(FIX_LIMIT_MS, Code.OUT_OF_ZONE), (FIX_LIMIT_MS + 1, Code.OK)],
)
def test_the_last_fix_of_a_dead_receiver_holds_the_customer_for_ten_minutes(
    age_ms: int, code: Code
) -> None:
    # H20, I-19
    scene = about_to_end(area=True)
    scene.happen(PositionFixed(replace(OUTSIDE, age_ms=age_ms)))

    assert scene.answer(lock(LockMode.END)).code is code


def test_a_car_whose_receiver_died_outside_says_so_until_nobody_knows_the_place() -> (
    None
):
    # H20, I-19
    scene = about_to_end(area=True, position=OUTSIDE)
    scene.tap()
    assert scene.prompt is PromptKey.MISSING_TO_END

    scene.advance(FIX_LIMIT_MS // 1_000)
    scene.report()
    scene.tap()

    assert scene.told(RentalEnded)


def test_a_car_outside_the_area_can_be_parked() -> None:
    scene = about_to_end(area=True, position=OUTSIDE)
    scene.choose(Choice.PARK)

    scene.tap()

    assert scene.mode is RentalMode.PARKED
    assert scene.answer(lock(LockMode.END)).code is Code.OUT_OF_ZONE
    assert scene.mode is RentalMode.PARKED


def test_without_an_area_a_rental_ends_everywhere() -> None:
    # H20
    scene = about_to_end(position=OUTSIDE)

    scene.tap()

    assert scene.told(RentalEnded)


def set_default(default: LockDefault, rental_id: bytes = RENTAL) -> SetDefaultMode:
    return SetDefaultMode(rental_id, ANY_VERSION, default)


@pytest.mark.parametrize("by_card", [True, False])
@pytest.mark.parametrize("reserved", list(LockDefault))
@pytest.mark.parametrize("changed", [None, *LockDefault])
@pytest.mark.parametrize("chosen", [None, Choice.PARK, Choice.END])
def test_locking_means_the_choice_else_the_newest_default(
    reserved: LockDefault,
    changed: LockDefault | None,
    chosen: Choice | None,
    *,
    by_card: bool,
) -> None:
    # C28, H8: by card and by app alike; an explicit choice always wins
    scene = Scene()
    scene.rent_and_release(lock_default=reserved)
    scene.drive()
    if chosen is not None:
        scene.choose(chosen)
    if changed is not None:
        assert scene.answer(set_default(changed)).code is Code.OK
    scene.advance(6)

    if by_card:
        scene.tap()
    else:
        scene.answer(lock(LockMode.DEFAULT))

    default = reserved if changed is None else changed
    parks = default is LockDefault.PARK if chosen is None else chosen is Choice.PARK
    assert scene.mode is (RentalMode.PARKED if parks else RentalMode.AVAILABLE)


def test_a_default_can_be_changed_before_the_car_is_opened() -> None:
    # H8
    scene = Scene()
    scene.reserve(lock_default=LockDefault.END)
    scene.order(set_default(LockDefault.PARK))
    scene.tap()
    scene.type_pin()

    scene.tap_later()

    assert scene.mode is RentalMode.PARKED


def test_a_default_of_another_rental_changes_nothing() -> None:
    scene = Scene()
    scene.rent()

    result = scene.answer(set_default(LockDefault.PARK, OTHER_RENTAL))

    assert result.code is Code.WRONG_RENTAL
    assert scene.rental.reservation.lock_default is LockDefault.END


def test_a_free_car_has_no_default_to_change() -> None:
    result = Scene().answer(set_default(LockDefault.PARK, bytes(16)))

    assert result.code is Code.WRONG_RENTAL


@pytest.mark.parametrize("default", list(LockDefault))
def test_after_the_drive_the_display_says_what_locking_means(
    default: LockDefault,
) -> None:
    # C16, C28
    scene = Scene()
    scene.rent_and_release(lock_default=default)

    scene.drive()

    words = {LockDefault.END: "ends the rental", LockDefault.PARK: "parks the car"}
    assert words[default] in words_of(scene.state.shown_prompt)


@pytest.mark.parametrize(
    ("key", "told"),
    [(key, key is not LineKey.MISSING_DOORS) for key in HINDRANCES],
)
def test_who_chooses_to_end_reads_what_is_missing_before_getting_out(
    key: LineKey, told: bool
) -> None:
    # H20: all but the doors, which are opened to get out; the menu stays.
    scene = about_to_end()
    scene.choose(Choice.END)

    scene.board(**HINDRANCES[key])

    shown = scene.state.shown_prompt
    expected = PromptKey.MISSING_TO_END if told else PromptKey.LOCK_TO_END
    assert shown.key is expected
    assert [line.key for line in shown.lines] == ([key] if told else [])
    scene.choose(Choice.PARK)
    assert scene.prompt is PromptKey.LOCK_TO_PARK


def test_who_chooses_to_end_outside_the_area_reads_it_at_once() -> None:
    # H20: and the screen follows the car into the area
    scene = about_to_end(area=True, position=OUTSIDE)

    scene.choose(Choice.END)
    outside = scene.state.shown_prompt
    scene.happen(PositionFixed(INSIDE))

    assert outside == Prompt(
        PromptKey.MISSING_TO_END, lines=(Line(LineKey.MISSING_AREA),)
    )
    assert scene.prompt is PromptKey.LOCK_TO_END


@pytest.mark.parametrize("choice", [Choice.PARK, Choice.END])
def test_who_is_about_to_lock_is_reminded_of_an_open_window(choice: Choice) -> None:
    # H20 does not name windows: it is said, and hinders nothing.
    scene = about_to_end()
    scene.board(window_open=True)
    scene.choose(choice)
    shown = scene.state.shown_prompt

    scene.tap()

    assert shown.lines == (Line(LineKey.WINDOW_OPEN),)
    assert scene.reading.locked
