"""Clients that must get nothing, each for one reason (K4)."""

from collections.abc import Callable
from typing import Final

from tests.broker.pki import DAY, HOUR, Pki
from transport.tls import TlsIdentity

Maker = Callable[[Pki, str], TlsIdentity | None]
"""Makes what a client shows, for a vehicle's name."""


def _foreign(pki: Pki, name: str) -> TlsIdentity:
    # With the very names of our root and issuing CA.
    return Pki(pki.directory / f"k4-foreign-{name}", now=pki.now).issue(name)


def _self_signed(pki: Pki, name: str) -> TlsIdentity:
    return pki.issue(name, file=f"k4-self-{name}", self_signed=True)


TABLE: Final[dict[str, Maker]] = {
    "none": lambda _pki, _name: None,
    "foreign CA": _foreign,
    "self-signed": _self_signed,
    "expired": lambda pki, name: pki.issue(
        name, file=f"k4-expired-{name}", starts=-2 * DAY, ends=-HOUR
    ),
    "not yet valid": lambda pki, name: pki.issue(
        name, file=f"k4-early-{name}", starts=HOUR, ends=DAY
    ),
    "wrong EKU": lambda pki, name: pki.issue(
        name, file=f"k4-purpose-{name}", purpose="1.3.6.1.5.5.7.3.36"
    ),
    "server certificate as client": lambda pki, name: pki.issue(
        name, file=f"k4-server-{name}", server=True
    ),
}
"""All but the revoked, which are refused by another rule at each server."""
