from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from protocol.errors import DecodeError, EncodeError, SealError
from protocol.sealing import (
    MEMORY_LIMIT_KIB,
    PASSES_LIMIT,
    SEAL_CONTEXT,
    SECRETS,
    Secrets,
    fuel_card_pin_of,
    make_secrets,
    pin_matches,
    seal,
    unseal,
)
from tools.published_keys import (
    CAR_A,
    CAR_B,
    FLEET_ID,
    OTHER_FLEET_ID,
    RENTAL,
    SEALED,
    sealing_key,
)
from tools.published_keys import SECRETS as PUBLISHED

SALT = bytes(range(16))


def _open(sealed: bytes) -> Secrets:
    return unseal(
        sealed, sealing_key(), fleet_id=FLEET_ID, vehicle_id=CAR_A, rental_id=RENTAL
    )


def test_what_was_sealed_opens_in_its_car_for_its_rental() -> None:
    # FF-SEC-01.
    sealed = seal(
        PUBLISHED,
        sealing_key().public_key(),
        fleet_id=FLEET_ID,
        vehicle_id=CAR_A,
        rental_id=RENTAL,
    )

    assert _open(sealed) == PUBLISHED
    assert len(sealed) == 109


def test_sealed_secrets_open_in_no_other_car_rental_or_fleet() -> None:
    # FF-SEC-01.
    # H6
    other_key = X25519PrivateKey.from_private_bytes(b"\xe2" * 32)
    ways = (
        (other_key, FLEET_ID, CAR_A, RENTAL),
        (sealing_key(), OTHER_FLEET_ID, CAR_A, RENTAL),
        (sealing_key(), FLEET_ID, CAR_B, RENTAL),
        (sealing_key(), FLEET_ID, CAR_A, bytes(16)),
    )

    for key, fleet_id, vehicle_id, rental_id in ways:
        with pytest.raises(SealError, match="reserve again"):
            unseal(
                SEALED,
                key,
                fleet_id=fleet_id,
                vehicle_id=vehicle_id,
                rental_id=rental_id,
            )


def test_sealed_secrets_with_one_flipped_bit_do_not_open() -> None:
    for offset in range(len(SEALED)):
        altered = bytearray(SEALED)
        altered[offset] ^= 1 << offset % 8
        if offset == 31 and altered[offset] & 0x7F == SEALED[offset] & 0x7F:
            continue  # RFC 7748 ignores the top bit of a share; the context does not
        with pytest.raises(SealError):
            _open(bytes(altered))


def test_the_ignored_bit_of_the_share_is_bound_all_the_same() -> None:
    altered = bytearray(SEALED)
    altered[31] ^= 0x80

    with pytest.raises(SealError):
        _open(bytes(altered))


@pytest.mark.parametrize("size", [0, 1, 31, 32, 48, 108])
def test_sealed_secrets_that_were_cut_do_not_open(size: int) -> None:
    with pytest.raises(SealError):
        _open(SEALED[:size])


@pytest.mark.parametrize(
    "changes",
    [
        {"memory_kib": MEMORY_LIMIT_KIB + 1},
        {"memory_kib": 7},
        {"passes": PASSES_LIMIT + 1},
        {"passes": 0},
        {"fuel_card_pin": b"90x4\0\0\0\0"},
        {"fuel_card_pin": b"90\0\x004444"},
        {"salt": bytes(15)},
    ],
    ids=str,
)
def test_secrets_beyond_what_a_car_accepts_are_not_built(
    changes: dict[str, int],
) -> None:
    # FF-SEC-02.
    # A command must not make a car spend memory or minutes on one PIN.
    with pytest.raises(EncodeError) as caught:
        SECRETS.build(replace(PUBLISHED, **changes))  # type: ignore[arg-type] # on purpose

    assert "90" not in str(caught.value)


def test_a_command_cannot_make_the_car_spend_more_than_its_limits() -> None:
    # FF-SEC-02.
    greedy = bytearray(SECRETS.build(PUBLISHED))
    greedy[16:20] = (MEMORY_LIMIT_KIB + 1).to_bytes(4, "big")
    sealed = _seal_bytes(bytes(greedy))

    with pytest.raises(DecodeError, match="memory_kib"):
        _open(sealed)


def test_a_fuel_card_pin_of_letters_is_refused_without_showing_it() -> None:
    strange = SECRETS.build(PUBLISHED)[:-8] + b"hush\0\0\0\0"

    with pytest.raises(DecodeError, match="digits") as caught:
        _open(_seal_bytes(strange))

    assert "hush" not in str(caught.value)


def _seal_bytes(data: bytes) -> bytes:
    """Seal bytes that `SECRETS` would not build, as a faulty sender might."""
    from cryptography.hazmat.primitives.hpke import (  # noqa: PLC0415 - here only
        AEAD,
        KDF,
        KEM,
        Suite,
    )

    suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM)
    info = SEAL_CONTEXT + FLEET_ID + CAR_A.raw + RENTAL
    return suite.encrypt(data, sealing_key().public_key(), info=info)


def test_the_right_pin_matches_and_a_wrong_one_does_not() -> None:
    # H6
    assert pin_matches(PUBLISHED, "2580")
    for wrong in ("2581", "258", "25800", "", "abcd"):
        assert not pin_matches(PUBLISHED, wrong)


def test_secrets_are_made_with_the_published_verifier() -> None:
    assert make_secrets("2580", "9034", salt=SALT) == PUBLISHED
    assert fuel_card_pin_of(PUBLISHED) == "9034"
    assert fuel_card_pin_of(replace(PUBLISHED, fuel_card_pin=bytes(8))) == ""


@pytest.mark.parametrize(
    "pin", ["", "123", "123456789", "12a4", "abcd", "12 4", "\uff11\uff12\uff13\uff14"]
)
def test_a_pin_is_of_4_to_8_digits(pin: str) -> None:
    with pytest.raises(EncodeError, match="4 to 8 digits") as caught:
        make_secrets(pin, "", salt=SALT)

    assert not pin or pin not in str(caught.value)


@pytest.mark.parametrize("pin", ["123456789", "12a4", "\uff11\uff12"])
def test_a_fuel_card_pin_has_up_to_8_digits(pin: str) -> None:
    with pytest.raises(EncodeError, match="up to 8 digits") as caught:
        make_secrets("2580", pin, salt=SALT)

    assert pin not in str(caught.value)


def test_secrets_do_not_print_themselves() -> None:
    # FF-SEC-03.
    shown = f"{PUBLISHED} {PUBLISHED!r} {[PUBLISHED]}"

    assert shown == "Secrets(...) Secrets(...) [Secrets(...)]"
