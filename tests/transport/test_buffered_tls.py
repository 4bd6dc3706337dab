"""TLS in memory under an MQTT connection: all that came, once, in order, to its end."""

import contextlib
import os
import selectors
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.broker.pki import Pki, clock
from transport.buffered_tls import RECORD, BufferedContext, BufferedSocket
from transport.tls import client_context, server_context

pytestmark = pytest.mark.broker

NAME = "A" * 26
WAIT_S = 10.0


class Ends:
    """A client of ours and a server that does as the test says, record by record."""

    def __init__(self, directory: Path) -> None:
        self._pki = Pki(directory, now=clock())
        self.server = server_context(
            self._pki.issue("broker", server=True), now=clock()
        )
        # Nothing comes after the handshake but what the test sends (RFC 8446, 4.6.1).
        self.server.num_tickets = 0
        self.client = client_context(self._pki.issue(NAME), now=clock())

    @contextlib.contextmanager
    def connected(self) -> Iterator[tuple[BufferedSocket, socket.socket, "Server"]]:
        """Give our end, the server's bare socket and its TLS, after the handshake."""
        ours, theirs = _tcp_pair()
        with ours, theirs:
            ours.settimeout(WAIT_S)
            theirs.settimeout(WAIT_S)
            server = Server(theirs, self.server)
            thread = threading.Thread(target=server.shake)
            thread.start()
            client = BufferedContext(self.client, "localhost").wrap_socket(ours)
            client.do_handshake()
            thread.join(WAIT_S)
            client.setblocking(False)
            yield client, theirs, server


class Server:
    """The other end's TLS, whose bytes the test sends as it likes."""

    def __init__(self, plain: socket.socket, context: ssl.SSLContext) -> None:
        self._plain = plain
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    def shake(self) -> None:
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self._plain.sendall(self._outgoing.read())
                self._incoming.write(self._plain.recv(RECORD))
            else:
                self._plain.sendall(self._outgoing.read())
                return

    def sealed(self, *parts: bytes) -> bytes:
        """Return each part as a record of its own."""
        for part in parts:
            self.tls.write(part)
        return self._outgoing.read()

    def farewell(self) -> bytes:
        """Return what says that nothing follows (RFC 8446, 6.1)."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self._outgoing.read()

    def opened(self, data: bytes) -> bytes:
        """Return what the client said in these bytes."""
        self._incoming.write(data)
        found = []
        with contextlib.suppress(ssl.SSLWantReadError):
            while part := self.tls.read(RECORD):
                found.append(part)
        return b"".join(found)


def _tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname(), timeout=WAIT_S)
        theirs, _address = listener.accept()
    return ours, theirs


@pytest.fixture
def ends(tmp_path: Path) -> Ends:
    return Ends(tmp_path / "pki")


def arrived(client: BufferedSocket) -> None:
    """Wait until the kernel has something for the client."""
    with selectors.DefaultSelector() as selector:
        selector.register(client.fileno(), selectors.EVENT_READ)
        assert selector.select(timeout=WAIT_S)


def read_all(client: BufferedSocket, size: int) -> tuple[bytes, int]:
    """Return what comes until there is so much of it, and in how many calls."""
    data, calls = b"", 0
    while len(data) < size:
        arrived(client)
        data += client.recv(RECORD)
        calls += 1
    return data, calls


def test_one_call_reads_all_the_records_that_have_come(ends: Ends) -> None:
    messages = [b"%06d" % number * 40 for number in range(300)]
    with ends.connected() as (client, theirs, server):
        theirs.sendall(server.sealed(*messages))

        data, calls = read_all(client, 300 * 240)

    assert data == b"".join(messages)
    assert calls < 30


def test_a_record_that_comes_byte_by_byte_is_read_when_it_is_whole(ends: Ends) -> None:
    with ends.connected() as (client, theirs, server):
        *beginning, last = server.sealed(b"message")
        for byte in beginning:
            theirs.sendall(bytes([byte]))
            arrived(client)
            with pytest.raises(BlockingIOError):
                client.recv(RECORD)
        theirs.sendall(bytes([last]))
        arrived(client)

        assert client.recv(RECORD) == b"message"


def test_nothing_to_read_is_said_at_once(ends: Ends) -> None:
    with ends.connected() as (client, _theirs, _server):
        with pytest.raises(BlockingIOError):
            client.recv(RECORD)
        assert client.pending() == 0


def test_what_the_kernel_does_not_take_at_once_arrives_once_and_in_order(
    ends: Ends,
) -> None:
    # As paho does: after "would block" the same bytes are given again.
    wanted = os.urandom(12_000_000)
    with ends.connected() as (client, theirs, server):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8_192)
        got, at = bytearray(), 0
        with contextlib.suppress(BlockingIOError):  # the other end reads nothing yet
            while at < len(wanted):
                at += client.send(wanted[at : at + 40_000])
        assert at < len(wanted)
        with selectors.DefaultSelector() as selector:
            selector.register(client.fileno(), selectors.EVENT_WRITE)
            selector.register(theirs, selectors.EVENT_READ)
            while len(got) < len(wanted):
                ready = [key.fileobj for key, _events in selector.select(WAIT_S)]
                assert ready
                if theirs in ready:
                    got += server.opened(theirs.recv(65_536))
                if client.fileno() in ready and at < len(wanted):
                    with contextlib.suppress(BlockingIOError):
                        at += client.send(wanted[at : at + 40_000])

    assert bytes(got) == wanted


Farewell = Callable[[socket.socket, Server], None]


def close_after_notice(theirs: socket.socket, server: Server) -> None:
    theirs.sendall(server.sealed(b"last words") + server.farewell())


def close_without_notice(theirs: socket.socket, server: Server) -> None:
    theirs.sendall(server.sealed(b"last words"))
    theirs.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("farewell", [close_after_notice, close_without_notice])
def test_what_came_before_the_end_is_read_before_the_end(
    ends: Ends, farewell: Farewell
) -> None:
    with ends.connected() as (client, theirs, server):
        farewell(theirs, server)

        data, _calls = read_all(client, len(b"last words"))
        if farewell is close_without_notice:
            arrived(client)

        assert data == b"last words"
        assert client.recv(RECORD) == b""
        assert client.recv(RECORD) == b""


def test_a_record_that_was_changed_on_the_way_ends_the_connection(ends: Ends) -> None:
    # Row 17: what came whole before it counts, it does not, and the other end is told.
    with ends.connected() as (client, theirs, server):
        good, bad = server.sealed(b"good"), bytearray(server.sealed(b"bad"))
        bad[-1] ^= 1
        theirs.sendall(good + bytes(bad))

        data, _calls = read_all(client, len(b"good"))
        assert data == b"good"
        with contextlib.suppress(BlockingIOError):
            # Both may have come in one piece or in two.
            for _ in range(2):
                with pytest.raises(ssl.SSLError, match=r"(?i)bad record mac"):
                    client.recv(RECORD)
        with pytest.raises(ssl.SSLError, match=r"(?i)alert bad record mac"):
            server.opened(theirs.recv(RECORD))


def test_a_reset_is_an_error_and_no_end(ends: Ends) -> None:
    with ends.connected() as (client, theirs, _server):
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()
        arrived(client)

        with pytest.raises(ConnectionResetError):
            client.recv(RECORD)


def _resets(plain: socket.socket) -> None:
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _says_nothing(_plain: socket.socket) -> None:
    pass


def _speaks_no_tls(plain: socket.socket) -> None:
    plain.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@pytest.mark.parametrize("answer", [_resets, _says_nothing, _speaks_no_tls])
def test_a_handshake_that_fails_leaves_no_socket_open(
    ends: Ends, answer: Callable[[socket.socket], None]
) -> None:
    # As a link that is cut while a car connects: paho drops its reference instead.
    ours, theirs = _tcp_pair()
    client = BufferedContext(ends.client, "localhost").wrap_socket(ours)
    client.settimeout(WAIT_S)
    answer(theirs)
    theirs.close()

    with pytest.raises(OSError):  # noqa: PT011 - which one differs by the answer
        client.do_handshake()

    assert client.fileno() == -1


def test_a_server_of_another_name_is_refused_and_told_why(ends: Ends) -> None:
    ours, theirs = _tcp_pair()
    with theirs:
        theirs.settimeout(WAIT_S)
        server = Server(theirs, ends.server)
        said: list[BaseException] = []

        def shake() -> None:
            try:
                server.shake()
                server.opened(theirs.recv(RECORD))
            except ssl.SSLError as error:
                said.append(error)

        thread = threading.Thread(target=shake)
        thread.start()
        client = BufferedContext(ends.client, "elsewhere").wrap_socket(
            ours, server_hostname="127.0.0.1"
        )
        with pytest.raises(ssl.SSLCertVerificationError, match="elsewhere"):
            client.do_handshake()
        thread.join(WAIT_S)

    assert client.fileno() == -1
    assert "ALERT" in str(said[0]).upper()


def test_a_name_that_is_none_leaves_no_socket_open(ends: Ends) -> None:
    ours, theirs = _tcp_pair()
    with theirs, pytest.raises(ValueError, match="server_hostname"):
        BufferedContext(ends.client, "").wrap_socket(ours)

    assert ours.fileno() == -1
