"""The vault with real sealing and real Argon2id."""

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from gateway.core.events import PinVerdict
from gateway.storage.vault import SealedVault
from gateway.storage.worker import InlineWorker
from protocol.sealing import make_secrets, seal
from tests.gateway.fleet_end import FLEET_ID, VEHICLE
from tests.gateway.world import ALICE, IDENTITY, World

RENTAL = b"rental of a test"


@pytest.fixture(scope="module")
def sealed() -> bytes:
    return sealed_for(RENTAL)


def sealed_for(rental_id: bytes) -> bytes:
    secrets = make_secrets("4711", "0815", salt=bytes(16))
    return seal(
        secrets,
        IDENTITY.sealing_key.public_key(),
        fleet_id=FLEET_ID,
        vehicle_id=VEHICLE,
        rental_id=rental_id,
    )


def vault(key: X25519PrivateKey = IDENTITY.sealing_key) -> SealedVault:
    return SealedVault(
        key, fleet_id=FLEET_ID, vehicle_id=VEHICLE, worker=InlineWorker()
    )


@pytest.mark.parametrize(
    ("pin", "verdict"),
    [
        ("4711", PinVerdict.RIGHT),
        ("4712", PinVerdict.WRONG),
        ("", PinVerdict.WRONG),
        ("abcd", PinVerdict.WRONG),
        ("\U0001f511" * 4, PinVerdict.WRONG),
    ],
)
async def test_a_pin_is_right_or_wrong(
    sealed: bytes, pin: str, verdict: PinVerdict
) -> None:
    assert await vault().check_pin(sealed, RENTAL, pin) is verdict


async def test_secrets_of_another_rental_do_not_open(sealed: bytes) -> None:
    other = b"another rental !"

    assert await vault().check_pin(sealed, other, "4711") is PinVerdict.UNREADABLE
    assert await vault().fuel_card_pin(sealed, other) == ""


async def test_secrets_of_another_car_do_not_open(sealed: bytes) -> None:
    stranger = vault(X25519PrivateKey.generate())

    assert await stranger.check_pin(sealed, RENTAL, "4711") is PinVerdict.UNREADABLE


async def test_the_fuel_cards_pin_is_handed_out(sealed: bytes) -> None:
    assert await vault().fuel_card_pin(sealed, RENTAL) == "0815"


async def test_the_engine_is_released_by_a_really_sealed_pin() -> None:
    async with World(vault=vault()) as world:
        rental_id = b"rental--" + bytes(8)
        await world.advance(2.0)
        await world.reserve(ALICE, sealed=sealed_for(rental_id), rental_id=rental_id)
        await world.advance(2.0)
        world.present(ALICE)
        await world.advance(1.0)

        world.display.type_pin("4711")
        await world.advance(1.0)

        assert world.board.car.engine_released
