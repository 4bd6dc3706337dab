"""A storm of restarts in the whole gateway: the reduced car, and the way out of it."""

from gateway.core.restart_storm import Patience, RunNote
from gateway.runtime.endurance import Endurance
from gateway.runtime.parts import AgentRestartError
from protocol.codes import FaultKind, RentalMode
from protocol.event import FaultCleared, FaultRaised
from tests.gateway.world import World

PATIENCE = Patience()


class Memory:
    """Keeps the note as a disk would."""

    def __init__(self) -> None:
        self.note = RunNote()
        self.writes = 0

    def read(self) -> RunNote:
        return self.note

    def write(self, note: RunNote) -> None:
        self.note = note
        self.writes += 1

    def endurance(self, boot_mark: str) -> Endurance:
        return Endurance(self, patience=PATIENCE, boot_mark=boot_mark)


async def crash_often(world: World) -> None:
    for _ in range(4):
        await world.restart()


async def test_a_reduced_car_serves_its_customer_and_leaves_the_fleet_alone() -> None:
    """I-30 (F), row 7: reader and board only; the rental that runs ends by card."""
    memory = Memory()
    async with World(endurance=memory.endurance) as world:
        await world.begin_rental()
        await crash_often(world)
        greetings = len(world.fleet.greetings)

        await world.advance(60.0)
        assert len(world.fleet.greetings) == greetings
        assert world.air.link is None
        await world.end_rental()

        assert world.state.mode is RentalMode.AVAILABLE
        assert world.board.locked
        assert FaultKind.RESTART_STORM in world.state.faults


async def test_a_reduced_car_becomes_whole_and_tells_one_fault() -> None:
    """I-30 (F), row 7: it ends itself, is started whole, and the storm is over."""
    memory = Memory()
    async with World(endurance=memory.endurance) as world:
        await crash_often(world)
        await world.advance(PATIENCE.reduced_ms / 1000 + 30)
        ended = world.failure

        await world.restart()
        await world.advance(PATIENCE.stable_ms / 1000 + 30)

        assert isinstance(ended, AgentRestartError)
        told = [
            event
            for event in world.fleet.events()
            if isinstance(event, FaultRaised | FaultCleared)
        ]
        assert told == [
            FaultRaised(FaultKind.RESTART_STORM),
            FaultCleared(FaultKind.RESTART_STORM),
        ]
        assert memory.note.crashes == 0


async def test_a_reduced_car_that_is_driven_goes_on_until_it_stands() -> None:
    """I-30, I-33: no restart of its own while somebody drives."""
    memory = Memory()
    async with World(endurance=memory.endurance) as world:
        await world.begin_rental()
        world.board.change(engine_released=True)
        world.board.change(engine_running=True, ignition_on=True, speed_dkmh=300)
        await world.settle()
        await crash_often(world)
        await world.advance(PATIENCE.reduced_ms / 1000 + 60)
        assert world.failure is None

        world.board.change(engine_running=False, ignition_on=False, speed_dkmh=0)
        await world.advance(15.0)

        assert isinstance(world.failure, AgentRestartError)


async def test_a_run_writes_its_note_a_few_times_and_no_more() -> None:
    """I-30: bounded wear, also of a long run."""
    memory = Memory()
    async with World(endurance=memory.endurance) as world:
        await world.advance(1_500.0)

    assert memory.writes <= 5
