"""The settings file: every mistake gets a sentence with key, value and bound."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.settings import (
    FILE_LIMIT,
    Settings,
    SettingsError,
    load_settings,
    parse_settings,
)

GOOD = """
identity = "vehicle"
data = "data"
display = "emulated"
[broker]
host = "broker.example"
port = 8883
[reader]
path = "udp:127.0.0.1:54321"
[board]
port = "ttyS1"
"""


def parse(text: str) -> Settings:
    return parse_settings(text.encode(), beside=Path("conf"))


def test_relative_paths_are_relative_to_the_file() -> None:
    settings = parse(GOOD)

    assert settings.identity == Path("conf/vehicle")
    assert settings.ledger == Path("conf/data/ledger.db")


def test_absolute_paths_stay() -> None:
    settings = parse(GOOD.replace('"data"', '"/var/lib/freefloat"'))

    assert settings.data == Path("/var/lib/freefloat")


def test_the_port_of_mqtt_over_tls_is_the_default() -> None:
    assert parse(GOOD.replace("port = 8883\n", "")).broker.port == 8883


def test_a_broker_may_have_other_hosts_that_are_tried_next() -> None:
    settings = parse(GOOD.replace("port = 8883", 'other_hosts = ["a.example", "::1"]'))

    assert settings.broker.other_hosts == ("a.example", "::1")
    assert parse(GOOD).broker.other_hosts == ()


@pytest.mark.parametrize("path", ["usb:054c:06c3", "tty:S0:pn532", "udp:reader:1"])
def test_every_kind_of_reader_can_be_named(path: str) -> None:
    assert parse(GOOD.replace("udp:127.0.0.1:54321", path)).reader.path == path


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('data = "data"', 'data = "data"\ncolour = 1', "unknown key colour"),
        ("port = 8883", "prot = 8883", "unknown key broker.prot"),
        ("port = 8883", "port = 0", "broker.port is 0: expected `int` >= 1"),
        ("port = 8883", "port = 70000", "port is 70000: expected `int` <= 65535"),
        ("port = 8883", 'other_hosts = [""]', "broker.other_hosts[0] is ''"),
        ("port = 8883", 'port = "x"', "broker.port is 'x': expected `int`"),
        ('host = "broker.example"', "", "key broker.host is missing"),
        ('host = "broker.example"', 'host = ""', "broker.host is ''"),
        ('identity = "vehicle"', "", "key identity is missing"),
        ('identity = "vehicle"', "identity = 7", "identity is 7: expected a path"),
        ('"emulated"', '"oled"', "display is 'oled'"),
        ("udp:127.0.0.1:54321", "bluetooth:1", "must begin with one of udp:"),
        ("udp:127.0.0.1:54321", "udp:127.0.0.1", "takes a host and a port"),
        ("udp:127.0.0.1:54321", "udp:127.0.0.1:65536", "from 1 to 65535"),
        ("[broker]", "[broker", "not TOML"),
    ],
)
def test_a_mistake_is_named_with_its_key_and_its_value(
    old: str, new: str, complaint: str
) -> None:
    assert old in GOOD

    with pytest.raises(SettingsError) as raised:
        parse(GOOD.replace(old, new))

    assert complaint in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"gateway\.toml does not exist"):
        load_settings(tmp_path / "gateway.toml")


def test_a_directory_is_no_settings_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(tmp_path)


def test_an_endless_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_bytes(b"#" * (FILE_LIMIT + 1))

    with pytest.raises(SettingsError, match="this is another file"):
        load_settings(path)


def test_the_file_is_named_in_every_mistake(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(GOOD.replace("8883", "0"))

    with pytest.raises(SettingsError, match=rf"settings file {path}: broker\.port"):
        load_settings(path)


def test_a_good_file_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(GOOD)

    assert load_settings(path).identity == tmp_path / "vehicle"


@given(st.binary(max_size=200))
def test_no_bytes_whatever_raise_anything_else(data: bytes) -> None:
    try:
        parse_settings(data, beside=Path())
    except SettingsError:
        pass
    else:
        pytest.fail("200 bytes of chance are no settings")


def test_spans_go_nowhere_unless_a_collector_is_named() -> None:
    assert parse(GOOD).tracing is None

    named = parse(GOOD + '[tracing]\nurl = "http://127.0.0.1:4318/v1/traces"\n')

    assert named.tracing is not None
    assert named.tracing.url.endswith(":4318/v1/traces")
    with pytest.raises(SettingsError, match=r"tracing.url"):
        parse(GOOD + '[tracing]\nurl = "collector"\n')
