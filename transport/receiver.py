"""Reading and acknowledging at speed beside paho, on paho's own connection.

`transport.packets` cuts what the socket brought; PUBLISH becomes messages here, every
other packet is handled by paho as if it had read it itself. Acknowledgements of one
turn of the event loop leave in one write.

paho 2.2 has no public way to be handed a packet or to queue bytes, so names with an
underscore of its client are used here and nowhere else; the pin of aiomqtt and tests
on real brokers hold them (docs/adr/0018-intake-at-speed.md).
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.exception import MalformedPacket
from paho.mqtt.packettypes import PacketTypes

from transport.message import IncomingMessage
from transport.packets import (
    MalformedError,
    Packet,
    PacketStream,
    Publish,
    puback,
    publication,
)

READ_SIZE: Final = 65_536
"""Bytes asked of the socket at once; TLS gives at most one record of 16 KiB."""

READS_PER_TURN: Final = 128
"""Reads before other callbacks of the event loop have their turn: about 1 ms."""

REST_S: Final = 0.004
"""How long a busy connection is not read: waking up for each message costs the bridge
as much as reading it, and nobody notices 4 ms."""

BUSY_MESSAGES: Final = 8
"""Messages within `REST_S` that make a connection busy: 2,000 a second. A car's never
is, and a bridge of a small fleet reads each answer at once."""

WRITES_WAITING: Final = 64
"""Writes that the socket has not taken, at which nothing more is posted: the broker, or
the way to it, stands still."""


class Receiver:
    """What arrives on one connection of paho."""

    def __init__(
        self,
        client: paho.Client,
        *,
        is_v5: bool,
        deliver: Callable[[IncomingMessage], None],
        is_paused: Callable[[], bool],
        logger: logging.Logger,
    ) -> None:
        """Begin with nothing read.

        Args:
            client: connected, or about to be.
            is_v5: whether it speaks MQTT 5.
            deliver: takes each message; may pause.
            is_paused: whether reading stops now; asked before each message.
            logger: told of errors of the socket, as paho tells it.
        """
        self._client = client
        self._packets = PacketStream(is_v5=is_v5)
        self._deliver = deliver
        self._is_paused = is_paused
        self._logger = logger
        self._loop = asyncio.get_running_loop()
        self._parsed: deque[Publish | Packet] = deque()
        self._is_v5 = is_v5
        self._leaving: list[bytes] = []
        self._lately = 0
        self._lately_s = 0.0

    @property
    def is_busy(self) -> bool:
        """Whether so much came in the last `REST_S` that more is about to come."""
        return self._lately >= BUSY_MESSAGES

    def read(self) -> bool:
        """Read and handle what is there, until it is nothing or reading is paused.

        Returns:
            Whether there may be more: call again in the loop's next turn.
        """
        now_s = self._loop.time()
        if now_s - self._lately_s >= REST_S:
            self._lately, self._lately_s = 0, now_s
        for _ in range(READS_PER_TURN):
            if not self._handle_parsed():
                return False
            try:
                data = self._client._sock_recv(READ_SIZE)  # noqa: SLF001 - see the module
            except BlockingIOError:
                return False
            except OSError as error:
                self._logger.error("failed to receive on socket: %s", error)  # noqa: TRY400 - for its arguments, which say why the link ended
                data = b""
            if not data:
                self._lose(MQTTErrorCode.MQTT_ERR_CONN_LOST)
                return False
            # paho asks for a sign of life only when nothing came for a while.
            self.excuse_silence()
            try:
                self._parsed.extend(self._packets.feed(data))
            except MalformedError:
                self._lose(MQTTErrorCode.MQTT_ERR_PROTOCOL)
                return False
        return self._handle_parsed()

    def _handle_parsed(self) -> bool:
        """Handle packets that were read; False if reading is paused or has ended."""
        parsed = self._parsed
        while parsed:
            if self._is_paused():
                return False
            packet = parsed.popleft()
            if isinstance(packet, Publish):
                self._take(packet)
            elif not self._hand_over(packet):
                return False
        return not self._is_paused() and self._client.socket() is not None

    def _take(self, packet: Publish) -> None:
        self._lately += 1
        try:
            topic = packet.topic.decode()
        except UnicodeDecodeError:
            # MQTT-1.5.4-1: ill-formed UTF-8 is malformed; no topic of ours has any.
            if packet.qos:
                self._acknowledge(packet.mid)
            return
        self._deliver(
            IncomingMessage(
                topic,
                packet.payload,
                packet.is_retained,
                packet.qos,
                packet.is_duplicate,
                packet.mid,
                self._acknowledge,
            )
        )

    def _hand_over(self, packet: Packet) -> bool:
        """Let paho handle a packet; False if that ended the connection."""
        client = self._client
        client._in_packet = {  # noqa: SLF001 - see the module
            "command": packet.first,
            "have_remaining": 1,
            "remaining_count": [],
            "remaining_mult": 1,
            "remaining_length": len(packet.body),
            "packet": bytearray(packet.body),
            "to_process": 0,
            "pos": 0,
        }
        try:
            code = client._packet_handle()  # noqa: SLF001 - see the module
        except MalformedPacket:
            code = MQTTErrorCode.MQTT_ERR_PROTOCOL
        if code > 0:
            self._lose(code)
            return False
        return True

    def _lose(self, code: MQTTErrorCode) -> None:
        self._parsed.clear()
        self._client._loop_rc_handle(code)  # noqa: SLF001 - see the module

    def _acknowledge(self, mid: int) -> None:
        """Acknowledge, with what else leaves in this turn of the loop."""
        self._send(puback(mid))

    def post(self, topic: str, payload: bytes, expiry_s: int | None) -> bool:
        """Publish with QoS 0 in this turn; False if too much waits for the socket."""
        if len(self._client._out_packet) > WRITES_WAITING:  # noqa: SLF001 - see the module
            return False
        name = topic.encode()
        self._send(publication(name, payload, is_v5=self._is_v5, expiry_s=expiry_s))
        return True

    def excuse_silence(self) -> None:
        """Count as heard from the broker now, while nothing is read."""
        self._client._last_bytes_received = time.monotonic()  # noqa: SLF001 - see the module

    def _send(self, packet: bytes) -> None:
        if not self._leaving:
            self._loop.call_soon(self.flush)
        self._leaving.append(packet)

    def flush(self) -> None:
        """Hand acknowledgements and what was posted to the socket now."""
        if self._leaving:
            data = b"".join(self._leaving)
            self._leaving.clear()
            if self._client.socket() is not None:
                # A packet to paho is bytes to write; nothing asks how many are in it.
                self._client._packet_queue(PacketTypes.PUBACK << 4, data, 0, 1)  # noqa: SLF001 - see the module
