"""deploy/emqx as far as it can be judged without EMQX, which nobody here could run.

Rules are decided by `tests.deploy.emqx_rules`, which was written from EMQX's source;
whom they must let do what is the table of the brokers that are run.
"""

import itertools
import re
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

import pytest

from bridge import bootstrap
from bridge.broker.access import BRIDGE_GRANT, ENGINEER_GRANT, Grant, vehicle_grant
from protocol.identity import VehicleId
from protocol.topic import DOWN_CLASSES, UP_CLASSES, downlinks_of
from tests.broker.room import (
    BRIDGE,
    DOWNS,
    ENGINEER,
    OTHER_BRIDGE,
    UNKNOWN,
    UPS,
    VEHICLE_A,
    VEHICLE_B,
    down,
    up,
)
from tests.broker.test_confinement import (
    FILTERS,
    NEEDED,
    PUBLISHABLE,
    READABLE,
    TOPICS,
)
from tests.deploy.emqx_rules import Action, is_allowed, rules_in
from transport.message import MAXIMUM_PACKET

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
SETTINGS: Final = DEPLOY / "emqx/emqx.conf"
RULES: Final = DEPLOY / "emqx/acl.conf"

TLS: Final = "listeners.ssl.default.ssl_options."
FOLDER: Final = "/etc/emqx/freefloat"

CHECKED: Final = {
    "node.name": '"emqx@127.0.0.1"',
    "node.data_dir": '"/var/lib/emqx"',
    "dashboard.listeners.http.bind": "0",
    "telemetry.enable": "false",
    "listeners.tcp.default.enable": "false",
    "listeners.ws.default.enable": "false",
    "listeners.wss.default.enable": "false",
    "listeners.ssl.default.bind": '"0.0.0.0:8883"',
    f"{TLS}verify": "verify_peer",
    f"{TLS}fail_if_no_peer_cert": "true",
    "listeners.ssl.default.enable_authn": "false",
    f"{TLS}versions": '["tlsv1.3"]',
    f"{TLS}cacertfile": f'"{FOLDER}/trust-anchors.pem"',
    f"{TLS}certfile": f'"{FOLDER}/tls.crt"',
    f"{TLS}keyfile": f'"{FOLDER}/tls.key"',
    "mqtt.peer_cert_as_username": "cn",
    "mqtt.peer_cert_as_clientid": "cn",
    "authorization.no_match": "deny",
    "authorization.deny_action": "ignore",
    "authorization.cache.enable": "false",
    "authorization.sources": (
        f'[{{type = file, enable = true, path = "{FOLDER}/acl.conf"}}]'
    ),
    "mqtt.max_packet_size": "8KB",
    "mqtt.retain_available": "false",
    "mqtt.max_inflight": "1024",
    "mqtt.max_mqueue_len": "100000",
    "force_shutdown.max_mailbox_size": "100000",
    "force_shutdown.max_heap_size": "512MB",
}
"""Every key whose place, type and default were looked up in EMQX's source. A key that
EMQX does not know keeps it from starting, so another one must be looked up too."""

ASSIGNMENT: Final = re.compile(
    r"(?P<key>[a-z_]+(?:\.[a-z_]+)+) = "
    r'(?P<value>"[^"\\]*"|[a-z0-9_]+|\d+[KM]B|\["[^"\\]*"\]|\[\{[^{}]*\}\])'
)
"""The part of HOCON that the file keeps to: one whole path and one value a line."""


def assignments() -> dict[str, str]:
    found: dict[str, str] = {}
    for line in SETTINGS.read_text().splitlines():
        if line and not line.startswith("#"):
            match = ASSIGNMENT.fullmatch(line)
            assert match is not None, line
            assert match["key"] not in found, line
            found[match["key"]] = match["value"]
    return found


def test_every_setting_is_one_that_was_looked_up_and_stands_once() -> None:
    assert assignments() == CHECKED


@pytest.mark.parametrize(("file", "mark"), [(SETTINGS, "#"), (RULES, "%%")])
def test_every_setting_and_every_rule_has_a_reason_above_it(
    file: Path, mark: str
) -> None:
    """Issue 5, point 7."""
    paragraphs = file.read_text().strip().split("\n\n")

    assert len(paragraphs) > 6
    assert all(paragraph.startswith(f"{mark} ") for paragraph in paragraphs)


def mosquitto(key: str) -> str:
    text = (DEPLOY / "mosquitto.conf").read_text()
    [value] = re.findall(rf"^{key} (.*)$", text, flags=re.MULTILINE)[:1]
    return str(value)


def hivemq(path: str) -> str:
    return ET.parse(DEPLOY / "hivemq/config.xml").findtext(path, "")  # noqa: S314 - ours


def test_its_limits_are_those_of_the_code_and_of_the_brokers_that_are_run() -> None:
    ours = assignments()
    kilobytes = int(ours["mqtt.max_packet_size"].removesuffix("KB"))
    window = re.search(r"\breceive_maximum=(\d+)", Path(bootstrap.__file__).read_text())

    assert kilobytes * 1024 == MAXIMUM_PACKET == int(mosquitto("max_packet_size"))
    assert ours["mqtt.retain_available"] == mosquitto("retain_available") == "false"
    assert ours[f"{TLS}versions"] == f'["{mosquitto("tls_version")}"]'
    assert ours["listeners.ssl.default.bind"] == '"0.0.0.0:8883"'
    assert mosquitto("listener") == "8883 0.0.0.0"
    assert ours["mqtt.max_mqueue_len"] == hivemq("mqtt/queued-messages/max-queue-size")
    assert window is not None
    assert ours["mqtt.max_inflight"] == window[1]
    # The process that holds the queue must bear it, at 1 kB for each message and twice
    # that again, or it is killed before the queue is full.
    megabytes = int(ours["force_shutdown.max_heap_size"].removesuffix("MB"))
    assert megabytes * 2**20 > 3 * 1024 * int(ours["mqtt.max_mqueue_len"])


READ: Final = rules_in(RULES.read_text())


def allowed(name: str, action: Action, topic: str) -> bool:
    no_match = assignments()["authorization.no_match"] == "allow"
    return is_allowed(READ, name, action, topic, no_match=no_match)


@pytest.mark.parametrize("principal", PUBLISHABLE)
def test_a_principal_publishes_exactly_what_it_may(principal: str) -> None:
    """By the rules: that EMQX does so, nobody has seen."""
    may = {topic for topic in TOPICS if allowed(principal, "publish", topic)}

    assert may == PUBLISHABLE[principal]


def delivered(topic_filter: str) -> set[str]:
    """Return those of everybody's topics that a subscription matches."""
    real = re.sub(r"^\$share/[^/]*/", "", topic_filter)
    if real.startswith("$"):
        return set()
    words = real.split("/")
    pattern = "/".join(
        "[^/]+" if word == "+" else re.escape(word) for word in words if word != "#"
    )
    tail = r"(/.*)?" if words[-1] == "#" else ""
    if words == ["#"]:
        pattern, tail = ".*", ""
    return {t for t in (*UPS, *DOWNS) if re.fullmatch(pattern + tail, t)}


def every_filter() -> list[str]:
    """Return every way to ask for topics of two cars, with wildcards anywhere."""
    levels = (
        ("ff", "+"),
        ("v1", "+"),
        (VEHICLE_A, VEHICLE_B, "+"),
        ("up", "down", "+"),
        ("event", "cmd", "+", "#"),
    )
    whole = ["/".join(words) for words in itertools.product(*levels)]
    short = [
        "/".join((*words, "#"))
        for depth in range(5)
        for words in itertools.product(*levels[:depth])
    ]
    plain = [*whole, *short, *FILTERS]
    return [*plain, *(f"$share/g/{f}" for f in plain if not f.startswith("$"))]


@pytest.mark.parametrize("principal", READABLE)
def test_no_subscription_reaches_further_than_a_principal_may_read(
    principal: str,
) -> None:
    """EMQX judges the filter and no delivery."""
    for topic_filter in every_filter():
        if allowed(principal, "subscribe", topic_filter):
            assert delivered(topic_filter) <= READABLE[principal], topic_filter


@pytest.mark.parametrize(("principal", "topic_filter"), NEEDED)
def test_our_own_subscriptions_are_granted(principal: str, topic_filter: str) -> None:
    assert allowed(principal, "subscribe", topic_filter)


GRANTS: Final = (
    (VEHICLE_A, vehicle_grant(VEHICLE_A)),
    (UNKNOWN, vehicle_grant(UNKNOWN)),
    (BRIDGE, BRIDGE_GRANT),
    ("ff-bridge-9999", BRIDGE_GRANT),
    (ENGINEER, ENGINEER_GRANT),
)


@pytest.mark.parametrize(("principal", "grant"), GRANTS)
def test_what_the_other_brokers_grant_is_granted_here(
    principal: str, grant: Grant
) -> None:
    for topic in grant.publish:
        assert allowed(principal, "publish", topic.replace("+", VEHICLE_B)), topic
    for topic_filter in (*grant.subscribe, *grant.wide):
        assert allowed(principal, "subscribe", topic_filter), topic_filter


def test_several_bridges_share_what_cars_say_and_a_car_says_farewell() -> None:
    """A will is judged like any publication, when it is due."""
    assert allowed(OTHER_BRIDGE, "subscribe", "$share/bridges/ff/v1/+/up/#")
    assert allowed(VEHICLE_A, "publish", up(VEHICLE_A, "death"))
    assert not allowed(VEHICLE_A, "publish", up(VEHICLE_B, "death"))
    own = downlinks_of(VehicleId.from_text(VEHICLE_A))
    assert allowed(VEHICLE_A, "subscribe", own)


ODD: Final = (
    *("", "+", "#", "ff", "$SYS"),
    *(f"{VEHICLE_A}/up", f"{VEHICLE_A}/down/cmd", f"+/{VEHICLE_A}"),
    *(VEHICLE_A.lower(), VEHICLE_A[1:], f"{VEHICLE_A}A", f"x{VEHICLE_A}"),
    *("ff-bridge-", "ff-bridge-x", "ff-bridge-12345", "xff-bridge-1", "FF-BRIDGE-1"),
    *("ff-bridge-1/", "ff-engineer-", "ff-engineer-1x", "dashboard"),
)


@pytest.mark.parametrize("name", ODD)
def test_a_name_of_no_kind_of_ours_has_nothing(name: str) -> None:
    """L7: the name in a certificate is trusted text."""
    own = [
        f"ff/v1/{name}/{way}/{frame_class.label}"
        for way, classes in (("up", UP_CLASSES), ("down", DOWN_CLASSES))
        for frame_class in classes
    ]

    assert not any(allowed(name, "publish", topic) for topic in (*TOPICS, *own))
    assert not any(allowed(name, "subscribe", f) for f in (*every_filter(), *own))


DECIDED: Final = (
    ("publish", "ff/v1/me/up/event", True),
    ("publish", "$delayed/9/ff/v1/me/up/event", True),
    ("publish", "ff/v1/me/up/event/more", False),
    ("publish", "ff/v1/other/up/event", False),
    ("subscribe", "ff/v1/me/down/+", True),
    ("subscribe", "$share/g/ff/v1/me/down/cmd", True),
    ("subscribe", "ff/v1/me/down/#", True),
    ("subscribe", "ff/v1/me/#", False),
    ("subscribe", "ff/v1/+/down/+", False),
    ("publish", "closed/door", False),
    ("publish", "closed", False),
    ("publish", "open/closed", True),
)


@pytest.mark.parametrize(("action", "topic", "verdict"), DECIDED)
def test_the_reader_of_rules_decides_as_emqx_says(
    action: Action, topic: str, *, verdict: bool
) -> None:
    """The first rule that fits counts, and a "+" takes any word, wildcards too."""
    rules = rules_in(
        """
        {deny, {'and', [{username, "me"}, all]}, all, ["closed/#"]}. % the first
        {allow, {user, {re, "^m"}}, publish,
            ["ff/v1/${clientid}/up/event", "+/closed"]}.
        {allow, {'or', [{client, "me"}]}, subscribe, ["ff/v1/${username}/down/+"]}.
        {deny, all}.
        """
    )

    assert is_allowed(rules, "me", action, topic, no_match=True) is verdict
    assert not is_allowed(rules, "you", action, topic, no_match=True)


@pytest.mark.parametrize(
    "text",
    [
        "{allow, all}",
        '{allow, {ipaddr, "::1"}, publish, ["a"]}.',
        '{allow, all, {publish, [{qos, 1}]}, ["a"]}.',
        '{allow, all, publish, [{eq, "#"}]}.',
        '{allow, all, publish, "a"}.',
        "{perhaps, all}.",
        "{allow all}.",
        "# not Erlang",
    ],
)
def test_the_reader_of_rules_refuses_what_it_does_not_know(text: str) -> None:
    with pytest.raises(ValueError, match=r"not|no rule|dot"):
        rules_in(text)


def test_nobody_publishes_downwards_but_bridges() -> None:
    for name in (VEHICLE_A, VEHICLE_B, UNKNOWN, ENGINEER):
        assert not allowed(name, "publish", down(VEHICLE_A)), name
        assert not allowed(name, "publish", f"$delayed/9/{down(VEHICLE_A)}"), name
    assert allowed(BRIDGE, "publish", down(VEHICLE_A))
