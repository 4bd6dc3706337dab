"""What a car has shown to somebody: nothing may lose, change or repeat it any more."""

from dataclasses import dataclass, field

from gateway.core.ledger import SealedEntry
from protocol import event as entries
from protocol.entry import GENESIS, entry_hash, split_entry
from protocol.frame import parse_frame
from protocol.result import Result
from tests.gateway.oracle import read
from tests.simulation.violation import Violation


@dataclass
class Told:
    """One car's ledger as its steps have shown it."""

    name: str
    ledger_id: bytes = b""
    frames: dict[int, bytes] = field(default_factory=dict)
    """Signed entries by sequence."""
    results: dict[bytes, Result] = field(default_factory=dict)
    """Terminal results in the ledger, by the command's id."""
    refusals: dict[bytes, list[Result]] = field(default_factory=dict)
    """Answers outside of the ledger, by the command's id."""
    started: dict[bytes, tuple[float, int]] = field(default_factory=dict)
    """When rentals started, in the world's time, and how many power cuts there were."""
    ended: dict[bytes, entries.RentalEnded] = field(default_factory=dict)
    """Reports, by rental."""
    grants: int = 0
    """How often somebody was let in."""
    card_grants: int = 0
    """How often by card."""
    restarts_under_way: bool = False

    def take(self, entry: SealedEntry) -> object:
        """Note an entry of a step; return what it says.

        Raises:
            Violation: it contradicts what was told before.
        """
        frame = parse_frame(entry.frame)
        link, _ = split_entry(frame.payload)
        if not self.ledger_id:
            self.ledger_id = link.ledger_id
        if link.ledger_id != self.ledger_id:
            raise Violation(f"I-28: {self.name} began another ledger by itself")
        known = self.frames.get(entry.seq)
        if known is not None:
            what = "again" if known == entry.frame else "with another content"
            raise Violation(f"I-27: {self.name} wrote entry {entry.seq} {what}")
        before = self.frames.get(entry.seq - 1)
        if before is not None or entry.seq == 1:
            expected = GENESIS if before is None else entry_hash(before)
            if link.prev_hash != expected:
                raise Violation(
                    f"I-27: entry {entry.seq} of {self.name} breaks the chain"
                )
        if self.frames and entry.seq <= max(self.frames):
            raise Violation(f"I-28: {self.name} went back to entry {entry.seq}")
        self.frames[entry.seq] = entry.frame
        return read(entry.frame).body

    def conclude(self, result: Result) -> None:
        """Note a result of the ledger.

        Raises:
            Violation: the command had one.
        """
        if result.request_id in self.results:
            raise Violation(f"I-10: {self.name} gave a command two terminal results")
        self.results[result.request_id] = result
