"""``freefloat certs trust``: who may command the fleet's cars, and changing it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, TypeVar

import click

from certs.errors import ExistsError, FleetError
from certs.files import write_new
from certs.fleet import FleetDirectory, bundle_path, root_part
from certs.trust import new_signing_key
from certs.trust_change import (
    LIFETIME_LIMIT,
    OVERLAP,
    add_signer,
    change_roots,
    extend_bundle,
    granted,
    revoke_key,
    rotate_signer,
)
from certs.trust_files import (
    REVOKE_KEY,
    Progress,
    TrustFiles,
    describe,
    read_bundle_file,
    sign_proposal,
)
from keystore.private_key import open_private_key
from keystore.signer import open_signing_key, signing_key
from protocol.codes import Role
from protocol.identity import KEY_ID_SIZE
from protocol.keyfile import build_key
from protocol.keys import SigningKey
from protocol.trust import EVERY_GROUP, TrustBundle
from tools.certs_vehicles import fleet_argument
from tools.clock import read_clock
from tools.console import (
    examples,
    facts,
    heading,
    json_option,
    print_json,
    step,
    table,
    warning,
)
from tools.errors import OperatorError

C = TypeVar("C", bound=Callable[..., object])

ROLES: Final = {
    "command": (Role.RENTAL, "signer/command-{}.key"),
    "operations": (Role.OPERATIONS, "signer/operations-{}.key"),
    "service": (Role.SERVICE, "signer/service-{}.key"),
    "receipt": (Role.RECEIPT, "signer/receipt-{}.key"),
    "revoke": (Role.REVOKE, REVOKE_KEY),
}
"""What a signer is for, by the name of its key file."""

ROOTS_SOUGHT: Final = 16
"""trust/root-<n>.key is looked for up to this number."""


def root_keys_option(command: C) -> C:
    """Add ``--root-key`` to a command that makes a change."""
    return click.option(
        "--root-key",
        "root_keys",
        multiple=True,
        metavar="FILE|URI",
        help="A root that signs now; may be repeated. Those in trust/ sign by "
        "themselves. Without enough of them the change waits for 'trust merge'.",
    )(command)


@click.group(
    epilog=examples(
        "freefloat certs trust show fleet",
        "freefloat certs trust add-signer fleet command     # for another replica",
        "freefloat certs trust rotate fleet 3f9c0a5e11d2b748",
        "freefloat certs trust revoke fleet 3f9c0a5e11d2b748",
        "freefloat certs trust sign change.bin --key root-2.key   # where the root is",
    )
)
def trust() -> None:
    """Show and change which keys may command the cars.

    The trust bundle names them; roots that lie offline sign it. A change is signed by
    the roots at hand, or exported, signed where each root is, and merged. Bridges send
    the newest bundle to every car.
    """


@trust.command(
    epilog=examples(
        "freefloat certs trust show fleet",
        "freefloat certs trust show fleet --json | jq '.keys[].key_id'",
    )
)
@fleet_argument
@json_option
def show(directory: Path, as_json: bool) -> None:
    """Show the newest trust bundle, and the change that waits, if one does."""
    fleet = FleetDirectory.open(directory)
    files = TrustFiles(fleet)
    bundle = files.current()
    if as_json:
        print_json(_document(bundle) | {"waiting": files.proposal_path.exists()})
        return
    _show(bundle)
    if files.proposal_path.exists():
        warning(f"a change waits for signatures: {files.proposal_path}")


@trust.command(
    "add-signer",
    epilog=examples(
        "freefloat certs trust add-signer fleet command",
        "freefloat certs trust add-signer fleet service --group 7 --days 30",
        "freefloat certs trust add-signer fleet receipt --key 'pkcs11:token=ff;"
        "object=receipt-2?module-path=/usr/lib/softhsm/libsofthsm2.so"
        "&pin-source=/etc/freefloat/pin'",
        "freefloat certs trust add-signer fleet revoke    # makes trust/revoke.key",
    ),
)
@fleet_argument
@click.argument("role", type=click.Choice(list(ROLES)))
@click.option(
    "--key",
    "reference",
    metavar="FILE|URI",
    default=None,
    help="An existing key; otherwise a new one is made beside the others.",
)
@click.option(
    "--group",
    type=click.IntRange(0, 0xFFFF),
    default=EVERY_GROUP,
    help="Speak to vehicles of this group only.  [default: all]",
)
@click.option(
    "--days",
    type=click.IntRange(1, LIFETIME_LIMIT.days),
    default=397,
    show_default=True,
    help="How long the key is good.",
)
@root_keys_option
def add_signer_command(
    directory: Path,
    role: str,
    reference: str | None,
    group: int,
    days: int,
    root_keys: tuple[str, ...],
) -> None:
    """Add a signer: one key for each role and for each replica of a bridge."""
    fleet, now = FleetDirectory.open(directory), read_clock()
    files = TrustFiles(fleet)
    key = _signer(fleet, role, reference)
    grant = granted(
        key.verify_key.raw,
        ROLES[role][0],
        now=now,
        group=group,
        lifetime=timedelta(days=days),
    )
    change = add_signer(files.current(), grant, now=now)
    _told(fleet, files.propose(change, roots_at_hand(fleet, root_keys)))


@trust.command(
    epilog=examples(
        "freefloat certs trust rotate fleet 3f9c0a5e11d2b748",
        "freefloat certs trust rotate fleet 3f9c0a5e11d2b748 --overlap-days 2",
    )
)
@fleet_argument
@click.argument("old", metavar="KEY-ID")
@click.option("--key", "reference", metavar="FILE|URI", default=None, help="The new.")
@click.option(
    "--overlap-days",
    type=click.IntRange(0, 90),
    default=OVERLAP.days,
    show_default=True,
    help="How long the old key stays good beside the new one.",
)
@root_keys_option
def rotate(
    directory: Path,
    old: str,
    reference: str | None,
    overlap_days: int,
    root_keys: tuple[str, ...],
) -> None:
    """Put a new signer beside an old one, which ends after the overlap.

    Give the new key to the bridge within the overlap: [fleet] command_key or
    receipt_key of its settings.
    """
    fleet, now = FleetDirectory.open(directory), read_clock()
    files = TrustFiles(fleet)
    current, wanted = files.current(), _key_id(old)
    role = next(
        (
            name
            for name, (kind, _file) in ROLES.items()
            if any(k.key_id == wanted and k.role is kind for k in current.keys)
        ),
        "command",
    )
    key = _signer(fleet, role, reference)
    change = rotate_signer(
        current,
        wanted,
        key.verify_key.raw,
        now=now,
        overlap=timedelta(days=overlap_days),
    )
    _told(fleet, files.propose(change, roots_at_hand(fleet, root_keys)))


@trust.command(epilog=examples("freefloat certs trust revoke fleet 3f9c0a5e11d2b748"))
@fleet_argument
@click.argument("wanted", metavar="KEY-ID")
@click.option(
    "--revoke-key",
    "revoker",
    metavar="FILE|URI",
    default=None,
    help="The online revoke key.  [default: trust/revoke.key, if it is there]",
)
@root_keys_option
def revoke(
    directory: Path, wanted: str, revoker: str | None, root_keys: tuple[str, ...]
) -> None:
    """Take a signer out at once: every car refuses it when it has the next bundle.

    The online revoke key is enough for that, as the bundle only shrinks; without one
    the roots must sign.
    """
    fleet, now = FleetDirectory.open(directory), read_clock()
    files = TrustFiles(fleet)
    change = revoke_key(files.current(), _key_id(wanted), now=now)
    kept = directory / REVOKE_KEY
    signers: tuple[SigningKey, ...]
    if root_keys:
        signers = roots_at_hand(fleet, root_keys)
    elif revoker is not None or kept.exists():
        signers = (open_signing_key(revoker or kept),)
    else:
        signers = roots_at_hand(fleet, root_keys)
    _told(fleet, files.propose(change, signers))


@trust.command(epilog=examples("freefloat certs trust extend fleet --days 397"))
@fleet_argument
@click.option(
    "--days",
    type=click.IntRange(1, LIFETIME_LIMIT.days),
    default=397,
    show_default=True,
    help="From now to the bundle's new end.",
)
@root_keys_option
def extend(directory: Path, days: int, root_keys: tuple[str, ...]) -> None:
    """Give the bundle a new end; each signer keeps its own."""
    fleet, now = FleetDirectory.open(directory), read_clock()
    files = TrustFiles(fleet)
    change = extend_bundle(files.current(), now=now, lifetime=timedelta(days=days))
    _told(fleet, files.propose(change, roots_at_hand(fleet, root_keys)))


@trust.command(
    epilog=examples(
        "freefloat certs trust roots fleet --root a.key --root b.key --root c.key "
        "--threshold 2",
    )
)
@fleet_argument
@click.option(
    "--root",
    "references",
    multiple=True,
    required=True,
    metavar="FILE|URI",
    help="A new root's key, or its public half in hexadecimal. All of them: what is "
    "not named here is no root any more. Keys that are given sign at once.",
)
@click.option("--threshold", type=click.IntRange(1, 8), default=2, show_default=True)
@root_keys_option
def roots(
    directory: Path,
    references: tuple[str, ...],
    threshold: int,
    root_keys: tuple[str, ...],
) -> None:
    """Change the roots: signed by enough of the old and enough of the new ones."""
    fleet, now = FleetDirectory.open(directory), read_clock()
    files = TrustFiles(fleet)
    raws, own = [], []
    for reference in references:
        try:
            raws.append(bytes.fromhex(reference))
        except ValueError:
            own.append(open_signing_key(reference))
            raws.append(own[-1].verify_key.raw)
    change = change_roots(files.current(), raws, threshold=threshold, now=now)
    _told(fleet, files.propose(change, (*roots_at_hand(fleet, root_keys), *own)))


@trust.command(
    epilog=examples(
        "freefloat certs trust export fleet change.bin      # at the office",
        "freefloat certs trust sign change.bin --key root-2.key     # where root 2 is",
        "freefloat certs trust merge fleet change.bin       # at the office again",
    )
)
@fleet_argument
@click.argument("target", type=click.Path(path_type=Path))
def export(directory: Path, target: Path) -> None:
    """Write the change that waits into a file, to be signed on other machines."""
    files = TrustFiles(FleetDirectory.open(directory))
    write_new(target, files.waiting(), private=False)
    step(f"{target} is to be signed: freefloat certs trust sign {target} --key ...")


@trust.command(
    epilog=examples(
        "freefloat certs trust sign change.bin --key /media/safe/root-2.key",
        "freefloat certs trust sign change.bin --yes --key 'pkcs11:token=root;object=2"
        "?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=/media/pin'",
    )
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--key", "reference", metavar="FILE|URI", required=True, help="The root.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def sign(file: Path, reference: str, yes: bool) -> None:
    """Show what a change says, and add one root's signature to its file.

    Needs the file and the key and no fleet directory, so it works on a machine without
    a network.
    """
    data = read_bundle_file(file)
    _show(describe(data))
    key = open_signing_key(reference)
    if not yes:
        click.confirm(f"Sign this with {key.key_id.hex()}?", abort=True)
    file.write_bytes(sign_proposal(data, key))
    step(f"signed by {key.key_id.hex()}; carry {file} back to the office")


@trust.command(epilog=examples("freefloat certs trust merge fleet change.bin"))
@fleet_argument
@click.argument("signed", nargs=-1, required=True, type=click.Path(path_type=Path))
def merge(directory: Path, signed: tuple[Path, ...]) -> None:
    """Take signatures into the change that waits, and publish it if they suffice."""
    fleet = FleetDirectory.open(directory)
    _told(fleet, TrustFiles(fleet).take(*map(read_bundle_file, signed)))


@trust.command(epilog=examples("freefloat certs trust discard fleet"))
@fleet_argument
def discard(directory: Path) -> None:
    """Drop the change that waits."""
    TrustFiles(FleetDirectory.open(directory)).discard()
    step("the change is dropped; the present bundle stays")


def _told(fleet: FleetDirectory, progress: Progress) -> None:
    version = progress.bundle.version
    if progress.missing:
        heading(f"Bundle {version} waits for signatures")
        click.echo(f"  missing: {progress.missing}")
        click.echo(f"  freefloat certs trust export {fleet.path} change.bin")
        return
    step(f"bundle {version} is published: {bundle_path(fleet.path, version)}")
    click.echo("  Copy it into trust/ of every bridge; each sends it to the cars.")


def _signer(fleet: FleetDirectory, role: str, reference: str | None) -> SigningKey:
    """Open the key that is named, or make a new one beside the others of its role."""
    if reference is not None:
        return signing_key(open_private_key(reference))
    pattern = ROLES[role][1]
    key = new_signing_key()
    for number in range(1, 1_000):
        try:
            path = fleet.path / pattern.format(number)
            write_new(path, build_key(key.handle), private=True)
        except ExistsError:
            if "{}" not in pattern:
                raise
            continue
        step(f"new key {key.key_id.hex()}: {path}")
        return key
    raise FleetError("there are 999 keys of this role", "remove those that have ended")


def roots_at_hand(
    fleet: FleetDirectory, references: tuple[str, ...]
) -> tuple[SigningKey, ...]:
    """Return the roots that are named, and else those that lie in the directory."""
    found: list[str | Path] = list(references)
    if not found:
        paths = (fleet.path / root_part(n, "key") for n in range(1, ROOTS_SOUGHT + 1))
        found = [path for path in paths if path.exists()]
    return tuple(open_signing_key(one) for one in found)


def _key_id(text: str) -> bytes:
    try:
        wanted = bytes.fromhex(text)
    except ValueError:
        wanted = b""
    if len(wanted) != KEY_ID_SIZE:
        raise OperatorError(
            f"{text[:40]!r} is no key id of {2 * KEY_ID_SIZE} hexadecimal digits",
            "list them with 'freefloat certs trust show'",
        )
    return wanted


def _show(bundle: TrustBundle) -> None:
    heading(f"Trust bundle {bundle.version} of fleet {bundle.fleet_id.hex()}")
    roots_ = bundle.trust_roots
    facts(
        {
            "issued": _date(bundle.issued_ms),
            "ends": _date(bundle.expires_ms),
            "roots": f"{bundle.threshold} of "
            + ", ".join(key.key_id.hex() for key in roots_.keys),
            "suites": ", ".join(suite.name for suite in bundle.suites),
            "revoked": ", ".join(one.hex() for one in bundle.revoked) or "none",
        }
    )
    table(
        ("key id", "role", "group", "from", "until", "opcodes"),
        [
            (
                key.key_id.hex(),
                key.role.name.lower(),
                str(key.group) if key.group != EVERY_GROUP else "all",
                _date(key.not_before_ms),
                _date(key.not_after_ms),
                str(len(key.opcodes)),
            )
            for key in bundle.keys
        ],
    )


def _document(bundle: TrustBundle) -> dict[str, object]:
    return {
        "version": bundle.version,
        "fleet_id": bundle.fleet_id.hex(),
        "issued": _moment(bundle.issued_ms).isoformat(),
        "expires": _moment(bundle.expires_ms).isoformat(),
        "threshold": bundle.threshold,
        "roots": [key.key_id.hex() for key in bundle.trust_roots.keys],
        "suites": [suite.name for suite in bundle.suites],
        "keys": [
            {
                "key_id": key.key_id.hex(),
                "role": key.role.name,
                "group": key.group,
                "not_before": _moment(key.not_before_ms).isoformat(),
                "not_after": _moment(key.not_after_ms).isoformat(),
                "opcodes": [f"0x{opcode:04x}" for opcode in key.opcodes],
                "lanes": [lane.name for lane in key.lanes],
            }
            for key in bundle.keys
        ],
        "revoked": [one.hex() for one in bundle.revoked],
    }


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, tz=UTC)


def _date(ms: int) -> str:
    return f"{_moment(ms):%Y-%m-%d}"
