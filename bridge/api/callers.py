"""Who may call the API and how often, as the settings say."""

from dataclasses import dataclass
from pathlib import Path

from bridge.api.at_once import AtOnce
from bridge.api.keys import Keys, Role, load_keys
from bridge.api.rates import Rates
from bridge.api.tokens import TokenCheck
from bridge.figures import Figures
from bridge.ports import WallClock
from bridge.settings import Settings


@dataclass(frozen=True, slots=True)
class Callers:
    """What the gate holds a call against."""

    keys: Keys
    """API keys, and whose they are."""
    tokens: TokenCheck | None
    """Checks bearer tokens; None without a provider."""
    rates: Rates
    """How often each may call."""
    at_once: AtOnce
    """How many requests of each may be under way."""
    hint: str
    """What is amiss with who may call; empty if nothing is."""


def open_callers(
    settings: Settings, *, now: WallClock, boot_ms: WallClock, figures: Figures
) -> Callers:
    """Read who may call; blocks.

    Raises:
        SettingsError: the key file cannot be used.
    """

    def clock_s() -> float:
        return boot_ms() / 1000

    keys = load_keys(Path(settings.api.keys_file)) if settings.api.keys_file else {}
    tokens = None
    if settings.oidc is not None:
        tokens = TokenCheck(settings.oidc, now=now, clock_s=clock_s)
    rates = Rates(settings.rates, clock_s=clock_s, figures=figures)
    at_once = AtOnce(settings.rates.at_once, figures=figures)
    return Callers(keys, tokens, rates, at_once, _hint_of(settings, keys))


def _hint_of(settings: Settings, keys: Keys) -> str:
    """Say it before somebody needs an approver at night."""
    may = [p for p in keys.values() if p.role.includes(Role.APPROVER)]
    if not settings.approvals.required or settings.oidc is not None or may:
        return ""
    return (
        "no key has the role approver, so orders that need a second person expire; "
        "give somebody NAME:approver:KEY, or set approvals.required = false"
    )
