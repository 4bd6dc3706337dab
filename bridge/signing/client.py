"""Asking a signer behind a socket; this process has no command key.

One connection, questions side by side, answers by their number. Whatever keeps a
signature away — no signer, a slow one, a broken connection — is one error that says
that nothing was sent; a signature that comes after that is thrown away, and its
sequence is skipped.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from bridge.errors import CapError, NoSignerError, SigningError
from bridge.lease import Lease
from bridge.signing.journal import Head
from bridge.signing.messages import (
    VERSION,
    Ask,
    Greeting,
    Inbox,
    MessageError,
    Ping,
    Pong,
    Refused,
    Signed,
    encode,
)
from bridge.wire import LOG
from protocol.errors import ProtocolError
from protocol.frame import Header, build_unsigned
from protocol.keys import VerifyKey
from protocol.signing import to_be_signed

ANSWER_S: Final = 3.0
"""Patience with a signature: a customer waits for three seconds."""

PING_S: Final = 1.0
"""Between one answer and the next question whether the signer still answers: one that
hangs keeps its connection open, and nobody would see it before an order fails."""

FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 5.0
"""Between two attempts to connect, doubled from the first to this."""

READ_SIZE: Final = 65_536
ASKED_LIMIT: Final = 2_048
"""Questions under way; more than that is a signer that does not answer."""


@dataclass(frozen=True, slots=True)
class _Talk:
    """A connection that greeted us."""

    keys: tuple[VerifyKey, ...]
    writer: asyncio.StreamWriter


class SocketSeal:
    """Has frames signed by a signer's process; `run` it.

    Args:
        path: the signer's socket.
        fleet_id: whose keys it must have.
        lease: whoever holds it asks; its epoch fences everybody else.
        on_head: told of the signer's log whenever it greets.
        random: 0 to 1, for jitter.
    """

    def __init__(
        self,
        path: str,
        *,
        fleet_id: bytes,
        lease: Lease,
        on_head: Callable[[Head], Awaitable[None]],
        random: Callable[[], float],
    ) -> None:
        self._path = path
        self._fleet_id = fleet_id
        self._lease = lease
        self._on_head = on_head
        self._random = random
        self._talk: _Talk | None = None
        self._is_silent = False
        self._ping = 0
        self._pong: asyncio.Future[None] | None = None
        self._asked: dict[int, asyncio.Future[bytes]] = {}
        self._number = 0
        self._last = Head()
        self.last_error = "not connected yet"
        """Why there is no signer; empty if there is one."""

    def current_keys(self) -> Sequence[VerifyKey]:
        """Return the signer's keys, the preferred one first.

        Raises:
            NoSignerError: nobody signs now.
        """
        return self._require().keys

    async def sign(
        self,
        header: Header,
        payload: bytes,
        *,
        key: VerifyKey,
        car_now_ms: int,
        consent: bytes = b"",
    ) -> bytes:
        """Return a signed frame.

        Raises:
            SigningError: the signer does not sign it.
            NoSignerError: nobody signs now, or not in time; nothing is sent.
        """
        talk, epoch = self._require(), self._lease.epoch
        if epoch is None or len(self._asked) >= ASKED_LIMIT:
            raise NoSignerError("the signer is busy or another bridge's; try again")
        try:
            unsigned = build_unsigned(header, payload)
        except ProtocolError as error:
            raise SigningError(f"frame cannot be built: {error}") from error
        self._number += 1
        number = self._number
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        try:
            talk.writer.write(encode(Ask(number, epoch, car_now_ms, unsigned, consent)))
            async with asyncio.timeout(ANSWER_S):
                signature = await answer
        except TimeoutError:
            raise NoSignerError(
                f"the signer did not answer within {ANSWER_S:g} s; nothing was sent"
            ) from None
        finally:
            self._asked.pop(number, None)
        try:
            key.verify(
                signature, to_be_signed(header.frame_class, self._fleet_id, unsigned)
            )
        except ProtocolError as error:
            raise SigningError(f"the signer answered with nonsense: {error}") from error
        return unsigned + signature

    async def run(self) -> None:
        """Keep a connection while the lease is ours, until cancelled."""
        await self._lease.hold(self._connect_on)

    async def _connect_on(self, _epoch: int) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                await self._converse()
                pause_s = FIRST_PAUSE_S
            except (OSError, MessageError, ProtocolError, TimeoutError) as error:
                # Without the system's number, which says nothing to an operator.
                told = getattr(error, "strerror", None) or str(error) or "it is silent"
                self._say(f"no signer at {self._path}: {told}")
            await asyncio.sleep(pause_s * (0.5 + self._random() / 2))
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    async def _converse(self) -> None:
        """Talk over one connection until it ends."""
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_unix_connection(self._path)
        inbox = Inbox()
        pinging = asyncio.create_task(self._keep_asking(writer))
        try:
            while data := await reader.read(READ_SIZE):
                for message in inbox.take(data):
                    match message:
                        case Greeting():
                            await self._greeted(message, writer)
                        case Signed() | Refused():
                            self._answered(message)
                        case Pong():
                            self._ponged(message)
                        case _:
                            raise MessageError("a signer asks nothing")
            self._say(f"the signer at {self._path} ended the connection")
        finally:
            pinging.cancel()
            self._talk = None
            self._is_silent = False
            writer.close()
            for answer in self._asked.values():
                if not answer.done():
                    answer.set_exception(
                        NoSignerError("the signer is gone; nothing was sent")
                    )
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _keep_asking(self, writer: asyncio.StreamWriter) -> None:
        """Ask whether it answers, until cancelled; `_require` goes by what it finds.

        The connection stays: a signer that was frozen goes on with it.
        """
        while True:
            await asyncio.sleep(PING_S)
            self._number += 1
            self._ping = self._number
            self._pong = asyncio.get_running_loop().create_future()
            writer.write(encode(Ping(self._ping)))
            try:
                async with asyncio.timeout(ANSWER_S):
                    await asyncio.shield(self._pong)
            except TimeoutError:
                self._is_silent = True
                self._say(f"the signer at {self._path} does not answer")
                await self._pong
                self._is_silent = False
                LOG.info("= signer: it answers again")
                if self._talk is not None:
                    self.last_error = ""

    def _ponged(self, message: Pong) -> None:
        pong = self._pong
        if pong is not None and message.number == self._ping and not pong.done():
            pong.set_result(None)

    async def _greeted(self, greeting: Greeting, writer: asyncio.StreamWriter) -> None:
        if greeting.version != VERSION:
            raise MessageError(f"it speaks version {greeting.version}, not {VERSION}")
        if greeting.fleet_id != self._fleet_id:
            raise MessageError("it is another fleet's")
        head = Head(greeting.entries, greeting.head)
        if head.entry < self._last.entry:
            LOG.error(
                "= signer: its log has %d entries and had %d: look with "
                "`freefloat signer verify`",
                head.entry,
                self._last.entry,
            )
        self._last = head
        keys = tuple(VerifyKey.load(raw) for raw in greeting.public_keys)
        await self._on_head(head)
        if self._talk is None:
            LOG.info("= signer: connected, %d keys", len(keys))
        self._talk = _Talk(keys, writer)
        if not self._is_silent:
            self.last_error = ""

    def _answered(self, message: Signed | Refused) -> None:
        answer = self._asked.get(message.number)
        if answer is None or answer.done():
            # Too late: whoever asked was told that nothing was sent.
            return
        if isinstance(message, Signed):
            self._last = Head(max(message.entry, self._last.entry), self._last.digest)
            answer.set_result(message.signature)
        elif message.retry_after_s:
            answer.set_exception(
                CapError(message.message, retry_after_s=message.retry_after_s)
            )
        else:
            answer.set_exception(SigningError(message.message))

    def _require(self) -> _Talk:
        if self._talk is None or self._is_silent:
            raise NoSignerError(f"{self.last_error}; nothing was sent, try again")
        return self._talk

    def _say(self, what: str) -> None:
        if what != self.last_error:
            LOG.warning("= signer: %s", what)
        self.last_error = what
