"""docs/api.md and deploy/bridge.toml say what the bridge does, and nothing else."""

import ast
import base64
import hashlib
import hmac
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from standardwebhooks.webhooks import Webhook

from bridge import cloud_event
from bridge.api import documents, problems
from bridge.api.bodies import CommandBody
from bridge.commands import CommandState
from bridge.settings import (
    ApiSettings,
    FleetSettings,
    Settings,
    StoreSettings,
    check_settings,
    load_settings,
)
from certs.fleet import FleetDirectory
from protocol.fleet import FleetPart
from tests.bridge.publishing import GBFS, MDS
from tests.bridge.running import running_bridge
from tools.bridge_settings import local_settings

ROOT = Path(__file__).parents[2]
API = (ROOT / "docs/api.md").read_text()
EXAMPLE = ROOT / "deploy/bridge.toml"

_LINES = re.MULTILINE | re.DOTALL


def section(heading: str) -> str:
    """Return what stands between a heading and the next one of its level."""
    [found] = re.findall(rf"^## \d+\. {heading}\n(.*?)(?=^## |\Z)", API, flags=_LINES)
    return str(found)


def rows(text: str) -> list[list[str]]:
    """Return the cells of every table row but headings and rules."""
    lines = re.findall(r"^\|(.*)\|$", text, flags=re.MULTILINE)
    cells = [[cell.strip() for cell in line.split("|")] for line in lines]
    return [row for row in cells if "`" in "".join(row)]


@pytest.mark.broker
async def test_the_paths_of_the_document_are_those_of_the_application(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    made = local_settings(
        fleet.path, state=tmp_path, broker=("127.0.0.1", 1), api=("127.0.0.1", 0)
    )
    settings = msgspec.structs.replace(made, mds=MDS, gbfs=GBFS)
    async with running_bridge(fleet, tmp_path, settings=settings) as running:
        _status, described = await running.get("/openapi.json")

    served = {
        (method.upper(), path)
        for path, methods in described["paths"].items()
        for method in methods
    }
    told = {(row[0], row[1].strip("`")) for row in rows(section("Paths"))}
    assert told == served


def test_every_printed_example_is_json() -> None:
    blocks = re.findall(r"^```json\n(.*?)^```$", API, flags=_LINES)

    assert len(blocks) > 10
    for block in blocks:
        assert json.loads(block)


def test_every_kind_of_order_is_told_with_its_fields() -> None:
    union, *_rest = get_args(CommandBody)
    models = {
        str(get_args(model.model_fields["kind"].annotation)[0]): set(model.model_fields)
        for model in get_args(union)
    }

    told = {
        row[0].strip("`"): {"kind", *re.findall(r"`(\w+)`", row[2])}
        for row in rows(section("Commands"))
        if len(row) == 3 and row[0].strip("`") not in set(CommandState)
    }
    for kind in ("ping", "snapshot", "reboot", "rotate_key"):
        told[kind] = {"kind"}
    assert told == models


def test_every_state_of_a_command_is_told_with_its_meaning() -> None:
    states = {str(state) for state in CommandState}
    told = {
        row[0].strip("`"): (row[1] == "yes", row[2])
        for row in rows(section("Commands"))
        if row[0].strip("`") in states
    }

    assert told == {
        str(state): (state.is_terminal, documents._MEANINGS.get(state))
        for state in CommandState
    }


def test_every_refusal_is_told_with_its_status() -> None:
    told = {
        (int(row[0]), row[1].strip("`"))
        for row in rows(section("Problems"))
        if row[0].isdecimal()
    }

    for refusal, status in problems.STATUS_OF.items():
        assert (int(status), str(refusal)) in told
    source = "".join(p.read_text() for p in (ROOT / "bridge/api").glob("*.py"))
    for kind in re.findall(r'HTTPStatus\.[A-Z_]+,\s+"([a-z-]+)"', source):
        assert kind in {name for _status, name in told}


def test_every_type_of_event_is_told() -> None:
    told = {row[0].strip("`") for row in rows(section("Webhook"))}

    assert told == {
        *cloud_event.TYPES.values(),
        cloud_event.RESULT_TYPE,
        cloud_event.COMPOUND_TYPE,
        cloud_event.UNKNOWN_TYPE,
        cloud_event.REFUSED_TYPE,
        cloud_event.FORKED_TYPE,
        cloud_event.BROKEN_TYPE,
        cloud_event.CONTRADICTED_TYPE,
        cloud_event.GAP_TYPE,
        cloud_event.GAP_ACCEPTED_TYPE,
        cloud_event.REPLACED_TYPE,
        cloud_event.ONLINE_TYPE,
        cloud_event.ALERT_TYPE,
        cloud_event.TO_CLOSE_TYPE,
        cloud_event.OLD_KEY_TYPE,
        cloud_event.FOREIGN_TYPE,
        cloud_event.OFFLINE_TYPE,
        cloud_event.APPROVAL_TYPE,
    }


def test_the_printed_webhook_verifies_as_the_document_says() -> None:
    [request] = re.findall(r"^```http\n(.*?)\n```$", API, flags=_LINES)
    head, body = request.split("\n\n", 1)
    headers = dict(line.split(": ", 1) for line in head.splitlines()[1:])
    [secret] = re.findall(r"secret is `(whsec_[^`]+)`", API)

    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.{body}"
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.digest(key, signed.encode(), hashlib.sha256)

    given = headers["webhook-signature"]
    assert given == f"v1,{base64.b64encode(digest).decode()}"
    at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
    assert given == Webhook(secret).sign(headers["webhook-id"], at, body)
    assert json.loads(body)["id"] == headers["webhook-id"]


def test_the_example_of_settings_can_be_used() -> None:
    settings = load_settings(EXAMPLE)

    check_settings(settings)
    assert settings.certificate == EXAMPLE.parent / "fleet/bridge/1/tls.crt"
    assert [sink.name for sink in settings.sinks.webhook] == ["billing"]


def test_the_example_of_a_replica_can_be_used() -> None:
    settings = load_settings(EXAMPLE.with_name("bridge-replica.toml"))

    check_settings(settings)
    assert settings.broker.share == "bridges"
    assert settings.certificate == EXAMPLE.parent / "fleet/bridge/2/tls.crt"


def test_what_the_example_comments_out_are_settings_with_their_defaults(
    tmp_path: Path,
) -> None:
    text = EXAMPLE.read_text()
    setting = re.compile(r"^# (?=[a-z_]+ = )", flags=re.MULTILINE)
    (tmp_path / "all.toml").write_text(setting.sub("", text))
    (tmp_path / "few.toml").write_text(text)

    everything, few = (
        load_settings(tmp_path / name) for name in ("all.toml", "few.toml")
    )

    assert len(setting.findall(text)) > 5
    assert everything.certificate == few.certificate
    assert everything.key == few.key
    assert everything.trust_anchors == few.trust_anchors
    assert (everything.broker, everything.api) == (few.broker, few.api)
    assert (everything.store, everything.sinks) == (few.store, few.sinks)
    for part, given in (
        (FleetPart.REGISTRY, everything.fleet.registry),
        (FleetPart.TRUST_BUNDLE, everything.fleet.trust_bundle),
        (FleetPart.COMMAND_KEY, everything.fleet.command_key),
        (FleetPart.RECEIPT_KEY, everything.fleet.receipt_key),
    ):
        assert given == str(few.part(part))


@pytest.mark.broker
async def test_a_bridge_needs_no_more_of_the_fleet_than_the_manual_copies(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    manual = (ROOT / "docs/operations.md").read_text()
    [copied] = re.findall(
        r"^\(cd fleet && tar -cf ../bridge-part.tar (.*)\)$", manual, re.MULTILINE
    )
    part = tmp_path / "fleet"
    named = [top for name in copied.split() for top in fleet.path.glob(name)]
    for top in named:
        for source in (top, *top.rglob("*")):
            if source.is_file():
                copy = part / source.relative_to(fleet.path)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(source.read_bytes())
                copy.chmod(source.stat().st_mode & 0o777)
    keys = tmp_path / "api.keys"
    keys.touch(mode=0o600)
    keys.write_text("k" * 40)
    settings = Settings(
        fleet=FleetSettings(str(part)),
        store=StoreSettings(str(tmp_path / "bridge.sqlite")),
        api=ApiSettings(port=0, keys_file=str(keys)),
    )

    async with running_bridge(fleet, tmp_path, settings=settings) as running:
        status, _answer = await running.get("/ready")

    assert status == 200


def warnings_of_the_bridge() -> set[str]:
    """Return the words of every warning and error that the bridge can log."""
    found: set[str] = set()
    for path in (ROOT / "bridge").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in {"warning", "error", "exception"}
                and node.args
                and isinstance(node.args[0], ast.Constant)
            ):
                text = str(node.args[0].value).removeprefix("= ")
                found.update(word.strip(" :;") for word in re.split(r"%[\w.]+", text))
    return found - {""}


def test_every_warning_of_the_bridge_is_explained_to_its_operator() -> None:
    manual = (ROOT / "docs/operations.md").read_text()
    explained = manual[manual.index("\n## 7.") : manual.index("\n## 8.")]

    warnings = warnings_of_the_bridge()

    assert "no link" in warnings
    assert {words for words in warnings if words not in explained} == set()


@pytest.mark.broker
async def test_the_printed_problem_is_what_the_bridge_answers(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    blocks = re.findall(r"^```json\n(.*?)^```$", section("Problems"), flags=_LINES)
    printed = json.loads(blocks[0])
    body = {"kind": "reserve", "rental_id": "1" * 32, "hold_s": 0, "pin": "12"}

    async with running_bridge(fleet, tmp_path) as running:
        status, answer = await running.order(body)

    assert (status, answer) == (printed["status"], printed)
