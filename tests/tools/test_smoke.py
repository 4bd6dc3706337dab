"""`freefloat smoke`: well over a real broker, and it finds a fault that is planted."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pytest

from bridge.bootstrap import open_bridge
from bridge.broker.access import BrokerAccess, vehicle_grant
from bridge.broker.embedded import EmbeddedBroker
from bridge.intake import Intake
from bridge.sinks.json_lines import JsonLinesSink
from certs.fleet import FleetDirectory
from certs.vehicle import issue_vehicles, random_vehicle_id
from protocol.codes import EventType, FrameClass
from protocol.fleet import FleetPart, VehiclePart
from tests.tools.command_line import freefloat, require_clear_failure
from tools.bridge_api import BridgeApi
from tools.bridge_settings import KEYS_FILE, local_settings
from tools.canary import LIMIT_S, STATE_FILE, Canary, Outcome, Step
from tools.clock import wall_clock
from tools.conformance.bridge_subject import PlayedCar
from transport.tls import TlsIdentity

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]

Plant = Callable[[pytest.MonkeyPatch], None]

FOREIGN: Final = "a strange certificate does not get in"
FORGED: Final = "a forged frame gets no receipt"
OTHERS: Final = "another car's topics are refused"
TAKEN: Final = "every consumer has the rental's end"
READY: Final = "the bridge is ready, and nothing ends soon"
GREETED: Final = "a hello is answered by a receipt"
PINGED: Final = "a ping comes signed, and its result ends it"


@dataclass(frozen=True, slots=True)
class Site:
    """A fleet with a canary, its broker and its bridge."""

    car: Path
    broker: tuple[str, int]
    api_url: str
    key_file: Path
    lines: Path

    async def smoked(self, *, days: int = 7) -> dict[str, Step]:
        api = BridgeApi.at(self.api_url, self.key_file)
        canary = Canary(self.car, self.broker, api, days=days)
        return {step.name: step for step in await canary.run(lambda _: None)}


@asynccontextmanager
async def site(path: Path, *, broker: str = "auto") -> AsyncIterator[Site]:
    fleet = await asyncio.to_thread(
        FleetDirectory.create, path / "fleet", name="lab", now=wall_clock()
    )
    canary = random_vehicle_id()
    await asyncio.to_thread(issue_vehicles, fleet, [canary], now=wall_clock())
    async with AsyncExitStack() as stack:
        embedded = await stack.enter_async_context(
            EmbeddedBroker(
                directory=path / "broker",
                identity=TlsIdentity.of_fleet(fleet.path, FleetPart.BROKER),
                access=BrokerAccess(is_vehicle=frozenset([str(canary)]).__contains__),
                clock=wall_clock,
                kind=broker,
            )
        )
        address = (embedded.host, embedded.port)
        settings = local_settings(
            fleet.path,
            state=path / "bridge",
            broker=address,
            api=("127.0.0.1", 0),
            json_lines=path / "lines",
        )
        bridge = await stack.enter_async_context(open_bridge(settings))
        await bridge.wait_connected()
        yield Site(
            fleet.vehicle_directory(canary),
            address,
            bridge.api_url,
            path / "bridge" / KEYS_FILE,
            path / "lines",
        )


def failed(steps: dict[str, Step]) -> dict[str, str]:
    return {n: s.came for n, s in steps.items() if s.outcome is not Outcome.PASS}


@pytest.mark.parametrize(
    "broker", [pytest.param("mosquitto", marks=pytest.mark.mosquitto), "nats"]
)
async def test_a_bridge_that_is_well_passes_twice_and_its_ledger_goes_on(
    tmp_path: Path, broker: str
) -> None:
    """Issue 5, point 8: over the real path, negative checks included, within 90 s."""
    async with site(tmp_path, broker=broker) as here:
        first = await here.smoked()
        again = await here.smoked()
        told = here.lines.read_text(encoding="utf-8")

    assert failed(first) == failed(again) == {}
    assert sum(step.took_s for step in first.values()) < LIMIT_S
    assert first[GREETED].came == "a new ledger begins"
    assert again[GREETED].came.startswith("the ledger goes on at")
    assert told.count('"freefloat.rental.ended"') == 2
    assert told.count(f'"freefloat.{EventType.LEDGER_RESET.name.lower()}"') <= 1


async def test_the_command_prints_each_step_and_ends_with_0(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        done = await asyncio.to_thread(
            freefloat,
            "smoke",
            *("--broker", "{}:{}".format(*here.broker), "--car", here.car),
            *("--api", here.api_url, "--api-key-file", here.key_file),
        )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("pass  ") == 10
    assert "days left: " in done.stdout
    assert done.stdout.splitlines()[-1].startswith("smoke passed in ")


def believes_any_signature(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("bridge.ingest.verify_frame", lambda *_, **__: None)


def takes_no_event(patch: pytest.MonkeyPatch) -> None:
    async def hang(_self: JsonLinesSink, _row: object) -> None:
        await asyncio.Event().wait()

    patch.setattr(JsonLinesSink, "deliver", hang)
    patch.setattr("tools.canary.ANSWER_S", 2.0)


def lets_every_certificate_in(patch: pytest.MonkeyPatch) -> None:
    """Show a broker the right certificate as the strange one."""

    def own(_folder: Path, *, anchors: Path, **_: object) -> TlsIdentity:
        car = anchors.parent
        return TlsIdentity(
            car / VehiclePart.TLS_CERTIFICATE, car / VehiclePart.TLS_KEY, anchors
        )

    patch.setattr("tools.canary.strange_identity", own)


def lets_cars_hear_others(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        "bridge.broker.mosquitto.vehicle_grant",
        lambda name: replace(
            vehicle_grant(name), publish=("ff/v1/+/up/+",), subscribe=("ff/v1/#",)
        ),
    )


def lets_cars_speak_as_others(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        "bridge.broker.mosquitto.vehicle_grant",
        lambda name: replace(vehicle_grant(name), publish=("ff/v1/+/up/+",)),
    )


def signs_no_receipt(patch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: object) -> None:
        pass

    patch.setattr(Intake, "_confirm", nothing)
    patch.setattr("tools.canary.ANSWER_S", 2.0)


@pytest.mark.parametrize(
    ("plant", "name"),
    [
        pytest.param(believes_any_signature, FORGED, id="believes any signature"),
        pytest.param(takes_no_event, TAKEN, id="a consumer hangs"),
        pytest.param(
            lets_cars_speak_as_others,
            OTHERS,
            id="lets cars speak as others",
            marks=pytest.mark.mosquitto,
        ),
        pytest.param(
            lets_cars_hear_others,
            OTHERS,
            id="lets cars hear others",
            marks=pytest.mark.mosquitto,
        ),
    ],
)
async def test_a_fault_fails_its_own_step_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plant: Plant, name: str
) -> None:
    plant(monkeypatch)
    broker = "mosquitto" if name == OTHERS else "auto"
    async with site(tmp_path, broker=broker) as here:
        steps = await here.smoked()

    assert set(failed(steps)) == {name}, failed(steps)


async def test_a_broker_that_lets_a_stranger_in_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K19; the stranger took the canary's place, so the last step fails too."""
    lets_every_certificate_in(monkeypatch)
    async with site(tmp_path) as here:
        steps = await here.smoked()

    assert set(failed(steps)) == {FOREIGN, OTHERS}, failed(steps)
    assert "is let in as this car" in steps[FOREIGN].came


async def test_what_rests_on_a_step_that_failed_is_not_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that could not be tried is never called passed."""
    signs_no_receipt(monkeypatch)
    async with site(tmp_path) as here:
        steps = await here.smoked()

    assert steps[GREETED].outcome is Outcome.FAIL
    after = list(steps.values())[list(steps).index(GREETED) + 1 :]
    assert {step.outcome for step in after} == {Outcome.NOT_REACHED}
    assert steps[READY].outcome is Outcome.PASS


async def test_what_ends_soon_fails_and_a_lost_file_only_costs_a_ledger(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as here:
        first = await here.smoked(days=3_650)
        (here.car / STATE_FILE).write_text("{", encoding="ascii")
        again = await here.smoked()

    assert set(failed(first)) == {READY}
    assert "ends too soon" in first[READY].came
    assert failed(again) == {}
    assert again[GREETED].came == "a new ledger begins"


async def test_a_run_that_broke_off_does_not_fail_the_ones_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue 5, point 8: the canary that takes a release back runs right after one.

    What it sent without hearing of a receipt, the bridge had or had not; it must not
    come back as a car whose ledger was put back, for which nothing is signed.
    """
    send = PlayedCar.send

    async def hears_nothing(self: PlayedCar, _hash: bytes, *, since: int) -> None:
        del self, since

    async def sends_no_result(
        self: PlayedCar, data: bytes, frame_class: FrameClass = FrameClass.EVENT
    ) -> None:
        if frame_class is not FrameClass.RESULT:
            await send(self, data, frame_class)

    async with site(tmp_path) as here:
        with monkeypatch.context() as patch:
            patch.setattr("tools.canary.ANSWER_S", 2.0)
            patch.setattr(PlayedCar, "receipt", hears_nothing)
            unheard = await here.smoked()
        after_unheard = await here.smoked()
        old = (here.car / STATE_FILE).read_text("ascii")
        with monkeypatch.context() as patch:
            patch.setattr("tools.canary.ANSWER_S", 2.0)
            patch.setattr(PlayedCar, "send", sends_no_result)
            unsent = await here.smoked()
        after_unsent = await here.smoked()
        # A file that was put back: the bridge asks who this is, and is answered.
        (here.car / STATE_FILE).write_text(old, encoding="ascii")
        after_old = await here.smoked()

    assert PINGED in failed(unheard)
    assert PINGED in failed(unsent)
    assert failed(after_unheard) == failed(after_unsent) == failed(after_old) == {}
    for healed in (after_unheard, after_unsent):
        assert healed[GREETED].came.startswith("the ledger goes on at")
    assert after_old[GREETED].came == "a new ledger begins"


def test_a_directory_that_is_no_cars_is_said(tmp_path: Path) -> None:
    require_clear_failure(
        freefloat("smoke", "--broker", "127.0.0.1:1", "--car", tmp_path),
        "is no vehicle's directory",
        "freefloat certs issue",
    )
