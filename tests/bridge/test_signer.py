"""What the signer refuses to sign, although somebody in the bridge orders it."""

from dataclasses import replace

import pytest

from bridge.errors import SigningError
from bridge.ports import SigningOrder
from bridge.signer import InProcessSigner, find_grant, read_bundle
from protocol.codes import Lane, Opcode
from protocol.command import ANY_VERSION, Unlock, build_command
from protocol.trust import TrustedKey
from tests.bridge.car import RENTAL
from tests.bridge.world import BOOT_MS, World


def order_of(world: World) -> SigningOrder:
    return SigningOrder(
        vehicle_id=world.car.id,
        session_id=bytes(16),
        opcode=Opcode.UNLOCK,
        payload=build_command(Unlock(RENTAL, ANY_VERSION)),
        msg_id=bytes(16),
        car_now_ms=BOOT_MS,
        wall_ms=world.now(),
    )


def grant_of(world: World) -> TrustedKey:
    fleet = world.fleet
    bundle = read_bundle(fleet.trust_bundle(), fleet_id=fleet.fleet.fleet_id)
    return find_grant(world.command_key, bundle, name="command")


async def sign(world: World, grant: TrustedKey) -> bytes:
    signer = InProcessSigner(
        world.command_key,
        grant,
        fleet_id=world.fleet.fleet.fleet_id,
        sequences=world.store,
    )
    return (await signer.sign(order_of(world))).data


async def test_a_signer_signs_what_the_bundle_allows(world: World) -> None:
    assert await sign(world, grant_of(world))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"opcodes": (int(Opcode.LOCK),)}, "may not sign unlock"),
        ({"lanes": (Lane.RENTAL,)}, "may not use lane access"),
        ({"max_ttl_ms": 0}, "may live 0 ms"),
        ({"not_after_ms": 0}, "out of its dates"),
        ({"not_before_ms": 2**63}, "out of its dates"),
    ],
)
async def test_a_signer_signs_nothing_that_the_bundle_does_not_allow(
    world: World, changes: dict[str, object], said: str
) -> None:
    """FF-TRU-21: a command that every car would refuse is never made."""
    grant = replace(grant_of(world), **changes)  # type: ignore[arg-type] # by name

    with pytest.raises(SigningError, match=said):
        await sign(world, grant)
