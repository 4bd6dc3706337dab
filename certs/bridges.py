"""Further bridges of a fleet: each with a certificate and two signing keys of its own.

::

    bridge/2/tls.crt tls.key     who it is at the broker: ff-bridge-2
    signer/command-2.key         signs commands
    signer/receipt-2.key         signs receipts

Why no key is shared: the sequence numbers of a command key are counted by one bridge
alone, and a bridge that was stolen is taken out by revoking its two keys, while the
others go on (adr/0014).
"""

import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from certs.authority import new_tls_key
from certs.errors import FleetError, RequestError
from certs.files import new_tree, write_new
from certs.fleet import FleetDirectory
from certs.services import BRIDGES_LIMIT, bridge_service
from certs.trust import new_signing_key
from certs.trust_change import add_signer, granted
from certs.trust_files import Progress, TrustFiles
from protocol.codes import Role
from protocol.fleet import TlsPart
from protocol.keyfile import build_key
from protocol.keys import SigningKey

COMMAND_KEY: Final = "signer/command-{}.key"
RECEIPT_KEY: Final = "signer/receipt-{}.key"
"""Names of a bridge's own signing keys, by its number."""


@dataclass(frozen=True, slots=True)
class IssuedBridge:
    """A bridge that may take part once its bundle is published."""

    number: int
    """Its number; 1 is made with the fleet."""
    name: str
    """Its CN, and its client id at the broker."""
    tls_part: str
    """Directory of its TLS identity in the fleet directory."""
    command_part: str
    """Its command key in the fleet directory, mode 0600."""
    receipt_part: str
    """Its receipt key, the same."""
    expires: datetime
    """Until when its certificate counts."""
    progress: Progress
    """The bundle that names its keys: published, or waiting for roots."""


def issue_bridge(
    fleet: FleetDirectory,
    signers: tuple[SigningKey, ...],
    *,
    number: int | None = None,
    now: datetime,
) -> IssuedBridge:
    """Make a bridge's TLS identity and signing keys, and name them to the cars.

    One new trust bundle names both keys. Without enough roots it waits, as every
    change of trust does; until a car has it, that car refuses the bridge's commands.

    Args:
        fleet: whose.
        signers: roots at hand; none is possible.
        number: of the bridge; the first free one without it.
        now: with a time zone.

    Raises:
        RequestError: the number is not allowed, the bundle has no room for two keys, or
            another change of trust waits; nothing was made.
        ExistsError: that bridge, or a key of that number, is there; it is untouched.
        FleetError: the CA cannot be used.
        OSError: a file could not be written; nothing of the bridge is left behind.
    """
    wanted = _free_number(fleet.path) if number is None else number
    if not 1 < wanted <= BRIDGES_LIMIT:
        raise RequestError(
            f"bridge {wanted} is not 2 to {BRIDGES_LIMIT}",
            "bridge 1 was made with the fleet; leave the number out for the next one",
        )
    files = TrustFiles(fleet)
    files.require_idle()
    command, receipt = new_signing_key(), new_signing_key()
    change = add_signer(
        files.current(),
        granted(command.verify_key.raw, Role.RENTAL, now=now),
        granted(receipt.verify_key.raw, Role.RECEIPT, now=now),
        now=now,
    )
    kind, part, name = bridge_service(wanted)
    tls_key = new_tls_key()
    leaf = fleet.issuing_authority().issue(kind, name, tls_key.public_key(), now=now)
    with ExitStack() as undo:
        for key_part, key in ((COMMAND_KEY, command), (RECEIPT_KEY, receipt)):
            path = fleet.path / key_part.format(wanted)
            write_new(path, build_key(key.handle), private=True)
            undo.callback(path.unlink)
        with new_tree(fleet.path / part, private=True) as directory:
            write_new(directory / TlsPart.KEY, build_key(tls_key), private=True)
            write_new(directory / TlsPart.CERTIFICATE, fleet.chain(leaf), private=False)
        undo.callback(shutil.rmtree, fleet.path / part)
        # Last, because a bundle that is published cannot be taken back.
        progress = files.propose(change, signers)
        undo.pop_all()
    return IssuedBridge(
        number=wanted,
        name=name,
        tls_part=part,
        command_part=COMMAND_KEY.format(wanted),
        receipt_part=RECEIPT_KEY.format(wanted),
        expires=leaf.not_valid_after_utc,
        progress=progress,
    )


def _free_number(fleet: Path) -> int:
    """Return the first number of which neither an identity nor a key is there.

    Raises:
        FleetError: all are taken.
    """
    for number in range(2, BRIDGES_LIMIT + 1):
        parts = (f"bridge/{number}", COMMAND_KEY, RECEIPT_KEY)
        if not any((fleet / part.format(number)).exists() for part in parts):
            return number
    raise FleetError(
        f"there are {BRIDGES_LIMIT} bridges in {fleet}", "remove those that are gone"
    )
