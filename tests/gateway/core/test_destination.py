"""A planned handover from the display: the driver types where the way ends (C31)."""

import pytest

from gateway.core.events import DestinationEntered
from gateway.core.handover import OFFERS_LIMIT, offer_id_of
from gateway.core.prompts import Choice, Prompt, PromptKey
from protocol.codes import Code, ModeRequest, RentalMode
from protocol.rental_event import (
    DESTINATION_LIMIT,
    HandoverDone,
    HandoverOffered,
    HandoverPlanned,
)
from tests.gateway.core.scene import RENTAL, Scene, set_mode
from tests.gateway.core.two_drivers import BOB, offer_of

OFFER = offer_id_of(RENTAL, 1)


def planning() -> Scene:
    """A driver who may start is asked for the destination."""
    scene = Scene()
    scene.rent_and_release()
    scene.choose(Choice.PLAN_HANDOVER)
    return scene


def test_at_the_start_the_driver_types_where_the_car_may_be_handed_over() -> None:
    """C31, F14: a destination at the start, and with it the offer."""
    scene = planning()
    asked = scene.prompt

    scene.happen(DestinationEntered("Münchner Straße 12"))

    assert (asked, scene.prompt) == (PromptKey.DESTINATION, PromptKey.HANDOVER_OFFERED)
    assert scene.told(HandoverOffered) == [HandoverOffered(RENTAL, OFFER)]
    assert scene.told(HandoverPlanned) == [
        HandoverPlanned(RENTAL, OFFER, "Münchner Straße 12")
    ]
    scene.advance(6)
    assert scene.prompt is PromptKey.MAY_START


def test_the_next_driver_of_a_planned_handover_takes_the_car_over() -> None:
    """C31, F14, H11: from the typed destination to the second driver's PIN."""
    scene = planning()
    scene.happen(DestinationEntered("Elm Street"))

    scene.answer(offer_of(scene, offer_id=OFFER))
    scene.drive()
    scene.advance(10)
    scene.tap(BOB)
    scene.type_pin()

    assert scene.one(HandoverDone) == HandoverDone(RENTAL, OFFER)
    assert len(scene.told(HandoverOffered)) == 1


@pytest.mark.parametrize(
    ("words", "most"),
    [
        ("", DESTINATION_LIMIT),
        ("   ", DESTINATION_LIMIT),
        ("a" * (DESTINATION_LIMIT + 1), DESTINATION_LIMIT),
        ("Ж" * 49, 48),
        ("a\n", DESTINATION_LIMIT),
    ],
)
def test_what_is_no_destination_is_asked_again(words: str, most: int) -> None:
    # C31, I-20
    scene = planning()

    scene.happen(DestinationEntered(words))
    said = scene.state.shown_prompt
    scene.advance(6)

    assert scene.told(HandoverPlanned) == []
    assert scene.told(HandoverOffered) == []
    assert said == Prompt(PromptKey.DESTINATION_MALFORMED, (most,))
    assert scene.prompt is PromptKey.DESTINATION


@pytest.mark.parametrize("words", ["a" * DESTINATION_LIMIT, "Ж" * 48])
def test_the_longest_destination_is_taken_whole(words: str) -> None:
    scene = planning()

    scene.happen(DestinationEntered(words))

    assert scene.one(HandoverPlanned).destination == words


def test_a_destination_that_nobody_asked_for_is_not_taken() -> None:
    scene = Scene()
    scene.rent_and_release()

    scene.happen(DestinationEntered("Elm Street"))

    assert scene.told(HandoverPlanned) == []


def test_the_driver_leaves_the_question_without_an_answer() -> None:
    scene = planning()

    scene.choose(Choice.BACK)
    scene.happen(DestinationEntered("Elm Street"))

    assert scene.prompt is PromptKey.MAY_START
    assert scene.told(HandoverPlanned) == []


def test_who_drives_off_has_passed_the_question_by() -> None:
    scene = planning()

    scene.drive()
    scene.happen(DestinationEntered("Elm Street"))

    assert scene.prompt is PromptKey.CHOOSE_NEXT
    assert scene.told(HandoverPlanned) == []


def test_a_car_that_somebody_else_is_promised_is_planned_for_nobody() -> None:
    """The fleet names a second driver before the choice, or while it is typed."""
    before = Scene()
    before.rent_and_release()
    before.answer(offer_of(before))
    before.choose(Choice.PLAN_HANDOVER)
    meanwhile = planning()
    meanwhile.answer(offer_of(meanwhile))

    meanwhile.happen(DestinationEntered("Elm Street"))

    for scene in (before, meanwhile):
        assert scene.prompt is PromptKey.NOT_NOW
        assert scene.told(HandoverPlanned) == []


def test_plans_count_as_offers_and_are_as_few() -> None:
    # I-20: nobody fills the disk
    scene = Scene()
    scene.rent_and_release()
    for number in range(OFFERS_LIMIT + 1):
        scene.choose(Choice.PLAN_HANDOVER)
        scene.happen(DestinationEntered(f"Elm Street {number}"))

    assert len(scene.told(HandoverPlanned)) == OFFERS_LIMIT
    assert scene.prompt is PromptKey.NOT_NOW


def test_the_question_stands_again_after_a_power_cut() -> None:
    # I-28
    scene = planning()

    scene.restart(off_s=20)
    scene.advance(10)
    scene.happen(DestinationEntered("Elm Street"))

    assert scene.one(HandoverPlanned).destination == "Elm Street"


def test_the_pump_of_a_visit_is_left_first() -> None:
    """The app may begin a visit while the question stands."""
    scene = planning()

    code = scene.answer(set_mode(ModeRequest.REFUEL)).code
    scene.choose(Choice.REFUEL_DONE)

    assert code is Code.OK
    assert scene.mode is RentalMode.STOPPED
    assert scene.prompt is PromptKey.DESTINATION
