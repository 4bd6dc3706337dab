"""Write the test vectors: ``python -m tools.vectors``, or ``make vectors``.

Ed25519 is deterministic and the keys are published, so the files come out the same byte
for byte on every machine; a test makes them again and compares. The shape follows the
COSE working group's examples: input, what is signed, output, and for a negative one the
mutation and the code that it must cause. Old vectors are kept for ever
(docs/protocol.md, evolution): nothing here deletes a file.
"""

import json
from pathlib import Path
from typing import Any, Final

import click

from protocol.content import Content, parse_content
from protocol.frame import Header, parse_frame
from protocol.identity import key_id
from protocol.keys import SIGNATURE_SIZE
from protocol.rendering import fields_of
from protocol.signing import to_be_signed
from protocol.trust import BUNDLE, SIGNED_BUNDLE, TRUST_CONTEXT, sign_bundle
from tools.published_keys import (
    CAR_A,
    FLEET_ID,
    RENTAL,
    ROOT_KEYS,
    SEALED,
    SEALING_SEED,
    SECRETS,
    TestKey,
    sealing_key,
)
from tools.vector_acceptance import Arrival, arrivals
from tools.vector_cases import Case
from tools.vector_catalogue_faults import catalogue_faults
from tools.vector_control_faults import control_faults
from tools.vector_controls import messages
from tools.vector_faults import Fault, Stage, faults
from tools.vector_trust import TRUST_BUNDLE, Succession, successions

DIRECTORY: Final = Path(__file__).parent.parent / "tests" / "vectors" / "v1"
"""Where the vectors of protocol version 1 lie."""


def generate() -> dict[str, str]:
    """Return every vector: file name and text."""
    documents: dict[str, dict[str, Any]] = {}
    for case in messages():
        documents[case.name] = _message(case)
    for fault in (*faults(), *catalogue_faults(), *control_faults()):
        documents[f"bad_{fault.name.removeprefix('bad_')}"] = _fault(fault)
    for succession in successions():
        name = f"succession_{succession.name}"
        documents[f"bad_{name}" if succession.code else name] = _succession(succession)
    for arrival in arrivals():
        name = f"arrival_{arrival.name}"
        documents[f"bad_{name}" if arrival.code else name] = _arrival(arrival)
    documents["trust_bundle"] = _trust_bundle()
    documents["sealed_secrets"] = _sealed_secrets()
    return {
        f"{name}.json": json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        for name, document in documents.items()
    }


def header_fields(header: Header) -> dict[str, Any]:
    """Return a header as plain data, the vehicle as the 32 hex digits on the wire."""
    return fields_of(header) | {"vehicle_id": header.vehicle_id.raw.hex()}


def content_fields(content: Content) -> dict[str, Any]:
    """Return link and body of a payload as plain data."""
    link = None if content.link is None else fields_of(content.link)
    return {"link": link, "body": fields_of(content.body)}


def _key(key: TestKey) -> dict[str, str]:
    public = key.key.verify_key.raw
    return {
        "name": key.name,
        "suite": key.suite.name,
        "seed": key.seed.hex(),
        "public": public.hex(),
        "key_id": key_id(public).hex(),
    }


def _signed_parts(frame: bytes, fleet_id: bytes) -> dict[str, str]:
    parsed = parse_frame(frame)
    tbs = to_be_signed(parsed.header.frame_class, fleet_id, frame[:-SIGNATURE_SIZE])
    return {
        "tbs_hex": tbs.hex(),
        "signature": parsed.signature.hex(),
        "frame": frame.hex(),
    }


def _message(case: Case) -> dict[str, Any]:
    frame = case.frame
    parsed = parse_frame(frame)
    return {
        "title": case.title,
        "why": case.why,
        "kind": "frame",
        "key": _key(case.key),
        "fleet_id": FLEET_ID.hex(),
        "fields": {
            "header": header_fields(parsed.header),
            **content_fields(parse_content(parsed)),
        },
        **_signed_parts(frame, FLEET_ID),
        "expected": {"result": "accept", "size": len(frame)},
    }


def _fault(fault: Fault) -> dict[str, Any]:
    document = {
        "title": f"refused: {fault.code.name}",
        "why": fault.why,
        "kind": "frame",
        "mutation": fault.mutation,
        "key": _key(fault.key),
        "fleet_id": fault.fleet_id.hex(),
    }
    if fault.stage is Stage.PARSE:
        document["frame"] = fault.frame.hex()
    else:
        document |= _signed_parts(fault.frame, fault.fleet_id)
    document["expected"] = {
        "result": "refuse",
        "stage": fault.stage.value,
        "code": fault.code.name,
    }
    return document


def _arrival(arrival: Arrival) -> dict[str, Any]:
    receiver = arrival.receiver
    expected: dict[str, Any] = {"result": "accept"}
    if arrival.code is not None:
        # Whatever fails before its signature holds is not answered (FF-AUTH-02).
        answer = None if arrival.code.local_only else "signed"
        expected = {"result": "refuse", "code": arrival.code.name, "answer": answer}
        if answer:
            expected["executed"] = "MAYBE" if arrival.is_executed_maybe else "NO"
    return {
        "title": "a frame on the command topic",
        "why": arrival.why,
        "kind": "arrival",
        "key": _key(arrival.key),
        "fleet_id": FLEET_ID.hex(),
        "receiver": {
            "vehicle_id": CAR_A.raw.hex(),
            "group": receiver.group,
            "session_id": receiver.session_id.hex(),
            "boot_ms": receiver.boot_ms,
            "known_ms": receiver.known_ms,
            "bundle": BUNDLE.build(receiver.bundle).hex(),
            "last_seqs": [
                {"key_id": key_id.hex(), "lane": lane, "seq": seq}
                for key_id, lane, seq in receiver.last_seqs
            ],
            "journal": [
                {"msg_id": message.hex(), "request_hash": request.hex()}
                for message, request in receiver.journal
            ],
            "retained": receiver.retained,
        },
        "frame": arrival.frame.hex(),
        "expected": expected,
    }


def _trust_bundle() -> dict[str, Any]:
    signers = ROOT_KEYS[:2]
    data = sign_bundle(TRUST_BUNDLE, tuple(root.key for root in signers))
    signed = SIGNED_BUNDLE.parse(data)
    return {
        "title": "trust bundle",
        "why": "two of three roots sign; each signature covers context and body",
        "kind": "bundle",
        "roots": [_key(root) for root in ROOT_KEYS],
        "threshold": 2,
        "fleet_id": FLEET_ID.hex(),
        "fields": fields_of(TRUST_BUNDLE),
        "body": BUNDLE.build(TRUST_BUNDLE).hex(),
        "tbs_hex": (TRUST_CONTEXT + signed.body).hex(),
        "signatures": [fields_of(signature) for signature in signed.signatures],
        "bundle": data.hex(),
        "expected": {"result": "accept", "size": len(data)},
    }


def _succession(succession: Succession) -> dict[str, Any]:
    expected: dict[str, Any]
    if succession.code is None:
        expected = {"result": "accept", "version": succession.bundle.version}
    else:
        expected = {"result": "refuse", "code": succession.code.name}
    return {
        "title": "trust bundle in the place of another",
        "why": succession.why,
        "kind": "succession",
        "fleet_id": FLEET_ID.hex(),
        "current": BUNDLE.build(TRUST_BUNDLE).hex(),
        "signers": [_key(signer) for signer in succession.signers],
        "fields": fields_of(succession.bundle),
        "bundle": succession.data.hex(),
        "expected": expected,
    }


def _sealed_secrets() -> dict[str, Any]:
    return {
        "title": "sealed secrets",
        "why": "HPKE is randomised: made once, and opened by every implementation",
        "kind": "sealed",
        "suite": "HPKE base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-128-GCM",
        "private_key": SEALING_SEED.hex(),
        "public_key": sealing_key().public_key().public_bytes_raw().hex(),
        "fleet_id": FLEET_ID.hex(),
        "vehicle_id": CAR_A.raw.hex(),
        "rental_id": RENTAL.hex(),
        "sealed": SEALED.hex(),
        # Published like the keys: real ones are never printed.
        "fields": fields_of(SECRETS) | {"pin": "2580", "fuel_card_pin": "9034"},
        "expected": {"result": "accept", "size": len(SEALED)},
    }


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; fail if a file differs.")
def vectors(*, check: bool) -> None:
    """Write the test vectors of the protocol to tests/vectors/v1."""
    made = generate()
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    stale = [
        name
        for name, text in made.items()
        if not (DIRECTORY / name).exists()
        or (DIRECTORY / name).read_text(encoding="utf-8") != text
    ]
    if check and stale:
        raise click.ClickException(
            f"{len(stale)} vectors differ, {stale[0]} first; run 'make vectors' and "
            "read the difference: version 1 must not change"
        )
    for name in stale:
        (DIRECTORY / name).write_text(made[name], encoding="utf-8")
    click.echo(f"{len(made)} vectors, {len(stale)} written")


if __name__ == "__main__":
    vectors()
