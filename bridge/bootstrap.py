"""Puts the bridge together and takes it apart.

The composition root: the one place that reads the system's clock and randomness and
that knows every part. A caller needs three lines::

    async with open_bridge(settings, observer=print_frame) as bridge:
        print(bridge.api_url)
        await bridge.wait(stop)

Leaving the block drains: ``/ready`` says 503 for ``api.drain_s``, who waits for a
command is told its state, the API takes no more orders, the batch under way is
committed, acknowledged and receipted, then the store closes (I-34); in time, whatever
is away (`bridge.ending`).
"""

import asyncio
import contextlib
import os
import random
import re
import secrets
import socket
import stat
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from bridge import machine_clock
from bridge.admission import open_turnstile
from bridge.api.application import make_application
from bridge.api.at_once import ALL_AT_ONCE
from bridge.api.callers import Callers, open_callers
from bridge.api.streams import EventStreams
from bridge.approval_desk import ApprovalDesk
from bridge.checkpoints import watch_audit
from bridge.clock_watch import ClockWatch
from bridge.commands import Sendings
from bridge.configurator import Configurator
from bridge.consumers import make_sinks
from bridge.database import Topic
from bridge.databases import choose_database
from bridge.dispatch import Dispatcher
from bridge.ending import FLUSH_S, SINKS_S, STORE_S, WORK_S, Ending
from bridge.errors import SettingsError, StoreError
from bridge.expiry import ExpiryWatch, describe, watch_expiry
from bridge.figures import Figures
from bridge.fleet_files import (
    open_archive,
    open_material,
    read_fleet,
)
from bridge.gbfs.publisher import Publisher
from bridge.housekeeping import (
    Listener,
    keep_house,
    keep_time,
    keep_watch,
    wake,
)
from bridge.instant import Instant
from bridge.intake import Intake
from bridge.lease import Lease
from bridge.listener import listen, serve, url_of
from bridge.mds.documents import Provider
from bridge.metrics import make_metrics_application
from bridge.ports import Connect, Link, Observer, RandomBytes, WallClock
from bridge.registry import RegistryDirectory
from bridge.relay import Relay
from bridge.retention import Retention
from bridge.settings import Settings, check_settings
from bridge.signer import InProcessReceiptSigner
from bridge.signing.choice import choose_signer
from bridge.signing.client import SocketSeal
from bridge.steward import Steward
from bridge.store import Store
from bridge.survey import Survey
from bridge.wire import LOG, Wire
from protocol.fleet import Fleet
from transport.addresses import AddressMemory
from transport.collector import close_tracer, open_tracer
from transport.link import LinkSettings, MqttLink, VersionMemory
from transport.tls import TlsIdentity, client_context, common_name

BRIDGE_NAME: Final = re.compile(r"ff-(bridge|engineer)-[0-9]{1,4}")
"""Names of clients that are no vehicles."""

API_CONNECTIONS: Final = ALL_AT_ONCE + 128
"""More than requests may be under way: so one that is idle can always make room."""

SCRAPES: Final = 16
"""Connections at the metrics' port."""

SCRAPE_DRAIN_S: Final = 1
"""How long a scrape under way may take when the bridge stops; the next one misses."""

_OPEN_TO_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class Environment:
    """What a test replaces."""

    now: WallClock = machine_clock.wall_ms
    """UTC ms."""
    boot_ms: WallClock = machine_clock.boot_ms
    """This machine's boot clock in ms, which nobody sets."""
    boot_mark: str = field(default_factory=machine_clock.boot_mark)
    """Which boot of which machine that is."""
    random_bytes: RandomBytes = secrets.token_bytes
    """For ids and salts."""
    random: Callable[[], float] = field(default=random.SystemRandom().random)
    """For jitter."""
    connect: Connect | None = None
    """Instead of MQTT by the settings."""

    def instant(self) -> Instant:
        """Read both clocks."""
        return Instant(self.now(), self.boot_ms(), self.boot_mark)


class Bridge:
    """A running bridge, as `open_bridge` yields it."""

    def __init__(
        self,
        *,
        api_url: str,
        metrics_url: str | None,
        fleet: Fleet,
        wire: Wire,
        store: Store,
        intake: Intake,
        streams: EventStreams,
        registry: RegistryDirectory,
        expiry: ExpiryWatch,
        clock_watch: ClockWatch,
        seal: SocketSeal | None,
        callers: Callers,
    ) -> None:
        self.api_url = api_url
        """Where the API answers, without a slash at the end."""
        self.metrics_url = metrics_url
        """Where metrics answer, or None."""
        self.fleet = fleet
        """Whose cars."""
        self.store = store
        """What is known; for tests and the demo, read only."""
        self.streams = streams
        """Who listens to events."""
        self._wire = wire
        self._intake = intake
        self._registry = registry
        self._expiry = expiry
        self._clock_watch = clock_watch
        self._seal = seal
        self._callers = callers
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_stopping = False

    @property
    def is_connected(self) -> bool:
        """Whether there is a link to the broker now."""
        return self._wire.is_connected

    @property
    def is_signing(self) -> bool:
        """Whether commands can be signed: here, or by the signer's process."""
        return self._seal is None or not self._seal.last_error

    @property
    def queued_frames(self) -> int:
        """Messages taken from the link that wait to be verified."""
        return self._intake.queued

    @property
    def registered(self) -> int:
        """Vehicles in the registry."""
        return len(self._registry.current)

    async def wait_connected(self) -> None:
        """Wait until there is a link to the broker."""
        await self._wire.wait_connected()

    async def conditions(self) -> dict[str, str]:
        """Return what the bridge waits for; empty when it is ready."""
        if self._is_stopping:
            # Not the store: who distributes requests must hear it at once.
            return {"bridge": "stops: ask another one"}
        wrong = {}
        if not await self.store.is_writable():
            wrong["store"] = self.store.fault
        if not self._wire.is_connected:
            wrong["broker"] = self._intake.last_error or "not connected yet"
        if self._seal is not None and self._seal.last_error:
            wrong["signer"] = self._seal.last_error
        return wrong

    def warnings(self) -> dict[str, str]:
        """Return what works today and needs somebody soon, by its name."""
        found = {one.name: describe(one) for one in self._expiry.soon()}
        if self._registry.alarm:
            found["registry"] = self._registry.alarm
        if self._clock_watch.alarm:
            found["clock"] = self._clock_watch.alarm
        if self._callers.hint:
            found["approvals"] = self._callers.hint
        return found

    def alarms(self) -> dict[str, bool]:
        """Return for registry and clock whether they are in alarm."""
        return {
            "registry": bool(self._registry.alarm),
            "clock": bool(self._clock_watch.alarm),
        }

    def days_left(self) -> dict[str, int]:
        """Return in how many days what ends, the first first."""
        return {ending.name: ending.days for ending in self._expiry.current}

    async def wait(self, stop: asyncio.Event) -> None:
        """Wait until `stop` is set.

        Raises:
            BaseException: what ended a part of the bridge, which is a defect.
        """
        stopped = asyncio.create_task(stop.wait())
        try:
            done, _pending = await asyncio.wait(
                {stopped, *self._tasks}, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            stopped.cancel()
        for task in done - {stopped}:
            task.result()

    async def _drain(self, notice_s: float, dispatcher: Dispatcher) -> None:
        """Be unready for a while, then let go of who waits."""
        self._is_stopping = True
        await asyncio.sleep(notice_s)
        dispatcher.release()

    def _start(self, work: Coroutine[None, None, None], name: str) -> None:
        self._tasks.add(asyncio.create_task(work, name=name))

    async def _stop(self, ending: Ending) -> None:
        for task in self._tasks:
            task.cancel()
        late = await ending.settle(self._tasks, until_s=WORK_S)
        for task in self._tasks:
            if task in late:
                LOG.warning("= given up at the end: %s", task.get_name())
            elif not task.cancelled() and task.exception() is not None:
                LOG.error("= a part of the bridge failed", exc_info=task.exception())


@contextlib.asynccontextmanager
async def open_bridge(
    settings: Settings,
    *,
    observer: Observer | None = None,
    environment: Environment | None = None,
) -> AsyncIterator[Bridge]:
    """Start a bridge; it runs inside the block and is drained at its end.

    A broker that is down is no error: the bridge says so and keeps trying.

    Args:
        settings: as `bridge.settings` reads them.
        observer: told of every frame in and out; must return at once.
        environment: what a test replaces.

    Raises:
        SettingsError: a setting, a file, the port or the store cannot be used.
        TransportError: the TLS identity cannot be used. In both cases nothing runs.
    """
    world = environment or Environment()
    check_settings(settings)
    fleet = read_fleet(settings)
    connect = world.connect or _make_connect(settings, world)
    material = await asyncio.to_thread(open_material, settings, fleet, now=world.now)
    registry = material.registry
    figures = Figures()
    callers = open_callers(
        settings, now=world.now, boot_ms=world.boot_ms, figures=figures
    )
    store = Store(choose_database(settings), fleet_id=fleet.fleet_id)
    holder = f"{socket.gethostname()}-{os.getpid()}-{world.random_bytes(4).hex()}"[-64:]
    wire = Wire(observer)
    sendings = Sendings()
    streams = EventStreams(store, settings.rates.streams, figures=figures)
    tracer = open_tracer(settings.tracing, service="freefloat-bridge", instance=holder)
    relays = tuple(
        Relay(
            sink,
            store,
            now=world.now,
            random=world.random,
            holder=holder,
            tracer=tracer,
        )
        for sink in make_sinks(settings, now=world.now)
    )
    signer, seal = choose_signer(
        settings,
        material,
        store,
        fleet_id=fleet.fleet_id,
        holder=holder,
        now=world.now,
        random=world.random,
        random_bytes=world.random_bytes,
    )
    dispatcher = Dispatcher(
        store=store,
        registry=registry,
        signer=signer,
        wire=wire,
        sendings=sendings,
        fleet_id=fleet.fleet_id,
        instant=world.instant,
        random_bytes=world.random_bytes,
        lease=Lease(store, "commands", holder=holder),
        figures=figures,
        tracer=tracer,
        on_events=lambda: wake((*relays, streams)),
    )
    desk = ApprovalDesk(
        settings.approvals,
        store=store,
        dispatcher=dispatcher,
        now=world.now,
        random_bytes=world.random_bytes,
        lease=Lease(store, "approvals", holder=holder),
        on_events=lambda: wake((*relays, streams)),
        on_configured=lambda vehicle: steward.wanted([vehicle]),
    )
    retention = Retention(
        settings.retention,
        store,
        sinks=settings.sinks.names,
        now=world.now,
        holder=holder,
    )
    clock_watch = ClockWatch()
    steward = Steward(
        store=store,
        trust=lambda: material.trust.current,
        signer=signer,
        configurator=Configurator(
            store=store, signer=signer, wire=wire, instant=world.instant
        ),
        wire=wire,
        instant=world.instant,
    )
    intake = Intake(
        connect=connect,
        wire=wire,
        store=store,
        registry=registry,
        receipt_signer=InProcessReceiptSigner(
            lambda: material.receipt_keys.keys,
            lambda: material.trust.current,
            fleet_id=fleet.fleet_id,
            random_bytes=world.random_bytes,
        ),
        fleet_id=fleet.fleet_id,
        instant=world.instant,
        random=world.random,
        sendings=sendings,
        on_commands=dispatcher.changed,
        on_events=lambda: wake((*relays, streams)),
        on_greeted=steward.greeted,
        on_receipt=steward.receipted,
        clock_watch=clock_watch,
        figures=figures,
        turnstile=open_turnstile(settings.intake, figures),
        tracer=tracer,
        share=settings.broker.share,
    )
    expiry = watch_expiry(
        settings, lambda: material.trust.current.newest, now=world.now
    )
    await asyncio.to_thread(expiry.look)
    async with contextlib.AsyncExitStack() as stack:
        listener = stack.enter_context(
            listen(settings.api.host, settings.api.port, name="api", what="the API")
        )
        scraped: socket.socket | None = None
        if settings.metrics is not None:
            scraped = stack.enter_context(
                listen(
                    settings.metrics.host,
                    settings.metrics.port,
                    name="metrics",
                    what="metrics",
                )
            )
        ending = Ending()
        stack.push_async_callback(
            ending.let, "traces", lambda: close_tracer(tracer), until_s=STORE_S
        )
        await asyncio.to_thread(store.open)
        stack.push_async_callback(ending.let, "the store", store.close, until_s=STORE_S)
        bridge = Bridge(
            api_url=url_of(listener),
            metrics_url=None if scraped is None else f"{url_of(scraped)}/metrics",
            fleet=fleet,
            wire=wire,
            store=store,
            intake=intake,
            streams=streams,
            registry=registry,
            expiry=expiry,
            clock_watch=clock_watch,
            seal=seal,
            callers=callers,
        )
        for relay in relays:
            await relay.open()
            stack.push_async_callback(
                ending.let, f"sink {relay.name}", relay.close, until_s=SINKS_S
            )
        stack.push_async_callback(
            ending.let, "the last write", lambda: _flush(intake), until_s=FLUSH_S
        )
        stack.push_async_callback(bridge._stop, ending)  # noqa: SLF001 - its own composition
        for name, work in (
            ("intake", intake.run()),
            ("commands", dispatcher.run()),
            ("approvals", desk.run()),
            ("expiry", keep_watch(expiry)),
            ("clock", keep_time(clock_watch, now=world.now, boot_ms=world.boot_ms)),
            ("steward", steward.run()),
            ("retention", retention.run()),
            ("signals", _hear(store, intake, dispatcher, (*relays, streams))),
            (
                "housekeeping",
                keep_house(material, intake, store, (*relays, streams), now=world.now),
            ),
            *((f"sink {relay.name}", relay.run()) for relay in relays),
            *watch_audit(
                settings.audit,
                store,
                fleet_id=fleet.fleet_id,
                key=lambda: material.receipt_keys.keys[-1],
                now=world.now,
            ),
            *(() if callers.tokens is None else (("tokens", callers.tokens.run()),)),
            *(() if seal is None else (("signer", seal.run()),)),
        ):
            bridge._start(work, name)  # noqa: SLF001 - its own composition
        app = make_application(
            store=store,
            registry=registry,
            dispatcher=dispatcher,
            desk=desk,
            judge=intake,
            upkeep=steward,
            trust=lambda: material.trust.current,
            archive=open_archive(settings, fleet),
            relays=relays,
            streams=streams,
            readiness=bridge,
            now=world.now,
            random_bytes=world.random_bytes,
            callers=callers,
            figures=figures,
            provider=Provider(settings.mds, settings.stations)
            if settings.mds
            else None,
            publisher=Publisher(
                settings.gbfs,
                store,
                registry,
                stations=settings.stations,
                now=world.now,
            )
            if settings.gbfs
            else None,
        )
        await stack.enter_async_context(serve(app, listener, most=API_CONNECTIONS))
        stack.callback(streams.stop)
        if scraped is not None:
            survey = Survey(store, relays, bridge, now=world.now)
            await stack.enter_async_context(_serve_metrics(figures, survey, scraped))
        LOG.info(
            "= fleet %s, %d vehicles, API at %s",
            fleet.name,
            len(registry.current),
            bridge.api_url,
        )
        yield bridge
        LOG.info("= stopping")
        await bridge._drain(settings.api.drain_s, dispatcher)  # noqa: SLF001 - as above


@contextlib.asynccontextmanager
async def _serve_metrics(
    figures: Figures, survey: Survey, listener: socket.socket
) -> AsyncIterator[None]:
    metrics = make_metrics_application(figures, survey)
    async with serve(metrics, listener, most=SCRAPES, drain_s=SCRAPE_DRAIN_S):
        LOG.info("= metrics at %s/metrics", url_of(listener))
        yield


async def _hear(
    store: Store,
    intake: Intake,
    dispatcher: Dispatcher,
    listeners: tuple[Listener, ...],
) -> None:
    """Act on what other bridges on the same database say."""
    async for signal in store.signals():
        match signal.topic:
            case Topic.OUTBOX:
                wake(listeners)
            case Topic.COMMANDS:
                dispatcher.stirred(bytes.fromhex(signal.word))
            case Topic.KEYS:
                intake.forget_keys()


async def _flush(intake: Intake) -> None:
    with contextlib.suppress(StoreError):
        await intake.flush()


def _make_connect(settings: Settings, world: Environment) -> Connect:
    identity = TlsIdentity(settings.certificate, settings.key, settings.trust_anchors)
    versions, addresses = VersionMemory(), AddressMemory()

    def utc() -> datetime:
        return datetime.fromtimestamp(world.now() / 1000, UTC)

    # Once now, so that a missing or expired certificate is said at the start.
    client_context(identity, now=utc())
    name = common_name(identity)
    if not BRIDGE_NAME.fullmatch(name):
        raise SettingsError(
            f"certificate {settings.certificate} is of {name}, which is no bridge",
            advice="name bridge/1/tls.crt of the fleet directory",
        )
    link_settings = LinkSettings(
        settings.broker.host,
        settings.broker.port,
        client_id=name,
        other_hosts=settings.broker.other_hosts,
        version=settings.broker.version,
        receive_maximum=1024,
        inbox_limit=1024,
        in_flight=256,
    )

    def connect() -> AbstractAsyncContextManager[Link]:
        # Read anew each time: the certificate may have been renewed meanwhile.
        context = client_context(identity, now=utc())
        return MqttLink(link_settings, context, versions=versions, addresses=addresses)

    return connect
