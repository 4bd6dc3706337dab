"""Ports: what the shell needs from the outside, and what its parts need of each other.

Real devices (`gateway.hardware`), the emulator and the tests implement them; the
gateway cannot tell which. Input ports run as tasks and report events; a device that is
gone is an event too, never an exception into the core.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from gateway.core.authentication import JournalRecord
from gateway.core.configuration import Active, Complete
from gateway.core.events import Event, PinVerdict
from gateway.core.known_time import KnownTime
from gateway.core.ledger import LedgerHead, SealedEntry
from gateway.core.moment import Moment
from gateway.core.prompts import Prompt
from gateway.core.reading import Position
from gateway.core.state import State
from protocol.codes import Code, FrameClass, Lane, Light
from protocol.keys import SigningKey
from transport.tls import TlsIdentity

T = TypeVar("T")

Report = Callable[[Event], None]
"""Takes an event into the runtime's queue; never blocks."""

RandomBytes = Callable[[int], bytes]
"""Returns that many bytes from the system's generator."""


class Clock(Protocol):
    """Time, as the machine or a test gives it."""

    def now(self) -> Moment:
        """Return this instant on both clocks."""

    def asleep_ms(self) -> int:
        """Return for how long the machine has been suspended since it booted, ms."""

    async def sleep_until(self, boot_ms: int) -> None:
        """Return when the boot clock has reached `boot_ms`, at once if it has."""


class TrustedTime(Protocol):
    """What is known about the time for sure, whatever the wall clock shows."""

    def trusted_floor_ms(self) -> int:
        """Return UTC ms that have certainly passed; never goes back.

        The newest of: when this program was released, the floor on the disk, and the
        time that the fleet signed or GNSS gave, carried on by the boot clock.
        """


class TlsIdentities(Protocol):
    """The TLS identities of this car: the one in use, and perhaps an older one."""

    def current(self) -> TlsIdentity:
        """Return the identity to connect with now."""

    def connected(self, identity: TlsIdentity) -> None:
        """A broker took this identity."""

    def refused(self, identity: TlsIdentity) -> None:
        """TLS failed with this identity, or its files cannot be used."""


class Worker(Protocol):
    """Runs blocking calls one after another."""

    async def run(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, or raise what it raises.

        A call that has begun is finished even if its caller is cancelled.
        """

    def close(self) -> None:
        """Wait for the call that runs, and take no more."""


class Reader(Protocol):
    """The card reader behind the windscreen."""

    async def run(self, report: Report) -> None:
        """Report `CardPresented`, `ReaderLost` and `ReaderRecovered` until cancelled.

        One tap is one event, however long the card stays. A lost reader is reported
        once and looked for again.
        """

    async def probe(self) -> None:
        """Return when the reader has looked for a card after the call.

        Never returns as long as it does not.
        """


class Board(Protocol):
    """The microcontroller for locks, lights, engine hold and sensors."""

    async def run(self, report: Report) -> None:
        """Report `BoardReported`, `BoardRefused` and `BoardLost` until cancelled."""

    async def drive_locks(self, *, locked: bool) -> None:
        """Ask the board to move the bolts; the read-back is an event of its own."""

    async def allow_engine(self, *, released: bool) -> None:
        """Ask the board to release or hold the engine's start."""

    async def show_light(self, light: Light, *, blinking: bool) -> None:
        """Set the indicator."""

    async def flash_hazards(self, seconds: int) -> None:
        """Let the hazard lights blink."""

    async def probe(self) -> None:
        """Return when the board has answered something asked now; moves nothing.

        Never returns as long as it does not answer.
        """

    @property
    def starts(self) -> int | None:
        """How often the board says it has started, modulo 65,536; None before it did.

        A number that rises without a power cut of the car is a board that resets.
        """


class Display(Protocol):
    """Screen and keypad before the driver."""

    async def run(self, report: Report) -> None:
        """Report `PinEntered` and `MenuChosen` until cancelled."""

    async def show(self, prompt: Prompt, *, secret: str) -> None:
        """Show a prompt.

        Args:
            prompt: what.
            secret: the fuel card's PIN for FUEL_CARD_PIN, else empty; the display
                forgets it with the next prompt and never logs it.
        """


class Positioning(Protocol):
    """The positioning receiver."""

    def fix(self) -> Position | None:
        """Return the newest fix, None when there is none fit to use."""

    def utc_ms(self) -> int | None:
        """Return UTC of now as the satellites tell it, None when they do not."""


class Vault(Protocol):
    """Whatever holds the car's sealing key."""

    async def check_pin(self, sealed: bytes, rental_id: bytes, pin: str) -> PinVerdict:
        """Compare a PIN with the sealed verifier; slow on purpose, blocks nothing."""

    async def fuel_card_pin(self, sealed: bytes, rental_id: bytes) -> str:
        """Return the fuel card's PIN; empty when there is none or it does not open."""


class Keyring(Protocol):
    """Where the car's signing key lies: a file, or an element that gives no key away.

    A new key is made beside the one in use; only `settle` lets one of the two go. So a
    power cut at any point leaves a key that the ledger names.
    """

    async def prepare(self) -> SigningKey:
        """Return the key that comes next, made durable; the same until `settle`.

        Raises:
            KeyringError: none can be made; the key in use stands.
        """

    async def settle(self, key_id: bytes | None) -> SigningKey:
        """Make one key the only one, and return it.

        Args:
            key_id: the key that the ledger names; the present one if it names none, or
                one that is not here.

        Raises:
            KeyringError: it could not be made the only one; both are still there.
        """


class KeyHolder(Protocol):
    """The car's signing key of now, as who certifies it must know it."""

    on_rotated: Callable[[], None]
    """Told when there is a rotation to show."""

    @property
    def rotations(self) -> tuple[bytes, ...]:
        """KEY_ROTATED frames that the authority has not certified, oldest first."""

    def sign(self, message: bytes) -> bytes:
        """Sign by the key of now; may be called from any thread."""

    async def certified(self, rotations: Sequence[bytes]) -> None:
        """Let go of rotations that the authority has certified."""


class KeyringError(Exception):
    """A signing key cannot be made or put in its place; the keys there stay."""

    retryable = True
    """After a person has put the key's place right."""
    may_have_taken_effect = False
    """The ledger alone says which key counts."""


@dataclass(frozen=True, slots=True)
class AcceptedCommand:
    """A command that passed the pipeline; journalled with the decision it caused."""

    msg_id: bytes
    """16 bytes."""
    request_hash: bytes
    """32 bytes."""
    accepted_wall_ms: int
    """UTC ms that had certainly passed, for the journal's age: a clock that was set ten
    years ahead must not make the journal forget what it accepted an hour ago."""


@dataclass(frozen=True, slots=True)
class Commit:
    """What must become durable together, before any of it is acted on."""

    state: State
    """The new state."""
    entries: tuple[SealedEntry, ...]
    """New ledger entries, in order; a result closes its journal record."""
    accepted: AcceptedCommand | None
    """A new journal record."""
    configuration: Complete | None = None
    """A body that comes into force with it."""
    time: KnownTime | None = None
    """What is known about the time; None leaves what is stored."""
    trust: bytes | None = None
    """The signed bundle that counts from now on; None leaves what is stored."""
    expiry_told: bool = False
    """Whether an entry tells that the stored bundle has expired."""
    key_id: bytes | None = None
    """The key that signs what comes after the last of `entries`; None for the same."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What a ledger began in place of: its car had one before, which was lost."""

    previous: LedgerHead
    """The old ledger's head as far as it is known; zeros for what is not."""
    reason: int
    """1 lost, 2 damaged, 3 put back from an old copy (LEDGER_RESET's field)."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What a store holds when it is opened."""

    state: State
    """The last committed state, a fresh one for a new store."""
    head: LedgerHead
    """The newest entry."""
    receipted: int
    """Entries up to here have a receipt."""
    boot_counter: int
    """How often the agent has started, this start included."""
    same_boot: bool
    """Whether the machine has kept running since the last commit."""
    journal: tuple[JournalRecord, ...]
    """At least the last 256 commands, oldest first."""
    configurations: tuple[Active, ...] = ()
    """What is in force."""
    origin: Origin | None = None
    """Set if the car had another ledger before this one."""
    salvaged: tuple[SealedEntry, ...] = ()
    """Entries of an older, damaged ledger that the fleet has not receipted."""
    time: KnownTime = KnownTime()  # noqa: RUF009 - frozen
    """What was known about the time, on the boot clock of then."""
    trust: bytes | None = None
    """The signed bundle that was in use last; None before the first commit."""
    expiry_told: bool = False
    """Whether it was told that this bundle has expired."""
    key_id: bytes | None = None
    """The key that a rotation named last; None if there was none."""
    rotations: tuple[bytes, ...] = ()
    """KEY_ROTATED frames that the authority has not certified yet, oldest first."""


class Store(Protocol):
    """What survives a power cut."""

    async def open(self, *, boot_mark: str) -> Stored:
        """Open, count this start durably and return what is held.

        A damaged file is moved aside and a new one begun: see `Stored.origin`.

        Args:
            boot_mark: changes with every boot of the machine.

        Raises:
            StoreError: the file cannot be opened.
        """

    async def look(self, *, boot_mark: str) -> Stored | None:
        """Read what is held and write nothing, since the disk takes nothing.

        Until `open` succeeds there are no entries, and every other call fails.

        Args:
            boot_mark: changes with every boot of the machine.

        Returns:
            None if it cannot be read.
        """

    async def commit(self, commit: Commit) -> None:
        """Make all of it durable, or none.

        Raises:
            StoreError: nothing was kept; the old state stands.
        """

    async def release(self, upto: int, rejected: Sequence[tuple[int, Code]]) -> None:
        """Record receipts and free the entries; rejected ones are kept aside.

        Raises:
            StoreError: nothing changed; the next receipt does it again.
        """

    async def entries(self, first: int, limit: int) -> Sequence[SealedEntry]:
        """Return up to `limit` stored entries from sequence `first` on, in order."""

    async def release_salvaged(self, ledger_id: bytes, upto: int) -> None:
        """Free entries of an older ledger that were receipted.

        Raises:
            StoreError: nothing changed; the next receipt does it again.
        """

    async def forget_rotations(self, frames: Sequence[bytes]) -> None:
        """Let go of rotations that the authority has certified.

        Raises:
            StoreError: nothing changed; they are shown once more.
        """

    async def configuration(self, kind: int) -> bytes | None:
        """Return the body in force of this kind, None if there is none.

        Raises:
            StoreError: it cannot be read.
        """

    def hash_at(self, seq: int) -> bytes | None:
        """Return the hash of an entry that has no receipt yet, None for any other."""

    def free_kib(self) -> int:
        """Return the room left for the ledger."""

    async def close(self) -> None:
        """Close; everything committed stays."""


class StoreError(Exception):
    """The store could not keep something; nothing of that call was kept."""

    retryable = False
    """After an I/O error a file must be opened anew (reliability.md L13)."""
    may_have_taken_effect = False
    """A commit is all or nothing."""


class Agent(Protocol):
    """The runtime, as the uplink sees it."""

    async def prepare_session(self) -> bytes:
        """Begin a new session and return the signed DEATH of its connection.

        The broker gets it as the will, to be published when the connection is lost.
        """

    async def open_session(self) -> bytes:
        """Return the signed HELLO frame of the session that was prepared."""

    async def renew_session(self) -> bytes:
        """Begin a new session on the same connection and return its signed HELLO."""

    def farewell(self) -> bytes:
        """Return the signed DEATH of a car that stops."""

    async def close_session(self) -> None:
        """The link is gone; commands of its session are void."""

    async def receive(
        self, frame_class: FrameClass, data: bytes, *, retained: bool
    ) -> None:
        """Take one frame from the fleet; returns when what it caused is durable."""

    def place_frame(self, place: bytes) -> bytes:
        """Return a signed PLACE frame of a stored place."""


class Outlet(Protocol):
    """The uplink, as the runtime sees it."""

    def entries_grew(self) -> None:
        """New entries are durable and may be sent."""

    def offer(
        self, frame_class: FrameClass, data: bytes, *, can_wait: bool = False
    ) -> None:
        """Send a frame of no ledger: a refusal, a repeated result, telemetry.

        Dropped without a link.

        Args:
            frame_class: its class.
            data: the frame.
            can_wait: whether it goes behind everything else, a few at a time.
        """

    def renew_link(self) -> None:
        """Make the link anew at a quiet moment: what it was made with is outdated."""

    def resend(self, first: int, last: int) -> None:
        """Send entries of this range again, both ends included, if they are held."""

    def heard(self) -> None:
        """The fleet signed something for this session, so its hello has arrived."""

    def receipted(
        self, upto: int, *, credit: int, gaps: Sequence[tuple[int, int]]
    ) -> None:
        """A receipt was taken: free the window, send ranges again."""


LaneKey = tuple[bytes, Lane]
"""Key id and lane: what a command's sequence is counted in."""
