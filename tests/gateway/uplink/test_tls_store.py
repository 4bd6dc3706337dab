"""A renewed identity appears whole, and the old one stays until it is not needed."""

from pathlib import Path

import pytest

from gateway.uplink.tls_store import InstalledTls, TlsStore
from transport.tls import TlsIdentity

INSTALLED = TlsIdentity(Path("car/tls.crt"), Path("car/tls.key"), Path("car/anchors"))


def add(store: TlsStore) -> TlsIdentity:
    return store.add(key=b"key", chain=b"chain", anchors=b"anchors")


def test_without_a_renewed_identity_the_installed_one_is_used(tmp_path: Path) -> None:
    store = TlsStore(tmp_path / "tls", INSTALLED)

    assert store.current() == store.newest == INSTALLED


def test_a_new_identity_is_used_from_now_on_and_after_a_restart(tmp_path: Path) -> None:
    store = TlsStore(tmp_path / "tls", INSTALLED)

    new = add(store)

    assert store.current() == new
    assert TlsStore(tmp_path / "tls", INSTALLED).current() == new
    assert new.key.read_bytes() == b"key"
    assert new.certificate.read_bytes() == b"chain"
    assert new.trust_anchors.read_bytes() == b"anchors"


def test_an_older_identity_stays_until_a_connection_with_the_newest_stood(
    tmp_path: Path,
) -> None:
    store = TlsStore(tmp_path / "tls", INSTALLED)
    first, second = add(store), add(store)
    store.connected(first)
    assert first.key.exists()

    store.connected(second)

    assert not first.key.exists()
    assert second.key.exists()
    store.refused(second)
    assert store.current() == second  # nothing older is left to take


def test_an_identity_that_is_refused_gives_way_to_the_older_one_and_gets_its_turn_again(
    tmp_path: Path,
) -> None:
    told: list[str] = []
    store = TlsStore(tmp_path / "tls", INSTALLED)
    store.on_refused = lambda: told.append("refused")
    store.on_connected = lambda: told.append("connected")
    new = add(store)

    store.refused(new)
    assert store.current() == INSTALLED
    store.connected(INSTALLED)
    assert new.key.exists()
    store.refused(INSTALLED)
    assert store.current() == new
    store.connected(new)

    assert told == ["refused", "refused", "connected"]


def test_an_attempt_that_was_under_way_while_a_new_one_came_says_nothing_of_it(
    tmp_path: Path,
) -> None:
    # Or a car would renew twice: found by a loaded machine.
    told: list[str] = []
    store = TlsStore(tmp_path / "tls", INSTALLED)
    store.on_refused = lambda: told.append("refused")
    new = add(store)

    store.refused(INSTALLED)

    assert told == []
    assert store.current() == new


@pytest.mark.parametrize("cut_after", range(4))
def test_a_power_cut_while_writing_leaves_the_old_identity_and_the_next_attempt_works(
    tmp_path: Path, cut_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # I-28: after each file, and before the rename.
    class PowerCut(BaseException):
        pass

    written = [0]

    def sync(_descriptor: int) -> None:
        if written[0] == cut_after:
            raise PowerCut
        written[0] += 1

    store = TlsStore(tmp_path / "tls", INSTALLED)
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", sync)
        with pytest.raises(PowerCut):
            add(store)

    after = TlsStore(tmp_path / "tls", INSTALLED)
    assert after.current() == INSTALLED
    assert add(after).key.read_bytes() == b"key"


def test_an_installed_identity_that_nobody_renews_never_changes() -> None:
    identities = InstalledTls(INSTALLED)
    identities.refused(INSTALLED)
    identities.connected(INSTALLED)

    assert identities.current() == INSTALLED
