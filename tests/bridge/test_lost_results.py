"""Whatever is lost on the way, the bridge claims only what the car did (I-11).

A model car keeps the truth: which commands it executed, its journal, its session. The
bridge sees what a lossy link lets through. Then the link gets well, the car says HELLO
in a new session, and every command has an end that agrees with the truth.
"""

from dataclasses import dataclass, field, replace
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from bridge import commands
from bridge.commands import TRANSITIONS, CommandRecord, CommandState
from bridge.ports import SignedCommand
from protocol.codes import Code, Executed, FrameClass, FrameType, Lane, Retry, Suite
from protocol.frame import Header
from protocol.hello import LaneProgress, Outcome
from protocol.identity import VehicleId, session_id
from protocol.result import Result, retry_of
from protocol.signing import request_hash
from tests.bridge.car import EMPTY_HELLO
from tests.depth import times

CAR: Final = VehicleId(bytes(16))
LEDGER: Final = EMPTY_HELLO.ledger_id
KEY: Final = b"key-id-1"
LIFE_MS: Final = 9_500

STEPS: Final = st.lists(
    st.sampled_from(
        [
            "send and lose",
            "send and act",
            "send and refuse",
            "send and fail",
            "send and start",
            "hear the result",
            "sweep",
            "hello",
            "reconnect",
            "wait",
            "wait long",
        ]
    ),
    max_size=25,
)


@dataclass
class Model:
    """A car, its link and what the bridge makes of both."""

    record: CommandRecord
    now: int = 0
    boot: int = 1
    journal: list[Outcome] = field(default_factory=list)
    did: Executed = Executed.NO
    is_spent: bool = False
    answer: Result | None = None

    @property
    def session(self) -> bytes:
        return session_id(self.boot, bytes(12))

    def apply(self, after: CommandRecord | None) -> None:
        assert after is not None
        before = self.record
        if before.state.is_terminal:
            # A sending may still be noted; what the car said stays.
            assert (after.state, after.code, after.executed, after.snapshot) == (
                before.state,
                before.code,
                before.executed,
                before.snapshot,
            )
        if after.state is not before.state:
            assert after.state in TRANSITIONS[before.state]
        if after is not before:
            assert after.version > before.version
        self.record = after
        if after.state is CommandState.SUCCEEDED:
            assert self.did is Executed.YES
        if commands.is_proved_undone(after):
            assert self.did is Executed.NO
            assert not self.can_still_run
        if after.state is CommandState.TIMED_OUT:
            assert not after.state.is_terminal

    @property
    def can_still_run(self) -> bool:
        return (
            not self.is_spent
            and self.session == self.record.session_id
            and self.now <= self.record.not_after_ms
        )

    def receive(self, how: str) -> None:
        """Let the command's bytes reach the car."""
        if self.is_spent or not self.can_still_run:
            return
        self.is_spent = True
        code, self.did = {
            "send and act": (Code.OK, Executed.YES),
            "send and refuse": (Code.DOOR_OPEN, Executed.NO),
            "send and fail": (Code.ACTUATOR_TIMEOUT, Executed.MAYBE),
            "send and start": (Code.IN_PROGRESS, Executed.MAYBE),
        }[how]
        if code is not Code.DOOR_OPEN:
            # A refusal before acceptance is not journalled (protocol-design.md 1.2).
            self.journal.append(Outcome(self.record.command_id, code))
        self.answer = Result(
            self.record.command_id,
            request_hash(self.record.frame),
            code,
            self.did,
            retry_of(code),
            EMPTY_HELLO.snapshot,
        )

    def greet(self) -> None:
        hello = replace(
            EMPTY_HELLO,
            outcomes=tuple(self.journal),
            lanes=(LaneProgress(KEY, Lane.ACCESS, 1),)
            if self.is_spent and self.session == self.record.session_id
            else (),
        )
        header = Header(
            suite=Suite.ED25519,
            frame_class=FrameClass.HELLO,
            flags=0,
            type=FrameType.HELLO,
            schema=1,
            lane=0,
            vehicle_id=CAR,
            key_id=bytes(8),
            session_id=self.session,
            seq=self.now + 1,
            mono_ms=self.now,
            wall_ms=0,
            msg_id=bytes(16),
        )
        self.apply(
            commands.greeted(
                self.record, hello, header, frame=b"", lists_older=False, now=self.now
            )
        )

    def reconnect(self) -> None:
        """Begin a session; a crash in the act leaves "indeterminate" in the journal."""
        self.boot += 1
        self.journal = [
            replace(outcome, code=Code.INDETERMINATE_AFTER_REBOOT)
            if outcome.code is Code.IN_PROGRESS
            else outcome
            for outcome in self.journal
        ]

    def step(self, what: str) -> None:
        if what.startswith("send and "):
            self.apply(commands.published(self.record, now=self.now))
            if what != "send and lose":
                self.receive(what)
        elif what == "hear the result" and self.answer is not None:
            self.apply(
                commands.answered(
                    self.record,
                    self.answer,
                    b"frame",
                    in_ledger=self.answer.code is not Code.DOOR_OPEN,
                    now=self.now,
                )
            )
        elif what == "sweep" and commands.is_overdue(self.record, now=self.now):
            self.apply(commands.timed_out(self.record, now=self.now))
        elif what == "hello":
            self.greet()
        elif what == "reconnect":
            self.reconnect()
        elif what.startswith("wait"):
            self.now += 12_000 if what == "wait long" else 1_000


def fresh() -> CommandRecord:
    requested = commands.request(
        CommandRecord(
            command_id=b"0123456789abcdef",
            vehicle_id=CAR,
            kind="unlock",
            opcode=0x0101,
            rental_id=bytes(16),
            requested_ms=0,
            session_id=session_id(1, bytes(12)),
            ledger_id=LEDGER,
        )
    )
    frame = SignedCommand(b"the signed bytes", KEY, int(Lane.ACCESS), 1, LIFE_MS)
    return commands.signed(requested, frame, expires_ms=LIFE_MS, now=0)


@given(STEPS)
@settings(max_examples=times(150, deep=2_000), deadline=None)
def test_whatever_is_lost_the_end_is_what_the_car_did(steps: list[str]) -> None:
    # FF-CMD-17, FF-CMD-19, FF-CMD-20.
    model = Model(fresh())

    for step in steps:
        model.step(step)

    model.now += 12_000
    model.step("sweep")
    model.reconnect()
    model.greet()
    record = model.record
    assert record.state.is_terminal
    if model.did is Executed.YES:
        assert record.state is CommandState.SUCCEEDED
    if record.state is CommandState.SUCCEEDED:
        assert model.did is Executed.YES
    if model.did is Executed.NO:
        assert commands.is_proved_undone(record)


def test_a_lost_answer_is_unknown_until_the_hello_and_never_failed() -> None:
    # FF-CMD-21, FF-CMD-27.
    # I-11: every result is lost; the car did it.
    model = Model(fresh())
    for step in ("send and act", "wait long", "sweep"):
        model.step(step)
    unknown = model.record
    assert (unknown.state, unknown.executed) == (CommandState.TIMED_OUT, None)

    model.reconnect()
    model.greet()

    settled = model.record
    assert (settled.state, settled.settled_by) == (CommandState.SUCCEEDED, "hello")
    assert settled.retry is Retry.NEVER
