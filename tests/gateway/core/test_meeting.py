"""Where two drivers meet, and how the car is handed over, on the display (F14, H11)."""

from gateway.core.bearing import Compass
from gateway.core.events import PositionFixed
from gateway.core.prompts import Line, LineKey, Prompt, PromptKey, term_of
from gateway.core.reading import Position
from tests.gateway.core.scene import Scene
from tests.gateway.core.two_drivers import agreed, offer_of


def at(scene: Scene, *, north_m: float, east_m: float = 0) -> None:
    """Be so far from where both drivers meet."""
    place = offer_of(scene)
    latitude_e7 = place.latitude_e7 + round(north_m / 111_195 * 1e7)
    longitude_e7 = place.longitude_e7 + round(east_m / 111_195 / 0.66913 * 1e7)
    scene.happen(PositionFixed(Position(latitude_e7, longitude_e7, 30, None)))


def test_on_the_way_the_driver_reads_where_the_next_one_waits() -> None:
    # F14, C31, C32: 3 km north-east of the place where they meet
    scene = agreed()
    scene.drive_off()
    somewhere = scene.state.shown_prompt

    at(scene, north_m=2_121, east_m=2_121)
    under_way = scene.state.shown_prompt
    at(scene, north_m=20)

    compass = (term_of(Compass.SOUTH_WEST),)
    assert somewhere == Prompt(PromptKey.HANDOVER_AHEAD)
    assert under_way.lines == (Line(LineKey.MEETING, (3_000,), terms=compass),)
    assert scene.state.shown_prompt.lines == (Line(LineKey.MEETING_HERE),)


def test_a_low_level_does_not_hide_where_the_next_driver_waits() -> None:
    # C14, F14
    scene = agreed()
    scene.drive_off()
    at(scene, north_m=0)

    scene.board(energy_pct=20)

    assert scene.prompt is PromptKey.ENERGY_LOW
    assert scene.state.shown_prompt.lines == (Line(LineKey.MEETING_HERE),)


def test_a_driver_who_stands_is_told_how_the_car_is_handed_over() -> None:
    # H11, F14: also long after the passing word that somebody takes it
    scene = Scene()
    scene.rent_and_release()
    scene.answer(offer_of(scene))
    at(scene, north_m=0)
    scene.advance(6)
    before = scene.state.shown_prompt
    scene.drive()

    lines = (Line(LineKey.SECOND_CARD), Line(LineKey.MEETING_HERE))
    assert (before.key, before.lines) == (PromptKey.MAY_START, lines)
    assert scene.state.shown_prompt.lines == lines
    assert scene.prompt is PromptKey.CHOOSE_NEXT
