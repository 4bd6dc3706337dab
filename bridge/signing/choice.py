"""Who signs a bridge's commands: the bridge itself, or a signer's process."""

from collections.abc import Callable
from typing import Final

from bridge.audit import AuditEntry
from bridge.errors import StoreError
from bridge.fleet_files import Material
from bridge.lease import Lease
from bridge.ports import RandomBytes, WallClock
from bridge.settings import Settings
from bridge.signer import FrameSigner, OwnSeal
from bridge.signing.client import SocketSeal
from bridge.signing.journal import Head
from bridge.store import Store
from bridge.wire import LOG
from protocol.keys import SigningKey, VerifyKey
from transport.tls import TlsIdentity, common_name

WHO: Final = "signer"
"""Who notes the head of a signer's log, in the bridge's audit trail."""

AnySigner = FrameSigner[SigningKey] | FrameSigner[VerifyKey]


def choose_signer(
    settings: Settings,
    material: Material,
    store: Store,
    *,
    fleet_id: bytes,
    holder: str,
    now: WallClock,
    random: Callable[[], float],
    random_bytes: RandomBytes,
) -> tuple[AnySigner, SocketSeal | None]:
    """Return what signs, and the connection to a signer that must be run, if any."""
    if settings.signer is None:
        own = FrameSigner(
            OwnSeal(lambda: material.command_keys.keys, fleet_id=fleet_id),
            lambda: material.trust.current,
            sequences=store,
            random_bytes=random_bytes,
        )
        return own, None
    identity = TlsIdentity(settings.certificate, settings.key, settings.trust_anchors)

    async def note(head: Head) -> None:
        what = f"{head.entry}:{head.digest.hex()}"
        try:
            await store.append_audit(AuditEntry(now(), WHO, "", what, "connected"))
        except StoreError as error:
            LOG.warning("= signer: the head of its log is not noted: %s", error)

    seal = SocketSeal(
        settings.signer.socket,
        fleet_id=fleet_id,
        # The replica's own name: it stays when keys are replaced, and whoever takes
        # this replica's place takes its signer too.
        lease=Lease(store, f"signer {common_name(identity)}", holder=holder),
        on_head=note,
        random=random,
    )
    remote = FrameSigner(
        seal,
        lambda: material.trust.current,
        sequences=store,
        random_bytes=random_bytes,
    )
    return remote, seal
