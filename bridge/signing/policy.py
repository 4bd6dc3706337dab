"""What a signer signs, whatever the bridge asks.

The attacker considered: somebody who owns the bridge's process and asks for whatever
they like. The signer believes nothing that the bridge says about a frame: it reads the
frame itself, holds it against the trust bundle that it has itself, and counts how many
commands and how many different cars there were. What is left to the attacker is what
fits under these caps, and each of it stands in the signer's log.

Pure: it is told what was asked and what time it is.
"""

from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from bridge.errors import CapError, SigningError
from bridge.keyring import Use, choose
from bridge.signing.messages import Ask
from bridge.signing.passed import Passed, passed_of
from bridge.signing.second_person import SecondPerson
from bridge.signing.settings import PolicySettings
from bridge.trust import Trust
from protocol.codes import FrameClass, Lane, Opcode, SyncType
from protocol.command import COMMANDS, parse_command
from protocol.errors import ProtocolError
from protocol.frame import Frame, parse_frame
from protocol.identity import VehicleId
from protocol.keys import SIGNATURE_SIZE, SigningKey
from protocol.sync import SYNC_TTL_LIMIT_MS, ConfigOffer, parse_sync
from protocol.trust import EVERY_GROUP, TrustedKey

MINUTE_MS: Final = 60_000
DAY_MS: Final = 86_400_000

LABEL_MS: Final = 60_000
"""How far a frame's UTC label may be from the signer's own clock."""

SESSIONS_LIMIT: Final = 100_000
"""Sessions and lanes whose sequences are remembered."""

WINDOW: Final = 64
"""How far behind the highest sequence a lower one may still come: orders that were
given at the same moment may overtake each other on the way here."""


NOTHING_ASKED: Final = Passed(is_outside=False)
"""Of frames that are no commands and offer nothing."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A frame that may be signed."""

    frame: Frame
    """Its layout; the signature in it is zeros."""
    key: SigningKey
    """What signs it."""
    kind: str
    """What it is, for the log."""
    passed: Passed = NOTHING_ASKED
    """Whether a second person let it go."""


class Policy:
    """The rules and counters of one signer."""

    def __init__(self, settings: PolicySettings, second: SecondPerson) -> None:
        self._settings = settings
        self._second = second
        self._opcodes = frozenset(
            Opcode[name.upper()]
            for name in settings.opcodes or [o.name for o in COMMANDS]
        )
        self._minute: deque[int] = deque()
        self._day: deque[int] = deque()
        self._frames: deque[int] = deque()
        self._reached: OrderedDict[bytes, int] = OrderedDict()
        self._sequences: OrderedDict[tuple[bytes, bytes, int], _Sequences] = (
            OrderedDict()
        )
        self.epoch = 0
        """The highest epoch that asked."""

    def remember(self, facts: Mapping[str, int | str], *, is_counted: bool) -> None:
        """Take what the log tells of; restarting wins nobody room, nor a consent twice.

        Args:
            facts: of an entry of something that was signed.
            is_counted: whether it was within the last day.
        """
        found = passed_of(facts)
        if found is None:
            return
        vehicle, passed = found
        if is_counted and passed.offered is None:
            self._count(vehicle.raw, int(facts["at_ms"]))
        self._second.remember(vehicle, passed, facts, is_counted=is_counted)

    def judge(
        self,
        ask: Ask,
        *,
        keys: tuple[SigningKey, ...],
        trust: Trust,
        now: int,
    ) -> Judged:
        """Say what signs a frame, and count it.

        Args:
            ask: what the bridge wants.
            keys: the signer's own.
            trust: the bundles that the signer has itself.
            now: UTC ms.

        Raises:
            CapError: too many, for now.
            SigningError: it is not signed; nothing was counted.
        """
        if ask.epoch < self.epoch:
            raise SigningError(
                f"another bridge signs here now (epoch {self.epoch}, yours is "
                f"{ask.epoch})"
            )
        try:
            frame = parse_frame(ask.unsigned + bytes(SIGNATURE_SIZE))
        except ProtocolError as error:
            raise SigningError(f"this is no frame: {error}") from error
        header = frame.header
        if abs(header.wall_ms - now) > LABEL_MS:
            raise SigningError(
                "the frame's time is not this machine's; check both clocks"
            )
        is_command = header.frame_class is FrameClass.CMD
        judged = (
            self._command(frame, ask, keys, trust, now)
            if is_command
            else self._other(frame, ask, keys, trust, now)
        )
        self._require_new(frame)
        self._require_room(header.vehicle_id, now, is_command=is_command)
        self.epoch = ask.epoch
        self._note(frame)
        if is_command:
            self._count(header.vehicle_id.raw, now)
        self._second.note(header, judged.passed, now=now)
        self._frames.append(now)
        return judged

    def _command(
        self,
        frame: Frame,
        ask: Ask,
        keys: tuple[SigningKey, ...],
        trust: Trust,
        now: int,
    ) -> Judged:
        header = frame.header
        try:
            command = parse_command(header.type, header.schema, frame.payload)
        except ProtocolError as error:
            raise SigningError(f"this is no command: {error}") from error
        opcode = Opcode(header.type)
        if opcode not in self._opcodes:
            raise SigningError(f"this signer signs no {opcode.name.lower()}")
        rule = COMMANDS[opcode]
        if header.lane != rule.lane:
            raise SigningError(f"{opcode.name.lower()} is of another lane")
        key, grant = _key_of(frame, keys, trust, opcode=int(opcode), lane=rule.lane)
        longest_ms = min(
            rule.ttl_limit_ms, grant.max_ttl_ms, self._settings.life_s * 1000
        )
        _require_life(frame, ask, longest_ms)
        passed = self._second.judge(header, command, ask.consent, now=now)
        return Judged(frame, key, opcode.name.lower(), passed)

    def _other(
        self,
        frame: Frame,
        ask: Ask,
        keys: tuple[SigningKey, ...],
        trust: Trust,
        now: int,
    ) -> Judged:
        header = frame.header
        if header.frame_class is FrameClass.TRUST:
            if frame.payload != trust.data:
                raise SigningError("this signer has another trust bundle than that")
            # Any key carries a bundle; the roots signed what is in it.
            return Judged(frame, _named(frame, keys), "trust")
        if header.frame_class is not FrameClass.SYNC or header.type not in set(
            SyncType
        ):
            raise SigningError("this signer signs commands, SYNC and TRUST alone")
        key, grant = _key_of(frame, keys, trust, opcode=header.type, lane=Lane.TRUST)
        _require_life(frame, ask, min(SYNC_TTL_LIMIT_MS, grant.max_ttl_ms))
        passed = NOTHING_ASKED
        if header.type == SyncType.CONFIG:
            offer = _offer_in(frame, now)
            passed = self._second.judge_offer(header, offer, ask.consent, now=now)
        return Judged(frame, key, SyncType(header.type).name.lower(), passed)

    def _require_room(
        self, vehicle_id: VehicleId, now: int, *, is_command: bool
    ) -> None:
        settings = self._settings
        _forget(self._frames, now - MINUTE_MS)
        _require_below(self._frames, settings.frames_per_minute, MINUTE_MS, now)
        if not is_command:
            return
        _forget(self._minute, now - MINUTE_MS)
        _forget(self._day, now - DAY_MS)
        _require_below(self._minute, settings.commands_per_minute, MINUTE_MS, now)
        _require_below(self._day, settings.commands_per_day, DAY_MS, now)
        window_ms = settings.window_s * 1000
        while self._reached and next(iter(self._reached.values())) <= now - window_ms:
            self._reached.popitem(last=False)
        others = len(self._reached) - (vehicle_id.raw in self._reached)
        if others >= settings.vehicles:
            oldest = next(iter(self._reached.values()))
            raise CapError(
                f"this signer reached {settings.vehicles} vehicles within "
                f"{settings.window_s} s",
                retry_after_s=_seconds(oldest + window_ms - now),
            )

    def _count(self, vehicle_id: bytes, at_ms: int) -> None:
        self._minute.append(at_ms)
        self._day.append(at_ms)
        self._reached.pop(vehicle_id, None)
        self._reached[vehicle_id] = at_ms

    def _require_new(self, frame: Frame) -> None:
        header = frame.header
        if header.frame_class is FrameClass.TRUST:
            return
        known = self._sequences.get((header.key_id, header.session_id, header.lane))
        if known is not None and not known.is_new(header.seq):
            raise SigningError(f"sequence {header.seq} was used, or is too old")

    def _note(self, frame: Frame) -> None:
        header = frame.header
        if header.frame_class is FrameClass.TRUST:
            return
        name = (header.key_id, header.session_id, int(header.lane))
        known = self._sequences.pop(name, None) or _Sequences(set())
        known.note(header.seq)
        self._sequences[name] = known
        if len(self._sequences) > SESSIONS_LIMIT:
            self._sequences.popitem(last=False)


@dataclass(slots=True)
class _Sequences:
    """Sequences that were used last in one session and lane."""

    used: set[int]
    highest: int = -1

    def is_new(self, seq: int) -> bool:
        return seq not in self.used and seq > self.highest - WINDOW

    def note(self, seq: int) -> None:
        self.highest = max(self.highest, seq)
        self.used = {s for s in (*self.used, seq) if s > self.highest - WINDOW}


def _offer_in(frame: Frame, now: int) -> ConfigOffer:
    header = frame.header
    try:
        offer = parse_sync(header.type, header.schema, frame.payload)
    except ProtocolError as error:
        raise SigningError(f"this is no offer: {error}") from error
    if not isinstance(offer, ConfigOffer):
        raise SigningError("this is no offer")
    # A car takes rising versions alone: the highest one would be its last.
    if offer.version > now // 1000:
        raise SigningError(
            f"version {offer.version} of a configuration is above the seconds that "
            "have passed since 1970"
        )
    return offer


def _require_life(frame: Frame, ask: Ask, longest_ms: int) -> None:
    life_ms = frame.header.mono_ms - ask.car_now_ms
    if not 0 < life_ms <= longest_ms:
        raise SigningError(
            f"a life of {life_ms} ms is not within the {longest_ms} ms of this signer"
        )


def _named(frame: Frame, keys: tuple[SigningKey, ...]) -> SigningKey:
    for key in keys:
        if key.key_id == frame.header.key_id:
            return key
    raise SigningError(f"this signer has no key {frame.header.key_id.hex()}")


def _key_of(
    frame: Frame, keys: tuple[SigningKey, ...], trust: Trust, *, opcode: int, lane: Lane
) -> tuple[SigningKey, TrustedKey]:
    """Return the named key, if the newest bundle lets it sign this, and its grant."""
    key = _named(frame, keys)
    found = trust.newest.find(key.key_id)
    # The car's group is the car's to check: the signer does not know it.
    group = EVERY_GROUP if found is None else found.group
    wall_ms = frame.header.wall_ms
    use = Use(opcode, lane, group, trust.newest.version, wall_ms)
    return choose([key], trust, use)


def _forget(times: deque[int], until_ms: int) -> None:
    while times and times[0] <= until_ms:
        times.popleft()


def _require_below(times: deque[int], cap: int, span_ms: int, now: int) -> None:
    if len(times) >= cap:
        raise CapError(
            f"this signer signs {cap} in {span_ms // 1000} s, and did",
            retry_after_s=_seconds(times[0] + span_ms - now),
        )


def _seconds(left_ms: int) -> int:
    return min(max(-(-left_ms // 1000), 1), 86_400)
