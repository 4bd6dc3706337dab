"""The signer's process: a Unix socket, a policy, a log, and the command keys.

Whoever connects is known by the kernel's word (SO_PEERCRED). What all connections ask
is taken together, judged, signed and written to the log with one fsync, and answered
then: nothing leaves that is not in the log.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import os
import socket
import stat
import struct
from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bridge.errors import CapError, SettingsError, SigningError, StoreError
from bridge.fleet_files import SignerKeys
from bridge.ports import WallClock
from bridge.signing.approvers import approvers_of
from bridge.signing.journal import Facts, Journal
from bridge.signing.messages import (
    VERSION,
    Ask,
    Greeting,
    Inbox,
    Message,
    MessageError,
    Ping,
    Pong,
    Refused,
    Signed,
    encode,
)
from bridge.signing.passed import facts_of
from bridge.signing.policy import DAY_MS, MINUTE_MS, Judged, Policy
from bridge.signing.second_person import SecondPerson
from bridge.signing.settings import SignerSettings
from bridge.trust import TrustDirectory
from bridge.wire import LOG
from protocol.codes import FrameClass
from protocol.errors import ProtocolError
from protocol.frame import parse_frame
from protocol.keys import SIGNATURE_SIZE
from protocol.signing import sign_frame

READ_SIZE: Final = 65_536
WAITING_LIMIT: Final = 1_024
"""Questions that wait; whoever asks more is not read until there is room."""

BATCH_LIMIT: Final = 256
"""Frames signed with one fsync."""

WRITE_S: Final = 5.0
"""Patience with somebody who does not read answers."""

REFUSED: Final = "refused"
"""Class of an entry that tells what was asked and not signed."""

REFUSALS_LIMIT: Final = 120
"""Refusals written down in a minute; the log is not to be filled by who asks."""

NO_APPROVER: Final = (
    "no [[approver]] is named, so what needs a second person is signed for nobody"
)

REFRESH_S: Final = 1.0
"""How often keys and trust are looked at."""

CONNECTIONS_LIMIT: Final = 16

_CREDENTIALS: Final = struct.Struct("3i")
"""struct ucred of unix(7): pid, uid, gid."""


@dataclass(eq=False, slots=True)
class _Peer:
    uid: int
    writer: asyncio.StreamWriter

    def tell(self, message: Message) -> None:
        if not self.writer.is_closing():
            self.writer.write(encode(message))


class SigningService:
    """One signer; `serve` it on a socket."""

    def __init__(
        self,
        settings: SignerSettings,
        *,
        fleet_id: bytes,
        keys: SignerKeys,
        trust: TrustDirectory,
        journal: Journal,
        now: WallClock,
        forgets_epoch: bool = False,
    ) -> None:
        """Take what was read; the caps begin with what the log tells of."""
        self._settings = settings
        self._fleet_id = fleet_id
        self._keys = keys
        self._trust = trust
        self._journal = journal
        self._now = now
        self._policy = Policy(
            settings.policy,
            SecondPerson(
                settings.second_person,
                approvers_of(settings.approver),
                fleet_id=fleet_id,
            ),
        )
        self._refusals: deque[int] = deque()
        if settings.second_person.required and not settings.approver:
            LOG.warning("= signer: %s", NO_APPROVER)
        self._peers: set[_Peer] = set()
        self._waiting: asyncio.Queue[tuple[_Peer, Ask | Ping]] = asyncio.Queue(
            WAITING_LIMIT
        )
        since_ms = now() - DAY_MS
        for entry in journal.recent:
            facts = entry.facts
            if facts["class"] == REFUSED:
                continue
            if not forgets_epoch:
                self._policy.epoch = max(self._policy.epoch, int(facts["epoch"]))
            self._policy.remember(facts, is_counted=int(facts["at_ms"]) > since_ms)

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        """Answer at the socket inside the block.

        Raises:
            SettingsError: another signer has the socket or the log, or it cannot be
                made.
        """
        path = Path(self._settings.socket.path)
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(_alone(Path(self._settings.log)))
            listener = stack.enter_context(
                _listen(path, is_for_group=self._settings.socket.is_for_group)
            )
            server = await asyncio.start_unix_server(self._meet, sock=listener)
            stack.callback(path.unlink, missing_ok=True)
            tasks = [
                asyncio.create_task(self._work()),
                asyncio.create_task(self._keep_keys()),
            ]
            try:
                yield
            finally:
                server.close()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                for peer in list(self._peers):
                    peer.writer.close()
                await asyncio.to_thread(self._journal.close)

    async def _meet(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        uid = _uid_of(writer)
        allowed = self._settings.socket.peers or (os.getuid(),)
        if uid not in allowed or len(self._peers) >= CONNECTIONS_LIMIT:
            LOG.warning("= signer: user %d may not ask, or too many do", uid)
            writer.close()
            return
        peer = _Peer(uid, writer)
        self._peers.add(peer)
        LOG.info("= signer: user %d asks", uid)
        try:
            peer.tell(self._greeting())
            inbox = Inbox()
            while data := await reader.read(READ_SIZE):
                for message in inbox.take(data):
                    await self._waiting.put((peer, _asked(message)))
                async with asyncio.timeout(WRITE_S):
                    await writer.drain()
        except MessageError as error:
            LOG.warning("= signer: user %d is cut off: %s", uid, error)
        except (OSError, TimeoutError):
            LOG.warning("= signer: user %d is gone", uid)
        finally:
            self._peers.discard(peer)
            writer.close()

    async def _work(self) -> None:
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < BATCH_LIMIT and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            answers = await asyncio.to_thread(self._answer, batch)
            for (peer, _), answer in zip(batch, answers, strict=True):
                peer.tell(answer)

    def _answer(self, batch: list[tuple[_Peer, Ask | Ping]]) -> list[Message]:
        """Judge, sign and write down; blocks."""
        answers: list[Message] = []
        facts: list[Facts] = []
        entries_of: dict[int, int] = {}
        now = self._now()
        for place, (peer, ask) in enumerate(batch):
            if isinstance(ask, Ping):
                answers.append(Pong(ask.number))
                continue
            try:
                judged = self._policy.judge(
                    ask, keys=self._keys.keys, trust=self._trust.current, now=now
                )
                signature = self._sign(judged)
            except SigningError as error:
                answers.append(_refused(ask, error))
                LOG.warning("= signer: user %d is refused: %s", peer.uid, error)
                if self._may_tell_refusal(now):
                    facts.append(_refusal(ask, error, uid=peer.uid, now=now))
                continue
            entries_of[place] = len(facts)
            answers.append(Signed(ask.number, 0, signature))
            facts.append(_facts(judged, signature, ask, uid=peer.uid, now=now))
        if not facts:
            return answers
        try:
            entries = self._journal.append(facts, now=now)
        except StoreError as error:
            LOG.error("= signer: %s", error)
            for place in entries_of:
                number = batch[place][1].number
                answers[place] = Refused(number, "the signer's log takes nothing", 2)
            return answers
        for place, index in entries_of.items():
            found = answers[place]
            if isinstance(found, Signed):
                number = entries[index].number
                answers[place] = Signed(found.number, number, found.signature)
        return answers

    def _may_tell_refusal(self, now: int) -> bool:
        while self._refusals and self._refusals[0] <= now - MINUTE_MS:
            self._refusals.popleft()
        if len(self._refusals) >= REFUSALS_LIMIT:
            return False
        self._refusals.append(now)
        return True

    def _sign(self, judged: Judged) -> bytes:
        frame = judged.frame
        try:
            data = sign_frame(
                frame.header, frame.payload, fleet_id=self._fleet_id, key=judged.key
            )
        except ProtocolError as error:
            raise SigningError(f"frame cannot be built: {error}") from error
        return data[-len(frame.signature) :]

    async def _keep_keys(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_S)
            try:
                await asyncio.to_thread(self._trust.refresh)
                has_keys = await asyncio.to_thread(self._keys.refresh)
            except SettingsError as error:
                LOG.error("= signer: %s", error)
                continue
            if has_keys:
                for peer in self._peers:
                    peer.tell(self._greeting())

    def _greeting(self) -> Greeting:
        head = self._journal.head
        return Greeting(
            VERSION,
            self._fleet_id,
            tuple(key.verify_key.raw for key in self._keys.keys),
            head.entry,
            head.digest,
        )


def _asked(message: Message) -> Ask | Ping:
    if isinstance(message, Ask | Ping):
        return message
    raise MessageError("this side is asked and does not ask")


def _refused(ask: Ask, error: SigningError) -> Refused:
    retry_after_s = error.retry_after_s if isinstance(error, CapError) else 0
    return Refused(ask.number, str(error)[:300], retry_after_s)


def _facts(
    judged: Judged, signature: bytes, ask: Ask, *, uid: int, now: int
) -> dict[str, int | str]:
    header, passed = judged.frame.header, judged.passed
    is_command = header.frame_class is FrameClass.CMD
    told = facts_of(passed)
    if passed.approval_id:
        told["consent"] = hashlib.sha256(ask.consent).hexdigest()
    return told | {
        "at_ms": now,
        "uid": uid,
        "epoch": ask.epoch,
        "class": "cmd" if is_command else header.frame_class.label,
        "kind": judged.kind,
        "vehicle": str(header.vehicle_id),
        "session": header.session_id.hex(),
        "key": header.key_id.hex(),
        "lane": int(header.lane),
        "seq": header.seq,
        "msg_id": header.msg_id.hex(),
        "signature": signature.hex(),
    }


def _refusal(
    ask: Ask, error: SigningError, *, uid: int, now: int
) -> dict[str, int | str]:
    """Return what the log says of what was asked and not signed."""
    told: dict[str, int | str] = {
        "at_ms": now,
        "uid": uid,
        "epoch": ask.epoch,
        "class": REFUSED,
        "why": str(error)[:300],
        "asked": hashlib.sha256(ask.unsigned).hexdigest(),
        "consent": hashlib.sha256(ask.consent).hexdigest() if ask.consent else "",
    }
    with contextlib.suppress(ProtocolError):
        header = parse_frame(ask.unsigned + bytes(SIGNATURE_SIZE)).header
        told |= {
            "of": header.frame_class.label,
            "type": header.type,
            "vehicle": str(header.vehicle_id),
            "msg_id": header.msg_id.hex(),
        }
    return told


def _uid_of(writer: asyncio.StreamWriter) -> int:
    connection: socket.socket = writer.get_extra_info("socket")
    data = connection.getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
    )
    uid: int = _CREDENTIALS.unpack(data)[1]
    return uid


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Keep a second signer from the same log; the kernel lets go if we die."""
    file = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SettingsError(
                f"another signer writes the log {directory}",
                advice="stop it first, or name another directory",
            ) from error
        yield
    finally:
        os.close(file)


@contextlib.contextmanager
def _listen(path: Path, *, is_for_group: bool) -> Iterator[socket.socket]:
    """Listen at a path; what a dead signer left there is taken away.

    We hold the lock of the log, so nobody answers there but a signer of another log.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.exists():
            if not stat.S_ISSOCK(path.stat().st_mode):
                raise SettingsError(
                    f"{path} is there and no socket", advice="name another path"
                )
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                if probe.connect_ex(str(path)) == 0:
                    raise SettingsError(
                        f"another signer answers at {path}",
                        advice="stop it first, or name another path",
                    )
            path.unlink()
        # Never open to others, not even for an instant.
        before = os.umask(0o117 if is_for_group else 0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        listener.listen(CONNECTIONS_LIMIT)
        yield listener
    except OSError as error:
        raise SettingsError(
            f"socket {path} cannot be made: {error.strerror}",
            advice="check that its directory is there and the signer's",
        ) from error
    finally:
        listener.close()
