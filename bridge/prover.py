"""A batch of messages verified, many signatures at a time.

What a batch needs of the curve is gathered first and judged in pieces, beside the
bridge (`bridge.verifier`). Then each message is judged in the order in which it came,
as `bridge.ingest.verify` would: where the key is another than was thought, because a
message before it in the batch changed it, the signature is looked at again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bridge import ingest
from bridge.errors import RegistryError
from bridge.ingest import Rejection, Verified, VerifiedEntry
from bridge.key_book import KeyBook
from bridge.ports import Message
from bridge.registry import RegistryDirectory
from bridge.verification import Claim
from bridge.verifier import Line, Verifier
from bridge.wire import LOG
from protocol.codes import Code
from protocol.frame import Frame

PART: Final = 128
"""Messages that are asked about at once: 5 ms for the process beside us, at 42 µs for
each (measured), while this one reads the next ones."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Some messages of a batch, with what was asked about them."""

    messages: Sequence[tuple[Message, Frame | Rejection, Claim | None]]
    """Each with its layout and what it claims."""
    claims: Sequence[Claim]
    """Those that there are, in the same order."""
    line: Line | None
    """Who was asked; None for nobody."""


class Prover:
    """Verifies batches; one thread may ask about one while another judges another."""

    def __init__(
        self, registry: RegistryDirectory, *, fleet_id: bytes, verifier: Verifier
    ) -> None:
        """Name who may sign.

        Args:
            registry: looked at again when an unknown vehicle speaks.
            fleet_id: 16 bytes, part of what is signed.
            verifier: judges signatures; closed by `close`.
        """
        self._registry = registry
        self._fleet_id = fleet_id
        self._verifier = verifier

    def ask(self, batch: Sequence[Message], keys: KeyBook) -> Sequence[Asked]:
        """Read the layout of a batch and ask about its signatures; may block.

        Args:
            batch: messages in the order in which they came.
            keys: the newest that are known; what changed meanwhile `judge` sees.
        """
        # The first part is judged beside us while the second one is being read.
        return [
            self._asked(batch[first : first + PART], keys)
            for first in range(0, len(batch), PART)
        ]

    def judge(
        self, parts: Sequence[Asked], keys: KeyBook
    ) -> list[Verified | Rejection]:
        """Return for each message a verified record, or why there is none; blocks.

        Args:
            parts: what `ask` returned; in the order in which it was asked.
            keys: as they are when every batch before this one is committed.
        """
        records: list[Verified | Rejection] = []
        for part in parts:
            answers = iter(self._verifier.answers(part.claims, part.line))
            for message, frame, claim in part.messages:
                if isinstance(frame, Rejection):
                    records.append(frame)
                    continue
                proved = claim if claim is not None and next(answers) else None
                record = self._judge(frame, message.topic, keys, proved)
                if isinstance(record, VerifiedEntry) and record.rotation is not None:
                    # What follows in this batch is signed by the new key already. If
                    # the batch is not stored, neither is the rotation kept.
                    keys = keys.with_rotations([record.rotation])
                records.append(record)
        return records

    def refresh(self) -> bool:
        """Look whether vehicles have been issued since; whether any were. Blocks."""
        try:
            return self._registry.refresh()
        except RegistryError as error:
            LOG.warning("= %s", error)
            return False

    def close(self) -> None:
        """End the process that verifies."""
        self._verifier.close()

    def _asked(self, batch: Sequence[Message], keys: KeyBook) -> Asked:
        """Read the layout of some messages and ask about their signatures."""
        registry, fleet_id = self._registry.current, self._fleet_id
        messages: list[tuple[Message, Frame | Rejection, Claim | None]] = []
        for one in batch:
            frame = ingest.route(one.topic, one.payload, retain=one.retain)
            claim = None
            if isinstance(frame, Frame):
                claim = ingest.claim(
                    frame, registry=registry, fleet_id=fleet_id, keys=keys
                )
            messages.append((one, frame, claim))
        claims = [claim for _, _, claim in messages if claim is not None]
        return Asked(messages, claims, self._verifier.ask(claims))

    def _judge(
        self, frame: Frame, topic: str, keys: KeyBook, proved: Claim | None
    ) -> Verified | Rejection:
        for is_last in (False, True):
            record = ingest.prove(
                frame,
                topic,
                registry=self._registry.current,
                fleet_id=self._fleet_id,
                keys=keys,
                proved=proved,
            )
            is_unknown = (
                isinstance(record, Rejection) and record.code is Code.UNKNOWN_KEY
            )
            if is_last or not is_unknown or not self.refresh():
                return record
        raise AssertionError("the loop returns")
