"""A lean load generator: thousands of MQTT 5 connections over mutual TLS, one thread.

Traffic goes to loopback alone, sockets are bounded by the number of cars, and every
phase has an end. Frames are published by a clock, whether or not earlier ones were
acknowledged (open loop), so that a slow bridge shows as waiting and not as less load.

It shares two cores with the broker and the bridge that it measures, so it does as
little as it can: packets are laid out beforehand, TLS is done in memory, and the
broker's acknowledgements are read when four of a car's have come. Only a car that waits
for a signed receipt is looked at in between, since how long that took is what is
measured.
"""

import contextlib
import gc
import select
import socket
import ssl
import time
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from protocol.codes import FrameClass
from protocol.frame import HEADER_SIZE
from tests.bench.fleet.cars import BenchCar

HANDSHAKES: Final = 32
"""Connections that are being made at one time."""

PER_ADDRESS: Final = 12_000
"""Connections from one loopback address: ephemeral ports are 28,000."""

SENDS_PER_TURN: Final = 64
"""Frames published before sockets are looked at again."""

KEEPALIVE_S: Final = 3_600

READ_EACH: Final = 4
"""Publishes of a car without an acknowledgement read, at which they are read: one call
of the system for all. A broker of MQTT 5 allows 20 (mosquitto's default)."""

READ_SIZE: Final = 65_536

_CONNACK, _PUBLISH, _PUBACK, _SUBACK = 2, 3, 4, 9

_ACCEPTED: Final = b"\x40\x02"
"""How a PUBACK without a reason begins; the packet id follows."""

_UPTO_AT: Final = HEADER_SIZE + 8
"""A receipt's payload begins with the ledger id, then the last entry's sequence."""


def _text(value: str) -> bytes:
    raw = value.encode()
    return len(raw).to_bytes(2, "big") + raw


def _packet(kind: int, body: bytes) -> bytes:
    size, length = len(body), bytearray()
    while True:
        size, low = divmod(size, 128)
        length.append(low | (128 if size else 0))
        if not size:
            return bytes([kind]) + bytes(length) + body


class Connection:
    """One car's connection."""

    __slots__ = (
        "car",
        "entries",
        "incoming",
        "is_shaken",
        "is_watched",
        "mid",
        "outgoing",
        "packets",
        "pending",
        "plain",
        "receipted",
        "tail",
        "tls",
        "unacknowledged",
    )

    def __init__(
        self, car: BenchCar, plain: socket.socket, context: ssl.SSLContext
    ) -> None:
        self.car = car
        self.plain = plain
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self.incoming, self.outgoing, server_hostname="127.0.0.1"
        )
        self.is_shaken = False
        self.is_watched = True
        """Whether epoll looks at it."""
        self.mid = 1
        self.tail = b""
        self.pending = b""
        """Encrypted, and not taken by the socket."""
        self.packets: list[bytes] = []
        """What it will publish, in the order of its car's frames."""
        self.unacknowledged = 0
        self.entries: deque[tuple[int, int]] = deque()
        """Sequence and number of ledger entries that have no receipt yet."""
        self.receipted = 0

    def lay_out(self, topic: str, frame: bytes) -> bytes:
        """Return the packet that publishes with QoS 1; they are sent in this order."""
        self.mid = self.mid % 65_535 + 1
        body = _text(topic) + self.mid.to_bytes(2, "big") + b"\0" + frame
        return _packet(0x32, body)

    def publish(self, packet: bytes) -> None:
        """Send what was laid out."""
        self.unacknowledged += 1
        self.write(packet)

    def write(self, data: bytes) -> None:
        """Send now, or when the socket takes it."""
        self.tls.write(data)
        self.flush()

    def flush(self) -> None:
        """Send what TLS has for the other end."""
        data = self.pending + self.outgoing.read()
        if data:
            with contextlib.suppress(BlockingIOError):
                data = data[self.plain.send(data) :]
            self.pending = data

    def read(self) -> bytes:
        """Return what has come, all of it; b"" if nothing has.

        Raises:
            ConnectionError: the other end closed.
        """
        try:
            data = self.plain.recv(READ_SIZE)
        except BlockingIOError:
            return b""
        if not data:
            raise ConnectionError(f"the broker closed {self.car.name}")
        self.incoming.write(data)
        found = []
        try:
            while part := self.tls.read(READ_SIZE):
                found.append(part)
        except ssl.SSLWantReadError:
            return b"".join(found)
        raise ConnectionError(f"the broker closed {self.car.name}")


class Swarm:
    """All cars; connect, run, drain, close."""

    def __init__(
        self, cars: Sequence[BenchCar], *, port: int, trust_anchors: Path, frames: int
    ) -> None:
        self._cars = cars
        self._port = port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._context.load_verify_locations(trust_anchors)
        self._epoll = select.epoll()
        self._by_fd: dict[int, Connection] = {}
        self.connections: list[Connection] = []
        self.published_s = array("d", bytes(8 * frames))
        """When each frame was handed to its socket, by number; monotonic seconds."""
        self.receipt_ms: list[float] = []
        """For each ledger entry: from publish to the signed receipt."""
        self.late_ms = 0.0
        """By how much the generator itself was ever behind its clock."""
        self._quiet_s = 0.0
        self._is_publishing = False
        self.acknowledged = 0
        """PUBACKs of the broker."""

    # -- connecting ------------------------------------------------------------------

    def connect(self, *, timeout_s: float) -> float:
        """Connect, subscribe and say HELLO with every car; return the seconds it took.

        Raises:
            TimeoutError: it took too long.
            OSError, ssl.SSLError: a connection was refused or ended.
        """
        begin = time.monotonic()
        waiting = deque(enumerate(self._cars))
        under_way: set[int] = set()
        while waiting or under_way:
            while waiting and len(under_way) < HANDSHAKES:
                under_way.add(self._begin(*waiting.popleft()))
            for fd, _events in self._epoll.poll(0.5):
                connection = self._by_fd[fd]
                if fd in under_way:
                    self._advance(fd, connection, under_way)
                else:
                    self._read(connection)
            if time.monotonic() - begin > timeout_s:
                raise TimeoutError(
                    f"{len(under_way) + len(waiting)} cars not connected"
                )
        return time.monotonic() - begin

    def _begin(self, place: int, car: BenchCar) -> int:
        plain = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.bind((f"127.0.0.{1 + place // PER_ADDRESS}", 0))
        plain.connect(("127.0.0.1", self._port))  # loopback answers at once
        plain.setblocking(False)
        self._context.load_cert_chain(car.certificate, car.key)
        connection = Connection(car, plain, self._context)
        fd = plain.fileno()
        self._by_fd[fd] = connection
        self._epoll.register(fd, select.EPOLLIN)
        self._shake(connection)
        return fd

    def _shake(self, connection: Connection) -> None:
        with contextlib.suppress(BlockingIOError):
            connection.incoming.write(connection.plain.recv(READ_SIZE))
        try:
            connection.tls.do_handshake()
        except ssl.SSLWantReadError:
            connection.flush()
            return
        connection.is_shaken = True
        body = _text("MQTT") + b"\5\2" + KEEPALIVE_S.to_bytes(2, "big") + b"\0"
        connection.write(_packet(0x10, body + _text(connection.car.name)))

    def _advance(self, fd: int, connection: Connection, under_way: set[int]) -> None:
        if not connection.is_shaken:
            self._shake(connection)
            return
        for kind, _flags, body in self._packets(connection, connection.read()):
            if kind == _CONNACK:
                if body[1]:
                    raise ConnectionError(f"CONNACK {body[1]}")
                subscribe = b"\0\1\0" + _text(connection.car.downlinks) + b"\1"
                connection.write(_packet(0x82, subscribe))
            elif kind == _SUBACK:
                self.connections.append(connection)
                hello = connection.car.hello
                topic = f"ff/v1/{connection.car.name}/up/{FrameClass.HELLO.label}"
                connection.publish(connection.lay_out(topic, hello))
                under_way.discard(fd)

    def settle(self, quiet_s: float) -> None:
        """Answer what comes until nothing came for a while: receipts of the HELLOs."""
        self._quiet_s = time.monotonic()
        while time.monotonic() - self._quiet_s < quiet_s:
            self._turn(0.05)

    # -- running ---------------------------------------------------------------------

    def run(
        self, *, rate: float, is_committed: Callable[[], bool], drain_s: float
    ) -> float:
        """Publish every prepared frame at `rate` a second, then wait for the rest.

        Args:
            rate: frames a second over all cars.
            is_committed: asked while draining whether the bridge has everything.
            drain_s: how long to wait for acknowledgements and receipts at the end.

        Returns:
            Seconds from the first to the last publish.
        """
        by_name = {one.car.name: one for one in self.connections}
        order = [by_name[car.name] for car in self._cars]
        for connection in order:
            frames = connection.car.frames
            connection.packets = [connection.lay_out(*one[:2]) for one in frames]
            self._watch(connection, is_watched=False)
        count = len(order)
        total = len(self.published_s)
        cursors = [0] * count
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            self._is_publishing = True
            took_s = self._publish_all(order, cursors, total, rate)
            self._is_publishing = False
            for connection in order:
                self._watch(connection, is_watched=True)
            end = time.monotonic() + drain_s
            while time.monotonic() < end:
                self._turn(0.05)
                is_owed = any(one.unacknowledged or one.entries for one in order)
                if not is_owed and is_committed():
                    break
        finally:
            gc.enable()
        return took_s

    def _publish_all(
        self, order: Sequence[Connection], cursors: list[int], total: int, rate: float
    ) -> float:
        count, sent = len(order), 0
        begin = time.monotonic()
        while sent < total:
            now = time.monotonic()
            due = min(total, int((now - begin) * rate))
            self.late_ms = max(self.late_ms, (due - sent) / rate * 1e3)
            for number in range(sent, min(due, sent + SENDS_PER_TURN)):
                place = number % count
                connection, cursor = order[place], cursors[place]
                cursors[place] = cursor + 1
                if connection.unacknowledged >= READ_EACH:
                    self._read(connection)
                topic, frame, own = connection.car.frames[cursor]
                if topic.endswith("event"):
                    seq = int.from_bytes(frame[52:60], "big")
                    connection.entries.append((seq, own))
                    self._watch(connection, is_watched=True)
                self.published_s[own] = time.monotonic()
                connection.publish(connection.packets[cursor])
            is_behind = due > sent + SENDS_PER_TURN
            sent = min(due, sent + SENDS_PER_TURN)
            self._turn(0 if is_behind else 0.001)
        return time.monotonic() - begin

    def _watch(self, connection: Connection, *, is_watched: bool) -> None:
        if connection.is_watched is is_watched:
            return
        connection.is_watched = is_watched
        if is_watched:
            self._epoll.register(connection.plain.fileno(), select.EPOLLIN)
        else:
            self._epoll.unregister(connection.plain.fileno())

    def _turn(self, timeout_s: float) -> None:
        for fd, events in self._epoll.poll(timeout_s, 256):
            connection = self._by_fd[fd]
            if connection.pending:
                connection.flush()
            if events & ~select.EPOLLOUT:
                self._read(connection)

    def _read(self, connection: Connection) -> None:
        self._quiet_s = time.monotonic()
        data = connection.read()
        count = data.count(_ACCEPTED)
        if count and len(data) == 4 * count and data[::4] == b"\x40" * count:
            # Nearly always acknowledgements are there and nothing else.
            connection.unacknowledged -= count
            self.acknowledged += count
            return
        for kind, flags, body in self._packets(connection, data):
            if kind == _PUBACK:
                if len(body) > 2 and body[2] >= 0x80:
                    raise ConnectionError(f"PUBACK {body[2]:#x}")
                connection.unacknowledged -= 1
                self.acknowledged += 1
            elif kind == _PUBLISH:
                self._receive(connection, flags, body)

    def _receive(self, connection: Connection, flags: int, body: bytes) -> None:
        now = time.monotonic()
        topic_end = 2 + int.from_bytes(body[:2], "big")
        topic = body[2:topic_end]
        at = topic_end
        if flags & 0x06:
            connection.write(b"\x40\x02" + body[at : at + 2])
            at += 2
        at += 1 + body[at]  # properties shorter than 128 bytes
        if not topic.endswith(b"/receipt"):
            return
        frame = body[at:]
        upto = int.from_bytes(frame[_UPTO_AT : _UPTO_AT + 8], "big")
        connection.receipted = max(connection.receipted, upto)
        while connection.entries and connection.entries[0][0] <= upto:
            _seq, number = connection.entries.popleft()
            self.receipt_ms.append((now - self.published_s[number]) * 1e3)
        if not connection.entries and self._is_publishing:
            self._watch(connection, is_watched=False)

    def _packets(
        self, connection: Connection, data: bytes
    ) -> list[tuple[int, int, bytes]]:
        """Return the whole packets that `data` completes: kind, flags, body."""
        if connection.tail:
            data = connection.tail + data
        found, at, end = [], 0, len(data)
        while end - at >= 2:
            size, shift, body = 0, 0, at + 1
            while body < end:
                size |= (data[body] & 127) << shift
                shift += 7
                body += 1
                if data[body - 1] < 128:
                    break
            else:
                break
            if body + size > end:
                break
            first = data[at]
            found.append((first >> 4, first & 15, data[body : body + size]))
            at = body + size
        connection.tail = data[at:]
        return found

    def close(self) -> None:
        """Close every socket."""
        for connection in self._by_fd.values():
            connection.plain.close()
        self._epoll.close()
