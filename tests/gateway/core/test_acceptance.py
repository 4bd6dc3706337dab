"""One test for each attack on the way from fleet to car (protocol-design.md 1.2, 4).

The names of protocol-design.md section 4 stand at the beginning of each.
"""

from dataclasses import replace
from itertools import permutations
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.acceptance import Refused, Repeated, open_receipt
from gateway.core.authentication import (
    Dropped,
)
from gateway.core.events import CommandReceived
from gateway.core.moment import Moment
from protocol.codes import (
    ClockQuality,
    Code,
    Executed,
    FrameClass,
    Lane,
    LockMode,
    Opcode,
    Role,
    Suite,
)
from protocol.command import (
    ANY_VERSION,
    COMMANDS,
    FlashHazards,
    Lock,
    Ping,
    build_command,
)
from protocol.signing import request_hash, sign_frame
from protocol.snapshot import NO_RENTAL
from tests.gateway.core.desk import (
    BUNDLE,
    DAY_MS,
    HAZARD_KEY,
    HEADER,
    MONITOR_KEY,
    NOW,
    OLD_SESSION,
    RECEIPTS_KEY,
    RENTAL,
    RENTAL_KEY,
    UNKNOWN_KEY,
    UNLOCK,
    FrontDesk,
    command_frame,
    outcome,
    told,
    trusted,
)
from tools.published_keys import (
    CAR_A_KEY,
    CAR_B,
    CAR_B_KEY,
    FLEET_ID,
    OTHER_FLEET_ID,
    TestKey,
)

LOCK: Final = Lock(RENTAL, ANY_VERSION, LockMode.DEFAULT)
PING: Final = Ping(NO_RENTAL, ANY_VERSION, bytes(16))
TEN_YEARS_MS: Final = 3_650 * DAY_MS


def test_an_honest_command_is_accepted_with_all_that_its_answer_needs() -> None:
    data = command_frame()

    verdict = FrontDesk().judge(data)

    assert verdict == CommandReceived(
        command=UNLOCK,
        msg_id=HEADER.msg_id,
        request_hash=request_hash(data),
        key_id=RENTAL_KEY.key_id,
        lane=Lane.ACCESS,
        seq=1,
    )


# --- integrity ---------------------------------------------------------------------


def test_bit_flip_anywhere_in_a_command_is_dropped_without_an_answer() -> None:
    # FF-SIG-07, FF-AUTH-02.
    # K11; no answer, since answering the unauthenticated helps forgers.
    desk = FrontDesk()
    data = bytearray(command_frame())

    unnoticed = []
    for place in range(len(data) * 8):
        data[place // 8] ^= 1 << place % 8
        verdict = desk.judge(bytes(data))
        data[place // 8] ^= 1 << place % 8
        if not (isinstance(verdict, Dropped) and verdict.code.local_only):
            unnoticed.append((place, verdict))

    assert unnoticed == []


def test_truncated_or_extended_frames_are_dropped() -> None:
    # FF-SIG-07, FF-FRM-07.
    data = command_frame()

    for size in range(len(data)):
        assert isinstance(FrontDesk().judge(data[:size]), Dropped)
    for more in range(1, 9):
        assert isinstance(FrontDesk().judge(data + bytes(more)), Dropped)


@pytest.mark.parametrize("size", [1_025, 4_096, 4_097, 100_000])
def test_over_long_frames_are_dropped_before_they_are_parsed(size: int) -> None:
    # FF-FRM-07, FF-FRM-15.
    data = command_frame()
    body = data[:-64] + bytes(size - len(data)) + data[-64:]
    body = body[:10] + (size - 156 & 0xFFFF).to_bytes(2, "big") + body[12:]

    assert outcome(FrontDesk().judge(body)) == ("dropped", Code.BAD_LEN)


@given(st.binary(max_size=2_000))
def test_arbitrary_bytes_are_dropped(data: bytes) -> None:
    # FF-FRM-17.
    assert isinstance(FrontDesk().judge(data), Dropped)


@given(st.binary(max_size=300))
def test_arbitrary_payloads_under_a_good_signature_never_raise(payload: bytes) -> None:
    # FF-FRM-17.
    verdict = FrontDesk().judge(command_frame(payload=payload))

    assert isinstance(verdict, Refused | CommandReceived)


# --- who signs ---------------------------------------------------------------------


def test_cross_vehicle_a_command_for_another_car_is_dropped() -> None:
    # FF-AUTH-05.
    # I-7
    verdict = FrontDesk().judge(command_frame(vehicle_id=CAR_B))

    assert outcome(verdict) == ("dropped", Code.WRONG_VEHICLE)


@pytest.mark.parametrize("signer", [CAR_A_KEY, CAR_B_KEY], ids=lambda s: s.name)
def test_cross_vehicle_a_command_signed_by_a_vehicle_is_dropped(
    signer: TestKey,
) -> None:
    # FF-AUTH-08.
    verdict = FrontDesk().judge(command_frame(key=signer.key))

    assert outcome(verdict) == ("dropped", Code.UNKNOWN_KEY)


def test_cross_vehicle_a_signature_of_another_key_under_a_known_name_is_dropped() -> (
    None
):
    # FF-AUTH-10, FF-SIG-01.
    stolen = command_frame(key=UNKNOWN_KEY)
    data = stolen[:28] + RENTAL_KEY.key_id + stolen[36:]

    assert outcome(FrontDesk().judge(data)) == ("dropped", Code.BAD_SIGNATURE)


def test_staging_to_prod_a_command_of_another_fleet_is_dropped() -> None:
    # FF-SIG-03.
    verdict = FrontDesk().judge(command_frame(fleet_id=OTHER_FLEET_ID))

    assert outcome(verdict) == ("dropped", Code.BAD_SIGNATURE)


def test_unknown_key_is_dropped() -> None:
    # FF-AUTH-08.
    verdict = FrontDesk().judge(command_frame(key=UNKNOWN_KEY))

    assert outcome(verdict) == ("dropped", Code.UNKNOWN_KEY)


def test_revoked_key_is_dropped_even_if_the_bundle_still_lists_it() -> None:
    # FF-AUTH-09.
    # revoked_key_inflight
    desk = FrontDesk(bundle=replace(BUNDLE, revoked=(RENTAL_KEY.key_id,)))

    assert outcome(desk.judge(command_frame())) == ("dropped", Code.REVOKED)


def test_suite_downgrade_a_suite_outside_the_bundle_is_dropped() -> None:
    # FF-AUTH-06.
    desk = FrontDesk(bundle=replace(BUNDLE, suites=(Suite.P256,)))

    assert outcome(desk.judge(command_frame())) == ("dropped", Code.SUITE_FORBIDDEN)


def test_suite_downgrade_an_allowed_suite_that_is_not_the_keys_is_dropped() -> None:
    # FF-SIG-05.
    desk = FrontDesk(bundle=replace(BUNDLE, suites=(Suite.ED25519, Suite.P256)))

    data = command_frame()
    verdict = desk.judge(data[:3] + bytes([Suite.P256]) + data[4:])

    assert outcome(verdict) == ("dropped", Code.SUITE_FORBIDDEN)


def test_a_receipt_key_signs_no_commands() -> None:
    # FF-FRE-13.
    verdict = FrontDesk().judge(command_frame(key=RECEIPTS_KEY))

    assert outcome(verdict) == ("refused", Code.ROLE_FORBIDDEN)


def test_a_monitor_only_reads() -> None:
    # FF-FRE-13.
    verdict = FrontDesk().judge(command_frame(PING, key=MONITOR_KEY))

    assert outcome(verdict) == ("refused", Code.ROLE_FORBIDDEN)


@pytest.mark.parametrize("role", [Role.RENTAL, Role.OPERATIONS, Role.SERVICE])
def test_other_roles_may_what_their_mask_says(role: Role) -> None:
    desk = FrontDesk().with_key(trusted(HAZARD_KEY, role))

    assert outcome(desk.judge(command_frame(key=HAZARD_KEY))) == ("accepted", None)


def test_opcode_mask_bounds_a_stolen_key() -> None:
    # FF-FRE-16.
    desk = FrontDesk().with_key(trusted(HAZARD_KEY, opcodes=(Opcode.FLASH_HAZARDS,)))
    hazards = FlashHazards(NO_RENTAL, ANY_VERSION, 5)

    unlock = desk.judge(command_frame(key=HAZARD_KEY))
    blink = desk.judge(command_frame(hazards, key=HAZARD_KEY))

    assert outcome(unlock) == ("refused", Code.OPCODE_FORBIDDEN)
    assert outcome(blink) == ("accepted", None)


def test_lane_mask_bounds_a_stolen_key() -> None:
    # FF-FRE-18.
    desk = FrontDesk().with_key(trusted(HAZARD_KEY, lanes=(Lane.SIGNALS,)))

    verdict = desk.judge(command_frame(key=HAZARD_KEY))

    assert outcome(verdict) == ("refused", Code.OPCODE_FORBIDDEN)


@pytest.mark.parametrize("lane", [0, 2, 3, 4, 5, 255])
def test_a_command_keeps_to_its_lane(lane: int) -> None:
    # FF-FRE-17.
    # Another lane would have an order of its own, and an unlock could overtake.
    verdict = FrontDesk().judge(command_frame(lane=lane))

    assert outcome(verdict) == ("refused", Code.BAD_PARAM)


@pytest.mark.parametrize(
    "wall_ms", [NOW.wall_ms + DAY_MS + 1, NOW.wall_ms - DAY_MS - 1]
)
def test_a_key_expires_by_the_time_that_the_fleet_has_told(wall_ms: int) -> None:
    # FF-FRE-14, FF-TIM-01.
    verdict = FrontDesk(time=told(wall_ms)).judge(command_frame())

    assert outcome(verdict) == ("refused", Code.KEY_EXPIRED)


@pytest.mark.parametrize("quality", list(ClockQuality))
@pytest.mark.parametrize("years", [-10, 10])
def test_wall_clock_plus_minus_10y_shuts_no_key_out(
    years: int, quality: ClockQuality
) -> None:
    # I-29, FF-TIM-01: a clock that says anything must not shut the fleet out.
    wall_ms = NOW.wall_ms + years * 365 * DAY_MS
    verdict = FrontDesk().judge(
        command_frame(), now=Moment(NOW.boot_ms, wall_ms, quality)
    )

    assert outcome(verdict) == ("accepted", None)


@pytest.mark.parametrize("wall_ms", [NOW.wall_ms + DAY_MS, NOW.wall_ms - DAY_MS])
def test_a_key_is_valid_to_its_last_instant(wall_ms: int) -> None:
    # FF-FRE-14.
    verdict = FrontDesk(time=told(wall_ms)).judge(command_frame())

    assert outcome(verdict) == ("accepted", None)


def test_a_key_of_another_group_is_refused() -> None:
    # FF-FRE-15: a key that was stolen in one town opens no car of another.
    key = trusted(HAZARD_KEY, group=9)
    frame = command_frame(key=HAZARD_KEY)

    for group, expected in (
        (0, ("refused", Code.GROUP_MISMATCH)),
        (8, ("refused", Code.GROUP_MISMATCH)),
        (9, ("accepted", None)),
    ):
        desk = replace(FrontDesk().with_key(key), group=group)
        assert outcome(desk.judge(frame)) == expected


def test_a_revoke_key_signs_no_commands() -> None:
    # FF-FRE-13.
    desk = FrontDesk().with_key(trusted(HAZARD_KEY, Role.REVOKE))

    verdict = desk.judge(command_frame(key=HAZARD_KEY))

    assert outcome(verdict) == ("refused", Code.ROLE_FORBIDDEN)


@pytest.mark.parametrize(
    ("seq", "complete", "executed"),
    [
        (5, True, Executed.NO),
        (5, False, Executed.MAYBE),
        (6, False, Executed.NO),
    ],
)
def test_executed_is_no_only_where_the_car_can_know_it(
    seq: int, complete: bool, executed: Executed
) -> None:
    # protocol-design.md 1.2: a session that outlived the journal may have executed what
    # it does not know any more, but for what is above all that it accepted.
    desk = FrontDesk(
        lanes={(RENTAL_KEY.key_id, Lane.ACCESS): 5}, journal_is_complete=complete
    )

    verdict = desk.judge(command_frame(seq=seq, mono_ms=0))

    assert isinstance(verdict, Refused)
    assert (verdict.code, verdict.executed) == (Code.EXPIRED, executed)


# --- freshness ---------------------------------------------------------------------


def test_replay_returns_cached_result_no_second_actuation() -> None:
    # FF-FRE-06, FF-FRE-07.
    # I-5: bit by bit the stored answer.
    desk = FrontDesk()
    data = command_frame()
    accepted = desk.accept(data)

    running = desk.judge(data)
    desk.close(accepted, b"the signed result")
    done = desk.judge(data)

    assert running == Repeated(None)
    assert done == Repeated(b"the signed result")


def test_replay_after_the_command_expired_still_returns_the_result() -> None:
    # FF-FRE-06.
    desk = FrontDesk()
    data = command_frame()
    desk.close(desk.accept(data), b"the signed result")
    later = replace(NOW, boot_ms=NOW.boot_ms + DAY_MS)

    assert desk.judge(data, now=later) == Repeated(b"the signed result")


def test_an_id_used_for_two_commands_is_refused() -> None:
    # FF-FRE-08.
    desk = FrontDesk()
    desk.accept(command_frame())

    verdict = desk.judge(command_frame(LOCK, seq=2))

    assert outcome(verdict) == ("refused", Code.ID_REUSED)


def test_replay_after_flash_loss_nothing_of_an_older_session_runs() -> None:
    # FF-FRE-09, FF-CMD-13.
    # replay_after_flash_loss: journal and lanes are gone, the session is another one.
    desk = FrontDesk(session_id=OLD_SESSION)

    verdict = desk.judge(command_frame())

    assert isinstance(verdict, Refused)
    assert (verdict.code, verdict.executed) == (Code.SESSION_STALE, Executed.MAYBE)


def test_consecutive_old_frames_never_accepted() -> None:
    # FF-FRE-24, FF-FRE-09.
    # RollBack: no counter is ever synchronised from traffic.
    desk = FrontDesk(session_id=OLD_SESSION)
    frames = [
        command_frame(seq=seq, msg_id=seq.to_bytes(16, "big")) for seq in range(1, 10)
    ]

    verdicts = {outcome(desk.judge(frame)) for frame in frames * 2}

    assert verdicts == {("refused", Code.SESSION_STALE)}


@pytest.mark.parametrize("late_ms", [0, 1, 3_600_000])
def test_unlock_after_tunnel_is_expired(late_ms: int) -> None:
    # FF-FRE-19.
    # I-6: at the last instant and an hour later. unlock_after_suspend is the same: the
    # boot clock runs through a suspend.
    now = replace(NOW, boot_ms=HEADER.mono_ms + late_ms)

    verdict = FrontDesk().judge(command_frame(), now=now)

    assert outcome(verdict) == ("refused", Code.EXPIRED)


def test_an_unlock_is_good_until_its_last_millisecond() -> None:
    # FF-FRE-19.
    now = replace(NOW, boot_ms=HEADER.mono_ms - 1)

    assert outcome(FrontDesk().judge(command_frame(), now=now)) == ("accepted", None)


def test_a_command_without_an_end_is_expired() -> None:
    # FF-FRE-19.
    # I-9: not_after = 0.
    verdict = FrontDesk().judge(command_frame(mono_ms=0))

    assert outcome(verdict) == ("refused", Code.EXPIRED)


@pytest.mark.parametrize("opcode", list(Opcode), ids=lambda opcode: opcode.name)
def test_a_command_lives_no_longer_than_its_opcode_allows(opcode: Opcode) -> None:
    # FF-FRE-20.
    limit_ms = COMMANDS[opcode].ttl_limit_ms
    common: dict[str, Any] = {"type": opcode, "lane": COMMANDS[opcode].lane}

    longest = FrontDesk().judge(command_frame(mono_ms=NOW.boot_ms + limit_ms, **common))
    longer = FrontDesk().judge(
        command_frame(mono_ms=NOW.boot_ms + limit_ms + 1, **common)
    )
    for_ever = FrontDesk().judge(command_frame(mono_ms=2**64 - 1, **common))

    assert outcome(longest) != ("refused", Code.TTL_TOO_LONG)
    assert outcome(longer) == ("refused", Code.TTL_TOO_LONG)
    assert outcome(for_ever) == ("refused", Code.TTL_TOO_LONG)


def test_a_key_can_have_a_shorter_life_for_its_commands() -> None:
    # FF-FRE-20.
    desk = FrontDesk().with_key(trusted(HAZARD_KEY, max_ttl_ms=1_000))

    short = desk.judge(command_frame(key=HAZARD_KEY, mono_ms=NOW.boot_ms + 1_000))
    long = desk.judge(command_frame(key=HAZARD_KEY, mono_ms=NOW.boot_ms + 1_001))

    assert outcome(short) == ("accepted", None)
    assert outcome(long) == ("refused", Code.TTL_TOO_LONG)


@pytest.mark.parametrize("jump_ms", [TEN_YEARS_MS, -TEN_YEARS_MS])
@pytest.mark.parametrize("label_ms", [0, 2**64 - 1])
def test_wall_clock_plus_minus_10y_accepts_and_refuses_nothing_wrongly(
    jump_ms: int, label_ms: int
) -> None:
    # FF-FRE-21, FF-TIM-06.
    # I-29: the car's boot clock decides; labels decide nothing.
    now = Moment(NOW.boot_ms, NOW.wall_ms + jump_ms, ClockQuality.RTC)

    fresh = FrontDesk().judge(command_frame(wall_ms=label_ms), now=now)
    stale = FrontDesk().judge(command_frame(mono_ms=NOW.boot_ms), now=now)

    assert outcome(fresh) == ("accepted", None)
    assert outcome(stale) == ("refused", Code.EXPIRED)


def test_holdback_then_newer_the_older_command_is_superseded() -> None:
    # FF-FRE-22.
    # RollJam: what the broker held back is worth nothing after the next one.
    desk = FrontDesk()
    held_back = command_frame(seq=1, msg_id=b"\1" * 16)
    desk.accept(command_frame(seq=2, msg_id=b"\2" * 16))

    assert outcome(desk.judge(held_back)) == ("refused", Code.SUPERSEDED)


def test_reordered_lock_unlock_an_older_one_never_overtakes() -> None:
    # FF-FRE-22.
    # I-8: in every order of arrival, what is accepted rises.
    frames = [
        command_frame(
            UNLOCK if seq % 2 else LOCK, seq=seq, msg_id=seq.to_bytes(16, "big")
        )
        for seq in range(1, 5)
    ]

    for order in permutations(frames):
        desk = FrontDesk()
        accepted = [
            desk.accept(frame).seq
            for frame in order
            if outcome(desk.judge(frame)) == ("accepted", None)
        ]
        assert accepted == sorted(set(accepted))
        assert accepted[-1] == 4


def test_lanes_are_independent() -> None:
    # FF-FRE-23.
    desk = FrontDesk()
    desk.accept(command_frame(seq=9))

    verdict = desk.judge(command_frame(PING, seq=1, msg_id=b"\2" * 16))

    assert outcome(verdict) == ("accepted", None)


def test_signers_count_for_themselves() -> None:
    # FF-TRU-20.
    # FF-FRE-23.
    desk = FrontDesk().with_key(trusted(HAZARD_KEY))
    desk.accept(command_frame(seq=9))

    verdict = desk.judge(command_frame(key=HAZARD_KEY, seq=1, msg_id=b"\2" * 16))

    assert outcome(verdict) == ("accepted", None)


def test_sequence_zero_is_before_every_lane() -> None:
    # FF-FRE-22.
    assert outcome(FrontDesk().judge(command_frame(seq=0))) == (
        "refused",
        Code.SUPERSEDED,
    )


def test_retained_command_is_refused() -> None:
    # FF-FRE-12.
    # retained_command, L9, I-9
    verdict = FrontDesk().judge(command_frame(), retained=True)

    assert isinstance(verdict, Refused)
    assert (verdict.code, verdict.executed) == (Code.RETAINED, Executed.NO)


def test_judging_consumes_no_sequence() -> None:
    # The shell spends it, for refusals that are for good (gateway.runtime.intake).
    desk = FrontDesk()
    data = command_frame()

    desk.judge(data, retained=True)

    assert outcome(desk.judge(data)) == ("accepted", None)


# --- class and direction -----------------------------------------------------------


@pytest.mark.parametrize("frame_class", list(FrameClass), ids=lambda c: c.label)
def test_every_class_at_every_receiver_only_its_own_is_taken(
    frame_class: FrameClass,
) -> None:
    # FF-AUTH-04.
    # every_class_at_every_receiver: reflection and confusion
    desk = FrontDesk()
    for key in (RENTAL_KEY, RECEIPTS_KEY):
        data = sign_frame(
            replace(HEADER, frame_class=frame_class, key_id=key.key_id),
            build_command(UNLOCK),
            fleet_id=FLEET_ID,
            key=key,
        )

        as_command = desk.judge(data)
        as_receipt = open_receipt(data, desk.desk, now=NOW)

        if frame_class is not FrameClass.CMD:
            assert outcome(as_command) == ("dropped", Code.WRONG_DIRECTION)
        assert isinstance(as_receipt, Dropped)
        if frame_class is not FrameClass.RECEIPT:
            assert as_receipt.code is Code.WRONG_DIRECTION


@pytest.mark.parametrize("frame_class", list(FrameClass), ids=lambda c: c.label)
def test_every_class_at_every_receiver_a_relabelled_frame_is_dropped(
    frame_class: FrameClass,
) -> None:
    # FF-SIG-04.
    # The label is signed: one frame cannot be passed off as another class.
    data = sign_frame(
        replace(HEADER, frame_class=frame_class),
        build_command(UNLOCK),
        fleet_id=FLEET_ID,
        key=RENTAL_KEY,
    )
    relabelled = data[:4] + bytes([FrameClass.CMD]) + data[5:]

    verdict = FrontDesk().judge(relabelled)

    if frame_class is not FrameClass.CMD:
        assert outcome(verdict) == ("dropped", Code.BAD_SIGNATURE)
