"""How the way to a PostgreSQL is sealed: verified TLS, or this machine alone.

libpq's own default (`sslmode=prefer`) takes any certificate, and no TLS at all if the
server, or whoever answers in its place, says so; `require` takes any certificate too.
Neither keeps password, positions and their keys from somebody on the way (K3, K4).

Rule 1: what goes to another machine is verified, chain and name (`verify-full`), unless
the operator wrote `store.without_tls`. Neither environment nor address weakens that.
Rule 2: on this machine (loopback, a Unix socket) TLS is not asked for, and verified if
`store.trust_anchors` is there.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import URL

from bridge.errors import SettingsError
from bridge.foreign_tls import foreign_client_context
from bridge.settings import is_loopback

PLACES: Final = frozenset(
    {"host", "port", "target_session_attrs", "load_balance_hosts"}
)
"""What may stand behind the question mark of an address: several servers, and which of
them. Whatever else libpq knows has a setting here, or would undo what is set here."""


@dataclass(frozen=True, slots=True)
class PostgresTls:
    """What the settings say of it; every path is one of PEM."""

    trust_anchors: str | None = None
    """Whom we trust as server."""
    certificate: str | None = None
    """Who we are, if the server asks by certificate."""
    key: str | None = None
    """Its key; mode 0600, or libpq refuses it."""
    without_tls: bool = False
    """Speak with another machine in the clear."""


def tls_arguments(url: URL, hosts: Collection[str], tls: PostgresTls) -> dict[str, str]:
    """Return libpq's parameters for `url`, which leads to `hosts`.

    Raises:
        SettingsError: the way would not be sealed and nobody said that it may, the
            settings contradict one another, or `trust_anchors` cannot be used.
    """
    strange = sorted(set(url.query) - PLACES)
    if strange:
        raise SettingsError(
            f"store.url has the parameter {strange[0]}",
            advice="behind its question mark stand "
            f"{', '.join(sorted(PLACES))} and nothing else; TLS is set by "
            "store.trust_anchors, store.certificate and store.key",
        )
    if "" in hosts:
        raise SettingsError(
            "store.url names no host",
            advice="a Unix socket is written like "
            "postgresql://user@/database?host=/var/run/postgresql",
        )
    if tls.without_tls:
        if tls.trust_anchors or tls.certificate or tls.key:
            raise SettingsError(
                "store.without_tls is set, and trust anchors or a certificate too",
                advice="leave store.without_tls out",
            )
        return {"sslmode": "disable"}
    if (tls.certificate is None) != (tls.key is None):
        raise SettingsError(
            "store.certificate and store.key go together, and one is missing",
            advice="set both, or leave both out and use store.password_file",
        )
    if tls.trust_anchors is None:
        if tls.certificate is not None:
            raise SettingsError(
                "store.certificate is set and store.trust_anchors is not",
                advice="name the authority of the server's certificate too",
            )
        far = next((host for host in hosts if not _is_here(host)), None)
        if far is not None:
            raise SettingsError(
                f"store.url leads to another machine ({far}), and nothing says whose "
                "certificate to trust there",
                advice="set store.trust_anchors to the PEM file of its authority (for "
                "a public one Debian's is /etc/ssl/certs/ca-certificates.crt); or "
                "store.without_tls = true, if nobody else is on the way",
            )
        return {}
    _require_anchors(tls.trust_anchors)
    own = {} if tls.certificate is None else {"sslcert": tls.certificate}
    if tls.key is not None:
        own["sslkey"] = tls.key
    return {
        "sslmode": "verify-full",
        "sslrootcert": tls.trust_anchors,
        # Else a list in the home directory of whoever runs the bridge would count.
        "sslcrl": "",
        # libpq lets nobody choose the suites of TLS 1.2, and has weak ones there.
        "ssl_min_protocol_version": "TLSv1.3",
        # Encryption by Kerberos goes before TLS, and no certificate is looked at then.
        "gssencmode": "disable",
        **own,
    }


def _is_here(host: str) -> bool:
    return host.startswith(("/", "@")) or is_loopback(host)


def _require_anchors(path: str) -> None:
    try:
        context = foreign_client_context(anchors=path)
    except OSError as error:  # ssl.SSLError is one
        raise SettingsError(
            f"store.trust_anchors {path} cannot be used: {error.strerror or error}",
            advice="name a PEM file of the authority that issued the server's "
            "certificate, readable to this user",
        ) from error
    if not context.get_ca_certs():
        raise SettingsError(
            f"store.trust_anchors {Path(path).name} has no certificate of an authority",
            advice="name the authority's certificate, not the server's own",
        )
