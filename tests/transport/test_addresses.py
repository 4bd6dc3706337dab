"""At which addresses a broker is looked for (row 18)."""

import socket

import pytest

from transport.addresses import ADDRESSES_LIMIT, AddressMemory, addresses_of
from transport.diagnosis import failure_of_all
from transport.errors import LinkError, LinkFailure

A, B, C = ("192.0.2.1", 8883), ("192.0.2.2", 8883), ("2001:db8::3", 8883)
D = ("192.0.2.4", 8883)
BROKER = ("broker.example", 8883)


def test_without_a_good_one_addresses_are_tried_as_the_name_server_says() -> None:
    assert AddressMemory().order(*BROKER, [B, A, B]) == [B, A]


def test_families_take_turns_as_a_whole_one_may_be_dead() -> None:
    # RFC 8305, section 4: a name server with ten addresses of each tells one family
    # first, and all that are tried would be of it.
    six = [(f"2001:db8::{number}", 8883) for number in range(10)]
    four = [(f"192.0.2.{number}", 8883) for number in range(10)]

    tried = AddressMemory().order(*BROKER, [*six, *four])

    assert AddressMemory().order(*BROKER, [B, A, C]) == [B, C, A]
    assert len(tried) == ADDRESSES_LIMIT
    assert tried[:4] == [six[0], four[0], six[1], four[1]]


def test_what_failed_goes_behind_what_did_not_so_that_every_address_has_its_turn() -> (
    None
):
    memory = AddressMemory()
    memory.note(*BROKER, A)
    memory.note_failure(*BROKER, A)
    memory.note_failure(*BROKER, B)

    assert memory.order(*BROKER, [A, B, D]) == [D, A, B]
    assert memory.order("other.example", 8883, [A, B, D]) == [A, B, D]
    # What the name no longer has stays last: the fleet may have moved.
    assert memory.order(*BROKER, [B]) == [B, A]
    memory.note(*BROKER, B)
    assert memory.order(*BROKER, [D, A, B]) == [B, D, A]
    # And a name server that tells others each time fills no memory.
    assert memory.order(*BROKER, [D]) == [D, B]
    assert memory.order(*BROKER, [A, B, D]) == [B, A, D]


def test_what_was_good_goes_first_while_the_name_has_it_and_else_last() -> None:
    memory = AddressMemory()
    memory.note(*BROKER, A)

    assert memory.order(*BROKER, [C, A, B]) == [A, C, B]
    assert memory.order(*BROKER, [B, C]) == [B, C, A]
    assert memory.order(*BROKER, []) == [A]
    assert memory.order("other.example", 8883, [B]) == [B]


def test_a_name_server_that_tells_a_thousand_costs_the_car_no_good_one() -> None:
    memory = AddressMemory()
    memory.note(*BROKER, A)
    many = [(f"198.51.100.{number}", 8883) for number in range(200)]

    tried = memory.order(*BROKER, many)

    assert tried == [*many[:ADDRESSES_LIMIT], A]
    assert memory.order("other.example", 8883, many) == many[:ADDRESSES_LIMIT]


async def test_nobody_is_asked_for_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.delattr(socket, "getaddrinfo")

        assert await addresses_of("127.0.0.1", 1) == [("127.0.0.1", 1)]
        assert await addresses_of("::1", 1) == [("::1", 1)]


async def test_an_address_keeps_the_interface_that_it_holds_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = (socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
    found = [
        (socket.AF_INET6, *stream, ("fe80::1", 8883, 0, 2)),
        (socket.AF_INET6, *stream, ("2001:db8::3", 8883, 0, 0)),
        (socket.AF_INET, *stream, ("192.0.2.1", 8883)),
    ]
    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", lambda *_asked, **_named: found)

        assert await addresses_of(*BROKER) == [("fe80::1%2", 8883), C, A]


async def test_a_name_that_cannot_be_one_has_no_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def encode(host: str, *_asked: object, **_named: object) -> None:
        host.encode("idna")  # as the real one does first

    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", encode)

        with pytest.raises(socket.gaierror, match="no name"):
            await addresses_of("broker..example", 8883)


@pytest.mark.parametrize(
    ("failures", "told"),
    [
        ("timeout down", "down"),
        ("down tls name", "tls"),
        ("unreachable refused down", "refused"),
        ("name", "name"),
    ],
)
def test_the_failure_that_says_most_stands_for_all(failures: str, told: str) -> None:
    # A fleet waits as a crowd where one of its brokers says that it is down (K22), and
    # a certificate is renewed where one of them refuses it.
    errors = [
        LinkError(f"it is {name}", failure=LinkFailure(name))
        for name in failures.split()
    ]

    error = failure_of_all(errors)

    assert error.failure is LinkFailure(told)
    assert str(error) == "; ".join(f"it is {name}" for name in failures.split())
