"""Whatever order a network makes of commands: a lane only goes forward (I-8)."""

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.events import CommandReceived
from protocol.codes import Lane, LockMode
from protocol.command import (
    ANY_VERSION,
    COMMANDS,
    OPCODE_OF,
    Command,
    FlashHazards,
    Lock,
    Ping,
    Unlock,
)
from protocol.keys import SigningKey
from protocol.snapshot import NO_RENTAL
from tests.gateway.core.desk import (
    HAZARD_KEY,
    RENTAL,
    RENTAL_KEY,
    FrontDesk,
    command_frame,
    trusted,
)

KEYS: tuple[SigningKey, ...] = (RENTAL_KEY, HAZARD_KEY)
KINDS: tuple[Command, ...] = (
    Unlock(RENTAL, ANY_VERSION),
    Lock(RENTAL, ANY_VERSION, LockMode.PLAIN),
    FlashHazards(NO_RENTAL, ANY_VERSION, 5),
    Ping(NO_RENTAL, ANY_VERSION, bytes(16)),
)

SENT = [
    command_frame(
        kind,
        key=key,
        seq=seq,
        msg_id=bytes([number, seq, key.key_id[0]]) + bytes(13),
    )
    for key in KEYS
    for number, kind in enumerate(KINDS)
    for seq in range(number % 2 + 1, 9, 2)
]
"""Of two signers; unlocks have the odd sequences of a lane, locks the even ones."""


@settings(deadline=None)
@given(st.lists(st.sampled_from(SENT), max_size=60))
def test_reordered_lock_unlock_no_permutation_runs_an_older_one_after_a_newer(
    arrivals: list[bytes],
) -> None:
    # FF-FRE-22, FF-FRE-23, FF-FRE-06.
    # I-5, I-8: duplicates, losses and every order.
    desk = FrontDesk().with_key(trusted(HAZARD_KEY))
    newest: dict[tuple[bytes, Lane], int] = {}
    ran: set[bytes] = set()

    for data in arrivals:
        verdict = desk.judge(data)
        if not isinstance(verdict, CommandReceived):
            continue
        desk.accept(data)
        lane = (verdict.key_id, verdict.lane)
        assert verdict.lane is COMMANDS[OPCODE_OF[type(verdict.command)]].lane
        assert verdict.seq > newest.get(lane, 0)
        assert verdict.msg_id not in ran
        newest[lane] = verdict.seq
        ran.add(verdict.msg_id)

    # Nothing that came is lost either: the newest of each lane has run.
    came: dict[tuple[bytes, Lane], int] = {}
    for data in arrivals:
        fresh = FrontDesk().with_key(trusted(HAZARD_KEY)).accept(data)
        lane = (fresh.key_id, fresh.lane)
        came[lane] = max(came.get(lane, 0), fresh.seq)
    assert newest == came


@settings(deadline=None)
@given(st.permutations(SENT[:8]))
def test_in_order_arrivals_of_any_permutation_are_what_runs(order: list[bytes]) -> None:
    # FF-FRE-22.
    # I-8: of each lane exactly those run that are newer than all before them.
    desk = FrontDesk()
    expected, newest = [], {Lane.ACCESS: 0, Lane.SIGNALS: 0, Lane.DIAGNOSTICS: 0}
    for data in order:
        fresh = FrontDesk().accept(data)
        if fresh.seq > newest[fresh.lane]:
            newest[fresh.lane] = fresh.seq
            expected.append(fresh.msg_id)

    ran = [
        desk.accept(data).msg_id
        for data in order
        if isinstance(desk.judge(data), CommandReceived)
    ]

    assert ran == expected
