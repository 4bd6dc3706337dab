"""The bridge's settings: a TOML file, typed, with every unknown key refused.

Relative paths are taken from the directory of the file. A fleet directory as
`freefloat certs init` makes it gives the default of every path. `freefloat bridge run
--help` shows a small file, deploy/bridge.toml a whole one.
"""

import re
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit
from zoneinfo import available_timezones

import msgspec

from bridge.errors import SettingsError
from bridge.names import NAME
from bridge.observation import LogSettings
from bridge.publication import GbfsSettings, MdsSettings, StationSettings
from protocol.fleet import FleetPart, TlsPart
from transport.collector import TracingSettings
from transport.link import MqttVersion

FILE_LIMIT: Final = 65_536
"""Bytes of a settings file."""

SUBJECT: Final = r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$"
"""What the subjects of a sink begin with: NATS' tokens, no wildcards."""


Port = Annotated[int, msgspec.Meta(ge=1, le=65_535)]
ListenPort = Annotated[int, msgspec.Meta(ge=0, le=65_535)]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=4_096)]
SinkName = Annotated[str, msgspec.Meta(pattern=NAME)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=300)]


class FleetSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the fleet's public and private parts lie."""

    directory: Text
    """A fleet directory; gives the default of every path below and of ``[tls]``."""
    registry: Text | None = None
    """Directory of vehicle records."""
    trust_bundle: Text | None = None
    """The signed trust bundle that cars hold."""
    command_key: Text | None = None
    """Ed25519 key that signs commands."""
    receipt_key: Text | None = None
    """Ed25519 key that signs receipts."""


class BrokerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the broker is."""

    host: Text = "127.0.0.1"
    """Name or address; the broker's certificate must name it."""
    port: Port = 8883
    """TCP port."""
    other_hosts: tuple[Text, ...] = ()
    """Tried in this order, at the same port, where host gives no link."""
    version: MqttVersion = MqttVersion.AUTO
    """auto, 5 or 311."""
    share: Annotated[str, msgspec.Meta(pattern=NAME)] | None = None
    """Name of the shared subscription that this bridge takes part in; the same for
    every bridge of the fleet, and only with store.url."""


class TlsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The bridge's own TLS identity; its CN is the MQTT client id."""

    certificate: Text | None = None
    """PEM, leaf and issuing CA."""
    key: Text | None = None
    """PEM, mode 0600."""
    trust_anchors: Text | None = None
    """PEM, the fleet's roots."""


class StoreSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where everything is kept."""

    path: Text = "bridge.sqlite"
    """The SQLite file; used unless `url` is set."""
    url: Text | None = None
    """A PostgreSQL that several bridges share, without the password."""
    password_file: Text | None = None
    """Holds its password; mode 0600. Without it libpq's own ways count."""
    trust_anchors: Text | None = None
    """PEM: whom we trust as its server; needed where `url` leads to another machine."""
    certificate: Text | None = None
    """Our certificate there, in PEM, if it asks for one."""
    key: Text | None = None
    """Its key, in PEM; mode 0600."""
    without_tls: bool = False
    """Speak with a database on another machine in the clear."""


class ApiSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The HTTP API."""

    host: Text = "127.0.0.1"
    """Address to listen at."""
    port: ListenPort = 8080
    """TCP port; 0 lets the system choose."""
    keys_file: Text | None = None
    """One key a line, mode 0600."""
    without_key: bool = False
    """Let everybody on this machine in; allowed on loopback only."""
    drain_s: Annotated[float, msgspec.Meta(ge=0, le=60)] = 0.0
    """How long the API answers after the order to stop, while ``/ready`` says 503: the
    time in which whoever distributes requests notices."""


class MetricsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where Prometheus asks; without this section nothing listens."""

    host: Text = "127.0.0.1"
    """Address to listen at; whoever reaches it needs no key."""
    port: ListenPort = 9464
    """TCP port; 0 lets the system choose."""


class JsonLinesSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of events."""

    name: SinkName
    """Names its cursor: a new name begins at the first event."""
    path: Text
    """The file."""


class WebhookSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A consumer by HTTP."""

    name: SinkName
    """Names its cursor: a new name begins at the first event."""
    url: Annotated[str, msgspec.Meta(pattern=r"^https?://[^\s@]+$", max_length=2_048)]
    """Where to post; without user name and password."""
    secret_file: Text
    """Holds ``whsec_`` and base64, one or two lines; mode 0600. Read anew when it
    changes: while a secret is replaced both are signed with."""
    timeout_s: Seconds = 10.0
    """How long one attempt may take."""


class JetStreamSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A stream of NATS JetStream, which somebody made."""

    name: SinkName
    """Names its cursor: a new name begins at the first event."""
    url: Annotated[
        str, msgspec.Meta(pattern=r"^(nats|tls)://[^\s@]+$", max_length=2_048)
    ]
    """Where the server is; without user name and password."""
    stream: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    """The stream that must take the events."""
    subject: Annotated[str, msgspec.Meta(pattern=SUBJECT, max_length=128)] = "freefloat"
    """What subjects begin with: ``<subject>.<vehicle>.<type>``."""
    credentials_file: Text | None = None
    """A NATS credentials file; mode 0600."""
    trust_anchors: Text | None = None
    """PEM: whom we trust as server, with ``tls://``."""
    timeout_s: Seconds = 5.0
    """How long the server may take to say that it has an event."""


class KafkaSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A topic of Kafka, which somebody made."""

    name: SinkName
    """Names its cursor: a new name begins at the first event."""
    servers: Text
    """``host:port``, several with commas."""
    topic: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
    """Keyed by vehicle, so that a vehicle's events stay in order."""
    options_file: Text | None = None
    """librdkafka's own settings, such as ``security.protocol``, as TOML; mode 0600."""
    timeout_s: Seconds = 30.0
    """How long the brokers may take to say that they have an event."""


class SinkSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where events go."""

    json_lines: tuple[JsonLinesSettings, ...] = ()
    """Files."""
    webhook: tuple[WebhookSettings, ...] = ()
    """HTTP consumers."""
    jetstream: tuple[JetStreamSettings, ...] = ()
    """Streams of NATS."""
    kafka: tuple[KafkaSettings, ...] = ()
    """Topics of Kafka."""

    @property
    def names(self) -> tuple[str, ...]:
        """Every sink's name."""
        return (
            *(sink.name for sink in self.json_lines),
            *(sink.name for sink in self.webhook),
            *(sink.name for sink in self.jetstream),
            *(sink.name for sink in self.kafka),
        )


Days = Annotated[int, msgspec.Meta(ge=1, le=3_650)]


class RetentionSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long is kept what need not be kept for ever (docs/operations.md, 8)."""

    places_days: Days = 30
    """Where a rental began, parked and ended, after it is over: as long as a customer
    may dispute the bill. A place without an entry, since it came."""
    telemetry_hours: Annotated[int, msgspec.Meta(ge=1, le=8_760)] = 24
    """Samples."""
    events_days: Days = 30
    """Events that every sink has taken: how far back a replay can go."""
    letters_days: Days = 90
    """What was received and not believed."""
    mds_days: Days = 730
    """What a city was told of vehicles; no position stands in it. MDS asks for two
    years."""


class ApprovalSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which orders of operators need a second person (docs/operations.md)."""

    required: bool = True
    """False: none do, and one key can stop the whole fleet."""
    window_s: Annotated[int, msgspec.Meta(ge=60, le=86_400)] = 600
    """How far back vehicles are counted."""
    vehicles_per_caller: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 20
    """Different vehicles that one operator may reach within it."""
    vehicles: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 60
    """Different vehicles that all operators together may reach within it."""
    expire_s: Annotated[int, msgspec.Meta(ge=60, le=86_400)] = 900
    """How long an order waits for its second person."""
    signed: bool = False
    """Who approves must sign with a key of their own: a signer in a process of its own
    asks for that (`freefloat signer run`)."""


class SignerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A signer in a process of its own; without it the bridge signs itself."""

    socket: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    """The Unix socket of `freefloat signer run`."""


class AuditSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What shows that nobody was at the audit trail."""

    checkpoints: Text | None = None
    """File of signed heads of the trail; copy it to where the store's administrators
    do not reach."""


RoleName = Literal["agency", "viewer", "approver", "service", "operator", "admin"]


class OidcSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bearer tokens of an OpenID provider, beside API keys."""

    issuer: Annotated[str, msgspec.Meta(pattern=r"^https?://[^\s@]+$", max_length=512)]
    """Exactly as tokens name it; https, or http on this machine."""
    audience: Text
    """What tokens must be for."""
    roles: Annotated[dict[str, RoleName], msgspec.Meta(min_length=1, max_length=256)]
    """Value of the claim: role here."""
    role_claim: Text = "roles"
    """Which claim has the values; dots lead into objects."""
    leeway_s: Annotated[int, msgspec.Meta(ge=0, le=300)] = 30
    """How far the provider's clock may be from ours."""


PerMinute = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


AtOnce = Annotated[int, msgspec.Meta(ge=1, le=512)]
Streams = Annotated[int, msgspec.Meta(ge=1, le=64)]


class RateSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How often each caller of the API may call in a minute, and how much at once.

    At each bridge.
    """

    calls: PerMinute = 6_000
    """Calls of any kind."""
    orders: PerMinute = 6_000
    """Calls of a service that order or change something."""
    person_orders: PerMinute = 120
    """The same of every other role."""
    failures: PerMinute = 30
    """Calls from one address with a wrong key or token, or without."""
    at_once: AtOnce = 128
    """Requests of one caller that may be under way, long polls among them."""
    streams: Streams = 8
    """Event streams of one caller."""


PerSecond = Annotated[float, msgspec.Meta(ge=0.1, le=10_000)]
Frames = Annotated[int, msgspec.Meta(ge=1, le=100_000)]


class IntakeSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much each car may send, at each bridge (`bridge.admission`)."""

    telemetry_per_s: PerSecond = 10.0
    """Frames of telemetry a second; beyond it they are dropped."""
    telemetry_burst: Frames = 300
    """Frames of telemetry that may come at once, as after an outage."""
    entries_per_s: PerSecond = 50.0
    """Other frames a second; beyond it they wait."""
    entries_burst: Frames = 512
    """Other frames that may come at once: eight times a car's largest credit."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of it."""

    fleet: FleetSettings
    """The fleet."""
    broker: BrokerSettings = BrokerSettings()
    """The broker."""
    tls: TlsSettings = TlsSettings()
    """Our identity."""
    store: StoreSettings = StoreSettings()
    """The database."""
    api: ApiSettings = ApiSettings()
    """The HTTP API."""
    metrics: MetricsSettings | None = None
    """The metrics' own port."""
    sinks: SinkSettings = SinkSettings()
    """The consumers."""
    retention: RetentionSettings = RetentionSettings()
    """How long is kept what need not be."""
    mds: MdsSettings | None = None
    """What a city is given; nothing without it."""
    gbfs: GbfsSettings | None = None
    """What everybody is given; nothing without it."""
    stations: tuple[StationSettings, ...] = ()
    """Where cars have room of their own: told to a city and to everybody."""
    signer: SignerSettings | None = None
    """Who signs commands, if not the bridge itself."""
    tracing: TracingSettings | None = None
    """Traces; none without it."""
    log: LogSettings = LogSettings()
    """The log."""
    audit: AuditSettings = AuditSettings()
    """The audit trail."""
    oidc: OidcSettings | None = None
    """Whose tokens count beside API keys."""
    intake: IntakeSettings = IntakeSettings()
    """How much each car may send."""
    rates: RateSettings = RateSettings()
    """How often callers may call."""
    approvals: ApprovalSettings = ApprovalSettings()
    """Which orders need a second person."""

    def part(self, part: FleetPart, given: str | None = None) -> Path:
        """Return a path of the fleet directory, unless another one is set."""
        return Path(given) if given else Path(self.fleet.directory) / part

    @property
    def certificate(self) -> Path:
        """Our TLS certificate."""
        given = self.tls.certificate
        return Path(given) if given else self._bridge / TlsPart.CERTIFICATE

    @property
    def key(self) -> Path:
        """Our TLS key."""
        return Path(self.tls.key) if self.tls.key else self._bridge / TlsPart.KEY

    @property
    def trust_anchors(self) -> Path:
        """Whom we trust as broker."""
        return self.part(FleetPart.TRUST_ANCHORS, self.tls.trust_anchors)

    @property
    def _bridge(self) -> Path:
        return self.part(FleetPart.BRIDGE)


def parse_settings(data: bytes, *, directory: Path) -> Settings:
    """Read a settings file.

    Args:
        data: the file's bytes.
        directory: what relative paths are relative to.

    Raises:
        SettingsError: no TOML, an unknown key or a wrong value; the message says where.
    """
    if len(data) > FILE_LIMIT:
        raise SettingsError(f"settings have {len(data)} bytes, limit {FILE_LIMIT}")
    try:
        raw = msgspec.toml.decode(data, type=Settings)
    except msgspec.ValidationError as error:
        raise SettingsError(
            f"settings: {_sentence(error)}",
            advice="see `freefloat bridge run --help` for an example",
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        raise SettingsError(
            f"settings are not TOML: {error}", advice="see https://toml.io"
        ) from None
    return anchored(raw, directory)


def load_settings(path: Path) -> Settings:
    """Read a settings file from disk.

    Raises:
        SettingsError: it cannot be read, or as `parse_settings`.
    """
    try:
        with path.open("rb") as file:
            data = file.read(FILE_LIMIT + 1)
    except OSError as error:
        raise SettingsError(
            f"settings {path} cannot be read: {error.strerror}",
            advice="check the path given with --config",
        ) from error
    return parse_settings(data, directory=path.parent)


def anchored(settings: Settings, directory: Path) -> Settings:
    """Return the settings with every relative path taken from `directory`."""

    def at(path: str) -> str:
        return str(directory / path)

    def perhaps(path: str | None) -> str | None:
        return None if path is None else at(path)

    replace = msgspec.structs.replace
    fleet, tls, sinks = settings.fleet, settings.tls, settings.sinks
    return replace(
        settings,
        fleet=replace(
            fleet,
            directory=at(fleet.directory),
            registry=perhaps(fleet.registry),
            trust_bundle=perhaps(fleet.trust_bundle),
            command_key=perhaps(fleet.command_key),
            receipt_key=perhaps(fleet.receipt_key),
        ),
        tls=replace(
            tls,
            certificate=perhaps(tls.certificate),
            key=perhaps(tls.key),
            trust_anchors=perhaps(tls.trust_anchors),
        ),
        store=replace(
            settings.store,
            path=at(settings.store.path),
            password_file=perhaps(settings.store.password_file),
            trust_anchors=perhaps(settings.store.trust_anchors),
            certificate=perhaps(settings.store.certificate),
            key=perhaps(settings.store.key),
        ),
        signer=None
        if settings.signer is None
        else replace(settings.signer, socket=at(settings.signer.socket)),
        audit=replace(settings.audit, checkpoints=perhaps(settings.audit.checkpoints)),
        api=replace(settings.api, keys_file=perhaps(settings.api.keys_file)),
        sinks=SinkSettings(
            tuple(replace(s, path=at(s.path)) for s in sinks.json_lines),
            tuple(replace(s, secret_file=at(s.secret_file)) for s in sinks.webhook),
            tuple(
                replace(
                    s,
                    credentials_file=perhaps(s.credentials_file),
                    trust_anchors=perhaps(s.trust_anchors),
                )
                for s in sinks.jetstream
            ),
            tuple(
                replace(s, options_file=perhaps(s.options_file)) for s in sinks.kafka
            ),
        ),
    )


def check_settings(settings: Settings) -> None:
    """Refuse settings that contradict one another.

    Raises:
        SettingsError: names the setting and what to do.
    """
    names = settings.sinks.names
    for name in names:
        if names.count(name) > 1:
            raise SettingsError(
                f"two sinks are named {name}",
                advice="give each sink a name of its own: it names its cursor",
            )
    _check_ids(settings)
    _check_zone(settings.gbfs)
    if settings.broker.share is not None and settings.store.url is None:
        raise SettingsError(
            "broker.share needs a store that bridges share",
            advice="set store.url to a PostgreSQL, or leave broker.share out",
        )
    _check_store(settings.store)
    if settings.signer is not None and settings.fleet.command_key is not None:
        raise SettingsError(
            "fleet.command_key is set, and signer.socket too",
            advice="leave fleet.command_key out: the key is the signer's",
        )
    api = settings.api
    oidc = settings.oidc
    if oidc is not None and api.without_key:
        raise SettingsError(
            "api.without_key lets everybody in, and oidc is set",
            advice="leave one of the two out",
        )
    if oidc is not None and not _is_private(oidc.issuer):
        raise SettingsError(
            "oidc.issuer is plain http on another machine",
            advice="use https: whoever is between could give themselves a role",
        )
    if api.keys_file is None and oidc is None and not api.without_key:
        raise SettingsError(
            "the API has no key file",
            advice="set api.keys_file, or api.without_key = true on loopback",
        )
    if api.keys_file is None and oidc is None and not is_loopback(api.host):
        raise SettingsError(
            f"the API would listen at {api.host} without a key",
            advice="set api.keys_file, or api.host to 127.0.0.1",
        )


def _check_store(store: StoreSettings) -> None:
    for name in ("password_file", "trust_anchors", "certificate", "key", "without_tls"):
        if getattr(store, name) and store.url is None:
            raise SettingsError(
                f"store.{name} is set and store.url is not",
                advice=f"set store.url, or leave store.{name} out: a file needs none",
            )


def _is_private(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "https" or is_loopback(parts.hostname or "")


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    return host in {"localhost", "::1"} or bool(
        re.fullmatch(r"127(\.\d{1,3}){3}", host)
    )


def _sentence(error: msgspec.ValidationError) -> str:
    text = str(error)
    return text[:1].lower() + text[1:].replace("`", "'")


def _check_zone(gbfs: GbfsSettings | None) -> None:
    """Refuse a time zone that nobody knows: every reader of the feed would get it."""
    known = available_timezones()  # none on a machine without their list
    if gbfs is not None and known and gbfs.timezone not in known:
        raise SettingsError(
            f"gbfs.timezone {gbfs.timezone!r} is no time zone",
            advice="name one as IANA does, such as Europe/Berlin",
        )


def _check_ids(settings: Settings) -> None:
    plans = settings.gbfs.plans if settings.gbfs is not None else ()
    for what, ids in (
        ("stations", [one.id for one in settings.stations]),
        ("gbfs.plans", [one.id for one in plans]),
    ):
        twice = next((one for one in ids if ids.count(one) > 1), None)
        if twice is not None:
            raise SettingsError(
                f"two {what} have the id {twice}",
                advice="give each an id of its own: others know it by that",
            )
