"""Actions: what the car wants done, in the imperative.

The shell performs them after the decision is on the disk, each in its own branch; an
action without one does not pass the type checker.
"""

from dataclasses import dataclass

from gateway.core.prompts import Prompt
from protocol.codes import Light
from protocol.rental_codes import Component
from protocol.result import Result


@dataclass(frozen=True, slots=True)
class DriveLocks:
    """Move the bolts of all doors."""

    locked: bool
    """Close them, or open them."""


@dataclass(frozen=True, slots=True)
class AllowEngine:
    """Release or hold the engine's start."""

    released: bool
    """Release it, or hold it."""


@dataclass(frozen=True, slots=True)
class ShowLight:
    """Set the indicator behind the windscreen."""

    light: Light
    """Which light."""
    blinking: bool
    """Whether it blinks, as on refusal (H15)."""


@dataclass(frozen=True, slots=True)
class ShowPrompt:
    """Tell or ask the driver something at the display."""

    prompt: Prompt
    """What."""


@dataclass(frozen=True, slots=True)
class FlashHazards:
    """Let the hazard lights blink."""

    seconds: int
    """1 to 30 (H16)."""


@dataclass(frozen=True, slots=True)
class CheckPin:
    """Compare a PIN with the sealed verifier; the answer comes as `PinChecked`."""

    rental_id: bytes
    """16 bytes."""
    sealed: bytes
    """The reservation's sealed secrets."""
    pin: str
    """As typed."""

    def __repr__(self) -> str:
        return "CheckPin(...)"


@dataclass(frozen=True, slots=True)
class RestartPart:
    """Start one part of the gateway anew (I-33)."""

    component: Component
    """Which."""


@dataclass(frozen=True, slots=True)
class RestartMachine:
    """Start the computer anew (I-33)."""


@dataclass(frozen=True, slots=True)
class SendRefusal:
    """Sign and send a result that does not enter the ledger."""

    result: Result
    """The refusal."""


Action = (
    DriveLocks
    | AllowEngine
    | ShowLight
    | ShowPrompt
    | FlashHazards
    | CheckPin
    | RestartPart
    | RestartMachine
    | SendRefusal
)
