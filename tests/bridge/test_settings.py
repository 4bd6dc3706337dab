"""Settings, keys and the registry: what is wrong is said, and nothing is started."""

import os
from pathlib import Path

import pytest

from bridge.api.keys import Principal, Role, load_keys, principal_of
from bridge.bootstrap import Environment, open_bridge
from bridge.errors import BridgeError, RegistryError, SettingsError
from bridge.registry import RegistryDirectory
from bridge.settings import Settings, check_settings, parse_settings
from bridge.signer import require_use
from bridge.sqlite_database import SqliteDatabase
from bridge.store import Store
from bridge.trust import Trust
from certs.fleet import FleetDirectory
from protocol.fleet import FleetPart
from protocol.keyfile import parse_signing_key
from tests.bridge.conftest import make_fleet
from tests.bridge.memory_broker import MemoryBroker
from tests.bridge.world import NOW_MS
from tools.api_key import read_api_key
from tools.bridge_settings import local_settings, make_secret
from transport.errors import TransportError

GOOD = """
[fleet]
directory = "fleet"
[api]
keys_file = "api.keys"
"""


def test_relative_paths_are_taken_from_the_files_directory() -> None:
    settings = parse_settings(GOOD.encode(), directory=Path("etc"))

    assert settings.certificate == Path("etc/fleet/bridge/1/tls.crt")
    assert settings.part(FleetPart.REGISTRY) == Path("etc/fleet/registry")
    assert settings.store.path == "etc/bridge.sqlite"
    assert settings.api.keys_file == "etc/api.keys"
    check_settings(settings)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + "colour = 1", r"unknown field 'colour'.*\$.api"),
        (GOOD + "[broker]\nport = 70000", r"65535.*\$.broker.port"),
        (GOOD + "[broker]\nother_hosts = ['']", r"\$.broker.other_hosts"),
        (GOOD + "[broker]\nport = 0", r"\$.broker.port"),
        (GOOD + "[broker]\nport = '8883'", r"expected 'int'.*\$.broker.port"),
        (GOOD + "[broker]\nversion = '4'", r"\$.broker.version"),
        ("[api]\nport = 1", "missing required field 'fleet'"),
        ("[fleet", "not TOML"),
        ("\x00", "not TOML"),
        (GOOD + "[[sinks.webhook]]\nname='A b'\nurl='x'", r"\$.sinks.webhook"),
    ],
)
def test_a_setting_that_is_wrong_is_named(text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        parse_settings(text.encode(), directory=Path())


@pytest.mark.parametrize("extra", ['host = "0.0.0.0"', "", "without_key = true"])
def test_settings_with_a_key_may_listen_anywhere(extra: str) -> None:
    settings = parse_settings((GOOD + extra).encode(), directory=Path())

    check_settings(settings)

    assert settings.api.keys_file == "api.keys"


@pytest.mark.parametrize(
    ("api", "said"),
    [
        ("", "no key file"),
        ('host = "0.0.0.0"\nwithout_key = true', "0.0.0.0 without a key"),
        ('host = "192.168.1.2"\nwithout_key = true', "without a key"),
    ],
)
def test_an_api_without_a_key_is_refused_except_on_loopback_by_choice(
    api: str, said: str
) -> None:
    text = f'[fleet]\ndirectory = "fleet"\n[api]\n{api}\n'
    with pytest.raises(SettingsError, match=said):
        check_settings(parse_settings(text.encode(), directory=Path()))


def test_two_sinks_of_one_name_are_refused() -> None:
    sink = "[[sinks.json_lines]]\nname = 'a'\npath = 'x'\n"
    settings = parse_settings((GOOD + sink + sink).encode(), directory=Path())

    with pytest.raises(SettingsError, match="two sinks are named a"):
        check_settings(settings)


def test_a_time_zone_that_nobody_knows_is_refused_before_a_feed_tells_it() -> None:
    feed = """[gbfs]
system_id = "ours"
name = "Ours"
language = "de"
timezone = "Mars"
email = "a@fleet.example"
url = "https://api.fleet.example"
"""

    def parsed(text: str) -> Settings:
        return parse_settings((GOOD + text).encode(), directory=Path())

    check_settings(parsed(feed.replace("Mars", "Europe/Berlin")))
    with pytest.raises(SettingsError, match=r"timezone 'Mars'") as refused:
        check_settings(parsed(feed))
    assert "Europe/Berlin" in refused.value.advice


def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "api.keys"
    path.write_text("k" * 40)
    path.chmod(0o644)

    with pytest.raises(SettingsError, match="0644"):
        load_keys(path)


def test_keys_are_compared_whole(tmp_path: Path) -> None:
    path = tmp_path / "api.keys"
    make_secret(path, "# staff\n" + "k" * 40 + "\n\n" + "m" * 40)
    keys = load_keys(path)

    assert principal_of(b"k" * 40, keys)
    assert principal_of(b"m" * 40, keys)
    for wrong in (b"", b"k" * 39, b"k" * 41, b"# staff"):
        assert principal_of(wrong, keys) is None


def test_a_line_may_name_its_caller_and_role(tmp_path: Path) -> None:
    # K28
    path = tmp_path / "api.keys"
    make_secret(path, f"billing:viewer:{'k' * 40}\n{'m' * 40}")
    keys = load_keys(path)

    assert principal_of(b"k" * 40, keys) == Principal("billing", Role.VIEWER)
    bare = principal_of(b"m" * 40, keys)
    assert bare is not None
    assert bare.role is Role.OPERATOR
    assert bare.name.startswith("key-")
    assert principal_of(f"billing:viewer:{'k' * 40}".encode(), keys) is None
    assert read_api_key(path) == "k" * 40


@pytest.mark.parametrize(
    "text",
    [
        *("", "# nothing\n", "short", "k" * 300, "k " * 20),
        f"billing:owner:{'k' * 40}",
        f"billing:{'k' * 40}",
        f"Billing!:viewer:{'k' * 40}",
        "billing:viewer:short",
        f"a:viewer:{'k' * 40}\nb:admin:{'k' * 40}",
    ],
)
def test_a_key_file_without_a_good_key_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "api.keys"
    make_secret(path, text)

    with pytest.raises(SettingsError):
        load_keys(path)


def test_secrets_are_made_once_with_mode_0600(tmp_path: Path) -> None:
    def make() -> dict[str, str]:
        local_settings(
            tmp_path / "fleet",
            state=tmp_path / "state",
            broker=("127.0.0.1", 8883),
            webhook="http://127.0.0.1:1/x",
        )
        files = sorted((tmp_path / "state").iterdir())
        assert {f.stat().st_mode & 0o777 for f in files} == {0o600}
        return {f.name: f.read_text() for f in files}

    first = make()

    assert list(first) == ["api.keys", "webhook.secret"]
    assert make() == first


async def test_a_store_of_another_fleet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bridge.sqlite"
    first = Store(SqliteDatabase(path), fleet_id=bytes(16))
    first.open()
    await first.close()

    with pytest.raises(SettingsError, match="belongs to fleet 00000000"):
        Store(SqliteDatabase(path), fleet_id=b"\1" * 16).open()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bridge.sqlite"
    path.write_bytes(b"something else" * 100)

    with pytest.raises(SettingsError, match="not a database"):
        Store(SqliteDatabase(path), fleet_id=bytes(16)).open()
    with pytest.raises(SettingsError, match="cannot be used"):
        Store(SqliteDatabase(tmp_path / "none" / "x"), fleet_id=bytes(16)).open()


def test_a_key_that_the_trust_bundle_does_not_name_is_refused(
    fleet: FleetDirectory, other_fleet: FleetDirectory
) -> None:
    trust = Trust.begin(fleet.trust_bundle(), fleet_id=fleet.fleet.fleet_id)
    stranger = parse_signing_key(
        (other_fleet.path / FleetPart.COMMAND_KEY).read_bytes(), name="x"
    )

    with pytest.raises(SettingsError, match="not in trust bundle 1"):
        require_use((stranger,), trust, receipts=False)
    with pytest.raises(SettingsError, match="another fleet"):
        Trust.begin(fleet.trust_bundle(), fleet_id=other_fleet.fleet.fleet_id)


class Directory:
    """A registry directory under test and what it refused."""

    def __init__(self, fleet: FleetDirectory) -> None:
        self.path = fleet.path / FleetPart.REGISTRY
        self.refused: list[RegistryError] = []
        self.now_ns = 0
        self.registry = RegistryDirectory(
            self.path,
            fleet_id=fleet.fleet.fleet_id,
            issuers=[fleet.issuing_certificate],
            wall_ns=lambda: self.now_ns,
            refused=self.refused.append,
        )
        self.registry.refresh()


def test_a_removed_record_is_refused_from_the_next_look_on(tmp_path: Path) -> None:
    # FF-ENR-09.
    # L5: the registry is the allow-list.
    fleet = make_fleet(tmp_path / "fleet", 2)
    directory = Directory(fleet)
    [first, second] = list(directory.registry.current)
    (directory.path / f"{first}.json").unlink()

    assert directory.registry.refresh()

    assert list(directory.registry.current) == [second]
    assert not directory.registry.refresh()


def test_a_bad_record_harms_no_other_vehicle(
    tmp_path: Path, other_fleet: FleetDirectory
) -> None:
    fleet = make_fleet(tmp_path / "fleet", 2)
    directory = Directory(fleet)
    stranger = next(iter((other_fleet.path / FleetPart.REGISTRY).glob("*.json")))
    (directory.path / stranger.name).write_bytes(stranger.read_bytes())
    (directory.path / "broken.json").write_bytes(b"{")
    [genuine, _] = list(directory.registry.current)
    copy = directory.path / f"{'A' * 26}.json"
    copy.write_bytes((directory.path / f"{genuine}.json").read_bytes())

    directory.registry.refresh()

    assert len(directory.registry.current) == 2
    said = " ".join(str(error) for error in directory.refused)
    assert "not issued by this fleet's CA" in said
    assert "broken.json is refused" in said
    assert f"it is of {genuine}" in said


def test_a_record_that_comes_within_one_tick_of_the_clock_is_seen(
    tmp_path: Path,
) -> None:
    # The directory's time stamp does not show a second change within one tick.
    fleet = make_fleet(tmp_path / "fleet", 2)
    directory = Directory(fleet)
    [first, _] = list(directory.registry.current)
    path = directory.path / f"{first}.json"
    data, stamp = path.read_bytes(), directory.path.stat().st_mtime_ns
    path.unlink()
    os.utime(directory.path, ns=(stamp, stamp))
    directory.now_ns = stamp
    directory.registry.refresh()
    path.write_bytes(data)
    os.utime(directory.path, ns=(stamp, stamp))

    assert directory.registry.refresh()
    assert len(directory.registry.current) == 2


def test_a_missing_registry_is_said(tmp_path: Path) -> None:
    fleet = make_fleet(tmp_path / "fleet", 1)
    directory = Directory(fleet)
    directory.path.rename(tmp_path / "away")

    with pytest.raises(RegistryError, match="cannot be read"):
        directory.registry.refresh()
    assert len(directory.registry.current) == 1


async def start(settings: Settings) -> None:
    environment = Environment(now=lambda: NOW_MS, connect=MemoryBroker().connect)
    async with open_bridge(settings, environment=environment):
        pass


@pytest.mark.parametrize(
    "part",
    [
        FleetPart.IDENTITY,
        FleetPart.ISSUING_CERTIFICATE,
        FleetPart.TRUST_BUNDLE,
        FleetPart.COMMAND_KEY,
        FleetPart.RECEIPT_KEY,
    ],
)
@pytest.mark.parametrize("damage", [None, b"", b"something else\n" * 30])
async def test_every_file_that_is_missing_or_damaged_is_said(
    tmp_path: Path, part: FleetPart, damage: bytes | None
) -> None:
    fleet = make_fleet(tmp_path / "fleet", 1)
    settings = local_settings(
        fleet.path, state=tmp_path / "state", broker=("127.0.0.1", 1)
    )
    path = fleet.path / part
    path.unlink() if damage is None else path.write_bytes(damage)

    with pytest.raises((BridgeError, TransportError)) as caught:
        await start(settings)

    assert str(caught.value)
    assert not (tmp_path / "state" / "bridge.sqlite").exists()


async def test_a_signing_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    # FF-SEC-07.
    fleet = make_fleet(tmp_path / "fleet", 1)
    (fleet.path / FleetPart.COMMAND_KEY).chmod(0o640)
    settings = local_settings(
        fleet.path, state=tmp_path / "state", broker=("127.0.0.1", 1)
    )

    with pytest.raises(SettingsError, match="0640"):
        await start(settings)


async def test_the_receipt_key_signs_no_commands(tmp_path: Path) -> None:
    fleet = make_fleet(tmp_path / "fleet", 1)
    receipt = (fleet.path / FleetPart.RECEIPT_KEY).read_bytes()
    (fleet.path / FleetPart.COMMAND_KEY).write_bytes(receipt)
    settings = local_settings(
        fleet.path, state=tmp_path / "state", broker=("127.0.0.1", 1)
    )

    with pytest.raises(SettingsError, match="signs no commands"):
        await start(settings)
