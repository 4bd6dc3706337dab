"""What must hold in every world at every moment, whatever was cut, lost or torn."""

from collections import Counter
from functools import lru_cache

from gateway.core.events import AgentStarted
from protocol import event as entries
from protocol.codes import RentalMode
from protocol.content import Content, parse_content
from protocol.event import AccessGranted, RentalEnded, RentalStarted
from protocol.frame import parse_frame
from protocol.result import Result
from tests.gateway.world import World

SELF_CLOSING = (
    entries.AgentStarted,
    entries.ReservationExpired,
    entries.ReservationCancelled,
)
"""What a car that nobody has closes its bolts at."""


@lru_cache(maxsize=8_192)
def read(data: bytes) -> Content:
    """Read a frame; the same ones are asked for after every step of a machine."""
    return parse_content(parse_frame(data))


async def require_sound(world: World, *, lock_commands: int = 0) -> None:
    """Check the invariants of delivery and recovery against store and fleet.

    Call it when the gateway runs. A LOCK that only closes the bolts has its command
    and no grant; `lock_commands` says how many there were.
    """
    assert world.is_running, f"the gateway has ended: {world.failure!r}"
    assert world.store is not None
    held = {entry.seq: entry.frame for entry in await world.store.entries(1, 10_000)}
    for seq in held.keys() & world.fleet.entries.keys():
        # I-27: what is sent again is what was sent before.
        assert held[seq] == world.fleet.entries[seq], f"entry {seq} has two contents"
    known = world.fleet.entries | held

    # I-21, I-28: what a step showed was durable. Nothing that was told is ever lost.
    for entry in world.written():
        assert known.get(entry.seq) == entry.frame, (
            f"entry {entry.seq} was told and is lost"
        )

    bodies = [
        body
        for _, data in sorted(known.items())
        if not isinstance(body := read(data).body, Result)
    ]
    started = [b.rental_id for b in bodies if isinstance(b, RentalStarted)]
    ended = [b.rental_id for b in bodies if isinstance(b, RentalEnded)]
    # I-21, L12: every rental but the running one has exactly one report.
    assert max(Counter(ended).values(), default=1) == 1, "a rental ended twice"
    assert max(Counter(started).values(), default=1) == 1, "a rental started twice"
    rental = world.state.rental
    running = set() if rental is None else {rental.reservation.rental_id}
    assert set(started) - set(ended) == running, "a rental is over and unreported"
    assert world.state.mode.in_rental == bool(running)

    # Intent is durable before the bolt moves: nothing opens without a grant, and a car
    # closes itself at a start or at the end of a reservation only.
    grants = sum(isinstance(body, AccessGranted) for body in bodies)
    closings = sum(isinstance(body, SELF_CLOSING) for body in bodies)
    opened, closed = map(world.board.orders.count, ("unlock", "lock"))
    assert opened <= grants, "a bolt opened without a durable grant"
    allowed = grants + closings + lock_commands
    assert opened + closed <= allowed, "a bolt moved without a durable grant"

    if world.state.mode is RentalMode.AVAILABLE:
        assert world.state.reservation is None


def require_order(world: World) -> None:
    """Check that entries first arrived in the order of the ledger."""
    first_arrivals = list(dict.fromkeys(world.fleet.arrivals))
    assert first_arrivals == sorted(first_arrivals)


def starts(world: World) -> int:
    """Return how often the agent has started."""
    return sum(isinstance(step.event, AgentStarted) for step in world.steps)
