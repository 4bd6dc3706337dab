"""Configuration bodies: whole or not at all, whatever comes in whatever order."""

import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.configuration import (
    BODY_LIMIT,
    KINDS_LIMIT,
    PATIENCE_MS,
    Active,
    Complete,
    Configurations,
    Outcome,
    Rejected,
    Stray,
)
from protocol.codes import Code

STATIONS, DAMAGE = 1, 2
BODY = bytes(range(250)) * 4


def digest(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()


def offer(
    desk: Configurations,
    body: bytes = BODY,
    *,
    kind: int = STATIONS,
    version: int = 1,
    now_ms: int = 0,
) -> Outcome:
    return desk.take_offer(
        kind=kind, version=version, length=len(body), sha256=digest(body), now_ms=now_ms
    )


def chunk(
    desk: Configurations,
    offset: int,
    data: bytes,
    *,
    kind: int = STATIONS,
    version: int = 1,
    now_ms: int = 0,
) -> Outcome:
    return desk.take_chunk(
        kind=kind, version=version, offset=offset, data=data, now_ms=now_ms
    )


def activate(desk: Configurations, *, kind: int = STATIONS, version: int = 1) -> None:
    offer(desk, kind=kind, version=version)
    complete = chunk(desk, 0, BODY, kind=kind, version=version)
    assert isinstance(complete, Complete)
    desk.adopt(complete)


@given(
    body=st.binary(min_size=1, max_size=300),
    size=st.integers(1, 60),
    overlap=st.integers(0, 20),
    order=st.randoms(use_true_random=False),
    repeats=st.integers(0, 10),
)
def test_a_body_is_complete_with_its_last_part_whatever_the_order(
    body: bytes, size: int, overlap: int, order: random.Random, repeats: int
) -> None:
    # FF-CFG-01, FF-CFG-04.
    desk = Configurations()
    assert offer(desk, body) is None
    parts = [
        (first, body[first : first + size + overlap])
        for first in range(0, len(body), size)
    ]
    parts += [order.choice(parts) for _ in range(repeats)]
    order.shuffle(parts)

    outcomes = []
    seen: set[int] = set()
    for first, data in parts:
        outcomes.append(chunk(desk, first, data))
        seen.update(range(first, first + len(data)))
        assert (outcomes[-1] is None) == (len(seen) < len(body))
        if outcomes[-1] is not None:
            break

    assert outcomes[-1] == Complete(Active(STATIONS, 1, digest(body)), body)


@given(
    body=st.binary(min_size=2, max_size=200),
    size=st.integers(1, 60),
    flip=st.integers(0, 10_000),
    order=st.randoms(use_true_random=False),
)
def test_a_body_with_one_wrong_byte_never_takes_effect(
    body: bytes, size: int, flip: int, order: random.Random
) -> None:
    # FF-CFG-02, FF-CFG-05.
    desk = Configurations()
    offer(desk, body)
    wrong = bytearray(body)
    wrong[flip % len(body)] ^= 1
    parts = [
        (first, bytes(wrong[first : first + size]))
        for first in range(0, len(body), size)
    ]
    order.shuffle(parts)

    outcomes = [chunk(desk, first, data) for first, data in parts]

    assert outcomes[-1] == Rejected(STATIONS, 1, Code.BAD_HASH)
    assert desk.active == ()
    assert isinstance(chunk(desk, 0, body), Stray)


def test_parts_that_say_different_things_of_one_byte_end_the_body() -> None:
    desk = Configurations()
    offer(desk)
    chunk(desk, 100, BODY[100:300])
    assert chunk(desk, 200, BODY[200:400]) is None

    wrong = BODY[350:360] + b"\xff" + BODY[361:500]

    assert chunk(desk, 350, wrong) == Rejected(STATIONS, 1, Code.BAD_HASH)
    assert isinstance(chunk(desk, 0, BODY), Stray)


def test_versions_only_rise() -> None:
    # FF-CFG-03.
    desk = Configurations([Active(STATIONS, 5, digest(BODY))])

    assert offer(desk, version=4) == Rejected(STATIONS, 4, Code.SUPERSEDED)
    assert offer(desk, b"other", version=5) == Rejected(STATIONS, 5, Code.SUPERSEDED)
    assert offer(desk, version=6) is None
    assert offer(desk, version=7) is None
    assert offer(desk, version=6) == Rejected(STATIONS, 6, Code.SUPERSEDED)
    assert isinstance(chunk(desk, 0, BODY, version=6), Stray)
    assert isinstance(chunk(desk, 0, BODY, version=7), Complete)


def test_what_is_in_force_may_be_offered_and_sent_again() -> None:
    desk = Configurations()
    activate(desk)

    assert offer(desk) is None
    assert chunk(desk, 0, BODY) is None
    assert desk.active == (Active(STATIONS, 1, digest(BODY)),)


def test_the_same_offer_goes_on_and_another_hash_begins_anew() -> None:
    desk = Configurations()
    offer(desk)
    chunk(desk, 0, BODY[:500])
    assert offer(desk) is None
    assert isinstance(chunk(desk, 500, BODY[500:]), Complete)

    other = BODY[::-1]
    assert offer(desk, other) is None
    assert chunk(desk, 500, other[500:]) is None
    assert isinstance(chunk(desk, 0, other[:500]), Complete)


def test_kinds_do_not_disturb_each_other() -> None:
    desk = Configurations()
    offer(desk, kind=STATIONS, version=3)
    offer(desk, BODY[:10], kind=DAMAGE, version=1)
    chunk(desk, 0, BODY[:500], kind=STATIONS, version=3)

    damage = chunk(desk, 0, BODY[:10], kind=DAMAGE)
    assert isinstance(damage, Complete)
    desk.adopt(damage)
    stations = chunk(desk, 500, BODY[500:], kind=STATIONS, version=3)
    assert isinstance(stations, Complete)
    desk.adopt(stations)

    assert [(each.kind, each.version) for each in desk.active] == [
        (STATIONS, 3),
        (DAMAGE, 1),
    ]


def test_a_part_beyond_the_end_and_an_empty_one_end_the_body() -> None:
    # FF-CFG-06.
    desk = Configurations()
    offer(desk)
    assert chunk(desk, 990, BODY[:11]) == Rejected(STATIONS, 1, Code.BAD_PARAM)
    offer(desk, version=2)
    assert chunk(desk, 0, b"", version=2) == Rejected(STATIONS, 2, Code.BAD_PARAM)


@pytest.mark.parametrize("length", [0, BODY_LIMIT + 1])
def test_a_body_is_bounded(length: int) -> None:
    refused = Configurations().take_offer(
        kind=STATIONS, version=1, length=length, sha256=bytes(32), now_ms=0
    )

    assert refused == Rejected(STATIONS, 1, Code.TOO_LARGE)


def test_kinds_are_bounded() -> None:
    desk = Configurations()
    for kind in range(KINDS_LIMIT):
        assert offer(desk, kind=kind) is None

    assert offer(desk, kind=99) == Rejected(99, 1, Code.QUEUE_FULL)
    assert offer(desk, kind=0, version=2) is None


def test_a_body_that_nothing_brings_on_is_given_up() -> None:
    desk = Configurations()
    assert desk.next_deadline() is None
    offer(desk, now_ms=1_000)
    chunk(desk, 0, BODY[:500], now_ms=5_000)
    # What has come before brings nothing on.
    chunk(desk, 0, BODY[:500], now_ms=9_000)
    assert desk.next_deadline() == 5_000 + PATIENCE_MS
    assert desk.pass_time(now_ms=4_999 + PATIENCE_MS) == ()

    ended = desk.pass_time(now_ms=5_000 + PATIENCE_MS)

    assert ended == (Rejected(STATIONS, 1, Code.CONFIG_INCOMPLETE),)
    assert desk.next_deadline() is None


def test_a_refusal_is_told_once() -> None:
    # I-20: an offer that is repeated must not fill the ledger.
    desk = Configurations([Active(STATIONS, 5, digest(BODY))])

    assert offer(desk, version=4) is not None
    assert offer(desk, version=4) is None
    assert offer(desk, version=3) is not None
    offer(desk, kind=DAMAGE, now_ms=0)
    assert desk.pass_time(now_ms=PATIENCE_MS) != ()
    offer(desk, kind=DAMAGE, now_ms=PATIENCE_MS)
    assert desk.pass_time(now_ms=2 * PATIENCE_MS) == ()


def test_refusals_that_are_remembered_are_bounded() -> None:
    desk = Configurations()
    for kind in range(3 * KINDS_LIMIT):
        refused = desk.take_offer(
            kind=kind, version=1, length=0, sha256=bytes(32), now_ms=0
        )
        assert refused is not None

    assert len(desk._told) <= KINDS_LIMIT


def test_the_shell_may_give_a_body_up() -> None:
    desk = Configurations()
    offer(desk)
    assert isinstance(chunk(desk, 0, BODY), Complete)

    assert desk.refuse(STATIONS, Code.STORAGE_FULL) == Rejected(
        STATIONS, 1, Code.STORAGE_FULL
    )
    assert desk.active == ()
    assert isinstance(chunk(desk, 0, BODY), Stray)
