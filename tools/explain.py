"""``freefloat explain``: why a command ended as it did, hop by hop, and what proves it.

Checking needs no network and no bridge, only the document and the fleet's anchors; what
is signed is checked by them and by nothing that the bridge says.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from protocol.anchors import EvidenceAnchors
from tools.api_options import api_options
from tools.bridge_api import BridgeApi
from tools.console import examples, heading, json_option, print_json, step
from tools.errors import EXIT_FAILED, OperatorError
from tools.evidence import anchors_of, read_anchors
from tools.explanation_check import Finding, MalformedError, check

FILE_LIMIT = 64 * 1024 * 1024
"""Bytes of an exported explanation; a run of 4,096 entries takes 6 MB."""


@click.command(
    epilog=examples(
        "freefloat explain 000102030405060708090a0b0c0d0e0f",
        "freefloat explain 000102030405060708090a0b0c0d0e0f -o why.json",
        "freefloat explain --file why.json --anchors anchors.json   # offline",
    )
)
@click.argument("command_id", required=False)
@click.option(
    "--file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="An explanation that was exported; no bridge is asked then.",
)
@api_options
@click.option(
    "--anchors",
    "anchors_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The fleet's anchors: what is signed is checked by them.",
)
@click.option(
    "--fleet",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="A fleet directory in place of its anchors.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Keep the explanation, proofs included, for checking it elsewhere.",
)
@json_option
@click.pass_context
def explain(
    ctx: click.Context,
    command_id: str | None,
    file: Path | None,
    api: str,
    api_key_file: Path | None,
    anchors_file: Path | None,
    fleet: Path | None,
    output: Path | None,
    *,
    as_json: bool,
) -> None:
    """Explain a command: who asked, what was signed, sent, answered and confirmed.

    With --anchors or --fleet every signature in it is checked; ends with 1 if one of
    them, or what belongs together, does not hold.
    """
    if (command_id is None) is (file is None):
        raise OperatorError(
            "say which command: its id, or --file with an explanation",
            "the id stands in the answer to the order",
        )
    if file is not None:
        document = _read(file)
    else:
        path = f"/v1/commands/{command_id}/explain"
        document = BridgeApi.at(api, api_key_file).get(path)
    if output is not None:
        output.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    known = _anchors(anchors_file, fleet)
    try:
        findings = None if known is None else check(document, known)
        if as_json:
            print_json({**document, "checks": _told(findings)})
        else:
            _show(document, findings)
    except (MalformedError, KeyError, TypeError) as error:
        raise OperatorError(
            f"this is no explanation: {error}", "export it anew with -o FILE"
        ) from error
    if output is not None and not as_json:
        step(f"wrote {output}")
    if any(finding.fault for finding in findings or ()):
        ctx.exit(EXIT_FAILED)


def _anchors(anchors_file: Path | None, fleet: Path | None) -> EvidenceAnchors | None:
    if fleet is not None:
        return anchors_of(fleet)
    return None if anchors_file is None else read_anchors(anchors_file)


def _read(path: Path) -> Any:  # noqa: ANN401 - JSON
    with path.open("rb") as stream:
        data = stream.read(FILE_LIMIT)
    try:
        return json.loads(data)
    except ValueError:
        raise OperatorError(
            f"{path} is no JSON", "export it anew with -o FILE"
        ) from None


def _told(findings: list[Finding] | None) -> list[dict[str, object]] | None:
    if findings is None:
        return None
    return [
        {"what": each.what, "holds": not each.fault, "fault": each.fault or None}
        for each in findings
    ]


def _show(document: Mapping[str, Any], findings: list[Finding] | None) -> None:
    for line in _lines(document, ""):
        click.echo(line)
    if findings is None:
        click.echo("\nnothing was checked: name the fleet's --anchors")
        return
    heading("Checked by the fleet's anchors alone")
    for each in findings:
        mark = "FAILED" if each.fault else "ok"
        click.echo(f"  {mark:<7}{each.what}{': ' if each.fault else ''}{each.fault}")


def _lines(document: Mapping[str, Any], indent: str) -> Iterator[str]:
    took = document["took_ms"] / 1000
    end = "" if document["is_final"] else ", not ended"
    yield (
        f"{indent}{document['kind']} {document['command_id']} of vehicle "
        f"{document['vehicle_id']}: {document['state']}{end}, {took:.3f} s"
    )
    for hop in document["hops"]:
        if hop["hop"] == "checked":
            yield f"{indent}  {'':<37}checked     {hop['detail']}: {hop['words']}"
            continue
        after = "" if hop["after_ms"] is None else f"{hop['after_ms']:+} ms"
        yield (
            f"{indent}  {hop['at'] or '-':<25}{after:>10}  {hop['hop']:<12}"
            f"[{hop['shown_by']}] {hop['words']}"
        )
        if hop["detail"]:
            yield f"{indent}  {'':<49}{hop['detail']}"
    for part in document["parts"]:
        if "hops" in part:
            yield from _lines(part, indent + "    ")
        else:
            # Explanations that were exported before have no meaning there.
            why = part.get("meaning", "there is no such command")
            yield f"{indent}    {part['kind']}: {why}"
