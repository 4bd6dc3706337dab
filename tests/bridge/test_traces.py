"""Traces across API, broker, car, store and sink; nobody's, and harmless (K25)."""

import asyncio
import socket
from pathlib import Path

import msgspec
import pytest

from bridge.settings import Settings, SinkSettings
from certs.fleet import FleetDirectory
from protocol.codes import FrameClass
from protocol.entry import event_id
from tests.bridge.car import RENTAL, REPORT
from tests.bridge.collector import collecting
from tests.bridge.running import Running, running_bridge, until
from tools.bridge_settings import local_settings
from transport.collector import TracingSettings

pytestmark = pytest.mark.broker


def traced(fleet: FleetDirectory, folder: Path, url: str) -> Settings:
    made = local_settings(
        fleet.path,
        state=folder,
        broker=("127.0.0.1", 1),
        api=("127.0.0.1", 0),
        webhook=f"{url}/hook",
    )
    tracing = TracingSettings(f"{url}/v1/traces", timeout_s=1.0)
    return msgspec.structs.replace(made, tracing=tracing)


async def ordered(running: Running) -> bytes:
    """Let a car carry out a ping; return the command's id."""
    await running.say(FrameClass.HELLO, running.car.hello())
    status, command = await running.order({"kind": "ping"})
    assert status == 202
    [sent] = running.commands()
    await running.say(FrameClass.RESULT, running.car.result(sent))
    status, command = await running.get(f"/v1/commands/{command['id']}?wait_s=5")
    assert command["state"] == "succeeded"
    return bytes.fromhex(command["id"])


async def test_a_command_is_one_trace_from_the_api_to_the_consumer(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    """K25: and none of it tells of a rental, a customer or a place."""
    async with collecting() as collector:
        settings = traced(fleet, tmp_path, collector.url)
        async with running_bridge(fleet, tmp_path, settings=settings) as running:
            command_id = await ordered(running)
            await running.say(FrameClass.EVENT, running.car.event(REPORT))
            await until(lambda: len(collector.posted) >= 3)
            seq, car = running.car.seq, running.car

        told = collector.named(command_id)
        assert set(told) == {
            *("command", "api.accept", "sign", "publish", "car", "uplink", "verify"),
            *("store", "receipt", "deliver"),
        }
        root = told.pop("command")
        assert not root.parent_span_id
        assert {span.parent_span_id for span in told.values()} == {root.span_id}
        for span in (root, *told.values()):
            assert 0 < span.start_time_unix_nano <= span.end_time_unix_nano

        entry = collector.named(event_id(car.id.raw, car.ledger_id, seq))
        assert set(entry) == {
            *("entry", "uplink", "verify", "store", "receipt", "deliver"),
        }
        parents = [posted.get("traceparent", "") for posted in collector.posted]
        deliver = told["deliver"]
        assert f"00-{command_id.hex()}-{deliver.span_id.hex()}-01" in parents
        everything = "".join(str(span.attributes) for span in collector.spans)
        assert "freefloat.kind" in everything
        for secret in (RENTAL.hex(), REPORT.authority.hex(), "latitude", "card"):
            assert secret not in everything


async def test_a_collector_that_is_down_costs_nothing_but_the_traces(
    fleet: FleetDirectory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unheard.getsockname()[1]}"
        settings = msgspec.structs.replace(
            traced(fleet, tmp_path, url), sinks=SinkSettings()
        )
        async with asyncio.timeout(60):
            async with running_bridge(fleet, tmp_path, settings=settings) as running:
                await ordered(running)
    said = [each for each in caplog.messages if "takes no traces" in each]
    assert len(said) == 1
    assert url in said[0]


async def test_without_its_section_nothing_is_traced(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    async with collecting() as collector:
        settings = msgspec.structs.replace(
            traced(fleet, tmp_path, collector.url), tracing=None
        )
        async with running_bridge(fleet, tmp_path, settings=settings) as running:
            await running.say(FrameClass.HELLO, running.car.hello())
            await until(lambda: len(collector.posted) >= 1)

        assert collector.spans == []
        assert "traceparent" not in collector.posted[0]
