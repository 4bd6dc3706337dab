"""aiomqtt 2.5.1 made honest: one connection, on which silence is never success.

What aiomqtt 2.5.1 on paho 2.2 does and this class does not (see reliability.md):

* acknowledge before anything was processed (L2): here only the consumer acknowledges;
* take a negative PUBACK for success (L3) and a SUBACK of 0x80 for a subscription;
* discard when its queue is full (L4): here reading stops, see `transport.message`;
* wait for a time-out when the broker closes during CONNECT, or in mid-publish;
* go on calling a reader that raises, which spins; watch a socket that was closed since,
  or the one that has its number now; leave a thread's socket open when the
  connecting task is cancelled; take threads of the loop's default pool, of which a car
  has few, while a dead address is tried.

So what remains of aiomqtt is the binding of paho to asyncio: construction, timers, the
waiting for answers. Names with a leading underscore are aiomqtt's own hooks, which it
has no public form of; the version is pinned below 3 for that
(docs/adr/0006-mqtt-client.md).

`transport.link` is what the rest of freefloat uses.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import aiomqtt
import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from transport.buffered_tls import BufferedContext
from transport.diagnosis import (
    ConnectOptions,
    closed_by_us,
    connack_error,
    connect_error,
    loss_error,
)
from transport.errors import (
    LinkError,
    LinkFailure,
    OutcomeUnknownError,
    PublishRefusedError,
    SubscriptionRefusedError,
)
from transport.message import Inbox
from transport.receiver import REST_S, Receiver

_FAILURE_CODE: Final = 0x80
"""From here on, reason codes and SUBACK return codes mean failure (MQTT 5, 2.4)."""

_CLOSE_TIMEOUT_S: Final = 2.0
"""How long DISCONNECT may take to reach the socket before the socket is closed."""

_LARGEST_OVERHEAD: Final = 16
"""Bytes of a PUBLISH beside topic and payload: fixed header 5, topic length 2, packet
id 2, property length 1, message expiry 5 (MQTT 5, 3.3)."""


def _properties(packet_type: int) -> Properties:
    return Properties(packet_type)  # type: ignore[no-untyped-call] # paho's is bare


class _SocketErrors(logging.Handler):
    """Keeps the last socket error that paho reports.

    paho hands errors of reading and writing to its logger and passes on a bare
    "connection lost"; the TLS alert that says why is only in the log record.
    """

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.last: OSError | None = None

    def emit(self, record: logging.LogRecord) -> None:
        arguments = record.args if isinstance(record.args, tuple) else ()
        for argument in arguments:
            if isinstance(argument, OSError):
                self.last = argument


class StrictClient(aiomqtt.Client):
    """One connection to a broker, opened once and closed once; see the module."""

    def __init__(self, options: ConnectOptions, context: ssl.SSLContext) -> None:
        self._options = options
        self._errors = _SocketErrors()
        logger = logging.Logger("transport.paho", logging.ERROR)  # noqa: LOG001 - private to this connection: records of two must not mix
        logger.addHandler(self._errors)
        is_v5 = options.protocol is aiomqtt.ProtocolVersion.V5
        super().__init__(
            *options.address,
            username=options.client_id if not is_v5 else None,
            identifier=options.client_id,
            protocol=options.protocol,
            will=options.will,
            clean_session=None if is_v5 else True,
            clean_start=True if is_v5 else paho.MQTT_CLEAN_START_FIRST_ONLY,
            keepalive=options.keepalive_s,
            properties=self._connect_properties(options) if is_v5 else None,
            tls_context=BufferedContext(context, options.host),  # type: ignore[arg-type] # what paho uses of a context
            logger=logger,
        )
        self._client.manual_ack_set(True)
        self._is_paused = False
        self.inbox = Inbox(options.inbox_limit, pause=self._pause_reading)
        self._receiver = Receiver(
            self._client,
            is_v5=is_v5,
            deliver=self.inbox.put,
            is_paused=lambda: self._is_paused,
            logger=logger,
        )
        self._client.connect_timeout = options.connect_timeout_s
        # paho's own window would queue where nobody sees it; ours is the semaphore.
        self._client.max_inflight_messages = 0
        self._slots = asyncio.Semaphore(options.in_flight)
        self._answer: asyncio.Future[LinkError | None] = self._loop.create_future()
        self._lost: asyncio.Future[LinkError] = self._loop.create_future()
        self._published: dict[int, asyncio.Future[ReasonCode]] = {}
        self._largest_publish = options.maximum_packet
        self._is_closing = False
        self._handover = threading.Lock()
        self._is_connected_in_thread = False
        self._is_abandoned = False

    @staticmethod
    def _connect_properties(options: ConnectOptions) -> Properties:
        properties = _properties(PacketTypes.CONNECT)
        properties.ReceiveMaximum = options.receive_maximum
        properties.MaximumPacketSize = options.maximum_packet
        properties.SessionExpiryInterval = 0
        return properties

    @property
    def lost(self) -> asyncio.Future[LinkError]:
        """Resolved when the connection has ended; with why."""
        return self._lost

    @property
    def is_closed_by_us(self) -> bool:
        """Whether the end of the connection was our own wish."""
        return self._is_closing

    # -- connecting ---------------------------------------------------------------

    async def open(self, connection: socket.socket) -> None:
        """Shake hands, connect and await CONNACK.

        Args:
            connection: connected by TCP; ours from now on.

        Raises:
            VersionRefusedError: the broker does not speak this MQTT version.
            LinkError: there is no connection; everything opened is closed again.
        """
        connection.settimeout(self._options.connect_timeout_s)
        # paho has no public way to be given a connection, and would make its own.
        self._client._create_socket_connection = lambda: connection  # type: ignore[method-assign] # noqa: SLF001 - see above
        executor = ThreadPoolExecutor(1, thread_name_prefix="mqtt-connect")
        try:
            async with asyncio.timeout(self._options.connect_timeout_s):
                await self._loop.run_in_executor(
                    executor, self._connect_in_thread, connection
                )
                refusal = await self._answer
        except (OSError, ValueError) as error:  # TimeoutError, too
            self._abandon(connection)
            raise connect_error(error, self._options) from error
        except BaseException:
            self._abandon(connection)
            raise
        finally:
            executor.shutdown(wait=False)
        if refusal is not None:
            self._abandon(connection)
            raise refusal

    def _connect_in_thread(self, connection: socket.socket) -> None:
        try:
            self._client_connect()
        except BaseException:
            connection.close()
            raise
        with self._handover:
            self._is_connected_in_thread = True
            is_abandoned = self._is_abandoned
        if is_abandoned:
            with contextlib.suppress(RuntimeError):  # the loop may be gone
                self._loop.call_soon_threadsafe(self._drop_socket)

    def _abandon(self, connection: socket.socket) -> None:
        """Close what there is now, and have the thread end and close what it has."""
        with self._handover:
            self._is_abandoned = True
            is_connected = self._is_connected_in_thread
        if is_connected:
            self._drop_socket()
        else:
            with contextlib.suppress(OSError):  # closed already
                connection.shutdown(socket.SHUT_RDWR)

    def _on_connect(
        self,
        client: paho.Client,  # noqa: ARG002 - paho's signature
        userdata: Any,  # noqa: ARG002, ANN401 - paho's signature
        flags: paho.ConnectFlags,  # noqa: ARG002 - paho's signature
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        if self._answer.done():
            return
        if reason_code.is_failure:
            self._answer.set_result(connack_error(reason_code, self._options))
        else:
            limit = getattr(properties, "MaximumPacketSize", None)
            if isinstance(limit, int):
                self._largest_publish = min(self._largest_publish, limit)
            self._answer.set_result(None)

    # -- the socket ---------------------------------------------------------------

    def _on_socket_open(
        self,
        client: paho.Client,  # noqa: ARG002 - paho's signature
        userdata: Any,  # noqa: ARG002, ANN401 - paho's signature
        sock: Any,  # noqa: ANN401 - paho's alias of several socket types
    ) -> None:
        # Called in the connecting thread.
        self._loop.call_soon_threadsafe(self._begin, sock)

    def _begin(self, sock: socket.socket) -> None:
        if not self._is_abandoned and sock.fileno() >= 0:
            # An acknowledgement followed by a publish is two small writes, which Nagle
            # and delayed acknowledgement (RFC 1122, 4.2.3) turn into 40 ms.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._loop.add_reader(sock.fileno(), self._read)
            self._misc_task = self._loop.create_task(self._misc_loop())

    def _on_socket_register_write(
        self,
        client: paho.Client,  # noqa: ARG002 - paho's signature
        userdata: Any,  # noqa: ARG002, ANN401 - paho's signature
        sock: Any,  # noqa: ANN401 - paho's alias of several socket types
    ) -> None:
        # The first time called in the connecting thread.
        self._loop.call_soon_threadsafe(self._begin_writing, sock)

    def _begin_writing(self, sock: socket.socket) -> None:
        # Closed in between, its number may be another connection's by now, on which a
        # writer of ours would wake the loop without end.
        if self._client.socket() is sock and sock.fileno() >= 0:
            self._loop.add_writer(sock.fileno(), self._write)

    def _write(self) -> None:
        try:
            self._client.loop_write()
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends this link
            self._fail("writing", error)

    def _read(self) -> None:
        try:
            if self._receiver.read():
                # TLS may have decrypted more; the socket is not readable for that.
                self._loop.call_soon(self._read)
            elif self._receiver.is_busy and not self._is_paused:
                self._rest()
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends this link
            self._fail("reading", error)

    def _fail(self, what: str, error: Exception) -> None:
        self._end(
            LinkError(
                f"the connection failed while {what} ({type(error).__name__}: "
                f"{error}): connect again",
                failure=LinkFailure.LOST,
            )
        )

    def _rest(self) -> None:
        """Let some messages come together before reading on."""
        sock = self._client.socket()
        if sock is not None and sock.fileno() >= 0:
            self._loop.remove_reader(sock.fileno())
            self._loop.call_later(REST_S, self._wake)

    def _wake(self) -> None:
        sock = self._client.socket()
        if sock is not None and sock.fileno() >= 0 and not self._is_paused:
            self._loop.add_reader(sock.fileno(), self._read)

    def _pause_reading(self, is_paused: bool) -> None:
        if is_paused == self._is_paused:
            return
        self._is_paused = is_paused
        sock = self._client.socket()
        if sock is None or sock.fileno() < 0:
            return
        if is_paused:
            self._loop.remove_reader(sock.fileno())
        else:
            self._loop.add_reader(sock.fileno(), self._read)
            self._loop.call_soon(self._read)  # for what TLS has decrypted already

    def _drop_socket(self) -> None:
        # paho has no public way to close at once; disconnect() only queues a packet.
        self._client._sock_close()  # noqa: SLF001 - see above

    def _end(self, why: LinkError) -> None:
        """Resolve whatever waits for this connection, and close it."""
        if not self._answer.done():
            self._answer.set_result(why)
        if not self._lost.done():
            self._lost.set_result(why)
        self.inbox.close()
        self._slots.release()  # the first that waits for one sees the loss, and so on
        # Later: inside one of paho's callbacks, closing waits for that callback's lock.
        self._loop.call_soon(self._drop_socket)

    def _on_disconnect(
        self,
        client: paho.Client,  # noqa: ARG002 - paho's signature
        userdata: Any,  # noqa: ARG002, ANN401 - paho's signature
        flags: paho.DisconnectFlags,  # noqa: ARG002 - paho's signature
        reason_code: ReasonCode,
        properties: Properties | None = None,  # noqa: ARG002 - paho's signature
    ) -> None:
        if self._is_closing:
            self._end(closed_by_us())
        else:
            self._end(
                loss_error(
                    reason_code,
                    self._options,
                    socket_error=self._errors.last,
                    was_connected=self._answer.done(),
                )
            )

    # -- sending ------------------------------------------------------------------

    async def publish_strictly(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int,
        retain: bool,
        expiry_s: int | None,
        timeout_s: float,
    ) -> None:
        """Publish and await the broker's word; `MqttLink.publish` documents it."""
        size = len(topic.encode()) + len(payload) + _LARGEST_OVERHEAD
        if size > self._largest_publish:
            raise PublishRefusedError(
                f"a message of {size} bytes for {topic} is above the packet limit of "
                f"{self._largest_publish} bytes: it was not sent"
            )
        try:
            async with asyncio.timeout(timeout_s):
                await self._slots.acquire()
        except TimeoutError as error:
            raise LinkError(
                f"{self._options.in_flight} earlier messages wait for the broker's "
                f"word, so {topic} was not sent within {timeout_s:g} s: connect again",
                failure=LinkFailure.TIMEOUT,
            ) from error
        if self._lost.done():
            self._slots.release()
            raise self._not_sent()
        waiter = self._send(topic, payload, qos, expiry_s, retain=retain)
        try:
            with self._call():
                await self._first_of(waiter, timeout_s)
        except TimeoutError as error:
            raise OutcomeUnknownError(
                f"no word from the broker about {topic} within {timeout_s:g} s; it may "
                "have been delivered: send the same bytes again, the receiver knows "
                "duplicates",
                failure=LinkFailure.TIMEOUT,
            ) from error
        if not waiter.done():
            why = self._lost.result()
            raise OutcomeUnknownError(
                f"the link was lost before the broker's word about {topic}; it may "
                f"have been delivered: send the same bytes again ({why})",
                failure=why.failure,
            )
        if waiter.result().is_failure:
            raise PublishRefusedError(
                f"the broker refuses {topic} ({waiter.result()}): check that this "
                "identity may publish there"
            )

    def _send(
        self,
        topic: str,
        payload: bytes,
        qos: int,
        expiry_s: int | None,
        *,
        retain: bool,
    ) -> asyncio.Future[ReasonCode]:
        properties: Properties | None = None
        if expiry_s is not None and (
            self._options.protocol is aiomqtt.ProtocolVersion.V5
        ):
            properties = _properties(PacketTypes.PUBLISH)
            properties.MessageExpiryInterval = expiry_s
        try:
            info = self._client.publish(topic, payload, qos, retain, properties)
        except ValueError as error:  # a wildcard in the topic, an empty one
            self._slots.release()
            raise PublishRefusedError(
                f"{topic!r} is no topic to publish to ({error})"
            ) from error
        if info.rc:
            self._slots.release()
            raise self._not_sent()
        waiter: asyncio.Future[ReasonCode] = self._loop.create_future()
        self._published[info.mid] = waiter
        return waiter

    def _on_publish(
        self,
        client: paho.Client,  # noqa: ARG002 - paho's signature
        userdata: Any,  # noqa: ARG002, ANN401 - paho's signature
        mid: int,
        reason_code: ReasonCode,
        properties: Properties,  # noqa: ARG002 - paho's signature
    ) -> None:
        waiter = self._published.pop(mid, None)
        if waiter is not None:
            # Not before: a message that timed out is still in flight.
            self._slots.release()
            if not waiter.done():
                waiter.set_result(reason_code)

    def post(self, topic: str, payload: bytes, *, expiry_s: int | None) -> None:
        """Publish with QoS 0; `MqttLink.post` documents it."""
        if self._lost.done():
            raise self._not_sent()
        if len(topic.encode()) + len(payload) + _LARGEST_OVERHEAD > (
            self._largest_publish
        ):
            raise PublishRefusedError(
                f"a message for {topic} is above the packet limit of "
                f"{self._largest_publish} bytes: it was not sent"
            )
        if not self._receiver.post(topic, payload, expiry_s):
            raise LinkError(
                f"the broker does not take what was sent before, so {topic} was not "
                "sent: find out what holds the broker up",
                failure=LinkFailure.TIMEOUT,
            )

    async def _misc_loop(self) -> None:
        # While reading is paused silence is our own doing, not the broker's.
        while not self._lost.done():
            if self._is_paused:
                self._receiver.excuse_silence()
            if self._client.loop_misc():
                break
            await asyncio.sleep(1)

    async def subscribe_strictly(
        self, topic_filters: Sequence[str], *, qos: int, timeout_s: float
    ) -> None:
        """Subscribe and check every code; `MqttLink.subscribe` documents it."""
        if self._lost.done():
            raise self._not_sent()
        try:
            result, mid = self._client.subscribe([(f, qos) for f in topic_filters])
        except ValueError as error:
            raise SubscriptionRefusedError(
                f"{list(topic_filters)} are no topic filters ({error})"
            ) from error
        if result or mid is None:
            raise self._not_sent()
        waiter: asyncio.Future[tuple[int, ...] | list[ReasonCode]]
        waiter = self._loop.create_future()
        with self._pending_call(mid, waiter, self._pending_subscribes), self._call():
            await self._answered(waiter, timeout_s)
        codes: Sequence[int | ReasonCode] = waiter.result()
        for topic_filter, code in zip(topic_filters, codes, strict=True):
            value = code if isinstance(code, int) else code.value
            if value >= _FAILURE_CODE or value < qos:
                raise SubscriptionRefusedError(
                    f"the broker refuses the subscription {topic_filter!r} ({code}): "
                    "check that this identity may subscribe there"
                )

    async def unsubscribe_strictly(
        self, topic_filters: Sequence[str], *, timeout_s: float
    ) -> None:
        """Unsubscribe and await the broker's word."""
        if self._lost.done():
            raise self._not_sent()
        result, mid = self._client.unsubscribe(list(topic_filters))
        if result or mid is None:
            raise self._not_sent()
        event = asyncio.Event()
        with self._pending_call(mid, event, self._pending_unsubscribes), self._call():
            waiter = self._loop.create_task(event.wait())
            try:
                await self._answered(waiter, timeout_s)
            finally:
                waiter.cancel()

    async def _answered(self, waiter: asyncio.Future[Any], timeout_s: float) -> None:
        try:
            await self._first_of(waiter, timeout_s)
        except TimeoutError as error:
            raise OutcomeUnknownError(
                f"no word from the broker about a subscription within {timeout_s:g} s: "
                "connect again",
                failure=LinkFailure.TIMEOUT,
            ) from error
        if not waiter.done():
            raise self._lost.result()

    async def _first_of(self, waiter: asyncio.Future[Any], timeout_s: float) -> None:
        """Await the answer or the loss of the link, whichever comes first."""
        done, _ = await asyncio.wait(
            {waiter, self._lost},
            timeout=timeout_s,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if not done:
            raise TimeoutError

    @contextlib.contextmanager
    def _call(self) -> Iterator[None]:
        self.inbox.call_began()
        try:
            yield
        finally:
            self.inbox.call_ended()

    def _not_sent(self) -> LinkError:
        if self._lost.done():
            why = self._lost.result()
            return LinkError(f"not sent: {why}", failure=why.failure)
        return LinkError("not sent: connect first", failure=LinkFailure.LOST)

    # -- closing ------------------------------------------------------------------

    async def close(self) -> None:
        """Say DISCONNECT, so that no will is published, and close."""
        if not self._lost.done():
            self._is_closing = True
            self._receiver.flush()
            self._client.disconnect()
            await asyncio.wait({self._lost}, timeout=_CLOSE_TIMEOUT_S)
        self._end(closed_by_us())
        self._drop_socket()
