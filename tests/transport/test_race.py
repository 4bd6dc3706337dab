"""Connecting where some addresses are dead (row 18, RFC 8305).

Tests may connect to 127.0.0.1 alone, so another address is another port of it. One that
is dead is a listener whose queue is full: the kernel answers nothing to who comes.
"""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import pytest

from transport.addresses import Address
from transport.race import STAGGER_S, Race

pytestmark = pytest.mark.broker


@contextlib.contextmanager
def dead_addresses(count: int) -> Iterator[list[Address]]:
    """Give addresses that answer nothing, as behind a router without a way."""
    with contextlib.ExitStack() as held:
        addresses: list[Address] = []
        for _ in range(count):
            listener = held.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            addresses.append(listener.getsockname())
            for _ in range(3):
                filling = held.enter_context(socket.socket())
                filling.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    filling.connect(addresses[-1])
        yield addresses


@contextlib.contextmanager
def live_addresses(count: int) -> Iterator[list[Address]]:
    with contextlib.ExitStack() as held:
        yield [
            held.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()
            for _ in range(count)
        ]


def refusing_address() -> Address:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address: Address = free.getsockname()
    return address


async def taken(race: Race) -> Address:
    """Return where the next connection is, which must stand."""
    found = await race.next()
    assert found is not None
    address, made = found
    assert isinstance(made, socket.socket)
    with made:
        assert made.getpeername() == address
    return address


async def test_dead_addresses_cost_the_good_one_a_moment_each() -> None:
    clock = asyncio.get_running_loop().time
    with dead_addresses(3) as dead, live_addresses(1) as live:
        async with Race([*dead, *live], timeout_s=20) as race:
            begun_s = clock()
            assert await taken(race) == live[0]
            took_s = clock() - begun_s
            assert race.silent == dead

    assert 3 * STAGGER_S <= took_s < 10


async def test_who_answers_at_once_keeps_the_others_from_being_asked() -> None:
    with live_addresses(2) as live:
        async with Race(live, timeout_s=20) as race:
            assert await taken(race) == live[0]
            assert race.silent == []


async def test_what_refuses_is_told_and_costs_the_next_one_nothing() -> None:
    clock = asyncio.get_running_loop().time
    refusing = [refusing_address() for _ in range(8)]
    with live_addresses(1) as live:
        async with Race([*refusing, *live], timeout_s=20) as race:
            begun_s = clock()
            for address in refusing:
                found = await race.next()
                assert found is not None
                assert found[0] == address
                assert isinstance(found[1], ConnectionRefusedError)
            assert await taken(race) == live[0]
            assert await race.next() is None

    assert clock() - begun_s < 8 * STAGGER_S


async def test_an_address_that_says_nothing_is_given_up_in_time() -> None:
    with dead_addresses(1) as dead:
        async with Race(dead, timeout_s=0.2) as race:
            found = await race.next()

    assert found is not None
    assert isinstance(found[1], TimeoutError)


async def test_at_its_end_every_connection_that_nobody_took_is_closed() -> None:
    with contextlib.ExitStack() as held:
        listener = held.enter_context(socket.create_server(("127.0.0.1", 0)))
        listener.settimeout(10)
        async with Race([listener.getsockname()], timeout_s=20) as race:
            waiting = asyncio.ensure_future(race.next())
            await asyncio.sleep(0)
            waiting.cancel()
            peer, _ = await asyncio.to_thread(listener.accept)
            held.enter_context(peer)
        peer.settimeout(10)
        assert await asyncio.to_thread(peer.recv, 1) == b""
