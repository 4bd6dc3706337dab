"""What a bridge counts of its own work, for Prometheus.

Counted once a batch and not once a frame, so that counting costs nothing that anybody
would notice. No label names a vehicle, a customer or a place (K25): every label's
values are few and known before.
"""

from collections import Counter as Tally
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

from bridge.commands import CommandRecord, CommandState
from bridge.ingest import Rejection, Verified
from protocol.codes import Code, FrameClass

BATCH_BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
"""Frames; the last is the most that a batch may hold (`bridge.intake.BATCH_LIMIT`)."""

WORK_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
"""Seconds of verifying or committing one batch."""

END_BUCKETS: Final = (0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 15, 30, 60, 120, 600)
"""Seconds from an order to its signed end; a customer waits for 3 s."""

ENDED_LIMIT: Final = 4_096
"""Ended commands remembered, so that one that is written again is not counted again."""

HOSTILE: Final = (
    Code.BAD_SIGNATURE,
    Code.UNKNOWN_KEY,
    Code.REVOKED,
    Code.WRONG_VEHICLE,
    Code.RETAINED,
)
"""Why a message is not believed that no car of the fleet sends in good order (K24)."""

_COUNTED: Final = frozenset(
    {CommandState.TIMED_OUT, *(state for state in CommandState if state.is_terminal)}
)


class Figures:
    """Counters and histograms of one bridge; they only rise."""

    def __init__(self) -> None:
        """Begin at zero, in a registry of its own."""
        self.registry = CollectorRegistry()
        """What is exported."""
        self._received = Counter(
            "freefloat_frames_received",
            "Messages taken from the broker, also again if a commit failed.",
            registry=self.registry,
        )
        self._verified = Counter(
            "freefloat_frames_verified",
            "Frames whose signature held, by class.",
            ["frame_class"],
            registry=self.registry,
        )
        self._rejected = Counter(
            "freefloat_frames_rejected",
            "Messages that were not believed, by code (docs/protocol.md).",
            ["code"],
            registry=self.registry,
        )
        for code in HOSTILE:
            # From 0: `increase` does not see the first rise of a series that begins
            # with it, and the first one of these is what somebody has to hear of.
            self._rejected.labels(code.name.lower())
        self._dropped = Counter(
            "freefloat_frames_dropped",
            "Frames above their car's rate: telemetry, or all of one that floods.",
            registry=self.registry,
        )
        self._delayed = Counter(
            "freefloat_frames_delayed",
            "Other frames that had to wait because their car sent more than its rate.",
            registry=self.registry,
        )
        self._batch_frames = Histogram(
            "freefloat_batch_frames",
            "Messages in one transaction.",
            buckets=BATCH_BUCKETS,
            registry=self.registry,
        )
        self._verify_s = Histogram(
            "freefloat_verify_seconds",
            "From taking a batch to the end of its verification.",
            buckets=WORK_BUCKETS,
            registry=self.registry,
        )
        self._commit_s = Histogram(
            "freefloat_commit_seconds",
            "From the end of a batch's verification to its commit.",
            buckets=WORK_BUCKETS,
            registry=self.registry,
        )
        self._failed_commits = Counter(
            "freefloat_commit_failures",
            "Batches that the store did not commit; their frames come again.",
            registry=self.registry,
        )
        self._receipts = Counter(
            "freefloat_receipts_signed",
            "Receipts that were signed for cars.",
            registry=self.registry,
        )
        self._refused_receipts = Counter(
            "freefloat_receipts_refused",
            "Receipts that the signer did not sign; the cars ask again.",
            registry=self.registry,
        )
        self._commands = Counter(
            "freefloat_commands",
            "Commands that ended or became unknown, by kind and state.",
            ["kind", "state"],
            registry=self.registry,
        )
        self._end_s = Histogram(
            "freefloat_command_seconds",
            "From an order to its signed end, by kind.",
            ["kind"],
            buckets=END_BUCKETS,
            registry=self.registry,
        )
        self._limited = Counter(
            "freefloat_api_limited",
            "Calls of the API that were too many, by what there was too much of.",
            ["rate"],
            registry=self.registry,
        )
        self._strangers = Counter(
            "freefloat_api_unauthenticated",
            "Calls of the API without a key or token of this bridge.",
            registry=self.registry,
        )
        self._ended: OrderedDict[tuple[bytes, CommandState], None] = OrderedDict()

    def received(self, count: int) -> None:
        """Count messages taken from the link."""
        self._received.inc(count)

    def flooded(self, *, dropped: int, delayed: int) -> None:
        """Count frames of cars that sent more than their rate."""
        self._dropped.inc(dropped)
        self._delayed.inc(delayed)

    def committed(
        self,
        records: Sequence[Verified | Rejection],
        *,
        verify_s: float,
        commit_s: float,
    ) -> None:
        """Count a batch whose transaction is committed."""
        self._batch_frames.observe(len(records))
        self._verify_s.observe(verify_s)
        self._commit_s.observe(commit_s)
        codes: Tally[int] = Tally()
        classes: Tally[int] = Tally()
        for record in records:
            # Numbers: the name of an enumeration's member is a slow property.
            if isinstance(record, Rejection):
                codes[int(record.code)] += 1
            else:
                classes[int(record.frame.header.frame_class)] += 1
        for code, count in codes.items():
            self._rejected.labels(Code(code).name.lower()).inc(count)
        for number, count in classes.items():
            self._verified.labels(FrameClass(number).name.lower()).inc(count)

    def not_committed(self) -> None:
        """Count a batch that the store did not commit."""
        self._failed_commits.inc()

    def receipted(self, *, signed: int, refused: int) -> None:
        """Count receipts after a batch."""
        self._receipts.inc(signed)
        self._refused_receipts.inc(refused)

    def limited(self, rate: str) -> None:
        """Count a call that was one too many."""
        self._limited.labels(rate).inc()

    def not_admitted(self) -> None:
        """Count a call of somebody whom the bridge does not know."""
        self._strangers.inc()

    def changed(self, records: Iterable[CommandRecord]) -> None:
        """Count those commands that ended or became unknown by this change."""
        for record in records:
            if record.state not in _COUNTED:
                continue
            key = (record.command_id, record.state)
            if key in self._ended:
                continue
            self._ended[key] = None
            if len(self._ended) > ENDED_LIMIT:
                self._ended.popitem(last=False)
            self._commands.labels(record.kind, record.state.value).inc()
            if record.state.is_terminal:
                took_ms = record.trail[-1][1] - record.requested_ms
                self._end_s.labels(record.kind).observe(max(took_ms, 0) / 1000)
