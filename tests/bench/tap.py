"""How long the mind thinks about one card: `handle` alone, without disk and bolts.

Requirement of issue 4: the core never blocks, a tap is decided in under 1 ms.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from gateway.core.events import CardPresented
from gateway.core.grants import GRANTS_LIMIT
from gateway.core.turn import Decision
from gateway.core.vehicle import handle
from protocol.codes import LockDefault, RentalMode
from protocol.command import ANY_VERSION
from protocol.identity import card_digest
from protocol.rental_codes import GrantAction, Rights
from protocol.rental_command import Grant
from tests.bench.figure import Figure, figure, per_call_us
from tests.gateway.core.scene import CARD, STRANGER, Scene

LIMIT_US: Final = 1_000.0
"""One decision (issue 4)."""

CALLS: Final = 200


def measure() -> Iterator[Figure]:
    """Yield the time of one decision for each kind of tap."""
    for name, decide in taps().items():
        rounds = per_call_us(decide, calls=CALLS)
        yield figure(f"tap: {name}", rounds, "µs", f"at most {LIMIT_US:.0f}")


def taps() -> Mapping[str, Callable[[], Decision]]:
    """Return a decision about a tap for each kind that there is."""
    reserved, stopped, full = Scene(), Scene(), Scene()
    reserved.reserve()
    stopped.be(RentalMode.STOPPED)
    stopped.advance(10)
    full.state = replace(full.state, grants=tuple(map(_grant, range(GRANTS_LIMIT))))
    full_now = replace(full.now, trusted_ms=full.wall_ms)

    def of(scene: Scene, uid: bytes) -> Callable[[], Decision]:
        state = scene.state
        return lambda: handle(state, CardPresented(uid), now=scene.now)

    return MappingProxyType(
        {
            "opens a reserved car": of(reserved, CARD),
            "ends a rental": of(stopped, CARD),
            "a stranger's card": of(stopped, STRANGER),
            f"the last of {GRANTS_LIMIT} grants": lambda: handle(
                full.state, CardPresented(CARD), now=full_now
            ),
        }
    )


def _grant(number: int) -> Grant:
    rental_id = number.to_bytes(16, "big")
    is_last = number == GRANTS_LIMIT - 1
    return Grant(
        rental_id=rental_id,
        expected_version=ANY_VERSION,
        action=GrantAction.ADD,
        grant_id=rental_id,
        card=card_digest(rental_id, CARD if is_last else STRANGER),
        not_before_wall_ms=0,
        not_after_wall_ms=4_000_000_000_000,
        rights=Rights.UNLOCK | Rights.DRIVE,
        lock_default=LockDefault.END,
        language=b"en",
        sealed=b"",
    )
