"""A car's signing key that rotates when a test says so."""

from collections.abc import Callable, Sequence

from gateway.core.key_rotation import UNPROVED, seal_entries
from gateway.core.ledger import LedgerHead, Signatory
from gateway.core.moment import Moment
from protocol.codes import ClockQuality
from protocol.entry import GENESIS
from protocol.identity import VehicleId
from protocol.keys import Ed25519SigningKey, SigningKey
from protocol.vehicle_event import KeyRotated
from tests.gateway.manual_clock import WALL_MS

MOMENT = Moment(boot_ms=1_000, wall_ms=WALL_MS, quality=ClockQuality.GNSS)


class FakeKeyHolder:
    """Implements `gateway.ports.KeyHolder` in memory."""

    def __init__(
        self, key: SigningKey, *, vehicle_id: VehicleId, fleet_id: bytes
    ) -> None:
        self.key = key
        self.vehicle_id = vehicle_id
        self.fleet_id = fleet_id
        self.head = LedgerHead(bytes(range(8)), 0, GENESIS)
        self.rotations: tuple[bytes, ...] = ()
        self.on_rotated: Callable[[], None] = lambda: None

    def sign(self, message: bytes) -> bytes:
        return self.key.sign(message)

    async def certified(self, rotations: Sequence[bytes]) -> None:
        self.rotations = tuple(one for one in self.rotations if one not in rotations)

    def rotate(self, new: SigningKey | None = None) -> bytes:
        """Make a rotation durable, and return its frame."""
        new = new or Ed25519SigningKey.generate()
        signatory = Signatory(
            vehicle_id=self.vehicle_id,
            fleet_id=self.fleet_id,
            session_id=bytes(16),
            key=self.key,
        )
        (entry,), self.head = seal_entries(
            (KeyRotated(new.verify_key.raw, UNPROVED),),
            self.head,
            signatory,
            successor=new,
            fix_for=lambda _body: None,
            now=MOMENT,
        )
        self.key = new
        self.rotations = (*self.rotations, entry.frame)
        self.on_rotated()
        return entry.frame
