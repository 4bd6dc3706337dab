"""The inbox: bounded, and nothing is dropped in silence (L4)."""

import asyncio

import pytest

from transport.message import CALL_FACTOR, Inbox, IncomingMessage


def message(number: int = 0) -> IncomingMessage:
    return IncomingMessage(
        topic="t",
        payload=b"%d" % number,
        retain=False,
        qos=1,
        duplicate=False,
        _mid=1,
        _acknowledge=lambda _mid: None,
    )


class Reading:
    """Records whether reading is paused, as the socket would be."""

    def __init__(self) -> None:
        self._is_paused = False

    def __call__(self, is_paused: bool) -> None:
        self._is_paused = is_paused

    def is_paused(self) -> bool:
        return self._is_paused


async def test_reading_stops_at_the_limit_and_goes_on_below_it() -> None:
    reading = Reading()
    inbox = Inbox(2, pause=reading)

    inbox.put(message(0))
    assert not reading.is_paused()
    inbox.put(message(1))
    assert reading.is_paused()
    taken = await inbox.get()

    assert taken is not None
    assert taken.payload == b"0"
    assert not reading.is_paused()


async def test_reading_goes_on_while_a_call_awaits_its_answer() -> None:
    reading = Reading()
    inbox = Inbox(1, pause=reading)
    inbox.put(message())
    assert reading.is_paused()

    inbox.call_began()
    assert not reading.is_paused()
    inbox.call_ended()

    assert reading.is_paused()


async def test_far_beyond_the_limit_reading_stops_whoever_waits() -> None:
    """L4: memory is bounded, and what has arrived is not thrown away."""
    reading = Reading()
    inbox = Inbox(1, pause=reading)
    inbox.call_began()
    for number in range(CALL_FACTOR):
        assert not reading.is_paused()
        inbox.put(message(number))

    assert reading.is_paused()
    await inbox.take(1)
    assert not reading.is_paused()


async def test_what_is_left_is_taken_before_the_end() -> None:
    inbox = Inbox(4, pause=Reading())
    inbox.put(message(7))
    inbox.close()

    first, second = await inbox.get(), await inbox.get()

    assert first is not None
    assert first.payload == b"7"
    assert second is None


async def test_a_waiting_consumer_is_woken_by_the_end() -> None:
    inbox = Inbox(4, pause=Reading())
    waiting = asyncio.ensure_future(inbox.get())
    await asyncio.sleep(0)

    inbox.close()

    async with asyncio.timeout(1):
        assert await waiting is None


@pytest.mark.parametrize("times", [1, 3])
def test_a_message_is_acknowledged_once_however_often_it_is_done(times: int) -> None:
    sent: list[int] = []
    one = IncomingMessage(
        topic="t",
        payload=b"",
        retain=False,
        qos=1,
        duplicate=False,
        _mid=1,
        _acknowledge=sent.append,
    )

    for _ in range(times):
        one.done()

    assert sent == [1]


def test_a_payload_is_not_shown_when_a_message_is_logged() -> None:
    shown = repr(message(424242))

    assert "424242" not in shown
