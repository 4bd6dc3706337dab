"""A network that does its worst with what the fleet signs, and what must hold of it.

It holds frames back, loses, repeats, reorders, delays and alters them, keeps them as
retained messages, sends a car its own words back, and replays frames of any age. It
cannot sign. `Trial` remembers what was signed for whom and until when, and checks what
the car made of it after each step.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from gateway.core.events import CommandReceived
from gateway.runtime.step import Step
from protocol.codes import Code, Executed, Lane, Retry
from protocol.command import FlashHazards, Lock, Unlock
from protocol.frame import parse_frame
from protocol.result import Result
from tests.gateway.oracle import read
from tests.gateway.world import World


@dataclass(frozen=True, slots=True)
class Signed:
    """One command of the fleet."""

    data: bytes
    session_id: bytes
    not_after_ms: int
    """Boot clock of its session."""
    is_bad: bool = False
    """Whether no car may ever carry it out."""

    @property
    def msg_id(self) -> bytes:
        return parse_frame(self.data).header.msg_id


@dataclass
class Trial:
    """What was signed, what was carried out, and whether both agree."""

    world: World
    signed: dict[bytes, Signed] = field(default_factory=dict)
    """Every command ever signed, by message id."""
    delivered: set[bytes] = field(default_factory=set)
    """Those that the car was handed in any way."""
    fresh: set[bytes] = field(default_factory=set)
    """Those that it was handed without the retain flag."""
    in_doubt: set[bytes] = field(default_factory=set)
    """Those that a crash found without a result."""
    hazards: list[tuple[int, int]] = field(default_factory=list)
    """Blinks of the car: how long, and the boot clock when they began."""

    def note(self, signed: Signed) -> None:
        self.signed[signed.msg_id] = signed

    def hand_over(self, data: bytes, *, retain: bool) -> None:
        msg_id = parse_frame(data).header.msg_id
        self.delivered.add(msg_id)
        if not retain:
            self.fresh.add(msg_id)

    # -- what the car did ----------------------------------------------------------

    def accepted(self) -> Iterator[tuple[Step, CommandReceived]]:
        """Return every step that took a command, in order."""
        for step in self.world.steps:
            if step.decision.accepted is not None:
                yield step, step.decision.accepted

    @property
    def locks(self) -> int:
        """How many LOCKs were taken, by a step that was seen or by the journal."""
        seen = {e.msg_id for _, e in self.accepted() if isinstance(e.command, Lock)}
        return len(seen | self.in_doubt)

    async def results(self) -> dict[bytes, list[Result]]:
        """Return the terminal results in the ledger, by the command's message id."""
        assert self.world.store is not None
        held = {e.seq: e.frame for e in await self.world.store.entries(1, 10_000)}
        found: dict[bytes, list[Result]] = {}
        for _, data in sorted((self.world.fleet.entries | held).items()):
            body = read(data).body
            if isinstance(body, Result):
                found.setdefault(body.request_id, []).append(body)
        return found

    async def crash(self) -> None:
        """Note what a crash leaves open."""
        self.in_doubt |= self.delivered - set(await self._told())

    async def _told(self) -> set[bytes]:
        # The store is gone by now: what counts is what a step or the fleet has seen.
        frames = [entry.frame for entry in self.world.written()]
        bodies = [
            read(data).body for data in (*frames, *self.world.fleet.entries.values())
        ]
        return {body.request_id for body in bodies if isinstance(body, Result)}

    # -- what must hold ------------------------------------------------------------

    async def require_sound(self) -> None:
        """Check the invariants of command safety (reliability.md section 4)."""
        self._require_at_most_once()
        self._require_fresh()
        self._require_order()
        self._require_only_own_deeds()
        await self._require_true_results()

    def _require_at_most_once(self) -> None:
        times = Counter(command.msg_id for _, command in self.accepted())
        twice = [msg_id for msg_id, count in times.items() if count > 1]
        assert twice == [], "I-5: a command was carried out twice"

    def _require_fresh(self) -> None:
        for step, command in self.accepted():
            assert command.msg_id in self.signed, "I-9: nobody signed this command"
            signed = self.signed[command.msg_id]
            assert not signed.is_bad, "I-9: a command that no car may carry out ran"
            if command.msg_id in self.delivered:
                assert command.msg_id in self.fresh, "I-9: a retained command ran"
            assert step.now.boot_ms < signed.not_after_ms, "I-6: a stale command ran"
            sessions = {
                parse_frame(entry.frame).header.session_id for entry in step.entries
            }
            assert sessions <= {signed.session_id}, "I-6: of another session"

    def _require_order(self) -> None:
        newest: dict[Lane, int] = {}
        for _, command in self.accepted():
            assert command.seq > newest.get(command.lane, 0), (
                "I-8: an older command overtook a newer one of its lane"
            )
            newest[command.lane] = command.seq

    def _require_only_own_deeds(self) -> None:
        """What moves is counted at the board, which knows nothing of commands."""
        blinks = [
            (command.seconds, step.now.boot_ms)
            for step, event in self.accepted()
            if isinstance(command := event.command, FlashHazards)
        ]
        assert len(self.hazards) <= len(blinks), "I-5: it blinked for no command"
        # A car blinks at once or, after a crash in between, not at all.
        late = Counter(self.hazards) - Counter(blinks)
        assert not late, "I-6: it blinked late"
        unlocks = sum(isinstance(e.command, Unlock) for _, e in self.accepted())
        opened = self.world.board.orders.count("unlock")
        # One by the card that began the rental.
        assert opened <= unlocks + 1, "I-5: it opened for no command"

    async def _require_true_results(self) -> None:
        results = await self.results()
        for msg_id, all_of_it in results.items():
            assert len(all_of_it) == 1, "I-10: a command has two terminal results"
            (result,) = all_of_it
            if result.code is Code.INDETERMINATE_AFTER_REBOOT:
                assert msg_id in self.in_doubt, "I-10: in doubt without a crash"
        ran = {command.msg_id for _, command in self.accepted()}
        answered = set[bytes]()
        for result, data in self.world.fleet.answers:
            if parse_frame(data).header.seq:
                answered.add(result.request_id)
                continue
            assert result.request_id not in answered, (
                "I-5: a known command got another answer"
            )
            # "Not now, send the same bytes again" is no last word.
            refused = (
                result.executed is Executed.NO and result.retry is not Retry.SAME_BYTES
            )
            assert not (refused and result.request_id in ran), (
                "I-11: it was called not executed, and ran"
            )

    async def require_settled(self) -> None:
        """Check, with power and link and after a while, that nothing is left open."""
        await self.require_sound()
        results = await self.results()
        ran = {command.msg_id for _, command in self.accepted()}
        open_ones = [one.hex() for one in ran if len(results.get(one, [])) != 1]
        assert open_ones == [], "I-10: accepted, and no terminal result"
        # The state of now comes with the greeting after the crash.
        last = max(self.world.fleet.entries)
        assert self.world.fleet.hellos[-1].head_seq <= last
