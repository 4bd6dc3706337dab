"""Two drivers who hand a car over: Alice has it, Bob gets it."""

from protocol.command import ANY_VERSION
from protocol.identity import card_digest
from protocol.rental_command import HandoverOffer, HandoverRequest
from tests.gateway.core.scene import OTHER_RENTAL, RENTAL, Scene

SECOND = OTHER_RENTAL
BOB = bytes.fromhex("04b0b0b0b0b0b0")
"""The second driver's card."""
REQUEST = bytes.fromhex("44" * 16)


def offer_of(
    scene: Scene, *, seconds: float = 900, offer_id: bytes = SECOND
) -> HandoverOffer:
    """The fleet's word who the second driver is."""
    return HandoverOffer(
        rental_id=RENTAL,
        expected_version=ANY_VERSION,
        offer_id=offer_id,
        until_ms=scene.boot_ms + int(seconds * 1000),
        latitude_e7=480_000_000,
        longitude_e7=100_000_000,
        cards=(card_digest(offer_id, BOB),),
        sealed=b"sealed for the second driver",
    )


def request_of(scene: Scene, *, seconds: float = 60) -> HandoverRequest:
    """Somebody near would have the car."""
    return HandoverRequest(
        rental_id=RENTAL,
        expected_version=ANY_VERSION,
        request_id=REQUEST,
        until_ms=scene.boot_ms + int(seconds * 1000),
        latitude_e7=480_000_000,
        longitude_e7=100_000_000,
        distance_m=350,
        name="Bob",
    )


def agreed() -> Scene:
    """Two drivers have met: the car stands, and knows both."""
    scene = Scene()
    scene.rent_and_release()
    scene.answer(offer_of(scene))
    scene.drive()
    scene.advance(10)
    return scene
