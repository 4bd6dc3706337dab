"""The uplink against links that are not there, break, refuse and lose."""

import logging

import pytest

from gateway.uplink.schedule import TELEMETRY_WINDOW
from protocol.codes import Code, FrameClass, FrameType, RentalMode
from protocol.command import ANY_VERSION, Ping
from protocol.content import parse_content
from protocol.frame import FLAG_HISTORICAL, parse_frame
from protocol.snapshot import NO_RENTAL
from protocol.telemetry import Telemetry
from tests.gateway.fleet_end import AirMessage
from tests.gateway.world import ALICE, MALLORY, World
from transport.errors import TlsSetupError


async def test_a_broker_that_is_down_is_said_once_and_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    world = World(is_online=False)
    await world.start()

    await world.advance(600.0)

    lines = [r for r in caplog.records if "keeps trying" in r.message]
    assert len(lines) == 1
    assert "nobody answers" in lines[0].message
    # 1, 2, 4 ... 60 s: about a dozen attempts in ten minutes.
    assert 10 <= world.air.attempts <= 18
    world.air.restore()
    await world.advance(61.0)
    assert len(world.fleet.hellos) == 1
    assert await world.kept() == []
    await world.stop()


async def test_a_rental_needs_no_link_once_the_car_is_reserved() -> None:
    # I-13, I-19, row 13.
    async with World() as world:
        await world.reserve(ALICE)
        world.air.cut()
        await world.advance(2.0)

        world.present(ALICE)
        await world.advance(1.0)
        assert not world.board.locked
        await world.end_rental()
        assert world.state.mode is RentalMode.AVAILABLE
        world.air.restore()
        await world.advance(61.0)

        assert len(world.reports()) == 1


async def test_certificates_that_cannot_be_used_do_not_stop_the_car() -> None:
    # I-19: no PKI failure locks the active renter out.
    async with World() as world:
        await world.begin_rental()

        world.air.setup_error = TlsSetupError("certificate tls.crt expired")
        world.air.cut()
        await world.end_rental()

        assert world.is_running
        assert world.board.locked


async def test_hello_is_the_first_frame_of_every_connection() -> None:
    # FF-HEL-01.
    async with World() as world:
        await world.begin_rental()
        world.air.cut()
        await world.advance(5.0)
        sent = len(world.air.up)
        world.air.restore()
        await world.advance(61.0)

        assert world.air.up[0][0] is FrameClass.HELLO
        assert world.air.up[sent][0] is FrameClass.HELLO


async def test_a_lost_hello_is_said_again_though_entries_behind_it_arrived() -> None:
    # FF-HEL-03; rows 19 to 21: bridge and car come back to a broker at the same moment.
    async with World() as world:
        await world.begin_rental()
        known = world.fleet.session_id
        world.air.is_deaf = True
        world.air.lose()
        await world.advance(3.0)
        world.air.is_deaf = False
        heard = len(world.fleet.entries)
        world.present(MALLORY)  # refused, and written down
        await world.advance(1.0)
        assert len(world.fleet.entries) > heard
        assert await world.kept() == []
        assert world.fleet.session_id == known

        # It is as good as without a link until then: nobody can order anything.
        await world.advance(6.0)
        ping = world.fleet.send(Ping(NO_RENTAL, ANY_VERSION, bytes(16)))
        await world.advance(1.0)

        assert world.fleet.session_id != known
        assert world.fleet.codes_of(ping) == [Code.OK]
        hellos = len(world.air.frames(FrameClass.HELLO))
        await world.advance(600.0)
        assert len(world.air.frames(FrameClass.HELLO)) == hellos


@pytest.mark.parametrize("frame_class", [FrameClass.CMD, FrameClass.RECEIPT])
async def test_who_has_no_key_cannot_keep_a_car_from_saying_its_hello_again(
    frame_class: FrameClass,
) -> None:
    """FF-HEL-03, I-5: the session is no secret, since every hello shows it."""
    async with World() as world:
        await world.begin_rental()
        world.air.is_deaf = True
        world.air.lose()
        await world.advance(3.0)
        world.air.is_deaf = False
        lost = parse_frame(world.air.frames(FrameClass.HELLO)[-1]).header.session_id
        assert world.fleet.session_id != lost
        known, world.fleet.session_id = world.fleet.session_id, lost
        made = (
            world.fleet.command(Ping(NO_RENTAL, ANY_VERSION, bytes(16)))
            if frame_class is FrameClass.CMD
            else world.fleet.receipt()
        )
        world.fleet.session_id = known
        world.air.deliver(frame_class, made[:-1] + bytes([made[-1] ^ 1]))

        await world.advance(7.0)
        assert world.fleet.session_id not in {known, lost}
        ping = world.fleet.send(Ping(NO_RENTAL, ANY_VERSION, bytes(16)))
        await world.advance(1.0)

        assert world.fleet.codes_of(ping) == [Code.OK]


async def test_entries_go_before_telemetry_after_an_outage() -> None:
    # FF-LED-13.
    # protocol-design.md 3: the rental's end never waits behind telemetry.
    async with World() as world:
        await world.begin_rental()
        world.air.cut()
        await world.advance(300.0)
        await world.end_rental()
        sent = len(world.air.up)
        world.air.restore()
        await world.advance(61.0)

        classes = _classes(world, sent)
        assert classes[0] is FrameClass.HELLO
        first_sample = classes.index(FrameClass.TELEM)
        assert set(classes[1:first_sample]) == {FrameClass.EVENT}
        assert FrameClass.EVENT not in classes[first_sample:]


async def test_a_rental_end_passes_a_backlog_of_telemetry_that_the_broker_holds() -> (
    None
):
    # FF-LED-13, I-21: also where the link, and not the car, is the queue.
    async with World() as world:
        await world.begin_rental()
        world.air.cut()
        for _ in range(100):
            world.board.change(engine_running=True)
            await world.advance(10.0)
        world.board.change(engine_running=False)
        world.air.held = FrameClass.TELEM
        sent = len(world.air.up)
        world.air.restore()
        await world.advance(61.0)

        await world.end_rental()

        assert _classes(world, sent).count(FrameClass.TELEM) == TELEMETRY_WINDOW
        assert len(world.reports()) == 1
        world.air.let_go()
        await world.advance(5.0)
        assert len(world.air.frames(FrameClass.TELEM)) > TELEMETRY_WINDOW + 3


def _classes(world: World, sent: int) -> list[FrameClass]:
    """Return the classes of what went up since; places belong to their entries."""
    return [
        frame_class
        for frame_class, data in world.air.up[sent:]
        if parse_frame(data).header.type != FrameType.PLACE
    ]


async def test_samples_of_an_outage_are_sent_later_as_history() -> None:
    # FF-TEL-02.
    async with World() as world:
        world.air.cut()
        await world.advance(600.0)
        before = len(world.fleet.telemetry)
        world.air.restore()
        await world.advance(61.0)

        present, past = world.fleet.telemetry[before : before + 2]
        assert not present.header.flags & FLAG_HISTORICAL
        assert past.header.flags & FLAG_HISTORICAL
        body = parse_content(past).body
        assert isinstance(body, Telemetry)
        ages = [sample.age_ds for sample in body.samples]
        assert ages == sorted(ages, reverse=True)
        assert len(ages) >= 9


async def test_telemetry_follows_the_mode() -> None:
    # protocol-design.md 6: one a minute at rest, at once on a change of mode.
    async with World() as world:
        start = len(world.fleet.telemetry)
        await world.advance(300.0)
        at_rest = len(world.fleet.telemetry) - start
        await world.reserve(ALICE)
        on_change = len(world.fleet.telemetry) - start - at_rest

        assert at_rest == 5
        assert on_change == 1


async def test_telemetry_has_no_position_while_a_rental_runs() -> None:
    # FF-PLC-08.
    # K25.
    async with World() as world:
        await world.begin_rental()

        bodies = [parse_content(frame).body for frame in world.fleet.telemetry]
        samples = [b.samples[-1] for b in bodies if isinstance(b, Telemetry)]
        rented = [s for s in samples if s.mode.in_rental]
        free = [s for s in samples if not s.mode.in_rental]
        assert rented
        assert all(sample.latitude_e7 is None for sample in rented)
        assert all(sample.latitude_e7 is not None for sample in free)


async def test_a_publish_that_is_refused_costs_the_link_and_no_entry(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # L3: a negative acknowledgement is no delivery.
    async with World() as world:
        await world.begin_rental()
        world.air.refused = frozenset({FrameClass.EVENT})
        await world.end_rental()
        await world.advance(120.0)
        assert caplog.text.count("the broker refuses") == 1
        assert world.reports() == []
        assert await world.kept()

        world.air.refused = frozenset()
        await world.advance(61.0)

        assert len(world.reports()) == 1
        assert await world.kept() == []


async def test_a_message_on_a_strange_topic_is_said_and_acknowledged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with World() as world:
        assert world.air.link is not None
        message = AirMessage("ff/v1/nobody/down/cmd", b"")

        world.air.link.inbox.put_nowait(message)
        await world.settle()

        assert message.is_done
        assert "strange topic" in caplog.text
        assert world.is_running


async def test_frames_are_logged_in_both_directions_on_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # FF-SEC-03.
    caplog.set_level(logging.DEBUG, logger="gateway")
    async with World() as world:
        await world.begin_rental()
        world.display.type_pin("4711")
        await world.advance(1.0)

    lines = [r.getMessage() for r in caplog.records if r.name.startswith("gateway")]
    assert any(line.startswith("< CMD") for line in lines)
    assert any(line.startswith("> HELLO") for line in lines)
    assert any(line.startswith("= RESERVED -> STOPPED") for line in lines)
    # No PIN and no whole card UID is ever logged.
    assert not any("4711" in line or ALICE.hex() in line for line in lines)
