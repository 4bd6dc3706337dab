"""Frames that no ledger keeps: hellos, refusals, repeated results and telemetry.

They are signed when they are said and lost when there is no link; what must not be lost
is an entry (`gateway.core.ledger`).
"""

from gateway.core.acceptance import Refused, Repeated
from gateway.core.appearance import snapshot_of
from gateway.core.greeting import build_hello
from gateway.core.ledger import sign_refusal, sign_report
from gateway.core.moment import Moment
from gateway.ports import Clock, Outlet, Positioning, RandomBytes, Store
from gateway.runtime.answer_limit import AnswerLimit
from gateway.runtime.standing import Standing
from gateway.runtime.telemetry_feed import TelemetryFeed
from protocol.codes import Code, DeathReason, FrameClass, FrameType, HelloFlags
from protocol.death import DEATH, Death
from protocol.frame import FLAG_HISTORICAL
from protocol.hello import HELLO, NO_NONCE, OUTCOMES_LIMIT
from protocol.identity import ID_SIZE
from protocol.result import Result, retry_of
from protocol.telemetry import TELEMETRY, Telemetry


class Herald:
    """Signs and offers frames in the name of what stands."""

    def __init__(
        self,
        standing: Standing,
        *,
        store: Store,
        outlet: Outlet,
        positioning: Positioning,
        clock: Clock,
        random_bytes: RandomBytes,
    ) -> None:
        self._standing = standing
        self._store = store
        self._outlet = outlet
        self._clock = clock
        self._random_bytes = random_bytes
        self._answers = AnswerLimit()
        self._asking_key = b""
        self._is_prepared = False
        self._feed = TelemetryFeed(positioning)

    # -- answers ----------------------------------------------------------------------

    def hear(self, key_id: bytes) -> None:
        """Note whose command is being answered; answers are counted for each key."""
        self._asking_key = key_id

    def repeat(self, verdict: Repeated, *, now: Moment) -> None:
        """Send the stored result of a repeated command again, bit by bit.

        While the command still runs there is nothing to say: its result will come.
        """
        if verdict.result_frame is not None and self._may_answer(now):
            self._outlet.offer(FrameClass.RESULT, verdict.result_frame)

    def refuse(self, refused: Refused, *, now: Moment) -> None:
        """Answer a command that the acceptance pipeline stopped."""
        self.send_refusal(
            Result(
                request_id=refused.request.msg_id,
                request_hash=refused.request.request_hash,
                code=refused.code,
                executed=refused.executed,
                retry=retry_of(refused.code),
                snapshot=snapshot_of(self._standing.state),
            )
        )
        if refused.code is Code.SESSION_STALE and self._may_answer(now):
            # The sender needs the session of now (protocol-design.md 1.2, step 7).
            self._outlet.offer(FrameClass.HELLO, self.hello(now=now))

    def send_refusal(self, result: Result) -> None:
        """Sign and offer a result that enters no ledger."""
        now = self._clock.now()
        if self._may_answer(now):
            frame = sign_refusal(
                result, self._standing.head, self._standing.signatory, now=now
            )
            self._outlet.offer(FrameClass.RESULT, frame)

    # -- presence ---------------------------------------------------------------------

    def prepare(self, *, now: Moment) -> bytes:
        """Take the number of the next HELLO, and sign the will that goes with it.

        A connection's will is given to the broker before the HELLO can be sent, and
        names its number (FF-DTH).
        """
        self._standing.session.next_hello()
        self._is_prepared = True
        return self.death(DeathReason.LOST, now=now)

    def death(self, reason: DeathReason, *, now: Moment) -> bytes:
        """Return a signed DEATH with the number of the newest HELLO."""
        return sign_report(
            FrameClass.DEATH,
            FrameType.DEATH,
            DEATH.build(Death(reason)),
            self._standing.signatory,
            seq=self._standing.session.hello_seq,
            msg_id=self._random_bytes(ID_SIZE),
            now=now,
        )

    def announce(self, *, now: Moment, nonce: bytes = NO_NONCE) -> None:
        """Offer a HELLO of the session of now, if the fleet can be reached in it."""
        if self._standing.session.is_open:
            self._outlet.offer(FrameClass.HELLO, self.hello(now=now, nonce=nonce))

    def hello(self, *, now: Moment, nonce: bytes = NO_NONCE) -> bytes:
        """Return a signed HELLO with the next number, or with the prepared one."""
        standing = self._standing
        if not self._is_prepared:
            standing.session.next_hello()
        self._is_prepared = False
        hello = build_hello(
            standing.state,
            head=standing.head,
            receipted=standing.receipted,
            lanes=standing.session.lanes,
            journal=standing.journal.newest(OUTCOMES_LIMIT),
            bundle_version=standing.trust.bundle.version,
            firmware=standing.persona.firmware,
            storage_free_kib=self._store.free_kib(),
            nonce=nonce,
            group=standing.persona.group,
            flags=self._flags(now),
            configurations=standing.configurations,
            time=standing.time.known,
            now=now,
        )
        return sign_report(
            FrameClass.HELLO,
            FrameType.HELLO,
            HELLO.build(hello),
            standing.signatory,
            seq=standing.session.hello_seq,
            msg_id=self._random_bytes(ID_SIZE),
            now=now,
        )

    def _flags(self, now: Moment) -> HelloFlags:
        flags = HelloFlags(0)
        if self._standing.is_bundle_expired(now=now):
            flags |= HelloFlags.BUNDLE_EXPIRED
        if self._standing.was_reset:
            flags |= HelloFlags.LEDGER_WAS_RESET
        if self._standing.is_in_service:
            flags |= HelloFlags.SERVICE_MODE
        return flags

    def _may_answer(self, now: Moment) -> bool:
        return self._answers.allows(self._asking_key, now=now)

    # -- telemetry --------------------------------------------------------------------

    def telemetry_due_ms(self, *, now: Moment) -> int:
        """Return the boot instant of the next sample."""
        return self._feed.due_ms(self._standing.state, now=now)

    def sample(self, *, now: Moment) -> None:
        """Take a sample and send it, or keep it while there is no link."""
        state = self._standing.state
        if self._standing.session.is_open:
            self._send(self._feed.take(state, now=now), now, flags=0)
        else:
            self._feed.keep(state, now=now)

    def send_kept_samples(self, *, now: Moment) -> None:
        """Send what was kept while there was no link, marked as historical.

        The newest first: a fleet wants to know where a car was a minute ago before it
        wants to know where it was an hour ago. If some were lost, a number is left out.
        """
        frames, lost = self._feed.hand_over(now=now)
        if lost:
            self._standing.session.next_batch()
        for kept in frames:
            self._send(kept, now, flags=FLAG_HISTORICAL)

    def place(self, place: bytes, *, now: Moment) -> bytes:
        """Return a signed PLACE frame: it goes out before its entry (FF-PLC-03).

        Signed anew each time, as it belongs to no ledger and must be of this session.
        """
        return self._telem(FrameType.PLACE, place, now, flags=0)

    def _send(self, telemetry: Telemetry, now: Moment, *, flags: int) -> None:
        frame = self._telem(
            FrameType.TELEMETRY, TELEMETRY.build(telemetry), now, flags=flags
        )
        self._outlet.offer(FrameClass.TELEM, frame, can_wait=True)

    def _telem(
        self, kind: FrameType, payload: bytes, now: Moment, *, flags: int
    ) -> bytes:
        return sign_report(
            FrameClass.TELEM,
            kind,
            payload,
            self._standing.signatory,
            seq=self._standing.session.next_batch(),
            msg_id=self._random_bytes(ID_SIZE),
            now=now,
            flags=flags,
        )
