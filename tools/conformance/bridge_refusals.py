"""Checks of what a bridge must not take: forged, damaged, misdirected, malformed.

Each wrong frame stands for an entry that a good frame takes afterwards. A receipt with
the hash of the wrong one shows that it was taken; the receipt of the good one shows
that the bridge had come so far, and that it goes on.
"""

from collections.abc import Mapping
from typing import Final

from protocol.codes import FrameClass
from protocol.entry import entry_hash
from protocol.frame import HEADER_SIZE
from protocol.keys import SIGNATURE_SIZE, Ed25519SigningKey
from protocol.topic import topic_of
from tools.conformance.bridge_subject import BRIDGE_SUITE, PlayedCar, Subject
from tools.conformance.check import NotReachedError, Trial
from transport.errors import TransportError

REGIONS: Final = {
    "the class": 4,
    "an advisory flag": 5,
    "the type": 7,
    "the vehicle id": 20,
    "the session": 40,
    "the clock": 67,
    "the wall clock": 75,
    "the message id": 80,
    "the ledger id": HEADER_SIZE,
    "the previous hash": HEADER_SIZE + 20,
    "the body": HEADER_SIZE + 44,
    "the signature": -SIGNATURE_SIZE,
    "the end of the signature": -1,
}
"""Where a bit is flipped."""

NUMBER_TOO_LARGE: Final = 2**63


@BRIDGE_SUITE.check("receipts no frame that was changed after signing", "FF-SIG-07")
async def refuses_flipped_bits(trial: Trial, bridge: Subject) -> None:
    """One bit in each region, and the frame cut and extended."""
    car = bridge.car
    await car.begin()
    good = car.player.started()
    wrong = {text: _flipped(good, at) for text, at in REGIONS.items()}
    wrong |= {"cut": good[:-1], "extended": good + b"\0"}
    await _none_is_taken(trial, car, {"FF-SIG-07": wrong}, good)


@BRIDGE_SUITE.check(
    "receipts no frame that was signed otherwise",
    "FF-SIG-03",
    "FF-SIG-04",
    "FF-SIG-05",
    "FF-SIG-06",
)
async def refuses_other_signatures(trial: Trial, bridge: Subject) -> None:
    """For another fleet, under another label or key, or with another suite named."""
    car, player = bridge.car, bridge.car.player
    stranger = Ed25519SigningKey.generate()

    def wrong(good: bytes) -> dict[str, dict[str, bytes]]:
        unsigned = good[:-SIGNATURE_SIZE]
        named = unsigned[:28] + stranger.key_id + unsigned[36:]
        other_suite = bytes([3 - good[3]])
        return {
            "FF-SIG-03": {
                "another fleet": player.resigned(unsigned, fleet_id=b"\7" * 16)
            },
            "FF-SIG-04": {
                "another label": player.resigned(unsigned, label=FrameClass.RESULT)
            },
            "FF-SIG-05": {"the other suite": player.altered(good, 3, other_suite)},
            "FF-SIG-06": {
                "a stranger's signature": player.resigned(unsigned, key=stranger),
                "a key that nobody knows": player.resigned(named, key=stranger),
            },
        }

    for clause in ("FF-SIG-03", "FF-SIG-04", "FF-SIG-05", "FF-SIG-06"):
        await car.begin()
        good = player.started()
        await _none_is_taken(trial, car, {clause: wrong(good)[clause]}, good)


@BRIDGE_SUITE.check(
    "drops what has not the form of a frame, and goes on",
    "FF-FRM-08",
    "FF-FRM-09",
    "FF-FRM-12",
    "FF-FRM-14",
    "FF-FRM-15",
    "FF-FRM-17",
)
async def drops_malformed_frames(trial: Trial, bridge: Subject) -> None:
    """Their signatures hold, so that nothing but the form is wrong."""
    car = bridge.car
    await car.begin()
    good, player = car.player.started(), car.player
    unsigned = good[:-SIGNATURE_SIZE]
    large = unsigned + bytes(900)
    size = (len(large) - HEADER_SIZE).to_bytes(2, "big")
    wrong = {
        "FF-FRM-08": {"another magic": player.altered(good, 0, b"FG")},
        "FF-FRM-09": {"version 2": player.altered(good, 2, b"\2")},
        "FF-FRM-12": {"a critical flag": player.altered(good, 5, b"\x10")},
        "FF-FRM-14": {"another length": player.altered(good, 10, b"\0\1")},
        "FF-FRM-15": {
            "more bytes than its class allows": player.resigned(
                large[:10] + size + large[12:]
            )
        },
    }
    for junk in (b"", b"\0", b"FF", bytes(156), b"\xff" * 4096, good[:100]):
        await car.send(junk)
    goes_on = await _none_is_taken(trial, car, wrong, good)
    trial.judge(
        "FF-FRM-17",
        goes_on,
        sent="six messages that are no frames, five with a wrong form, a good entry",
        expected="a receipt of the good entry",
        came="it" if goes_on else "none",
    )


@BRIDGE_SUITE.check("takes a frame with an unknown advisory flag", "FF-FRM-13")
async def ignores_advisory_flags(trial: Trial, bridge: Subject) -> None:
    """It is ignored, and the frame is not."""
    car = bridge.car
    await car.begin()
    flagged = car.player.altered(car.player.started(), 5, b"\2")
    mark = car.wire.mark
    await car.send(flagged)
    taken = await car.receipt(entry_hash(flagged), since=mark) is not None
    trial.judge(
        "FF-FRM-13",
        taken,
        sent="an entry with advisory flag 2",
        expected="its receipt",
        came="it" if taken else "none",
    )


@BRIDGE_SUITE.check("takes no frame on the topic of another class", "FF-ADR-08")
async def refuses_another_topic(trial: Trial, bridge: Subject) -> None:
    """An event that comes as a result or as telemetry is none."""
    car = bridge.car
    await car.begin()
    good, beside = car.player.started(), car.player.beside()
    for frame_class in (FrameClass.RESULT, FrameClass.TELEM, FrameClass.DEATH):
        await car.send(beside, frame_class)
    await _none_is_taken(trial, car, {"FF-ADR-08": {}}, good, already={"it": beside})


@BRIDGE_SUITE.check("takes no frame of another vehicle on a car's topic", "FF-ADR-07")
async def refuses_another_vehicle(trial: Trial, bridge: Subject) -> None:
    """The other car signed it; its topic is the first car's."""
    car, other = bridge.car, _other(bridge)
    await car.begin()
    await other.begin()
    foreign = other.player.started()
    await car.send(foreign)
    await car.marker()
    await other.quiet()
    taken = car.was_receipted(foreign) or other.was_receipted(foreign)
    trial.judge(
        "FF-ADR-07",
        not taken,
        sent="an entry of the second car on the first car's topic",
        expected="no receipt for either",
        came="a receipt" if taken else "none",
    )


@BRIDGE_SUITE.check("keeps a car away from another car's topics", "FF-ADR-06")
async def keeps_cars_apart(trial: Trial, bridge: Subject) -> None:
    """The broker's part: what the first car sends and asks for there is lost."""
    car, other = bridge.car, _other(bridge)
    await car.begin()
    await other.begin()
    foreign = other.player.started()
    mine, theirs = car.player.vehicle_id, other.player.vehicle_id
    async with PlayedCar(car.player, car.address, car.patience) as again:
        # The same client id: the broker ends the first connection for this one.
        refused = ""
        try:
            await again.wire.publish(topic_of(theirs, FrameClass.EVENT), foreign)
        except TransportError as error:
            refused = str(error)
    await car.__aexit__(None, None, None)
    await car.__aenter__()
    await other.quiet()
    taken = other.was_receipted(foreign)
    strange = [one.topic for one in car.wire.seen if str(mine) not in one.topic]
    trial.judge(
        "FF-ADR-06",
        not taken and not strange,
        sent="the first car publishes an entry of the second on its topic",
        expected="the broker refuses or drops it",
        came="the bridge receipted it" if taken else refused or "nothing",
    )


@BRIDGE_SUITE.check("takes no number beyond 63 bits", "FF-LED-21")
async def refuses_large_numbers(trial: Trial, bridge: Subject) -> None:
    """Neither as a sequence nor as a clock."""
    car = bridge.car
    await car.begin()
    good = car.player.started()
    number = NUMBER_TOO_LARGE.to_bytes(8, "big")
    wrong = {
        "its sequence": car.player.alone(NUMBER_TOO_LARGE),
        "its boot clock": car.player.altered(good, 60, number),
    }
    await _none_is_taken(trial, car, {"FF-LED-21": wrong}, good)


@BRIDGE_SUITE.check("gives telemetry no receipt", "FF-TEL-06", "FF-EVO-03")
async def gives_telemetry_no_receipt(trial: Trial, bridge: Subject) -> None:
    """It is no entry; and what a newer car measures does no harm."""
    car = bridge.car
    await car.begin()
    await car.marker()
    await car.quiet()
    mark = car.wire.mark
    await car.send(car.player.telemetry(), FrameClass.TELEM)
    await car.quiet()
    came = car.receipts(since=mark)
    trial.judge(
        "FF-TEL-06",
        not came,
        sent="a frame with a sample",
        expected="no receipt",
        came=f"{len(came)} receipts",
    )
    await car.send(car.player.telemetry(schema=9, number=2), FrameClass.TELEM)
    mark, data = car.wire.mark, car.player.started()
    await car.send(data)
    taken = await car.receipt(entry_hash(data), since=mark) is not None
    trial.judge(
        "FF-EVO-03",
        taken,
        sent="telemetry of an unknown schema, then an entry",
        expected="the receipt of the entry",
        came="it" if taken else "none",
    )


async def _none_is_taken(
    trial: Trial,
    car: PlayedCar,
    wrong: Mapping[str, Mapping[str, bytes]],
    good: bytes,
    *,
    already: Mapping[str, bytes] | None = None,
) -> bool:
    """Send wrong frames and a good one; judge each clause by the receipts.

    Returns:
        Whether the good one was receipted.
    """
    for frames in wrong.values():
        for data in frames.values():
            await car.send(data)
    mark = car.wire.mark
    await car.send(good)
    goes_on = await car.receipt(entry_hash(good), since=mark) is not None
    for clause, frames in wrong.items():
        every = {**frames, **(already or {})}
        taken = [text for text, data in every.items() if car.was_receipted(data)]
        if not taken and not goes_on:
            trial.not_reached(clause, "the good entry behind it got no receipt either")
            continue
        trial.judge(
            clause,
            not taken,
            sent=f"wrong in an entry: {', '.join(every)}",
            expected="a receipt of the good entry alone",
            came=f"a receipt with {', '.join(taken)}" if taken else "that one",
        )
    return goes_on


def _flipped(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 0x01
    return bytes(changed)


def _other(bridge: Subject) -> PlayedCar:
    if bridge.other is None:
        raise NotReachedError("needs a second car: give --car twice")
    return bridge.other
