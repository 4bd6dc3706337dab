"""``freefloat gateway inspect`` and ``rotate-key``, as used beside the car."""

import asyncio
import json
import shutil
import signal
from pathlib import Path
from typing import Any

import apsw
import pytest

from gateway.bootstrap import signer_of
from gateway.core.ledger import Signatory, seal_entry
from gateway.core.state import State
from gateway.ports import Commit
from gateway.storage.identity import load_identity
from gateway.storage.key_order import ORDER_NAME, KeyOrder
from gateway.storage.ledger_store import LedgerStore
from gateway.storage.update_order import UpdateOrder
from gateway.storage.worker import InlineWorker
from protocol.codes import Code
from protocol.event import AgentStarted
from protocol.fleet import VehiclePart
from tests.gateway.storage.test_ledger_store import NOW
from tests.gateway.world import SeededBytes
from tests.tools.command_line import freefloat, require_clear_failure
from tests.tools.test_gateway import configure, make_car, start


@pytest.fixture(scope="module")
def bare_car(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("bare")
    make_car(directory)
    configure(directory)
    return directory


@pytest.fixture(scope="module")
def car(bare_car: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a car whose agent has run: four entries, of which one was refused."""
    directory = tmp_path_factory.mktemp("cars") / "used"
    shutil.copytree(bare_car, directory)
    asyncio.run(_live(directory))
    return directory


async def _live(directory: Path) -> None:
    identity = load_identity(directory / "vehicle")
    store = LedgerStore(
        directory / "data" / "ledger.db",
        worker=InlineWorker(),
        random_bytes=SeededBytes(1),
        signer=signer_of(identity),
    )
    head = (await store.open(boot_mark="a")).head
    signatory = Signatory(
        identity.vehicle_id, identity.fleet_id, bytes(16), identity.signing_key
    )
    entries = []
    for number in range(4):
        body = AgentStarted(number + 1, bytes(4))
        entry, head = seal_entry(body, head, signatory, now=NOW)
        entries.append(entry)
    await store.commit(Commit(State(), tuple(entries), None))
    await store.release(1, ((2, Code.BAD_PARAM),))
    await store.close()


def looked(car: Path, *arguments: str) -> Any:
    done = freefloat("gateway", "inspect", *arguments, "--json", cwd=car)
    assert done.returncode == 0, done.stderr
    # K2: nothing that is looked at gives a key away.
    secrets = [
        line
        for part in (VehiclePart.SIGNING_KEY, VehiclePart.SEALING_KEY)
        for line in (car / "vehicle" / part).read_text().splitlines()
        if len(line) > 20 and "-----" not in line
    ]
    assert secrets
    assert [line for line in secrets if line in done.stdout] == []
    return json.loads(done.stdout)


def test_the_ledger_is_shown_and_checked(car: Path) -> None:
    found = looked(car, "ledger", "--last", "2")
    said = freefloat("gateway", "inspect", "ledger", cwd=car)

    assert (found["head"]["seq"], found["receipted"], found["fault"]) == (4, 1, None)
    assert [entry["seq"] for entry in found["entries"]] == [3, 4]
    assert {entry["type"] for entry in found["entries"]} == {"AGENT_STARTED"}
    assert "chain and signatures hold" in said.stdout


def test_an_edited_row_is_named_and_fails(car: Path, tmp_path: Path) -> None:
    # K14.
    directory = tmp_path / "edited"
    shutil.copytree(car, directory)
    ledger = directory / "data" / "ledger.db"
    connection = apsw.Connection(str(ledger))
    connection.execute("delete from entry where seq = 3")
    connection.close()

    done = freefloat("gateway", "inspect", "ledger", cwd=directory)

    assert done.returncode == 1
    assert "error: ledger entry 3 is missing" in done.stderr
    assert "restart the agent" in done.stderr


def test_dead_letters_configurations_quarantine_and_trust_are_shown(car: Path) -> None:
    (letter,) = looked(car, "dead-letters")
    assert (letter["seq"], letter["refused"]) == (2, "BAD_PARAM")
    assert looked(car, "configurations") == []
    assert looked(car, "quarantine") == []
    trust = looked(car, "trust")
    assert trust["version"] == 1
    assert {"RENTAL", "RECEIPT"} <= {key["role"] for key in trust["keys"]}


@pytest.mark.parametrize("what", ["ledger", "dead-letters", "configurations", "trust"])
def test_a_car_whose_agent_never_ran_is_explained(bare_car: Path, what: str) -> None:
    done = freefloat("gateway", "inspect", what, cwd=bare_car)

    assert done.returncode == 1
    assert "the agent has not run yet" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_order_waits_for_an_agent_and_can_be_taken_back(car: Path) -> None:
    order = KeyOrder(car / "data" / "ledger.db")

    done = freefloat("gateway", "rotate-key", "--wait", "0", "--json", cwd=car)

    assert json.loads(done.stdout)["waits"] is True
    assert (car / "data" / ORDER_NAME).exists()
    assert order.is_given
    assert freefloat("gateway", "rotate-key", "--withdraw", cwd=car).returncode == 0
    assert not order.is_given


def test_an_order_before_the_first_start_is_refused(bare_car: Path) -> None:
    done = freefloat("gateway", "rotate-key", cwd=bare_car)

    require_clear_failure(done, "the agent has not run yet")


def test_an_update_that_no_agent_grants_is_taken_back(car: Path) -> None:
    """I-17: a wish that was given up must not take the car out of use later."""
    done = freefloat("gateway", "update", "begin", "--wait", "0", "--json", cwd=car)

    assert done.returncode == 1
    assert json.loads(done.stdout) == {"granted": False}
    assert not UpdateOrder(car / "data" / "ledger.db").wish.exists()
    assert freefloat("gateway", "update", "end", cwd=car).returncode == 0


def test_an_update_before_the_first_start_is_refused(bare_car: Path) -> None:
    done = freefloat("gateway", "update", "begin", cwd=bare_car)

    require_clear_failure(done, "the agent has not run yet")


@pytest.mark.device
async def test_a_running_agent_changes_its_key_by_order(tmp_path: Path) -> None:
    # FF-ENR-12: the path of ROTATE_KEY, ordered at the car.
    make_car(tmp_path)
    configure(tmp_path)
    before = load_identity(tmp_path / "vehicle").signing_key.key_id.hex()
    async with asyncio.timeout(50):
        process = await start(tmp_path, "run", "--unattended")
        assert process.stderr is not None
        log = b""
        while b"board lost" not in log:
            line = await process.stderr.readline()
            assert line, log.decode()
            log += line
        done = await asyncio.to_thread(
            freefloat, "gateway", "rotate-key", "--json", cwd=tmp_path
        )
        shown = await asyncio.to_thread(looked, tmp_path, "ledger")
        process.send_signal(signal.SIGTERM)
        await process.communicate()

    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["old_key"] == before
    after = load_identity(tmp_path / "vehicle").signing_key.key_id.hex()
    assert told["new_key"] == after != before
    assert "KEY_ROTATED" in {entry["type"] for entry in shown["entries"]}
    assert shown["fault"] is None
