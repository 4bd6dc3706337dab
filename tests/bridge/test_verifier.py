"""Signatures are judged in a process of their own, and without it just the same.

Real processes on real sockets; what they answer is compared with what is judged here.
"""

import os
import queue
import signal
import struct
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge import verifier
from bridge.ingest import Rejection, VerifiedEntry, VerifiedTelemetry
from bridge.key_book import EMPTY
from bridge.prover import Prover
from bridge.verification import Claim, holds
from bridge.verifier import LARGE, Line, Verifier
from bridge.verifier_process import answer, pack, unpack
from protocol.codes import AccessMeans, Code, FrameClass
from protocol.event import RentalStarted
from protocol.frame import FRAME_LIMIT
from protocol.keys import Ed25519SigningKey
from tests.bridge.car import RENTAL, sample
from tests.bridge.test_verification import MESSAGE, ODD
from tests.bridge.world import World

STARTED = RentalStarted(RENTAL, AccessMeans.CARD, 1_000_000, 60, 80, 400)
KEYS = [Ed25519SigningKey.from_seed(bytes([n]) * 32) for n in range(4)]


def _claims(count: int) -> list[Claim]:
    """Return claims of which every third does not hold."""
    found = []
    for number in range(count):
        key, message = KEYS[number % len(KEYS)], number.to_bytes(4, "big")
        signed = message if number % 3 else b"something else"
        found.append(Claim(key.public, key.sign(signed), message))
    return found


ANSWERS_TOO_LITTLE = """
from multiprocessing.connection import Connection
bridge = Connection(0)
while True:
    bridge.recv_bytes()
    bridge.send_bytes(b"1")
"""

CLAIMS = _claims(4 * LARGE)
EXPECTED = [bool(number % 3) for number in range(4 * LARGE)]


@pytest.fixture
def judge() -> Iterator[Verifier]:
    made = Verifier()
    yield made
    made.close()


def _judged(made: Verifier, claims: Sequence[Claim]) -> list[bool]:
    return made.answers(claims, made.ask(claims))


def _pid(made: Verifier) -> int:
    assert made.pid is not None
    return made.pid


def test_it_says_of_each_claim_whether_it_holds(judge: Verifier) -> None:
    """I-24: in the order of the claims."""
    assert _judged(judge, CLAIMS) == EXPECTED
    assert _judged(judge, CLAIMS[::-1]) == EXPECTED[::-1]


def test_it_judges_odd_signatures_as_the_bridge_does_itself(judge: Verifier) -> None:
    """K11: every odd point and length that a frame can have."""
    odd = [
        Claim(public, signature, MESSAGE)
        for public, signature in ODD.values()
        if len(signature) == 64
    ]

    assert _judged(judge, odd) == [holds(claim) for claim in odd]
    assert judge.pid is not None


def test_a_small_batch_needs_no_process(judge: Verifier) -> None:
    assert _judged(judge, CLAIMS[: LARGE - 1]) == EXPECTED[: LARGE - 1]
    assert _judged(judge, []) == []
    assert judge.pid is None


def test_a_batch_is_judged_although_the_process_was_killed(judge: Verifier) -> None:
    """I-31: and the next one but a few has a process again."""
    _judged(judge, CLAIMS)
    first = _pid(judge)
    os.kill(first, signal.SIGKILL)

    assert _judged(judge, CLAIMS) == EXPECTED
    assert judge.pid is None

    answers = [_judged(judge, CLAIMS) for _ in range(3)]
    assert answers == [EXPECTED] * 3
    assert _pid(judge) != first


def test_parts_that_a_dead_process_was_asked_about_are_judged_here(
    judge: Verifier,
) -> None:
    """I-24: and no later process's answer is taken for theirs."""
    back = CLAIMS[::-1]
    asked = [judge.ask(CLAIMS), judge.ask(back)]
    os.kill(_pid(judge), signal.SIGKILL)

    assert judge.answers(CLAIMS, asked[0]) == EXPECTED
    while not (again := judge.ask(CLAIMS)):
        pass
    assert judge.answers(back, asked[1]) == EXPECTED[::-1]
    assert judge.answers(CLAIMS, again) == EXPECTED


def test_parts_are_answered_in_the_order_in_which_they_were_asked(
    judge: Verifier,
) -> None:
    parts = [CLAIMS[first : first + LARGE] for first in range(0, len(CLAIMS), LARGE)]

    asked = [judge.ask(part) for part in parts]

    assert all(asked)
    answers = [judge.answers(part, one) for part, one in zip(parts, asked, strict=True)]
    assert [one for part in answers for one in part] == EXPECTED


def test_one_thread_asks_while_another_collects_and_the_process_dies_between_them(
    judge: Verifier,
) -> None:
    """I-31: every claim gets its answer, and a descriptor stays with its owner."""
    asked: queue.SimpleQueue[Line | None] = queue.SimpleQueue()
    rounds = 200

    def ask() -> None:
        for _ in range(rounds):
            asked.put(judge.ask(CLAIMS))

    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    asking = threading.Thread(target=ask)
    asking.start()
    answers, killed = [], set()
    for number in range(rounds):
        answers.append(judge.answers(CLAIMS, asked.get()))
        pid = judge.pid
        if number % 20 == 0 and pid is not None:
            killed.add(pid)
            os.kill(pid, signal.SIGKILL)
    asking.join()
    judge.close()

    assert answers == [EXPECTED] * rounds
    assert killed
    assert len(list(Path("/proc/self/fd").iterdir())) <= descriptors


def test_a_process_that_stands_still_is_not_waited_for(
    judge: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I-31: neither when it does not answer nor when it does not read."""
    monkeypatch.setattr(verifier, "_PATIENCE", struct.pack("@ll", 0, 300_000))
    large = CLAIMS * (500_000 // len(pack(CLAIMS)))
    for claims, expected in ((CLAIMS, EXPECTED), (large, EXPECTED * len(large))):
        while judge.pid is None:
            _judged(judge, CLAIMS)
        frozen = _pid(judge)
        os.kill(frozen, signal.SIGSTOP)

        assert _judged(judge, claims) == expected[: len(claims)]
        with pytest.raises(ProcessLookupError):
            os.kill(frozen, 0)


@pytest.mark.parametrize(
    "program",
    [
        pytest.param((sys.executable, "-c", "pass"), id="ends at once"),
        pytest.param(("/nonexistent/program",), id="is not there"),
        pytest.param(
            (
                sys.executable,
                "-c",
                ANSWERS_TOO_LITTLE,
            ),
            id="answers too little",
        ),
    ],
)
def test_a_process_that_is_no_use_changes_no_answer(
    program: Sequence[str], caplog: pytest.LogCaptureFixture
) -> None:
    made = Verifier(program=program)
    try:
        answers = [_judged(made, CLAIMS) for _ in range(8)]
    finally:
        made.close()

    assert answers == [EXPECTED] * 8
    # Tried at the first, the fourth and the ninth batch: not at every one.
    failures = [one for one in caplog.messages if "verifying process failed" in one]
    assert len(failures) == 2


def test_the_process_ends_with_its_bridge(judge: Verifier) -> None:
    _judged(judge, CLAIMS)
    pid = _pid(judge)

    judge.close()

    assert not Path(f"/proc/{pid}").exists()
    assert _judged(judge, CLAIMS) == EXPECTED


@settings(deadline=None)
@given(
    st.lists(
        st.builds(
            Claim,
            st.binary(min_size=32, max_size=32),
            st.binary(min_size=64, max_size=64),
            st.binary(max_size=FRAME_LIMIT),
        ),
        max_size=8,
    )
)
def test_what_is_packed_is_unpacked_and_answered_one_by_one(
    claims: list[Claim],
) -> None:
    request = pack(claims)

    assert list(unpack(request)) == claims
    assert answer(request) == bytes(len(claims))


class _Message:
    """What a prover needs of a message."""

    retain = False

    def __init__(self, topic: str, payload: bytes) -> None:
        self.topic = topic
        self.payload = payload


@pytest.fixture
def prover(world: World) -> Iterator[Prover]:
    made = Prover(
        world.registry, fleet_id=world.fleet.fleet.fleet_id, verifier=Verifier()
    )
    yield made
    made.close()


async def test_what_follows_a_rotation_in_one_batch_is_judged_by_the_new_key(
    world: World, prover: Prover
) -> None:
    """FF-ENR-15, FF-ENR-16: whatever was asked of the process beforehand."""
    car = world.car
    topic = car.topic(FrameClass.TELEM)
    before = [car.telemetry(sample()) for _ in range(LARGE)]
    old = car.key
    rotated = car.rotate(Ed25519SigningKey.generate())
    behind = [car.telemetry(sample()) for _ in range(LARGE)]
    car.key = old
    stolen = car.telemetry(sample())
    batch = [_Message(topic, data) for data in before]
    batch.append(_Message(car.topic(FrameClass.EVENT), rotated))
    batch += [_Message(topic, data) for data in (*behind, stolen)]

    records = prover.judge(prover.ask(batch, EMPTY), EMPTY)

    kinds = [type(record) for record in records]
    assert kinds == (
        [VerifiedTelemetry] * LARGE
        + [VerifiedEntry]
        + [VerifiedTelemetry] * LARGE
        + [Rejection]
    )
    assert isinstance(records[-1], Rejection)
    assert records[-1].code is Code.REVOKED


async def test_a_batch_that_was_asked_about_before_a_rotation_is_judged_behind_it(
    world: World, prover: Prover
) -> None:
    """FF-ENR-15: what counts are the keys when the batch before is committed."""
    car = world.car
    topic = car.topic(FrameClass.TELEM)
    old, rotated = car.key, car.rotate(Ed25519SigningKey.generate())
    new = [car.telemetry(sample()) for _ in range(LARGE)]
    car.key = old
    stolen = [car.telemetry(sample()) for _ in range(LARGE)]
    first = [_Message(car.topic(FrameClass.EVENT), rotated)]
    second = [_Message(topic, data) for data in (*new, *stolen)]

    asked = prover.ask(first, EMPTY), prover.ask(second, EMPTY)
    (entry,) = prover.judge(asked[0], EMPTY)
    assert isinstance(entry, VerifiedEntry)
    assert entry.rotation is not None
    records = prover.judge(asked[1], EMPTY.with_rotations([entry.rotation]))

    kinds = [type(record) for record in records]
    assert kinds == [VerifiedTelemetry] * LARGE + [Rejection] * LARGE


async def test_one_forged_frame_in_a_batch_is_refused_and_no_other(
    world: World, prover: Prover
) -> None:
    """I-24, I-31: by its own signature, wherever it stands."""
    batch = []
    for car in world.cars:
        topic = car.topic(FrameClass.TELEM)
        batch += [_Message(topic, car.telemetry(sample())) for _ in range(LARGE)]
    forged = batch[20].payload
    batch[20].payload = forged[:-1] + bytes([forged[-1] ^ 1])
    batch[7].payload = b"no frame"

    records = prover.judge(prover.ask(batch, EMPTY), EMPTY)

    refused = {
        place: record.code
        for place, record in enumerate(records)
        if isinstance(record, Rejection)
    }
    assert refused.keys() == {7, 20}
    assert refused[20] is Code.BAD_SIGNATURE
