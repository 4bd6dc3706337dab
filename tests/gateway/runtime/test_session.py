"""Session ids and the counters of frames that are in no ledger."""

from gateway.core.moment import NEVER
from gateway.runtime.session import Session
from protocol.frame import parse_frame
from tests.gateway.world import World


def test_a_session_is_the_boot_counter_and_96_random_bits() -> None:
    """FF-FRE-01."""
    asked: list[int] = []

    def random_bytes(size: int) -> bytes:
        asked.append(size)
        return bytes([len(asked)]) * size

    session = Session(7, random_bytes, now=NEVER)
    first = session.id
    session.renew(now=NEVER)

    assert asked == [12, 12]
    assert first == (7).to_bytes(4, "big") + b"\1" * 12
    assert session.id == (7).to_bytes(4, "big") + b"\2" * 12


async def test_batch_numbers_rise_over_connections_and_restarts() -> None:
    """FF-TEL-01."""
    async with World() as world:
        await world.advance(180.0)
        world.air.cut()
        world.air.restore()
        await world.advance(180.0)
        await world.restart()
        await world.advance(180.0)

        numbers = [frame.header.seq for frame in world.fleet.telemetry]

        assert len(numbers) > 6
        assert numbers == sorted(set(numbers))


async def test_every_uplink_frame_goes_under_the_label_of_its_class() -> None:
    """FF-ADR-04."""
    async with World() as world:
        await world.begin_rental()
        await world.end_rental()

        labels = {
            (frame_class, parse_frame(data).header.frame_class)
            for frame_class, data in world.air.up
        }

        assert len(labels) >= 4
        assert all(topic is signed for topic, signed in labels)
