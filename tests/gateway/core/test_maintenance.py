"""Service needs that the car finds by itself (C29, C30, H9)."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.events import PositionFixed
from gateway.core.maintenance import CONFIRM_MS, upkeep_lines
from gateway.core.prompts import Line, LineKey, Prompt, PromptKey
from gateway.core.reading import Position
from gateway.core.state import State
from gateway.storage.state_codec import decode_state
from protocol.board.message import Tyres
from protocol.codes import ClockQuality
from protocol.rental_codes import ServiceKind
from protocol.vehicle_event import ServiceCleared, ServiceNeeded
from tests.gateway.core.scene import RESTING, Scene

CONFIRM_S: Final = CONFIRM_MS / 1000
NORTH: Final = 481_000_000
SOUTH: Final = -338_000_000
EQUATOR: Final = 10_000_000

EACH = [
    (ServiceKind.PERIODIC, {"service_km": 500}, {"service_km": 1_000}),
    (ServiceKind.PERIODIC, {"service_days": 14}, {"service_days": 30}),
    (ServiceKind.OIL, {"oil_pct": 10}, {"oil_pct": 20}),
    (ServiceKind.BRAKE_PADS, {"brake_pct": 10}, {"brake_pct": 20}),
    (
        ServiceKind.SEASONAL_TYRES,
        {"tread_dmm": 20, "tyres": Tyres.ALL_SEASON},
        {"tread_dmm": 25},
    ),
    (ServiceKind.WASHER_FLUID, {"washer_pct": 10}, {"washer_pct": 30}),
    (ServiceKind.BATTERY, {"supply_mv": 11_900}, {"supply_mv": 12_300}),
    (ServiceKind.TROUBLE_CODES, {"trouble_codes": (0x0301,)}, {"trouble_codes": ()}),
]
"""A need, what raises it at its edge, and what clears it at its edge."""

IDS = ["by distance", "by time", *(kind.name.lower() for kind, _, _ in EACH[2:])]


def stay(scene: Scene, **changes: object) -> None:
    """Let the board read something long enough for a verdict to count."""
    scene.board(**changes)
    scene.advance(CONFIRM_S)


def needed(scene: Scene) -> list[ServiceKind]:
    return [entry.kind for entry in scene.told(ServiceNeeded)]


def cleared(scene: Scene) -> list[ServiceKind]:
    return [entry.kind for entry in scene.told(ServiceCleared)]


@pytest.mark.parametrize(("kind", "bad", "good"), EACH, ids=IDS)
def test_each_need_is_raised_once_and_cleared_once(
    kind: ServiceKind, bad: dict[str, Any], good: dict[str, Any]
) -> None:
    # C29, C30
    scene = Scene()

    for _ in range(3):
        stay(scene, **bad)
    raised, open_needs = (needed(scene), cleared(scene)), set(scene.state.needs)
    for _ in range(3):
        stay(scene, **good)

    assert (*raised, open_needs) == ([kind], [], {kind})
    assert (needed(scene), cleared(scene)) == ([kind], [kind])
    assert scene.state.needs == frozenset()
    assert scene.one(ServiceNeeded).odometer_m == RESTING.odometer_m


@pytest.mark.parametrize(("kind", "bad", "good"), EACH[:-1], ids=IDS[:-1])
def test_between_raising_and_clearing_nothing_changes(
    kind: ServiceKind, bad: dict[str, Any], good: dict[str, Any]
) -> None:
    # C30: hysteresis
    name = next(iter(bad))
    between = {name: (bad[name] + good[name]) // 2}
    scene = Scene()
    scene.board(**bad)
    scene.board(**good)

    stay(scene, **between)
    before = needed(scene)
    stay(scene, **bad)
    stay(scene, **between)

    assert before == []
    assert scene.state.needs == {kind}


@pytest.mark.parametrize(("kind", "bad", "good"), EACH, ids=IDS)
def test_what_lasts_a_moment_is_no_need(
    kind: ServiceKind, bad: dict[str, Any], good: dict[str, Any]
) -> None:
    # C30: fluid that slops in a bend
    scene = Scene()
    for _ in range(5):
        scene.board(**bad)
        scene.advance(CONFIRM_S - 0.001)
        scene.board(**good)

    assert kind not in needed(scene)


@pytest.mark.parametrize(("kind", "bad"), [each[:2] for each in EACH], ids=IDS)
def test_what_is_not_measured_any_more_is_neither_raised_nor_cleared(
    kind: ServiceKind, bad: dict[str, Any]
) -> None:
    # C30
    scene = Scene()
    stay(scene, **bad)

    stay(scene, **dict.fromkeys(bad, None) | {"tyres": Tyres.UNKNOWN})

    assert (needed(scene), cleared(scene)) == ([kind], [])


def test_service_by_distance_and_by_time_is_over_when_both_are() -> None:
    # C29: whatever comes first
    scene = Scene()
    stay(scene, service_km=200, service_days=200)

    stay(scene, service_km=15_000, service_days=20)
    half = cleared(scene)
    stay(scene, service_km=15_000, service_days=365)

    assert half == []
    assert cleared(scene) == [ServiceKind.PERIODIC]


def test_a_running_engine_says_nothing_of_the_battery() -> None:
    # C30: then it is the generator that is measured.
    scene = Scene()
    scene.rent_and_release()
    stay(scene, supply_mv=11_000)
    scene.drive_off()

    stay(scene, supply_mv=14_200)
    stay(scene, engine_running=False, ignition_on=True, supply_mv=14_000)

    assert (needed(scene), cleared(scene)) == ([ServiceKind.BATTERY], [])


@pytest.mark.parametrize(
    ("month", "latitude_e7", "tyres", "is_needed"),
    [
        (1, NORTH, Tyres.SUMMER, True),
        (3, NORTH, Tyres.SUMMER, True),
        (4, NORTH, Tyres.SUMMER, False),
        (4, NORTH, Tyres.WINTER, False),
        (5, NORTH, Tyres.WINTER, True),
        (9, NORTH, Tyres.WINTER, True),
        (10, NORTH, Tyres.SUMMER, False),
        (11, NORTH, Tyres.SUMMER, True),
        (12, NORTH, Tyres.WINTER, False),
        (7, NORTH, Tyres.ALL_SEASON, False),
        (1, NORTH, Tyres.ALL_SEASON, False),
        (7, SOUTH, Tyres.SUMMER, True),
        (1, SOUTH, Tyres.WINTER, True),
        (1, SOUTH, Tyres.SUMMER, False),
        (1, EQUATOR, Tyres.SUMMER, False),
        (1, NORTH, Tyres.UNKNOWN, False),
    ],
)
def test_tyres_fit_the_season(
    month: int, latitude_e7: int, tyres: Tyres, is_needed: bool
) -> None:
    # C30: seasonal tyres
    scene = in_month(month, latitude_e7)

    stay(scene, tyres=tyres, tread_dmm=70)

    assert needed(scene) == [ServiceKind.SEASONAL_TYRES] * is_needed


def in_month(month: int, latitude_e7: int = NORTH) -> Scene:
    """Stand somewhere in the middle of a month."""
    scene = Scene()
    scene.wall_ms = int(datetime(2027, month, 15, tzinfo=UTC).timestamp() * 1000)
    scene.happen(PositionFixed(Position(latitude_e7, 0, 30, None)))
    return scene


def test_winter_tyres_need_more_tread_in_winter() -> None:
    # C30
    winter, summer = in_month(1), in_month(4)

    stay(winter, tyres=Tyres.WINTER, tread_dmm=40)
    stay(summer, tyres=Tyres.WINTER, tread_dmm=40)

    assert needed(winter) == [ServiceKind.SEASONAL_TYRES]
    assert needed(summer) == []


def test_changed_tyres_clear_the_need() -> None:
    # C30
    scene = in_month(1)
    stay(scene, tyres=Tyres.SUMMER)

    stay(scene, tyres=Tyres.WINTER)

    assert cleared(scene) == [ServiceKind.SEASONAL_TYRES]


@pytest.mark.parametrize("forgets", ["the place", "the date"])
def test_who_does_not_know_the_season_clears_nothing(forgets: str) -> None:
    # C30, I-29: after each start neither is known at first.
    scene = in_month(1)
    stay(scene, tyres=Tyres.SUMMER, tread_dmm=70)

    if forgets == "the place":
        scene.start(same_boot=True)
    else:
        scene.quality = ClockQuality.RTC
    stay(scene, tyres=Tyres.SUMMER, tread_dmm=70)

    assert cleared(scene) == []


@pytest.mark.parametrize(
    ("month", "latitude_e7", "is_known"),
    [
        (4, None, True),  # either tyre is right in both hemispheres
        (10, None, True),
        (1, None, False),
        (7, None, False),
        (None, 0, True),  # the tropics have no season
        (None, NORTH, False),
        (None, None, False),
    ],
)
def test_who_knows_place_or_date_only_knows_the_season_sometimes(
    month: int | None, latitude_e7: int | None, *, is_known: bool
) -> None:
    """C30: a need is cleared by what is known to be no season, and by nothing else."""
    scene = in_month(1)
    stay(scene, tyres=Tyres.SUMMER, tread_dmm=70)
    later = in_month(month or 1, NORTH if latitude_e7 is None else latitude_e7)
    scene.wall_ms, scene.is_told_the_time = later.wall_ms, month is not None
    place = None if latitude_e7 is None else later.state.position
    scene.state = replace(scene.state, position=place)

    stay(scene, tyres=Tyres.SUMMER, tread_dmm=70)

    assert cleared(scene) == ([ServiceKind.SEASONAL_TYRES] if is_known else [])


def test_a_driver_reads_before_the_drive_what_is_due() -> None:
    # C29: a message, and no hindrance
    scene = Scene()
    stay(scene, oil_pct=5, service_days=0)

    scene.rent_and_release()

    assert scene.state.shown_prompt == Prompt(
        PromptKey.MAY_START,
        lines=(
            Line(LineKey.SERVICE_DUE, terms=("ServiceKind.PERIODIC",)),
            Line(LineKey.SERVICE_DUE, terms=("ServiceKind.OIL",)),
        ),
    )
    assert scene.reading.engine_released


def test_a_need_that_arises_on_the_way_is_told_in_passing() -> None:
    # C29
    scene = Scene()
    scene.rent_and_release()
    scene.drive_off()

    stay(scene, service_km=400)
    said = scene.state.shown_prompt
    scene.advance(6)

    assert said == Prompt(PromptKey.SERVICE_DUE, terms=("ServiceKind.PERIODIC",))
    assert scene.prompt is PromptKey.NONE


def test_a_need_goes_to_the_fleet_and_to_nobody_else() -> None:
    """H9, C30: an entry of the ledger; the car calls no workshop."""
    scene = Scene()
    scene.forget()

    stay(scene, oil_pct=5)

    told = [entry for decision in scene.decisions for entry in decision.entries]
    done = [action for decision in scene.decisions for action in decision.actions]
    assert [type(entry) for entry in told] == [ServiceNeeded]
    assert done == []


def test_a_need_survives_restarts_and_is_not_told_again() -> None:
    # C30, I-28
    scene = Scene()
    stay(scene, brake_pct=5)

    scene.restart(off_s=100)
    scene.report()
    stay(scene, brake_pct=5)

    assert needed(scene) == [ServiceKind.BRAKE_PADS]
    assert decode_state(scene.committed).needs == {ServiceKind.BRAKE_PADS}


def test_what_only_seems_so_is_not_on_the_disk() -> None:
    # Half a minute more after a restart harms nobody, a commit per bend would.
    scene = Scene()
    before = scene.committed

    scene.board(brake_pct=5)

    assert len(scene.state.suspects) == 1
    assert scene.committed == before
    assert scene.state.kept().suspects == ()


def test_a_board_that_was_away_begins_to_confirm_anew() -> None:
    # C30
    scene = Scene()
    scene.board(oil_pct=5)
    scene.advance(CONFIRM_S - 1)
    scene.lose_board()
    scene.advance(2)

    assert needed(scene) == []


VALUES: Final[dict[str, st.SearchStrategy[Any]]] = {
    "service_km": st.sampled_from([None, 0, 500, 700, 1_000, 20_000]),
    "service_days": st.sampled_from([None, 0, 14, 20, 30, 300]),
    "oil_pct": st.sampled_from([None, 0, 10, 15, 20, 90]),
    "brake_pct": st.sampled_from([None, 5, 15, 25]),
    "tread_dmm": st.sampled_from([None, 15, 22, 42, 60]),
    "tyres": st.sampled_from(Tyres),
    "washer_pct": st.sampled_from([None, 0, 20, 100]),
    "supply_mv": st.sampled_from([None, 11_000, 12_000, 12_700]),
    "trouble_codes": st.sampled_from([None, (), (1,), (1, 2)]),
    "engine_running": st.booleans(),
}


@given(
    steps=st.lists(
        st.tuples(
            st.fixed_dictionaries({}, optional=VALUES),
            st.sampled_from([0.0, 10.0, CONFIRM_S]),
            st.sampled_from(["goes on", "goes on", "restart", "power cut"]),
        ),
        max_size=30,
    )
)
def test_whatever_is_measured_needs_and_clearings_alternate(
    steps: list[tuple[dict[str, Any], float, str]],
) -> None:
    """C30: and the state says what the ledger said last, over restarts too."""
    scene = Scene()
    for changes, seconds, what in steps:
        scene.reading = replace(scene.reading, **changes)
        scene.report()
        scene.advance(seconds)
        if what == "restart":
            scene.restart()
        elif what == "power cut":
            scene.restart(off_s=5)
    open_needs: set[ServiceKind] = set()
    for decision in scene.decisions:
        for entry in decision.entries:
            if isinstance(entry, ServiceNeeded):
                assert entry.kind not in open_needs
                open_needs.add(entry.kind)
            elif isinstance(entry, ServiceCleared):
                open_needs.remove(entry.kind)
    assert scene.state.needs == open_needs


def test_a_new_car_needs_nothing() -> None:
    assert State().needs == frozenset()


def test_a_snapshot_names_the_needs_and_every_trouble_code() -> None:
    # C30, O17: the entry says that there is trouble; a workshop wants to know which.
    scene = Scene()
    assert upkeep_lines(scene.state) == ("service=-", "trouble=-")

    stay(scene, oil_pct=5, trouble_codes=(0x0301, 0xC100, 0x9234))

    assert upkeep_lines(scene.state) == (
        "service=OIL,TROUBLE_CODES",
        "trouble=P0301,U0100,B1234",
    )
    assert upkeep_lines(replace(scene.state, reading=None))[1] == "trouble=-"
