"""Trust bundles that follow one another, signed by the fleet's own roots."""

from dataclasses import replace

from bridge.trust import Trust
from certs.fleet import FleetDirectory, root_part
from certs.trust import ROOT_THRESHOLD
from protocol.keyfile import parse_signing_key
from protocol.keys import SigningKey
from protocol.trust import TrustBundle, sign_bundle


def sign(fleet: FleetDirectory, bundle: TrustBundle) -> bytes:
    """Return the bundle, signed by as many roots as it needs."""
    return sign_bundle(bundle, root_keys(fleet))


def root_keys(fleet: FleetDirectory) -> tuple[SigningKey, ...]:
    """Return as many of the fleet's roots as a bundle needs."""
    return tuple(
        parse_signing_key((fleet.path / root_part(n, "key")).read_bytes(), name="root")
        for n in range(1, ROOT_THRESHOLD + 1)
    )


def next_bundle(trust: Trust, **changes: object) -> TrustBundle:
    """Return the newest bundle with a higher version and these changes."""
    values: dict[str, object] = {"version": trust.newest.version + 1, **changes}
    return replace(trust.newest, **values)  # type: ignore[arg-type] # a test's own


def successor(fleet: FleetDirectory, trust: Trust, **changes: object) -> Trust:
    """Return the trust after a bundle that the roots sign."""
    return trust.followed_by(sign(fleet, next_bundle(trust, **changes)))
