"""`freefloat bridge letters | judge` against a real bridge over HTTP."""

import asyncio
import json
from http import HTTPStatus
from pathlib import Path

import pytest

from certs.fleet import FleetDirectory
from protocol.codes import FrameClass
from protocol.event import AgentStarted
from tests.bridge.car import RENTAL, REPORT
from tests.bridge.conftest import fleet  # noqa: F401 - a fixture
from tests.bridge.running import running_bridge
from tests.bridge.test_evidence import drive, verified
from tests.tools.command_line import freefloat
from tools.bridge_api import BridgeApi, _document
from tools.errors import OperatorError

pytestmark = pytest.mark.broker


async def test_the_trust_and_a_resend_on_the_command_line(
    fleet: FleetDirectory,  # noqa: F811 - the fixture
    tmp_path: Path,
) -> None:
    async with running_bridge(fleet, tmp_path) as running:
        await running.say(FrameClass.HELLO, running.car.hello())
        where = (
            *("--api", running.bridge.api_url),
            *("--api-key-file", tmp_path / "api.keys"),
        )
        car = str(running.car.id)

        trust = await asyncio.to_thread(
            freefloat, "bridge", "trust", *where, cwd=tmp_path
        )
        asked = await asyncio.to_thread(
            freefloat, "send", *where, "resend", car, "2", "5", "--json", cwd=tmp_path
        )
        refused = await asyncio.to_thread(
            freefloat, "send", *where, "resend", car, "5", "2", cwd=tmp_path
        )

    assert trust.returncode == 0
    assert "cars with 1" in trust.stdout
    assert car not in trust.stdout
    answer = json.loads(asked.stdout)
    assert (answer["first"], answer["last"]) == (2, 5)
    assert answer["ledger_id"] == running.car.ledger_id.hex()
    assert refused.returncode != 0
    assert "first must not be above last" in refused.stderr


async def test_a_rental_is_asked_to_be_forgotten_and_is_proved_all_the_same(
    fleet: FleetDirectory,  # noqa: F811 - the fixture
    tmp_path: Path,
) -> None:
    # K26: erasure on request, not only by age.
    async with running_bridge(fleet, tmp_path) as running:
        await running.say(FrameClass.HELLO, running.car.hello())
        await drive(running)
        places = await running.bridge.store.places(RENTAL)
        where = (
            *("--api", running.bridge.api_url),
            *("--api-key-file", tmp_path / "api.keys"),
        )
        erase = ("bridge", "erase", *where, "--json")
        done, again, unknown = [
            await asyncio.to_thread(freefloat, *erase, rental, cwd=tmp_path)
            for rental in (RENTAL.hex(), RENTAL.hex(), "f" * 32)
        ]
        left = await running.bridge.store.places(RENTAL)
        async with asyncio.timeout(30):  # a receipt is stored with what comes next
            # The store is another's: nothing tells when it has more.
            while (  # noqa: ASYNC110
                proved := await running.bridge.store.rental_proof(RENTAL)
            ) is None:
                await asyncio.sleep(0.1)
        proof = verified(fleet, proved)
        rows, _ = await running.bridge.store.audit_after(0, 10)

    assert (len(places), left) == (1, {})
    assert json.loads(done.stdout) == {"id": RENTAL.hex(), "erased": 1}
    assert json.loads(again.stdout)["erased"] == 0
    assert unknown.returncode != 0
    assert "no vehicle has told" in unknown.stderr
    assert (proof.entries[-1].body, proof.places) == (REPORT, ())
    assert rows[0].entry.what == f"POST /v1/rentals/{RENTAL.hex()}/erase"


async def test_letters_are_listed_and_judged_on_the_command_line(
    fleet: FleetDirectory,  # noqa: F811 - the fixture
    tmp_path: Path,
) -> None:
    async with running_bridge(fleet, tmp_path) as running:
        forged = bytearray(running.car.event(AgentStarted(1, bytes(4))))
        forged[-1] ^= 1
        await running.say(FrameClass.EVENT, bytes(forged))
        where = (
            *("--api", running.bridge.api_url),
            *("--api-key-file", tmp_path / "api.keys"),
        )

        listed = await asyncio.to_thread(
            freefloat, "bridge", "letters", *where, "--json", cwd=tmp_path
        )
        shown = await asyncio.to_thread(
            freefloat, "bridge", "letters", *where, cwd=tmp_path
        )
        judged = await asyncio.to_thread(
            freefloat, "bridge", "judge", "1", *where, cwd=tmp_path
        )

    [letter] = json.loads(listed.stdout)
    assert (letter["id"], letter["kind"]) == (1, "unverified")
    assert "BAD_SIGNATURE" in shown.stdout
    assert judged.returncode == 1
    assert "kept: BAD_SIGNATURE" in judged.stdout


async def test_a_car_that_has_not_said_hello_has_no_bundle_yet(
    fleet: FleetDirectory,  # noqa: F811 - the fixture
    tmp_path: Path,
) -> None:
    """It names its bundle in its hello: 0 would look like a version."""
    async with running_bridge(fleet, tmp_path) as running:
        where = ("--api", running.bridge.api_url, "--api-key-file", "api.keys")
        trust = await asyncio.to_thread(
            freefloat, "bridge", "trust", *where, cwd=tmp_path
        )

    assert "no hello yet  3" in trust.stdout
    assert "cars with 0" not in trust.stdout


def test_a_bridge_that_is_not_ready_says_what_it_waits_for() -> None:
    body = json.dumps({"ready": False, "waiting_for": {"broker": "no link"}})

    with pytest.raises(OperatorError, match="it is not ready; broker: no link"):
        _document(HTTPStatus.SERVICE_UNAVAILABLE, body.encode())


@pytest.mark.parametrize(
    ("status", "body", "advice"),
    [
        (HTTPStatus.UNAUTHORIZED, {"detail": "send a key"}, "--api-key-file"),
        (
            HTTPStatus.NOT_FOUND,
            {"detail": "no sink has this name"},
            "check name and id",
        ),
        (
            HTTPStatus.UNPROCESSABLE_ENTITY,
            {"detail": "position: no", "errors": [{"field": "position"}]},
            "nothing was done; correct the value",
        ),
        (
            HTTPStatus.CONFLICT,
            {"detail": "a second person must", "approval": {"id": "5b2c"}},
            "freefloat bridge approvals show 5b2c",
        ),
    ],
)
def test_a_no_of_the_bridge_comes_with_what_to_do(
    status: HTTPStatus, body: dict[str, object], advice: str
) -> None:
    with pytest.raises(OperatorError) as refused:
        _document(status, json.dumps(body).encode())

    assert advice in refused.value.advice


def test_the_systems_number_of_a_refusal_is_not_shown() -> None:
    with pytest.raises(OperatorError, match=r": connection refused$"):
        BridgeApi.at("http://127.0.0.1:1", None).get("/ready")
