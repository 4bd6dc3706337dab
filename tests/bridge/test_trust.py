"""The bridge's own trust: what follows counts, what somebody slipped in does not."""

import asyncio
import shutil
from pathlib import Path

import pytest

from bridge.errors import SettingsError, TrustError
from bridge.fleet_files import read_key
from bridge.trust import Trust, TrustDirectory, is_emergency
from certs.fleet import FleetDirectory
from certs.trust_change import revoke_key
from certs.trust_files import TrustFiles
from protocol.codes import FrameClass
from protocol.fleet import FleetPart
from protocol.keys import Ed25519SigningKey
from protocol.trust import open_bundle, sign_bundle
from tests.bridge.bundles import next_bundle, root_keys, sign, successor
from tests.bridge.car import frame_of
from tests.bridge.conftest import MADE
from tests.bridge.running import running_bridge


class Directory:
    """A trust directory under test and what it refused."""

    def __init__(self, fleet: FleetDirectory, path: Path) -> None:
        self.path = path
        self.write(1, fleet.trust_bundle())
        self.refused: list[str] = []
        self.trust = TrustDirectory(
            path / "bundle-1.bin",
            fleet_id=fleet.fleet.fleet_id,
            refused=lambda error: self.refused.append(str(error)),
        )

    def write(self, version: int, data: bytes) -> None:
        (self.path / f"bundle-{version}.bin").write_bytes(data)


def test_a_bundle_that_follows_counts_from_the_next_look_on(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    directory = Directory(fleet, tmp_path)
    first = directory.trust.current
    second = successor(fleet, first)
    third = successor(fleet, second, revoked=(first.newest.keys[0].key_id,))
    assert not directory.trust.refresh()

    # Both at once, as after an outage of the share: in the order of their versions.
    directory.write(3, third.data)
    directory.write(2, second.data)
    assert directory.trust.refresh()

    current = directory.trust.current
    assert current.newest.version == 3
    assert set(current.bundles) == {1, 2, 3}
    assert current.data == third.data
    assert directory.refused == []
    assert not directory.trust.refresh()
    assert not is_emergency(first.newest, second.newest)
    assert is_emergency(second.newest, third.newest)


def test_trust_rollback(fleet: FleetDirectory, tmp_path: Path) -> None:
    # Neither a lower version under a higher name nor a file taken away goes back.
    directory = Directory(fleet, tmp_path)
    first = directory.trust.current
    directory.write(2, successor(fleet, first).data)
    directory.trust.refresh()

    directory.write(3, first.data)
    (tmp_path / "bundle-2.bin").unlink()
    assert not directory.trust.refresh()

    assert directory.trust.current.newest.version == 2
    assert ["does not follow 2" in text for text in directory.refused] == [True]


def test_what_the_roots_did_not_sign_is_neither_used_nor_sent(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    directory = Directory(fleet, tmp_path)
    bundle = next_bundle(directory.trust.current)
    stranger = Ed25519SigningKey.generate()
    directory.write(2, sign_bundle(bundle, (stranger, stranger)))

    assert not directory.trust.refresh()
    assert not directory.trust.refresh()

    assert directory.trust.current.newest.version == 1
    assert len(directory.refused) == 1, "told once"
    directory.write(2, sign(fleet, bundle))
    assert directory.trust.refresh()


def test_a_bundle_of_another_fleet_and_a_lost_directory_are_said(
    fleet: FleetDirectory, other_fleet: FleetDirectory, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match="another fleet"):
        Trust.begin(fleet.trust_bundle(), fleet_id=other_fleet.fleet.fleet_id)
    with pytest.raises(SettingsError, match="cannot be read"):
        TrustDirectory(
            tmp_path / "none.bin",
            fleet_id=fleet.fleet.fleet_id,
            refused=lambda _error: None,
        )
    assert issubclass(TrustError, SettingsError)


@pytest.mark.broker
async def test_revoked_key_inflight_from_the_office_to_the_car(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    # Row 35 (command key stolen).
    # What `freefloat certs trust revoke` publishes reaches every connected car at once,
    # and this bridge signs nothing more with the key; nothing is restarted.
    shutil.copytree(fleet.path, tmp_path / "fleet")
    office = FleetDirectory.open(tmp_path / "fleet")
    files = TrustFiles(office)
    key = read_key(office.path / FleetPart.COMMAND_KEY)
    async with running_bridge(office, tmp_path) as running:
        await running.say(FrameClass.HELLO, running.car.hello())
        unlock = {"kind": "unlock", "rental_id": "1" * 32}
        before, _ = await running.order(unlock)

        bundle = revoke_key(files.current(), key.key_id, now=MADE)
        files.propose(bundle, root_keys(office))
        async with asyncio.timeout(20):
            frame = frame_of(await running.broker.next_sent(FrameClass.TRUST))
        refused, problem = await running.order(unlock)
        _, trust = await running.get("/v1/trust")

    assert before == 202
    assert frame.header.vehicle_id == running.car.id
    roots = office.trust_roots()
    carried = open_bundle(frame.payload, roots, fleet_id=office.fleet.fleet_id)
    assert carried.version == 2
    assert key.key_id in carried.revoked
    assert (refused, problem["type"]) == (403, "urn:freefloat:problem:signer-refuses")
    assert trust["revoked"] == [key.key_id.hex()]
    assert str(running.car.id) in {one["vehicle_id"] for one in trust["laggards"]}


@pytest.mark.broker
async def test_the_api_lists_which_cars_have_which_bundle(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    async with running_bridge(fleet, tmp_path) as running:
        status, answer = await running.get("/v1/trust")

    assert status == 200
    assert (answer["version"], answer["revoked"]) == (1, [])
    assert answer["vehicles_by_version"] == {"0": 3}
    assert [laggard["version"] for laggard in answer["laggards"]] == [0, 0, 0]
