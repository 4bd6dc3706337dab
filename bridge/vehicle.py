"""What the bridge remembers of one vehicle beside its ledger: session, clock, presence.

Rule 1: a HELLO counts only if (boot counter, hello sequence) rises above all that was
seen of its ledger; otherwise a broker could bring back an old session by replaying one
(protocol-design.md 1.3). One that does not is doubted until the car answers a challenge
(`bridge.doubt`).
A car that lost its flash begins a new ledger and counts its starts from 1 again: a
ledger that was never seen counts at once and is told, a replaced one never again.
Rule 2: a DEATH counts only if it belongs to the newest connection: its sequence is not
below that of the HELLO that began it, in the same session (1.4).
"""

from enum import StrEnum, unique
from typing import Final, Self

import msgspec

from bridge.clock import ClockEstimate
from bridge.doubt import Doubt
from bridge.instant import Instant
from bridge.mds.standing import Standing
from bridge.ports import Addressee
from bridge.presence import LinkState, Presence
from bridge.twin import Latest, Stamp, Twin, Values, advance, spread
from protocol.frame import Header
from protocol.hello import NO_NONCE, Hello
from protocol.identity import ID_SIZE, VehicleId, boot_counter

LOST_LEDGERS: Final = 16
"""Replaced ledgers remembered; a disk is not lost more often in a car's life."""


@unique
class HelloJudgement(StrEnum):
    """What a HELLO is worth."""

    NEWER = "accepted"
    SAME = "duplicate"
    REGRESSED = "hello went back"
    PROVED = "answer to the challenge"
    """It carries our nonce: the car speaks now, whatever its counters say."""
    BARRED = "answer of a car with a replaced ledger"
    """It carries our nonce, but the ledger must not come back (FF-LED-23)."""


class VehicleState(msgspec.Struct, frozen=True, gc=False):
    """One vehicle; a value, stored as JSON."""

    session_id: bytes = b""
    """16 bytes of the session that commands are signed for; empty before any HELLO."""
    hello_seq: int = -1
    """Sequence of the newest HELLO."""
    connection_seq: int = -1
    """Sequence of the HELLO that began the connection: its will has that one."""
    mark: tuple[int, int] = (-1, -1)
    """The highest (boot counter, hello sequence) seen of this ledger."""
    doubt: Doubt | None = None
    """Why nothing is signed for it, or None."""
    alerts: tuple[str, ...] = ()
    """What somebody should look at, by name; each change is told."""
    hello_hash: bytes = b""
    """32 bytes: tells a redelivered HELLO from a replayed older one."""
    presence: Presence = Presence()
    """Its link."""
    firmware: str = ""
    """Major.minor.patch."""
    bundle_version: int = 0
    """Trust bundle in use."""
    group: int = 0
    """Its group of vehicles; 0 for none."""
    capabilities: tuple[tuple[int, int], ...] = ()
    """(opcode, newest schema) that the car understands."""
    ledger_id: bytes = b""
    """8 bytes: the ledger in use."""
    lost_ledgers: tuple[bytes, ...] = ()
    """8 bytes each: ledgers in use before it, the oldest first."""
    receipted_seq: int = 0
    """The last entry of this ledger of which it said that it has a receipt."""
    storage_free_kib: int = 0
    """Room for the ledger."""
    configs: tuple[tuple[int, int], ...] = ()
    """(kind, version) of each configuration that it acts by."""
    clock: ClockEstimate = ClockEstimate()
    """What its boot clock shows."""
    fields: Twin = msgspec.field(default_factory=dict, name="twin")
    """What is known of the car, without `latest`; see `twin`."""
    latest: Latest | None = None
    """The newest sample, if it is not in `fields`."""
    faults: tuple[str, ...] = ()
    """Faults raised and not cleared."""
    standing: Standing = Standing()
    """Where a city was told that it is."""

    def judge(self, header: Header, hello: Hello, frame_hash: bytes) -> HelloJudgement:
        """Say what a verified HELLO is worth (rule 1)."""
        if frame_hash == self.hello_hash:
            return HelloJudgement.SAME
        is_answer = self.doubt is not None and hello.nonce == self.doubt.nonce
        if hello.ledger_id in self.lost_ledgers:
            return HelloJudgement.BARRED if is_answer else HelloJudgement.REGRESSED
        if is_answer:
            return HelloJudgement.PROVED
        if not self.session_id or hello.ledger_id != self.ledger_id:
            return HelloJudgement.NEWER
        is_newer = _mark_of(header) > self.mark
        return HelloJudgement.NEWER if is_newer else HelloJudgement.REGRESSED

    def greeted(
        self, header: Header, hello: Hello, frame_hash: bytes, *, now: int
    ) -> Self:
        """Return the vehicle after an accepted HELLO."""
        kept, mark = self, _mark_of(header)
        if self.ledger_id and hello.ledger_id != self.ledger_id:
            lost = (*self.lost_ledgers, self.ledger_id)[-LOST_LEDGERS:]
            kept = msgspec.structs.replace(self, lost_ledgers=lost)
        elif mark <= self.mark:
            mark = self.mark
        if kept is not self or mark == self.mark:
            # What is known was stamped by a count of starts that began anew.
            kept = msgspec.structs.replace(kept, fields={}, latest=None, faults=())
        is_same_connection = (
            hello.nonce != NO_NONCE and header.session_id == self.session_id
        )
        return msgspec.structs.replace(
            kept,
            connection_seq=self.connection_seq if is_same_connection else header.seq,
            mark=mark,
            configs=tuple((c.kind, c.version) for c in hello.configs),
            session_id=header.session_id,
            hello_seq=header.seq,
            hello_hash=frame_hash,
            presence=self.presence.greeted(now=now),
            firmware=".".join(str(part) for part in hello.firmware[:3]),
            bundle_version=hello.bundle_version,
            group=hello.group,
            capabilities=tuple((c.opcode, c.schema) for c in hello.capabilities),
            ledger_id=hello.ledger_id,
            receipted_seq=hello.oldest_unreceipted - 1,
            storage_free_kib=hello.storage_free_kib,
        )

    def heard(self, header: Header, *, at: Instant) -> Self:
        """Return the vehicle after any verified frame."""
        boot = boot_counter(header.session_id)
        return msgspec.structs.replace(
            self,
            presence=self.presence.heard(now=at.utc_ms),
            clock=self._clock_after(header, boot, at),
            doubt=self.doubt_after(header.session_id, header.mono_ms, at=at),
        )

    def doubt_after(
        self, session_id: bytes, mono_ms: int, *, at: Instant
    ) -> Doubt | None:
        """Return what is doubted of it after a verified frame of a session."""
        if self.doubt is None or session_id == self.session_id:
            return self.doubt
        return self.doubt.heard(session_id, mono_ms, at=at)

    def _clock_after(self, header: Header, boot: int, at: Instant) -> ClockEstimate:
        # A stored frame of an earlier session says nothing about today's clock, and a
        # first session is believed only from its HELLO on.
        if header.session_id != self.session_id:
            return self.clock
        return self.clock.observed(boot, header.mono_ms, at=at)

    def died(self, header: Header, ended: LinkState, *, now: int) -> Self | None:
        """Return the vehicle after a DEATH, or None if that one is stale (rule 2)."""
        if header.session_id != self.session_id or header.seq < self.connection_seq:
            return None
        died = self.presence.died(ended, now=now)
        return msgspec.structs.replace(self, presence=died)

    @property
    def twin(self) -> Twin:
        """What is known of the car, each field with its own age."""
        return spread(self.fields, self.latest)

    def observed(self, header: Header, values: Values, *, at: Instant) -> Self:
        """Return the vehicle with what a frame tells of it."""
        if not values:
            return self
        stamp = Stamp(boot_counter(header.session_id), header.mono_ms)
        observed_ms = self.utc_of(header, at=at)
        fields, latest = self.fields, self.latest
        if latest is not None and stamp <= latest.stamp:
            # A sample that is older than this one may be spread after it instead.
            fields, latest = self.twin, None
        after = advance(
            fields,
            values,
            stamp=stamp,
            observed_ms=observed_ms,
            received_ms=at.utc_ms,
        )
        if after is fields:
            return self
        return msgspec.structs.replace(self, fields=after, latest=latest)

    def with_fault(self, kind: str, *, is_raised: bool) -> Self:
        """Return the vehicle after a fault was raised or cleared."""
        others = tuple(known for known in self.faults if known != kind)
        faults = (*others, kind) if is_raised else others
        return msgspec.structs.replace(self, faults=faults)

    def utc_of(self, header: Header, *, at: Instant) -> int | None:
        """Return when a frame was signed, UTC ms.

        By the clock estimate within the running boot, else by the car's own label.
        """
        boot = boot_counter(header.session_id)
        known = self.clock.utc_of(boot, header.mono_ms, at=at)
        return header.wall_ms if known is None else known

    def configured(self, kind: int, version: int) -> Self:
        """Return the vehicle after it activated a configuration."""
        others = tuple(c for c in self.configs if c[0] != kind)
        return msgspec.structs.replace(self, configs=(*others, (kind, version)))

    def config_version(self, kind: int) -> int:
        """Return the version of a configuration that it has; 0 for none."""
        return dict(self.configs).get(kind, 0)

    def addressee(
        self, vehicle_id: VehicleId, car_now_ms: int, *, now: int
    ) -> Addressee:
        """Return the car as a signer needs to know it."""
        return Addressee(
            vehicle_id,
            self.session_id or bytes(ID_SIZE),
            self.group,
            self.bundle_version,
            car_now_ms,
            now,
        )

    def is_online(self, *, now: int) -> bool:
        """Return whether a command has a chance to be received."""
        return self.presence.is_online(now=now)

    @property
    def is_electric(self) -> bool:
        """Whether it is charged and not fuelled."""
        # No sample tells it, so none needs to be spread.
        kind = self.fields.get("energy_kind")
        return kind is not None and kind.value == "electric"

    @property
    def energy_pct(self) -> int | None:
        """Fuel or charge as the twin has it, without spreading the newest sample."""
        known, latest = self.fields.get("energy_pct"), self.latest
        if latest is not None and (known is None or known.stamp <= latest.stamp):
            measured = latest.sample.energy_pct
            if measured is not None:
                return measured
        return known.value if known and isinstance(known.value, int) else None

    def understands(self, opcode: int, schema: int) -> bool:
        """Return whether the car said that it knows this opcode."""
        return any(
            known == opcode and newest >= schema for known, newest in self.capabilities
        )


def _mark_of(header: Header) -> tuple[int, int]:
    return boot_counter(header.session_id), header.seq
