"""What the fleet has told about the world, in the car's mind."""

from gateway.core.events import ConfigurationTold, PositionFixed
from gateway.core.facts import NO_FACTS
from gateway.core.reading import Position
from protocol.business_area import BusinessArea, build_business_area
from protocol.codes import ConfigKind
from protocol.damage_list import Damage, build_damage_list
from protocol.rental_codes import DamageKind, DamagePlace
from protocol.vehicle_event import ConfigurationActivated
from tests.gateway.core.scene import Scene

SCRATCH = Damage(DamagePlace.LEFT, DamageKind.SCRATCH, "below the handle")
AREA = BusinessArea((((0, 0), (0, 10), (10, 10)),), ())
PLACE = Position(484_000_000, 99_900_000, 30, 90, age_ms=400)


def test_a_body_that_came_into_force_counts_and_is_told() -> None:
    # C9, FF-CFG-08
    scene = Scene()
    told = ConfigurationActivated(ConfigKind.KNOWN_DAMAGE, 1, bytes(32))

    scene.happen(
        ConfigurationTold(
            ConfigKind.KNOWN_DAMAGE, build_damage_list((SCRATCH,)), (told,)
        )
    )

    assert scene.state.facts.known_damage == (SCRATCH,)
    assert scene.one(ConfigurationActivated) == told


def test_each_kind_stands_by_itself() -> None:
    # H20
    scene = Scene()

    scene.happen(
        ConfigurationTold(ConfigKind.KNOWN_DAMAGE, build_damage_list((SCRATCH,)))
    )
    scene.happen(ConfigurationTold(ConfigKind.BUSINESS_AREA, build_business_area(AREA)))
    scene.happen(ConfigurationTold(ConfigKind.POLICY, b"whatever a later car reads"))

    assert scene.state.facts.known_damage == (SCRATCH,)
    assert scene.state.facts.area == AREA


def test_a_body_that_cannot_be_read_leaves_the_one_before() -> None:
    scene = Scene()
    scene.happen(ConfigurationTold(ConfigKind.BUSINESS_AREA, build_business_area(AREA)))

    scene.happen(ConfigurationTold(ConfigKind.BUSINESS_AREA, b"from another age"))

    assert scene.state.facts.area == AREA


def test_facts_and_place_are_not_part_of_the_stored_state() -> None:
    # K25: no place on the disk; the bodies are there as bodies
    scene = Scene()
    scene.happen(ConfigurationTold(ConfigKind.BUSINESS_AREA, build_business_area(AREA)))
    scene.happen(PositionFixed(PLACE))
    assert scene.state.position == PLACE
    assert scene.state.position_at_ms == scene.boot_ms - 400

    kept = scene.state.kept()

    assert (kept.facts, kept.position, kept.position_at_ms) == (NO_FACTS, None, 0)
    assert scene.state.essence() == kept.essence()


def test_a_start_forgets_where_the_car_was_and_what_is_told_anew() -> None:
    scene = Scene()
    scene.happen(ConfigurationTold(ConfigKind.BUSINESS_AREA, build_business_area(AREA)))
    scene.happen(PositionFixed(PLACE))

    scene.start(same_boot=True)

    assert scene.state.facts == NO_FACTS
    assert scene.state.position is None
