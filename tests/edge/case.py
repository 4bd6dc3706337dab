"""One signature at an edge of its scheme, and what a receiver must make of it."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from protocol.codes import FrameClass, Suite, SyncType
from protocol.frame import Header, build_unsigned
from protocol.identity import key_id
from protocol.keys import SIGNATURE_SIZE
from protocol.signing import to_be_signed
from tools.published_keys import CAR_A, FLEET_ID, MONO_MS, SESSION, WALL_MS


class Verdict(StrEnum):
    """What a receiver must do."""

    ACCEPT = "accept"
    REFUSE_KEY = "refuse key"
    REFUSE_SIGNATURE = "refuse signature"


@dataclass(frozen=True, slots=True)
class Edge:
    """A key, a message and a signature."""

    name: str
    """What is odd about it."""
    why: str
    """What a receiver gives away that judges otherwise."""
    public: bytes
    message: bytes
    signature: bytes
    verdict: Verdict
    unsigned: bytes = b""
    """Of a frame whose signed bytes are the message; empty if it is not one's."""

    @property
    def frame(self) -> bytes | None:
        """The frame, None if the signature is of no frame's size."""
        if not self.unsigned or len(self.signature) != SIGNATURE_SIZE:
            return None
        return self.unsigned + self.signature


Sign = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Edges:
    """Makes the cases of one suite.

    Every message is what a frame's signature covers: the frame names the key, so each
    key has a message of its own.
    """

    suite: Suite

    def edge(
        self, name: str, why: str, public: bytes, sign: Sign, verdict: Verdict
    ) -> Edge:
        """Return a case; `sign` makes the signature of the message."""
        unsigned = self._unsigned(public)
        message = to_be_signed(FrameClass.SYNC, FLEET_ID, unsigned)
        return Edge(name, why, public, message, sign(message), verdict, unsigned)

    def message(self, public: bytes) -> bytes:
        """Return what a frame of this key signs."""
        return to_be_signed(FrameClass.SYNC, FLEET_ID, self._unsigned(public))

    def _unsigned(self, public: bytes) -> bytes:
        header = Header(
            suite=self.suite,
            frame_class=FrameClass.SYNC,
            flags=0,
            type=SyncType.RESEND,
            schema=1,
            lane=0,
            vehicle_id=CAR_A,
            key_id=key_id(public),
            session_id=SESSION,
            seq=1,
            mono_ms=MONO_MS,
            wall_ms=WALL_MS,
            msg_id=b"edge" * 4,
        )
        return build_unsigned(header, _PAYLOAD)


_PAYLOAD: Final = (1).to_bytes(8, "big") + (2).to_bytes(8, "big")
"""RESEND of entries 1 to 2."""
