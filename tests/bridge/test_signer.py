"""What the signer refuses to sign, although somebody in the bridge orders it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.errors import SettingsError, SigningError
from bridge.fleet_files import read_key
from bridge.keyring import KeyFiles
from bridge.ports import Addressee, SigningOrder
from bridge.signer import FrameSigner, InProcessReceiptSigner, OwnSeal, require_use
from bridge.trust import Trust
from protocol.codes import FrameClass, Lane, Opcode, Role, Suite
from protocol.command import ANY_VERSION, Unlock, build_command
from protocol.keyfile import build_key
from protocol.keys import Ed25519SigningKey, P256SigningKey, SigningKey
from protocol.receipt import Receipt
from protocol.signing import verify_frame
from protocol.sync import Challenge
from protocol.trust import TrustedKey
from tests.bridge.car import RENTAL, frame_of
from tests.bridge.world import BOOT_MS, World


def addressee(world: World, *, version: int = 1, group: int = 0) -> Addressee:
    return Addressee(world.car.id, bytes(16), group, version, BOOT_MS, world.now())


def order_of(to: Addressee) -> SigningOrder:
    return SigningOrder(
        to=to,
        opcode=Opcode.UNLOCK,
        payload=build_command(Unlock(RENTAL, ANY_VERSION)),
        msg_id=bytes(16),
    )


def grant_of(world: World) -> TrustedKey:
    found = world.trust.newest.find(world.command_key.key_id)
    assert found is not None
    return found


def trusting(world: World, *keys: TrustedKey, revoked: Sequence[bytes] = ()) -> Trust:
    """Return a trust whose newest bundle has these keys beside the receipt key."""
    receipt = world.trust.newest.find(world.receipt_key.key_id)
    assert receipt is not None
    bundle = replace(world.trust.newest, keys=(*keys, receipt), revoked=tuple(revoked))
    return Trust({bundle.version: bundle}, bundle, world.trust.data)


def signer_of(
    world: World, trust: Trust, keys: Sequence[SigningKey] | None = None
) -> FrameSigner[SigningKey]:
    return FrameSigner(
        OwnSeal(
            lambda: (world.command_key,) if keys is None else keys,
            fleet_id=world.fleet.fleet.fleet_id,
        ),
        lambda: trust,
        sequences=world.store,
        random_bytes=world.random_bytes,
    )


async def sign(world: World, trust: Trust, *, group: int = 0) -> bytes:
    order = order_of(addressee(world, group=group))
    return (await signer_of(world, trust).sign(order)).data


async def test_a_signer_signs_what_the_bundle_allows(world: World) -> None:
    assert await sign(world, trusting(world, grant_of(world)))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"opcodes": (int(Opcode.LOCK),)}, "may not sign unlock"),
        ({"lanes": (Lane.RENTAL,)}, "may not use lane access"),
        ({"max_ttl_ms": 0}, "may live 0 ms"),
        ({"not_after_ms": 0}, "out of its dates"),
        ({"not_before_ms": 2**63}, "out of its dates"),
        ({"group": 7}, "for vehicles of group 7, this one is of 3"),
        ({"role": Role.MONITOR}, "role monitor, which may not sign this"),
        ({"role": Role.RECEIPT}, "role receipt, which may not sign this"),
    ],
)
async def test_a_signer_signs_nothing_that_the_bundle_does_not_allow(
    world: World, changes: dict[str, object], said: str
) -> None:
    """FF-TRU-21: a command that every car would refuse is never made."""
    grant = replace(grant_of(world), **changes)  # type: ignore[arg-type] # by name

    with pytest.raises(SigningError, match=said):
        await sign(world, trusting(world, grant), group=3)


async def test_a_key_of_a_group_signs_for_its_vehicles(world: World) -> None:
    grant = replace(grant_of(world), group=7)

    assert await sign(world, trusting(world, grant), group=7)


async def test_revoked_key_inflight(world: World) -> None:
    # The same signer, the next frame: nothing is restarted.
    trusts = [trusting(world, grant_of(world))]
    signer = FrameSigner(
        OwnSeal(lambda: (world.command_key,), fleet_id=world.fleet.fleet.fleet_id),
        lambda: trusts[-1],
        sequences=world.store,
        random_bytes=world.random_bytes,
    )
    await signer.sign(order_of(addressee(world)))

    trusts.append(trusting(world, grant_of(world), revoked=[world.command_key.key_id]))

    with pytest.raises(SigningError, match="revoked by trust bundle 1"):
        await signer.sign(order_of(addressee(world)))
    with pytest.raises(SigningError, match="revoked by trust bundle 1"):
        await signer.synchronise(addressee(world), Challenge(bytes(16)))


async def test_while_the_fleet_changes_over_each_car_gets_a_key_that_it_knows(
    world: World,
) -> None:
    # Overlap: bundle 2 names both keys, bundle 3 the new one alone.
    old, new = world.command_key, Ed25519SigningKey.generate()
    first = trusting(world, grant_of(world)).newest
    grant = replace(grant_of(world), public_key=new.verify_key.raw)
    second = replace(first, version=2, keys=(*first.keys, grant))
    third = replace(second, version=3, keys=(*first.keys[1:], grant))
    known = {1: first, 2: second, 3: third}
    overlap = Trust({1: first, 2: second}, second, b"2")
    over = Trust(known, third, b"3")

    async def key_for(trust: Trust, version: int) -> bytes:
        signer = signer_of(world, trust, (new, old))
        signed = await signer.sign(order_of(addressee(world, version=version)))
        return signed.key_id

    assert await key_for(overlap, 1) == old.key_id
    assert await key_for(overlap, 2) == new.key_id
    assert await key_for(over, 3) == new.key_id
    # The old key is withdrawn; a car that does not know the new one decides itself.
    assert await key_for(over, 1) == new.key_id


async def test_a_bundle_is_carried_by_any_key_that_the_car_has_not_revoked(
    world: World,
) -> None:
    # Else a bridge whose key is revoked could not tell cars that it is.
    first = trusting(world, grant_of(world)).newest
    second = replace(first, version=2, revoked=(world.command_key.key_id,))
    trust = Trust({1: first, 2: second}, second, b"the newest bundle")
    signer = signer_of(world, trust)

    frame = frame_of(await signer.carry(addressee(world, version=1)))

    assert frame.header.frame_class is FrameClass.TRUST
    assert frame.payload == b"the newest bundle"
    verify_frame(
        frame,
        fleet_id=world.fleet.fleet.fleet_id,
        key=world.command_key.verify_key,
    )
    with pytest.raises(SigningError, match="no key of this bridge is in"):
        await signer.carry(addressee(world, version=2))


async def test_a_p256_key_signs_in_its_own_suite(world: World) -> None:
    key = P256SigningKey.generate()
    grant = replace(grant_of(world), public_key=key.verify_key.raw)

    signer = signer_of(world, trusting(world, grant), (key,))

    frame = frame_of((await signer.sign(order_of(addressee(world)))).data)
    assert frame.header.suite is Suite.P256
    verify_frame(frame, fleet_id=world.fleet.fleet.fleet_id, key=key.verify_key)


async def test_a_command_key_signs_no_receipt(world: World) -> None:
    signer = InProcessReceiptSigner(
        lambda: (world.command_key,),
        lambda: world.trust,
        fleet_id=world.fleet.fleet.fleet_id,
        random_bytes=world.random_bytes,
    )
    receipt = Receipt(bytes(8), 0, bytes(32), 1, (), ())

    with pytest.raises(SigningError, match="role rental, which may not sign this"):
        signer.sign(receipt, addressee(world))


def test_keys_of_the_other_kind_are_refused_at_the_start(world: World) -> None:
    with pytest.raises(SettingsError, match="signs no commands"):
        require_use((world.receipt_key,), world.trust, receipts=False)
    with pytest.raises(SettingsError, match="signs no receipts"):
        require_use((world.command_key,), world.trust, receipts=True)
    revoked = trusting(world, grant_of(world), revoked=[world.command_key.key_id])
    with pytest.raises(SettingsError, match="is revoked"):
        require_use((world.command_key,), revoked, receipts=False)


def write_key(path: Path, key: SigningKey) -> None:
    assert isinstance(key, Ed25519SigningKey)
    path.touch(mode=0o600)
    path.write_bytes(build_key(key.handle))


def test_key_files_are_followed_without_restart(tmp_path: Path) -> None:
    path = tmp_path / "command-1.key"
    following = tmp_path / "command-1.key.next"
    old, new = Ed25519SigningKey.generate(), Ed25519SigningKey.generate()
    write_key(path, old)
    refused: list[SettingsError] = []
    files = KeyFiles(path, read=read_key, refused=refused.append)
    assert [key.key_id for key in files.keys] == [old.key_id]

    write_key(following, new)
    assert files.refresh()
    assert [key.key_id for key in files.keys] == [new.key_id, old.key_id]
    assert not files.refresh()

    following.rename(path)
    assert files.refresh()
    assert [key.key_id for key in files.keys] == [new.key_id]

    following.touch(mode=0o600)
    following.write_bytes(b"no key at all")
    assert not files.refresh()
    assert [key.key_id for key in files.keys] == [new.key_id]
    assert len(refused) == 1
