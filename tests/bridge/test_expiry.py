"""What ends is said days before, in the log and at ``/ready`` (row 35)."""

from pathlib import Path

import pytest

from bridge.expiry import WARN_DAYS, Ending, ExpiryWatch
from certs.fleet import FleetDirectory
from tests.bridge.running import running_bridge
from tests.broker.pki import DAY, Pki, clock

DAY_MS = 86_400_000


class Calendar:
    """A watch over one certificate and one date, and a clock to turn."""

    def __init__(self, directory: Path) -> None:
        self.pki = Pki(directory / "pki", now=clock().replace(microsecond=0))
        self.now_ms = int(self.pki.now.timestamp() * 1000)
        start_ms = self.now_ms
        self.identity = self.pki.issue("ff-bridge-1", ends=20 * DAY)
        self.watch = ExpiryWatch(
            {"certificate": self.identity.certificate},
            {"bundle": lambda: start_ms + 100 * DAY_MS},
            {"certificate": "renew it", "bundle": "sign it"},
            now=lambda: self.now_ms,
        )


@pytest.fixture
def calendar(tmp_path: Path) -> Calendar:
    return Calendar(tmp_path)


def test_all_that_ends_is_counted_in_days_the_first_first(calendar: Calendar) -> None:
    assert calendar.watch.look() == (
        Ending("certificate", 20, "renew it"),
        Ending("bundle", 100, "sign it"),
    )
    assert [ending.name for ending in calendar.watch.soon()] == ["certificate"]


def test_it_is_logged_once_a_day_with_what_to_do(
    calendar: Calendar, caplog: pytest.LogCaptureFixture
) -> None:
    # Row 35 (the bridge's certificate): said days before.
    for _ in range(3):
        calendar.watch.look()
    assert caplog.text.count("certificate ends in 20 days; renew it") == 1

    calendar.now_ms += 19 * DAY_MS
    calendar.watch.look()
    assert "certificate ends in 1 day; renew it" in caplog.text

    calendar.now_ms += 2 * DAY_MS
    calendar.watch.look()
    assert "certificate has ended" in caplog.text
    assert "bundle" not in caplog.text


def test_a_renewed_file_ends_the_warning_without_a_restart(calendar: Calendar) -> None:
    calendar.now_ms += 25 * DAY_MS - 15 * DAY_MS
    calendar.watch.look()
    assert calendar.watch.soon()

    later = Pki(calendar.pki.directory / "later", now=clock() + 20 * DAY)
    renewed = later.issue("ff-bridge-1", ends=30 * DAY)
    calendar.identity.certificate.write_bytes(renewed.certificate.read_bytes())
    calendar.watch.look()

    assert not calendar.watch.soon()


def test_a_chain_ends_with_its_first_certificate_and_a_file_that_is_gone_has_ended(
    calendar: Calendar,
) -> None:
    # The issuing CA of this PKI ends after 30 days, before this leaf.
    longer = calendar.pki.issue("x", ends=60 * DAY)
    calendar.identity.certificate.write_bytes(longer.certificate.read_bytes())
    assert calendar.watch.look()[0].days == 30

    calendar.identity.certificate.unlink()
    assert calendar.watch.look()[0].days < 0


@pytest.mark.broker
async def test_ready_tells_the_days_and_warns_without_becoming_unready(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    # Row 35 (the bridge's certificate): said days before.
    now_ms = int(fleet.fleet.created.timestamp() * 1000)
    later_ms = now_ms + (397 - WARN_DAYS + 1) * DAY_MS
    async with running_bridge(fleet, tmp_path, now=lambda: later_ms) as running:
        status, answer = await running.get("/ready")

    assert status == 200
    assert answer["ready"]
    assert set(answer["days_left"]) == {
        "bridge certificate",
        "issuing CA",
        "trust anchors",
        "trust bundle",
    }
    assert answer["days_left"]["bridge certificate"] < WARN_DAYS
    assert "no restart is needed" in answer["warnings"]["bridge certificate"]
