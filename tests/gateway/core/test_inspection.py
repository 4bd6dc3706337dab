"""Boarding: known damage, cleanliness, reports of damage (C9, C10)."""

import pytest

from gateway.catalogue.words import words_of
from gateway.core.events import ConfigurationTold, DamageEntered, RatingEntered
from gateway.core.inspection import REPORTS_LIMIT
from gateway.core.prompts import Choice, Prompt, PromptKey
from protocol.codes import ConfigKind, RentalMode
from protocol.damage_list import Damage, build_damage_list
from protocol.event import PinAccepted
from protocol.rental_codes import DamageKind, DamagePlace
from protocol.rental_event import (
    NO_PHOTO,
    CleanlinessRated,
    DamageReported,
    InspectionDone,
)
from tests.gateway.core.scene import PIN, RENTAL, Scene

SCRATCH = Damage(DamagePlace.LEFT, DamageKind.SCRATCH, "below the handle")
CRACK = Damage(DamagePlace.GLASS, DamageKind.CRACKED, "")
DENT = DamageEntered(DamagePlace.REAR, DamageKind.DENT, "as large as a hand")


def boarded() -> Scene:
    """A car that was just opened."""
    scene = Scene()
    scene.reserve()
    scene.tap()
    return scene


def shown(scene: Scene) -> PromptKey:
    """What the display says at this instant."""
    return scene.prompt


def test_after_opening_all_known_damage_is_shown() -> None:
    # C9
    scene = Scene()
    body = build_damage_list((SCRATCH, CRACK))
    scene.happen(ConfigurationTold(ConfigKind.KNOWN_DAMAGE, body))
    scene.reserve()

    scene.tap()

    assert words_of(scene.state.shown_prompt).splitlines() == [
        "Known damage of this car (2). Is there more?",
        "left side, scratch: below the handle",
        "glass, cracked",
    ]


def test_a_car_without_known_damage_asks_whether_there_is_any() -> None:
    # C9
    assert boarded().prompt is PromptKey.NO_KNOWN_DAMAGE


def test_damage_then_cleanliness_then_the_pin() -> None:
    # C9, C11, F6
    scene = boarded()

    scene.choose(Choice.CONTINUE)
    assert shown(scene) is PromptKey.RATE_CLEANLINESS
    scene.happen(RatingEntered(inside=5, outside=2))

    assert scene.one(CleanlinessRated) == CleanlinessRated(RENTAL, 5, 2)
    assert scene.one(InspectionDone) == InspectionDone(RENTAL)
    assert shown(scene) is PromptKey.ENTER_PIN


def test_the_rating_can_be_passed_by() -> None:
    scene = boarded()

    scene.look_around()

    assert scene.told(CleanlinessRated) == []
    assert scene.one(InspectionDone) == InspectionDone(RENTAL)
    assert shown(scene) is PromptKey.ENTER_PIN


def test_the_right_pin_ends_an_inspection_that_was_not_gone_through() -> None:
    # C9: who drives off has taken the car as it was shown
    scene = boarded()

    scene.type_pin(PIN)

    kinds = [type(e) for d in scene.decisions for e in d.entries]
    assert kinds.index(InspectionDone) < kinds.index(PinAccepted)
    assert shown(scene) is PromptKey.MAY_START
    assert scene.reading.engine_released


def test_coming_back_to_a_parked_car_needs_no_second_inspection() -> None:
    scene = Scene()
    scene.be(RentalMode.PARKED)

    scene.tap_later()

    assert shown(scene) is PromptKey.ENTER_PIN


@pytest.mark.parametrize(("inside", "outside"), [(0, 3), (6, 3), (3, -1), (3, 99)])
def test_a_rating_out_of_its_range_is_not_taken(inside: int, outside: int) -> None:
    scene = boarded()
    scene.choose(Choice.CONTINUE)

    scene.happen(RatingEntered(inside, outside))

    assert scene.told(CleanlinessRated) == []
    assert shown(scene) is PromptKey.RATING_MALFORMED
    scene.advance(6)
    assert shown(scene) is PromptKey.RATE_CLEANLINESS


def test_a_rating_that_nobody_asked_for_is_not_taken() -> None:
    scene = Scene()
    scene.rent_and_release()

    scene.happen(RatingEntered(5, 5))

    assert scene.told(CleanlinessRated) == []


def test_a_damage_is_reported_with_place_kind_note_and_photo() -> None:
    # C10
    scene = boarded()
    photo = bytes(range(32))

    scene.choose(Choice.REPORT_DAMAGE)
    assert shown(scene) is PromptKey.REPORT_DAMAGE
    scene.happen(
        DamageEntered(DamagePlace.REAR, DamageKind.DENT, "as large as a hand", photo)
    )

    reported = scene.one(DamageReported)
    assert reported == DamageReported(
        RENTAL, DamagePlace.REAR, DamageKind.DENT, photo, "as large as a hand"
    )
    assert shown(scene) is PromptKey.DAMAGE_NOTED
    scene.advance(6)
    assert shown(scene) is PromptKey.NO_KNOWN_DAMAGE


@pytest.mark.parametrize("kind", list(DamageKind))
@pytest.mark.parametrize("place", list(DamagePlace))
def test_every_place_and_kind_can_be_reported(
    place: DamagePlace, kind: DamageKind
) -> None:
    # C10: outside, inside, dirt, traces of careless use
    scene = boarded()
    scene.choose(Choice.REPORT_DAMAGE)

    scene.happen(DamageEntered(place, kind))

    reported = scene.one(DamageReported)
    assert (reported.place, reported.kind) == (place, kind)
    assert (reported.note, reported.photo_hash) == ("", NO_PHOTO)


def test_damage_can_be_reported_after_a_drive_too() -> None:
    # C10
    scene = Scene()
    scene.rent_and_release()
    scene.drive()

    scene.choose(Choice.REPORT_DAMAGE)
    scene.happen(DENT)

    assert scene.one(DamageReported).kind is DamageKind.DENT


def test_the_form_can_be_left() -> None:
    scene = boarded()
    scene.choose(Choice.REPORT_DAMAGE)

    scene.choose(Choice.BACK)

    assert shown(scene) is PromptKey.NO_KNOWN_DAMAGE


def test_who_drives_off_leaves_the_form() -> None:
    scene = Scene()
    scene.rent_and_release()
    scene.choose(Choice.REPORT_DAMAGE)

    scene.drive()

    assert shown(scene) is PromptKey.CHOOSE_NEXT


def test_who_parks_leaves_the_form() -> None:
    scene = Scene()
    scene.rent_and_release()
    scene.choose(Choice.PARK)
    scene.choose(Choice.REPORT_DAMAGE)
    scene.tap_later()
    assert scene.mode is RentalMode.PARKED

    scene.tap_later()

    assert shown(scene) is PromptKey.ENTER_PIN


@pytest.mark.parametrize(
    "form",
    [
        DamageEntered(DamagePlace.REAR, DamageKind.DENT, "x" * 201),
        DamageEntered(DamagePlace.REAR, DamageKind.DENT, "ü" * 101),
        DamageEntered(DamagePlace.REAR, DamageKind.DENT, "two\nlines"),
        DamageEntered(DamagePlace.REAR, DamageKind.DENT, "\ud800"),
        DamageEntered(DamagePlace.REAR, DamageKind.DENT, "", b"short"),
    ],
)
def test_a_damage_that_fits_no_entry_is_not_taken(form: DamageEntered) -> None:
    scene = boarded()
    scene.choose(Choice.REPORT_DAMAGE)

    scene.happen(form)

    assert scene.told(DamageReported) == []
    assert shown(scene) is PromptKey.DAMAGE_MALFORMED
    scene.advance(6)
    assert shown(scene) is PromptKey.REPORT_DAMAGE


@pytest.mark.parametrize(
    ("note", "most"),
    [
        ("x" * 201, 200),
        ("ü" * 101, 100),
        ("Царапина на двери " * 20, 109),
        ("x" + "ж" * 100, 100),
        ("\U0001f697" * 60, 50),
        ("two\nlines", 200),
    ],
)
def test_who_writes_too_much_is_told_how_many_of_these_letters_fit(
    note: str, most: int
) -> None:
    # C10: an entry has 200 bytes, and a Russian letter is two of them.
    scene = boarded()
    scene.choose(Choice.REPORT_DAMAGE)

    scene.happen(DamageEntered(DamagePlace.REAR, DamageKind.DENT, note))
    said = scene.state.shown_prompt
    scene.happen(DamageEntered(DamagePlace.REAR, DamageKind.DENT, note[:most]))

    assert said == Prompt(PromptKey.DAMAGE_MALFORMED, (most,))
    assert len(scene.told(DamageReported)) == (0 if "\n" in note else 1)


def test_a_damage_without_its_form_is_not_taken() -> None:
    scene = boarded()

    scene.happen(DENT)

    assert scene.told(DamageReported) == []


def test_nobody_fills_the_disk_with_damage() -> None:
    # I-20
    scene = boarded()

    for _ in range(REPORTS_LIMIT + 5):
        scene.choose(Choice.REPORT_DAMAGE)
        scene.happen(DENT)

    assert len(scene.told(DamageReported)) == REPORTS_LIMIT
    assert shown(scene) is PromptKey.REPORTS_FULL


def test_a_power_cut_in_the_inspection_asks_again_where_it_was() -> None:
    # I-28
    scene = boarded()
    scene.choose(Choice.CONTINUE)

    scene.restart(off_s=10)
    scene.report()

    assert shown(scene) is PromptKey.RATE_CLEANLINESS
