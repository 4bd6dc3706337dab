"""Who may call the API and how often, as the settings say."""

from dataclasses import dataclass
from pathlib import Path

from bridge.api.keys import Keys, load_keys
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
    return Callers(
        keys, tokens, Rates(settings.rates, clock_s=clock_s, figures=figures)
    )
