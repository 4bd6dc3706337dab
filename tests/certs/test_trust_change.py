"""Changing who may command the cars, judged by the cars' own code (FF-TRU)."""

from datetime import datetime, timedelta

import pytest

from certs.errors import FleetError, RequestError
from certs.fleet import FleetDirectory, bundle_path, root_part
from certs.trust import new_signing_key
from certs.trust_change import (
    add_signer,
    change_roots,
    extend_bundle,
    granted,
    revoke_key,
    rotate_signer,
)
from certs.trust_files import (
    TrustFiles,
    describe,
    merge,
    progress,
    sign_proposal,
    unsigned,
)
from keystore.signer import open_signing_key
from protocol.codes import Code, Role, Suite
from protocol.errors import AuthenticationError
from protocol.keys import P256SigningKey, SigningKey
from protocol.succession import succeed
from protocol.trust import ROOTS_LIMIT, TrustBundle, open_bundle

DAY = timedelta(days=1)


@pytest.fixture
def files(fleet: FleetDirectory) -> TrustFiles:
    return TrustFiles(fleet)


def root(fleet: FleetDirectory, number: int) -> SigningKey:
    return open_signing_key(fleet.path / root_part(number, "key"))


def roots(fleet: FleetDirectory) -> tuple[SigningKey, ...]:
    return tuple(root(fleet, number) for number in (1, 2, 3))


def with_revoker(
    fleet: FleetDirectory, files: TrustFiles, now: datetime
) -> tuple[TrustBundle, SigningKey]:
    key = new_signing_key()
    grant = granted(key.verify_key.raw, Role.REVOKE, now=now)
    done = files.propose(add_signer(files.current(), grant, now=now), roots(fleet))
    return done.bundle, key


def as_a_car(fleet: FleetDirectory, version: int) -> TrustBundle:
    """What a car holds that began with bundle 1 and heard of every one up to this."""
    fleet_id = fleet.fleet.fleet_id
    first = bundle_path(fleet.path, 1).read_bytes()
    held = describe(first)
    held = open_bundle(first, held.trust_roots, fleet_id=fleet_id)
    for number in range(2, version + 1):
        data = bundle_path(fleet.path, number).read_bytes()
        held = succeed(held, data, fleet_id=fleet_id)
    return held


def test_a_second_replica_gets_a_key_of_its_own(
    fleet: FleetDirectory, files: TrustFiles, now: datetime
) -> None:
    key = new_signing_key()
    grant = granted(key.verify_key.raw, Role.RENTAL, now=now)

    done = files.propose(add_signer(files.current(), grant, now=now), roots(fleet))

    assert done.missing == ""
    held = as_a_car(fleet, 2)
    assert held.find(key.key_id) == grant
    assert held == files.current()


def test_a_p256_signer_brings_its_suite_along(
    fleet: FleetDirectory, files: TrustFiles, now: datetime
) -> None:
    key = P256SigningKey.generate()
    grant = granted(key.verify_key.raw, Role.RECEIPT, now=now)

    files.propose(add_signer(files.current(), grant, now=now), roots(fleet))

    assert as_a_car(fleet, 2).suites == (Suite.ED25519, Suite.P256)


def test_one_key_has_one_role_only(
    fleet: FleetDirectory, files: TrustFiles, now: datetime
) -> None:
    current = files.current()
    receipt = next(key for key in current.keys if key.role is Role.RECEIPT)

    for raw in (receipt.public_key, root(fleet, 1).verify_key.raw):
        with pytest.raises(RequestError):
            add_signer(current, granted(raw, Role.RENTAL, now=now), now=now)
    with pytest.raises(RequestError, match="cannot be a root"):
        change_roots(current, [receipt.public_key], threshold=1, now=now)


def test_an_old_and_a_new_signer_overlap(
    fleet: FleetDirectory, files: TrustFiles, now: datetime
) -> None:
    current, new = files.current(), new_signing_key()
    old = next(key for key in current.keys if key.role is Role.RENTAL)

    change = rotate_signer(
        current, old.key_id, new.verify_key.raw, now=now, overlap=3 * DAY
    )
    files.propose(change, roots(fleet))

    held = as_a_car(fleet, 2)
    before, after = held.find(old.key_id), held.find(new.key_id)
    assert before is not None
    assert after is not None
    assert before.not_after_ms == int((now + 3 * DAY).timestamp() * 1000)
    assert after.not_before_ms < before.not_after_ms < after.not_after_ms
    assert (after.role, after.opcodes) == (old.role, old.opcodes)


def test_a_key_that_has_ended_leaves_with_the_next_rotation(
    files: TrustFiles, now: datetime
) -> None:
    current = files.current()
    command = next(key for key in current.keys if key.role is Role.RENTAL)
    once = rotate_signer(
        current, command.key_id, new_signing_key().verify_key.raw, now=now
    )
    second = next(
        key
        for key in once.keys
        if key.role is Role.RENTAL and key.key_id != command.key_id
    )

    twice = rotate_signer(
        once, second.key_id, new_signing_key().verify_key.raw, now=now + 30 * DAY
    )

    assert twice.find(command.key_id) is None
    assert twice.find(second.key_id) is not None


def test_the_revoke_key_alone_takes_a_stolen_signer_out(
    fleet: FleetDirectory, files: TrustFiles, now: datetime
) -> None:
    # Row 35 (command key stolen).
    # FF-TRU: within minutes and without the offline roots.
    current, revoker = with_revoker(fleet, files, now)
    stolen = next(key for key in current.keys if key.role is Role.RENTAL)

    done = files.propose(revoke_key(current, stolen.key_id, now=now), (revoker,))

    assert done.missing == ""
    held = as_a_car(fleet, 3)
    assert held.find(stolen.key_id) is None
    assert held.revoked == (stolen.key_id,)


def test_the_revoke_key_can_give_nothing(
    fleet: FleetDirectory, files: TrustFiles, now: datetime
) -> None:
    current, revoker = with_revoker(fleet, files, now)
    grant = granted(new_signing_key().verify_key.raw, Role.RENTAL, now=now)
    tries = (
        add_signer(current, grant, now=now),
        extend_bundle(current, now=now + DAY),
        change_roots(current, current.roots[:1], threshold=1, now=now),
    )

    for change in tries:
        with pytest.raises(AuthenticationError) as caught:
            files.propose(change, (revoker,))
        assert caught.value.code is Code.ROLE_FORBIDDEN
    assert files.current() == current
    assert not files.proposal_path.exists()


def test_a_new_car_gets_the_newest_bundle_that_the_roots_signed(
    fleet: FleetDirectory, files: TrustFiles, now: datetime
) -> None:
    # It knows no revoke key yet; the bridge sends it what came after.
    current, revoker = with_revoker(fleet, files, now)
    command = next(key for key in current.keys if key.role is Role.RENTAL)
    files.propose(revoke_key(current, command.key_id, now=now), (revoker,))

    given = open_bundle(
        fleet.trust_bundle(), fleet.trust_roots(), fleet_id=fleet.fleet.fleet_id
    )

    assert given.version == 2
    assert (
        succeed(
            given,
            bundle_path(fleet.path, 3).read_bytes(),
            fleet_id=fleet.fleet.fleet_id,
        ).version
        == 3
    )


def test_a_revoked_key_never_comes_back(files: TrustFiles, now: datetime) -> None:
    current = files.current()
    key = current.keys[0]
    change = revoke_key(current, key.key_id, now=now)

    with pytest.raises(RequestError, match="is revoked"):
        add_signer(change, granted(key.public_key, Role.RENTAL, now=now), now=now)


def test_roots_sign_on_their_own_machines_until_there_are_enough(
    fleet: FleetDirectory, files: TrustFiles, now: datetime
) -> None:
    current = files.current()
    waiting = files.propose(extend_bundle(current, now=now + DAY), ())
    body = files.waiting()

    first = files.take(sign_proposal(body, root(fleet, 1)))
    second = files.take(sign_proposal(body, root(fleet, 3)))

    assert "2 of the present roots" in waiting.missing
    assert "1 of the present roots" in first.missing
    assert root(fleet, 1).key_id.hex() not in first.missing
    assert second.missing == ""
    assert files.current().version == 2
    assert not files.proposal_path.exists()


def test_one_root_that_signs_twice_counts_once(
    fleet: FleetDirectory, files: TrustFiles, now: datetime
) -> None:
    files.propose(extend_bundle(files.current(), now=now + DAY), ())
    body = files.waiting()
    once = sign_proposal(body, root(fleet, 1))

    state = files.take(once, sign_proposal(once, root(fleet, 1)))

    assert "1 of the present roots" in state.missing
    assert state.signed_by == (root(fleet, 1).key_id,)


def test_other_roots_are_signed_by_the_old_and_by_the_new_ones(
    fleet: FleetDirectory, files: TrustFiles, now: datetime
) -> None:
    # Uptane: nobody becomes a root without holding its key.
    new = tuple(new_signing_key() for _ in range(3))
    raws = [key.verify_key.raw for key in new]
    change = change_roots(files.current(), raws, threshold=2, now=now)

    old_only = files.propose(change, roots(fleet))
    done = files.take(*(sign_proposal(files.waiting(), key) for key in new[:2]))

    assert "2 of the new roots" in old_only.missing
    assert done.missing == ""
    assert as_a_car(fleet, 2).roots == tuple(raws)
    assert fleet.trust_roots().keys == tuple(key.verify_key for key in new)
    again = files.propose(extend_bundle(files.current(), now=now + DAY), roots(fleet))
    assert "2 of the present roots" in again.missing


def test_signatures_of_another_change_are_refused(
    files: TrustFiles, now: datetime
) -> None:
    files.propose(extend_bundle(files.current(), now=now + DAY), ())
    other = unsigned(extend_bundle(files.current(), now=now + 2 * DAY))

    with pytest.raises(RequestError, match="not of the same change"):
        files.take(other)


def test_a_forged_signature_of_a_root_is_refused(
    fleet: FleetDirectory, files: TrustFiles, now: datetime
) -> None:
    current = files.current()
    good = sign_proposal(
        unsigned(extend_bundle(current, now=now + DAY)), root(fleet, 1)
    )
    forged = good[:-1] + bytes([good[-1] ^ 1])

    with pytest.raises(AuthenticationError):
        progress(current, forged, fleet_id=fleet.fleet.fleet_id)


def test_a_second_change_waits_for_the_first(files: TrustFiles, now: datetime) -> None:
    change = extend_bundle(files.current(), now=now + DAY)
    files.propose(change, ())

    with pytest.raises(RequestError, match="a change waits"):
        files.propose(change, ())
    files.discard()
    with pytest.raises(RequestError, match="no change of trust waits"):
        files.take(merge(unsigned(change)))


def test_a_bundle_that_was_put_in_by_hand_is_reported(
    fleet: FleetDirectory, files: TrustFiles, now: datetime
) -> None:
    forged = unsigned(extend_bundle(files.current(), now=now + DAY))
    bundle_path(fleet.path, 2).write_bytes(forged)

    with pytest.raises(FleetError, match=r"bundle-2\.bin does not verify"):
        files.current()


@pytest.mark.parametrize("count", [0, ROOTS_LIMIT + 1])
def test_too_few_and_too_many_roots_are_refused(
    count: int, files: TrustFiles, now: datetime
) -> None:
    raws = [new_signing_key().verify_key.raw for _ in range(count)]

    with pytest.raises(RequestError, match="roots given"):
        change_roots(files.current(), raws, threshold=1, now=now)


def test_a_threshold_that_nobody_reaches_is_refused(
    files: TrustFiles, now: datetime
) -> None:
    raws = [new_signing_key().verify_key.raw]

    with pytest.raises(RequestError, match="threshold 2"):
        change_roots(files.current(), raws, threshold=2, now=now)
