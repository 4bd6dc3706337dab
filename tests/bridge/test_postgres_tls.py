"""The way to a PostgreSQL: a server that is not the one is told nothing (K3, K4)."""

import asyncio
import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from bridge.errors import SettingsError
from bridge.postgres_database import PostgresDatabase
from bridge.postgres_tls import PostgresTls
from bridge.settings import check_settings, parse_settings
from certs.fleet import FleetDirectory
from protocol.codes import FrameClass
from tests.bridge.conftest import make_fleet
from tests.bridge.stream import TYPES, entries_of
from tests.bridge.world import World
from tests.broker.pki import DAY, Pki, clock
from tests.postgres import Server, running_server
from tests.tools.command_line import running
from transport.tls import TlsIdentity

FAR: Final = "postgresql://bridge@db.example.com/freefloat"
NEAR: Final = "postgresql://bridge@127.0.0.1/freefloat"


@dataclass(frozen=True)
class Site:
    """A PostgreSQL that lets in by TLS alone, and who may come with a certificate."""

    server: Server
    anchors: str
    own: TlsIdentity
    stranger: TlsIdentity


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    pki = Pki(tmp_path_factory.mktemp("pki"), now=clock())
    with running_server(pki.issue("database", server=True)) as server:
        admin = server.own_url("postgres")
        server.execute(admin, 'CREATE ROLE "ff-bridge-1" LOGIN')
        server.execute(admin, "GRANT ALL ON SCHEMA public TO public")
        yield Site(
            server, str(pki.anchors), pki.issue("ff-bridge-1"), pki.issue("somebody")
        )


@pytest.mark.postgres
async def test_every_connection_of_a_bridge_is_sealed_and_its_server_proved(
    fleet: FleetDirectory, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K3, K4: those that write and read, and the one that listens."""
    # Whatever left it to libpq would not come in.
    monkeypatch.setenv("PGSSLMODE", "disable")
    url = site.server.make_database()
    database = PostgresDatabase(url, tls=PostgresTls(site.anchors))
    async with World(fleet, Path("unused"), database=database) as world:
        signals = database.signals()
        await asyncio.wait_for(anext(signals), 10)
        await world.greet()
        await world.say(FrameClass.EVENT, *entries_of(world.car))

        assert await world.events() == TYPES
        ways = site.server.execute(
            site.server.own_url("postgres"),
            "SELECT ssl, version FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)"
            " WHERE application_name = 'freefloat-bridge'",
        )
        assert len(ways) >= 2
        assert set(ways) == {(True, "TLSv1.3")}
        await signals.aclose()  # type: ignore[attr-defined]  # a generator


@pytest.mark.postgres
@pytest.mark.parametrize("weak", ["disable", "prefer", "require"])
def test_no_environment_lets_a_server_without_tls_or_of_another_authority_in(
    site: Site,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    weak: str,
) -> None:
    """K4: libpq's own variables would switch the verification off."""
    monkeypatch.setenv("PGSSLMODE", weak)
    other = Pki(tmp_path / "other", now=clock())
    database = PostgresDatabase(
        site.server.url("postgres"), tls=PostgresTls(str(other.anchors))
    )

    with pytest.raises(SettingsError, match="SSL error: ") as refused:
        database.open()

    assert "store.trust_anchors" in refused.value.advice


@pytest.mark.postgres
def test_a_server_that_speaks_no_tls_is_told_nothing(tmp_path: Path) -> None:
    """K4: who answers in the server's place says that it has none."""
    pki = Pki(tmp_path / "pki", now=clock())
    with running_server() as plain:
        database = PostgresDatabase(
            plain.url("postgres"), "hush", PostgresTls(str(pki.anchors))
        )

        with pytest.raises(SettingsError, match="does not support SSL"):
            database.open()


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("leaf", "why"),
    [
        ({"names": ("elsewhere.example",), "address": None}, "does not match host"),
        ({"starts": -2 * DAY, "ends": -DAY}, "certificate verify failed"),
    ],
)
def test_a_server_with_the_certificate_of_another_name_or_time_is_told_nothing(
    tmp_path: Path, leaf: dict[str, object], why: str
) -> None:
    """K4: a certificate of the right authority is not enough."""
    pki = Pki(tmp_path / "pki", now=clock())
    identity = pki.issue("database", server=True, **leaf)  # type: ignore[arg-type]  # a row of the table
    with running_server(identity) as server:
        database = PostgresDatabase(
            server.url("postgres"), tls=PostgresTls(str(pki.anchors))
        )

        with pytest.raises(SettingsError, match=why):
            database.open()


@pytest.mark.postgres
def test_a_bridge_comes_with_a_certificate_in_place_of_a_password(site: Site) -> None:
    url = site.server.make_database().replace("freefloat@", "ff-bridge-1@")
    admin = site.server.own_url(url.rpartition("/")[2])
    site.server.execute(admin, "GRANT ALL ON SCHEMA public TO public")

    for identity, may in ((site.own, True), (site.stranger, False)):
        database = PostgresDatabase(
            url,
            tls=PostgresTls(site.anchors, str(identity.certificate), str(identity.key)),
        )
        if may:
            database.open()
            database.close()
            continue
        with pytest.raises(SettingsError, match="authentication failed"):
            database.open()


@pytest.mark.postgres
@pytest.mark.demo
def test_a_bridge_by_its_settings_comes_sealed_and_says_where_it_stores(
    site: Site, tmp_path: Path
) -> None:
    """K4: from the file of settings to the server's own word."""
    made = make_fleet(tmp_path / "fleet", 1, now=clock())
    url = site.server.make_database()
    keys = tmp_path / "api.keys"
    keys.touch(mode=0o600)
    keys.write_text("k" * 40)
    (tmp_path / "bridge.toml").write_text(
        f'[fleet]\ndirectory = "{made.path}"\n[broker]\nport = 1\n'
        f'[store]\nurl = "{url}"\ntrust_anchors = "{site.anchors}"\n'
        '[api]\nport = 0\nkeys_file = "api.keys"\n'
    )

    arguments = ("bridge", "run", "--config", "bridge.toml", "--json")
    with running(*arguments, cwd=tmp_path) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        ways = site.server.execute(
            site.server.own_url("postgres"),
            "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)"
            " WHERE application_name = 'freefloat-bridge'",
        )
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=15)

    assert told["store"] == url
    assert ways == [(True,)]


@pytest.mark.parametrize(
    ("url", "tls", "about"),
    [
        (FAR, PostgresTls(), r"another machine \(db.example.com\)"),
        (
            "postgresql://b@/x?host=127.0.0.1:1&host=db2.example.com:2",
            PostgresTls(),
            r"another machine \(db2.example.com\)",
        ),
        (f"{FAR}?sslmode=require", PostgresTls(), "the parameter sslmode"),
        (f"{NEAR}?hostaddr=192.0.2.1", PostgresTls(), "the parameter hostaddr"),
        (f"{NEAR}?service=x", PostgresTls(), "the parameter service"),
        ("postgresql://b@/x", PostgresTls(), "names no host"),
        (FAR, PostgresTls("gone.pem"), "gone.pem cannot be used"),
        (FAR, PostgresTls(certificate="a", key="b"), "trust_anchors is not"),
        (FAR, PostgresTls("x", certificate="a"), "go together"),
        (FAR, PostgresTls("x", without_tls=True), "without_tls is set"),
    ],
)
def test_an_address_whose_way_is_not_sealed_is_refused_before_anything_is_sent(
    url: str, tls: PostgresTls, about: str
) -> None:
    """K4: libpq's default takes any certificate, and no TLS too."""
    with pytest.raises(SettingsError, match=about):
        PostgresDatabase(url, tls=tls)


def test_a_file_without_an_authority_is_no_anchor(tmp_path: Path) -> None:
    leaf = Pki(tmp_path / "pki", now=clock()).issue("database", server=True)
    only = tmp_path / "leaf.pem"
    only.write_text(
        leaf.certificate.read_text().partition("-----END CERTIFICATE-----\n")[0]
        + "-----END CERTIFICATE-----\n"
    )

    with pytest.raises(SettingsError, match="no certificate of an authority"):
        PostgresDatabase(FAR, tls=PostgresTls(str(only)))


@pytest.mark.parametrize(
    ("url", "tls"),
    [
        (NEAR, PostgresTls()),
        ("postgresql://b@[::1]:5432/x", PostgresTls()),
        ("postgresql://b@/x?host=/var/run/postgresql", PostgresTls()),
        (FAR, PostgresTls(without_tls=True)),
    ],
)
def test_this_machine_and_who_says_so_need_no_tls(url: str, tls: PostgresTls) -> None:
    assert PostgresDatabase(url, tls=tls).name.startswith("postgresql://b")


@pytest.mark.parametrize(
    "line",
    ['trust_anchors = "a"', 'certificate = "a"', 'key = "a"', "without_tls = true"],
)
def test_settings_of_tls_without_a_server_are_refused(line: str) -> None:
    text = f'[fleet]\ndirectory = "f"\n[api]\nwithout_key = true\n[store]\n{line}\n'
    settings = parse_settings(text.encode(), directory=Path())

    with pytest.raises(SettingsError, match=rf"store\.{line.partition(' ')[0]} is set"):
        check_settings(settings)
