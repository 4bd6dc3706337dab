"""One trace from the car over a real broker and the bridge to a consumer (K25)."""

import asyncio
import socket
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
import pytest

from bridge.settings import Settings
from tests.bridge.collector import Collector, collecting
from tests.bridge.running import until
from tests.tools.command_line import running
from tools.bridge_settings import local_settings
from tools.rig import Rig, open_rig
from transport.collector import CollectorTracer, TracingSettings, close_tracer

pytestmark = [pytest.mark.broker, pytest.mark.timeout(120)]

SECRET: Final = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OF_THE_CAR: Final = {"car.carry_out", "car.publish", "car.receipt"}
OF_THE_BRIDGE: Final = {
    *("command", "api.accept", "sign", "publish", "car", "uplink", "verify", "store"),
    *("receipt", "deliver"),
}


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    async with collecting() as one:
        yield one


@pytest.fixture
async def rig(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Rig]:
    def traced(*args: Any, **kwargs: Any) -> Settings:
        made = local_settings(*args, **kwargs)
        tracing = TracingSettings(f"{collector.url}/v1/traces", timeout_s=1.0)
        return msgspec.structs.replace(made, tracing=tracing)

    monkeypatch.setattr("tools.rig.local_settings", traced)
    hook = (f"{collector.url}/hook", SECRET)
    async with open_rig(tmp_path / "rig", cars=1, webhook=hook) as system:
        yield system


async def ping(rig: Rig) -> bytes:
    """Order a ping and return the command's id when it has succeeded."""
    path = f"/v1/vehicles/{rig.cars[0].vehicle_id}/commands?wait_s=10"
    headers = {"X-Api-Key": rig.api_key}
    command: dict[str, str] = {}
    async with aiohttp.ClientSession(rig.bridge.api_url, headers=headers) as api:
        for _ in range(100):
            async with api.post(path, json={"kind": "ping"}) as answer:
                command = await answer.json()
            if answer.status != HTTPStatus.CONFLICT:
                break
            # A car that has just started is not there yet.
            await asyncio.sleep(0.1)
    assert command["state"] == "succeeded"
    return bytes.fromhex(command["id"])


async def start_tracing(rig: Rig, url: str) -> CollectorTracer:
    """Start the agent of the car anew, with spans to a collector."""
    [car] = rig.cars
    tracer = CollectorTracer(
        TracingSettings(f"{url}/v1/traces", timeout_s=1.0),
        service="freefloat-gateway",
        instance=str(car.vehicle_id),
    )
    car.tracer = tracer
    await car.restart()
    await car.wait_ready()
    return tracer


async def test_a_command_is_one_trace_of_car_broker_bridge_and_sink(
    rig: Rig, collector: Collector
) -> None:
    """K25: the car's own spans hang below those of the bridge, by ids alone."""
    tracer = await start_tracing(rig, collector.url)
    # The fleet's time comes with the first receipt: the car tells nothing before.
    await ping(rig)
    command_id = await ping(rig)

    await until(lambda: set(collector.named(command_id)) >= OF_THE_CAR | OF_THE_BRIDGE)
    await close_tracer(tracer)

    told = collector.named(command_id)
    assert set(told) == OF_THE_CAR | OF_THE_BRIDGE
    assert {
        name: collector.services[span.span_id] for name, span in told.items()
    } == dict.fromkeys(OF_THE_CAR, "freefloat-gateway") | dict.fromkeys(
        OF_THE_BRIDGE, "freefloat-bridge"
    )
    name_of = {span.span_id: name for name, span in told.items()}
    parents = {name: name_of.get(span.parent_span_id) for name, span in told.items()}
    assert parents == {
        **dict.fromkeys(OF_THE_BRIDGE, "command"),
        "command": None,
        "car.carry_out": "car",
        "car.publish": "uplink",
        "car.receipt": "command",
    }
    # All clocks are of one machine here; labels are whole milliseconds.
    slack_ns = 50_000_000
    for name in ("car.carry_out", "car.publish"):
        around = told["command"]
        assert told[name].start_time_unix_nano >= around.start_time_unix_nano - slack_ns
        assert told[name].start_time_unix_nano <= told[name].end_time_unix_nano
    everything = "".join(str(span.attributes) for span in collector.spans)
    for secret in ("latitude", "card", "rental", "customer"):
        assert secret not in everything


async def test_cars_of_the_emulate_command_tell_their_spans_too(
    rig: Rig, collector: Collector
) -> None:
    """K25: `--traces`, as `[tracing]` of a car on a board."""
    [car] = rig.cars
    await car.__aexit__(None, None, None)  # the command runs it from here on
    words = (
        *("emulate", "fleet", "--cars", "1", "--fleet", rig.fleet.path),
        *("--broker", f"{rig.broker.host}:{rig.broker.port}"),
        *("--data", car.data.parent, "--traces", f"{collector.url}/v1/traces"),
    )
    with running(*words):
        await ping(rig)
        command_id = await ping(rig)
        await until(lambda: set(collector.named(command_id)) >= OF_THE_CAR)
        # The bridge tells its own every few seconds.
        await until(lambda: len(set(collector.services.values())) > 1)

    services = {collector.services[s.span_id] for s in collector.spans}
    assert services == {"freefloat-gateway", "freefloat-bridge"}


async def test_a_collector_that_hangs_holds_up_neither_car_nor_command(
    rig: Rig,
) -> None:
    """A span that nobody takes is lost, and nothing else is."""
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        host, port = hanging.getsockname()
        tracer = await start_tracing(rig, f"http://{host}:{port}")
        for _ in range(3):
            await ping(rig)
        async with asyncio.timeout(10):
            await close_tracer(tracer)
