"""The load generator is an honest population of cars: nothing is lost or swallowed."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import pytest

from bridge.broker.access import BrokerAccess
from bridge.broker.embedded import EmbeddedBroker
from bridge.broker.program import BrokerKind
from certs.fleet import FleetDirectory
from protocol.fleet import FleetPart
from tests.bench.fleet.campaign import Plan, figures_of, run_campaign
from tests.bench.fleet.cars import BenchCar, make_cars, make_fleet
from tests.bench.fleet.program import build_program
from tests.bench.fleet.swarm import SEQUENCE, UPTO_AT, Swarm
from tools.clock import wall_clock
from transport.tls import TlsIdentity

pytestmark = [pytest.mark.broker, pytest.mark.generator]

SANITIZED: Final = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
"""A read or write out of bounds ends the program, and with it the test."""

CONNACK: Final = b"\x20\x03\0\0\0"
SUBACK: Final = b"\x90\x04\0\1\0\1"

Speak = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_program(tmp_path_factory.mktemp("swarm"), flags=SANITIZED)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> FleetDirectory:
    return make_fleet(tmp_path_factory.mktemp("fleets") / "own", 5)


@contextmanager
def swarm_of(
    cars: list[BenchCar], fleet: FleetDirectory, port: int, program: Path, folder: Path
) -> Iterator[Swarm]:
    swarm = Swarm(
        cars,
        port=port,
        trust_anchors=fleet.path / FleetPart.TRUST_ANCHORS,
        program=program,
        directory=folder,
    )
    try:
        yield swarm
    finally:
        swarm.close()


@pytest.mark.mosquitto
async def test_every_frame_is_acknowledged_and_committed_and_entries_are_receipted(
    tmp_path: Path,
) -> None:
    plan = Plan(cars=20, rate=200, seconds=2, entry_each=10, warm_s=0)
    outcome = await run_campaign(plan, tmp_path / "run", tell=lambda _step: None)
    assert outcome.lost == 0
    assert outcome.rejected == 0
    assert outcome.acknowledged == outcome.published == 400
    assert outcome.receipted == outcome.entries > 0
    # One clock in both processes: else these would be negative, or hours.
    assert 0 < outcome.commit_ms[0] <= outcome.commit_ms[2] < 30_000
    assert 0 < outcome.receipt_ms[0] <= outcome.receipt_ms[2] < 30_000
    assert 1.9 < outcome.published_s < 30
    assert 0 < outcome.generator_us < 10_000
    assert "20 cars: load generator" in {one.name for one in figures_of(outcome)}


@pytest.mark.mosquitto
async def test_a_car_with_another_fleets_certificate_ends_the_run_by_its_name(
    program: Path, fleet: FleetDirectory, tmp_path: Path
) -> None:
    cars = make_cars(fleet, 5, frames=0, entry_each=0)
    stranger = make_cars(
        make_fleet(tmp_path / "other", 1), 1, frames=0, entry_each=0
    ).pop()
    cars[3].certificate, cars[3].key = stranger.certificate, stranger.key
    names = frozenset(car.name for car in cars)
    async with EmbeddedBroker(
        directory=tmp_path / "broker",
        identity=TlsIdentity.of_fleet(fleet.path, FleetPart.BROKER),
        access=BrokerAccess(is_vehicle=names.__contains__),
        clock=wall_clock,
        kind=BrokerKind.MOSQUITTO,
    ) as broker:
        # Whoever hangs up may do so before its last word was read.
        refused = f"car {cars[3].name}: .*(alert|reset)"
        with (
            swarm_of(cars, fleet, broker.port, program, tmp_path) as swarm,
            pytest.raises(ConnectionError, match=refused),
        ):
            await asyncio.to_thread(swarm.connect, timeout_s=30)


# -- a broker that does what mosquitto does rarely ------------------------------------


@asynccontextmanager
async def broker_that(speak: Speak, fleet: FleetDirectory) -> AsyncIterator[int]:
    identity = TlsIdentity.of_fleet(fleet.path, FleetPart.BROKER)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate, identity.key)
    context.load_verify_locations(identity.trust_anchors)
    context.verify_mode = ssl.CERT_REQUIRED

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await speak(reader, writer)
            await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the program has ended, as it does at an error
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def packet_of(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    [first] = await reader.readexactly(1)
    size, shift, low = 0, 0, 128
    while low & 128:
        [low] = await reader.readexactly(1)
        size |= (low & 127) << shift
        shift += 7
    return first, await reader.readexactly(size)


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Let a car in, and acknowledge its HELLO."""
    assert (await packet_of(reader))[0] == 0x10
    writer.write(CONNACK)
    assert (await packet_of(reader))[0] == 0x82
    writer.write(SUBACK)
    first, body = await packet_of(reader)
    assert first == 0x32
    writer.write(puback(body))


def puback(body: bytes, *, reason: int | None = None) -> bytes:
    at = 2 + int.from_bytes(body[:2], "big")
    packet_id = body[at : at + 2]
    if reason is None:
        return b"\x40\x02" + packet_id
    return b"\x40\x03" + packet_id + bytes([reason])


def receipt(name: str, upto: int) -> bytes:
    topic = f"ff/v1/{name}/down/receipt".encode()
    frame = bytes(UPTO_AT) + upto.to_bytes(8, "big") + bytes(64)
    body = len(topic).to_bytes(2, "big") + topic + b"\0\7\0" + frame
    return b"\x32" + bytes([len(body) & 127 | 128, len(body) >> 7]) + body


def frame_of(name: str, number: int, *, seq: int = 0) -> tuple[str, bytes, int]:
    """Return a frame as `BenchCar` has it; its content is nobody's business here."""
    data = bytearray(number.to_bytes(4, "big") * 1_000)
    data[SEQUENCE] = seq.to_bytes(8, "big")
    return f"ff/v1/{name}/up/{'event' if seq else 'telem'}", bytes(data), number


def one_car(fleet: FleetDirectory, *, frames: int, entry: bool = False) -> BenchCar:
    car = make_cars(fleet, 1, frames=0, entry_each=0).pop()
    for number in range(frames):
        seq = number + 1 if entry else 0
        car.frames.append(frame_of(car.name, number, seq=seq))
    return car


def run(swarm: Swarm, *, rate: float = 1_000, drain_s: float = 30) -> float:
    swarm.connect(timeout_s=30)
    swarm.settle(0.2)
    return swarm.run(rate=rate, is_committed=lambda: True, drain_s=drain_s)


async def test_packets_are_read_however_records_divide_them(
    program: Path, fleet: FleetDirectory, tmp_path: Path
) -> None:
    car = one_car(fleet, frames=3, entry=True)
    answered = asyncio.get_running_loop().create_future()

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet(reader, writer)
        bodies = [(await packet_of(reader))[1] for _ in range(3)]
        together = b"".join(puback(body) for body in bodies)
        together += receipt(car.name, 2) + receipt(car.name, 3)
        for place in range(20):
            writer.write(together[place : place + 1])
            await asyncio.sleep(0.01)
        writer.write(together[20:])
        answered.set_result([await packet_of(reader), await packet_of(reader)])

    begin_s = time.monotonic()
    async with broker_that(speak, fleet) as port:
        with swarm_of([car], fleet, port, program, tmp_path) as swarm:
            await asyncio.to_thread(run, swarm)
            assert swarm.acknowledged == 4
            assert swarm.unreceipted == 0
            assert len(swarm.receipt_ms) == 3
            assert begin_s < swarm.published_s[0] < swarm.published_s[2]
            assert swarm.published_s[2] < time.monotonic()
            # This loop may read the answers only after the program has done its part.
            assert await asyncio.wait_for(answered, 30) == [(0x40, b"\0\7")] * 2


async def test_what_a_socket_does_not_take_is_sent_later_whole_and_in_order(
    program: Path, fleet: FleetDirectory, tmp_path: Path
) -> None:
    count = 3_000  # 12 MB: more than the buffers of both ends hold
    car = one_car(fleet, frames=count)
    came: list[bytes] = []

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet(reader, writer)
        await asyncio.sleep(3)
        for _ in range(count):
            _first, body = await packet_of(reader)
            came.append(body)
            writer.write(puback(body))

    async with broker_that(speak, fleet) as port:
        with swarm_of([car], fleet, port, program, tmp_path) as swarm:
            took_s = await asyncio.to_thread(run, swarm, rate=3_000)
            assert swarm.acknowledged == count + 1
            # Open loop: a broker that stalls holds nobody up.
            assert took_s < 3
    assert [body[-4_000:] for body in came] == [frame for _, frame, _ in car.frames]
    ids = [puback(body)[2:] for body in came]
    assert [int.from_bytes(one, "big") for one in ids] == list(range(3, count + 3))


async def test_what_is_owed_at_the_end_is_told(
    program: Path, fleet: FleetDirectory, tmp_path: Path
) -> None:
    car = one_car(fleet, frames=3, entry=True)

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet(reader, writer)
        writer.write(puback((await packet_of(reader))[1]))
        writer.write(receipt(car.name, 1))

    async with broker_that(speak, fleet) as port:
        with swarm_of([car], fleet, port, program, tmp_path) as swarm:
            await asyncio.to_thread(run, swarm, drain_s=1)
            assert (swarm.acknowledged, swarm.unreceipted) == (2, 2)
            assert len(swarm.receipt_ms) == 1


async def _refuse_connection(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    await packet_of(reader)
    writer.write(b"\x20\x03\0\x87\0")


async def _refuse_subscription(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    await packet_of(reader)
    writer.write(CONNACK)
    await packet_of(reader)
    writer.write(b"\x90\x04\0\1\0\x87")


async def _refuse_frame(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    await greet(reader, writer)
    writer.write(puback((await packet_of(reader))[1], reason=0x97))


async def _disconnect(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    await greet(reader, writer)
    await packet_of(reader)
    writer.write(b"\xe0\x01\x8b")


async def _close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await greet(reader, writer)
    await packet_of(reader)
    writer.close()


async def _break(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await greet(reader, writer)
    await packet_of(reader)
    writer.transport.abort()


async def _babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await greet(reader, writer)
    writer.write(b"\x30\xff\xff\xff\x7f")


@pytest.mark.parametrize(
    ("speak", "reason"),
    [
        (_refuse_connection, "CONNACK 0x87"),
        (_refuse_subscription, "SUBACK 0x87"),
        (_refuse_frame, "PUBACK 0x97"),
        (_disconnect, "DISCONNECT 0x8b"),
        (_close, "reading: "),
        (_break, "(reading|writing): "),
        (_babble, "a packet of more than"),
    ],
)
async def test_nothing_that_goes_wrong_is_swallowed(
    program: Path, fleet: FleetDirectory, tmp_path: Path, speak: Speak, reason: str
) -> None:
    car = one_car(fleet, frames=3)
    async with broker_that(speak, fleet) as port:
        with (
            swarm_of([car], fleet, port, program, tmp_path) as swarm,
            pytest.raises(ConnectionError, match=f"car {car.name}: {reason}"),
        ):
            await asyncio.to_thread(run, swarm)


async def test_a_broker_of_another_fleet_is_not_spoken_to(
    program: Path, fleet: FleetDirectory, tmp_path: Path
) -> None:
    other = make_fleet(tmp_path / "other", 1)
    car = one_car(fleet, frames=0)

    async with broker_that(greet, other) as port:
        with (
            swarm_of([car], fleet, port, program, tmp_path) as swarm,
            pytest.raises(ConnectionError, match=f"car {car.name}: the broker: "),
        ):
            await asyncio.to_thread(swarm.connect, timeout_s=30)


async def test_it_ends_when_a_phase_is_over_or_its_stdin_is_closed(
    program: Path, fleet: FleetDirectory, tmp_path: Path
) -> None:
    car = one_car(fleet, frames=0)

    async def speak(
        reader: asyncio.StreamReader, _writer: asyncio.StreamWriter
    ) -> None:
        await reader.read()

    async with broker_that(speak, fleet) as port:
        with swarm_of([car], fleet, port, program, tmp_path) as swarm:
            with pytest.raises(TimeoutError, match="1 cars not connected"):
                await asyncio.to_thread(swarm.connect, timeout_s=0.5)
            assert swarm._process.wait(timeout=30) == 1
        with swarm_of([car], fleet, port, program, tmp_path) as swarm:
            waiting = asyncio.create_task(
                asyncio.to_thread(swarm.connect, timeout_s=200)
            )
            await asyncio.sleep(0.5)
            stdin = swarm._process.stdin
            assert stdin is not None
            stdin.close()
            with pytest.raises(RuntimeError, match="the load generator ended"):
                await waiting
            assert swarm._process.wait(timeout=30) == 0


def test_what_is_missing_to_build_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="apt-get install gcc libc6-dev libssl-dev"):
        build_program(tmp_path)
