"""What two owners have in common and must not: keys, claims, names."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from certs.authority import common_name
from certs.books import spki_digest
from certs.finding import Finding, Material, Weight
from certs.profiles import Kind
from keystore.errors import KeystoreError
from keystore.signer import open_signing_key
from protocol.identity import key_id
from protocol.keys import VerifyKey

TRUST_ROOT: Final = "trust root"
SIGNER: Final = "signer of the fleet"
_TRUST_USES: Final = frozenset({TRUST_ROOT, SIGNER})


def what_is_shared(material: Material) -> Iterator[Finding]:
    """Return keys and claims that have more than one owner."""
    yield from _keys_of_certificates(material)
    yield from _signer_keys(material)
    yield from _claims(material)


def _keys_of_certificates(material: Material) -> Iterator[Finding]:
    """One public key under two names or for two uses (K1, Device Defender)."""
    owners: dict[bytes, set[tuple[str, str]]] = defaultdict(set)
    for seen in material.certificates:
        owner = (common_name(seen.certificate), seen.kind.value)
        owners[spki_digest(seen.certificate.public_key())].add(owner)
    for issued in material.running:
        owner = (str(issued.vehicle_id), Kind.VEHICLE_TLS.value)
        owners[spki_digest(issued.certificate.public_key())].add(owner)
    for raw, use in _signers(material):
        key = VerifyKey.load(raw)
        owners[spki_digest(key.handle)].add((key.key_id.hex(), use))
    for bound in owners.values():
        names = sorted({name for name, _kind in bound})
        kinds = sorted({kind for _name, kind in bound})
        if {one for _name, one in bound} <= _TRUST_USES:
            continue  # told with the signers' files
        if len(names) > 1:
            yield Finding(
                "key_shared",
                " and ".join(names),
                "have one key, so each can be the other",
                "withdraw both with 'freefloat certs revoke' and enrol them with new "
                "keys; a copied key may be an attack",
            )
        elif len(kinds) > 1:
            yield Finding(
                "key_in_two_roles",
                names[0],
                f"uses one key for {' and '.join(kinds)}",
                "give each role a key of its own",
            )


def _signers(material: Material) -> Iterator[tuple[bytes, str]]:
    """Return the keys of the trust bundle, and what each is for."""
    if material.bundle is not None:
        yield from ((raw, TRUST_ROOT) for raw in material.bundle.roots)
        yield from ((key.public_key, SIGNER) for key in material.bundle.keys)


def _signer_keys(material: Material) -> Iterator[Finding]:
    """One signer for two replicas, or one key that is signer and root."""
    files: dict[bytes, list[str]] = defaultdict(list)
    for pattern in ("signer/*.key", "trust/*.key"):
        for path in sorted(material.fleet.path.glob(pattern)):
            part = str(path.relative_to(material.fleet.path))
            try:
                files[open_signing_key(path).key_id].append(part)
            except KeystoreError as error:
                yield Finding("key_unusable", part, str(error), error.advice)
    for name, paths in files.items():
        if len(paths) > 1:
            yield Finding(
                "signer_shared",
                " and ".join(paths),
                f"hold one key, {name.hex()}: replicas would use each other's "
                "sequences, and one theft takes both",
                f"freefloat certs trust add-signer {material.fleet.path} ...: one key "
                "for each",
            )
    bundle = material.bundle
    roots = {key_id(raw) for raw in bundle.roots} if bundle is not None else set()
    signers = {key.key_id for key in bundle.keys} if bundle is not None else set()
    for name in sorted(roots & signers):
        yield Finding(
            "key_in_two_roles",
            name.hex(),
            "is a trust root and a signer",
            f"freefloat certs trust rotate {material.fleet.path} {name.hex()}",
        )
    for name, paths in files.items():
        if bundle is not None and name not in roots | signers | set(bundle.revoked):
            yield Finding(
                "signer_unknown",
                paths[0],
                f"key {name.hex()} is not in trust bundle {bundle.version}",
                "remove the file, or let the roots add it",
                Weight.NOTE,
            )
        elif bundle is not None and name in bundle.revoked:
            yield Finding(
                "signer_revoked",
                paths[0],
                f"key {name.hex()} is revoked and still here",
                f"wipe it: shred -u {Path(material.fleet.path) / paths[0]}",
            )


def _claims(material: Material) -> Iterator[Finding]:
    owners: dict[str, int] = defaultdict(int)
    for voucher in material.vouchers:
        if voucher.used is None and voucher.expires <= material.now:
            continue
        owners[str(voucher.vehicle_id)] += 1
        if voucher.serial:
            owners[f"serial number {voucher.serial}"] += 1
    for name, count in sorted(owners.items()):
        if count > 1:
            yield Finding(
                "claim_shared",
                name,
                f"has {count} claims that are open or used",
                "find out who holds them; let the open ones end unused",
            )
