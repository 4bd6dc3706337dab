"""Files that are never overwritten and never half there."""

import os
import stat
from pathlib import Path

import pytest

from certs.errors import ExistsError, FleetError
from certs.files import new_tree, publish_new, read_private, write_new


def test_an_existing_file_is_refused_and_untouched(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    path.write_text("old")

    with pytest.raises(ExistsError, match="exists already"):
        write_new(path, b"new", private=True)
    with pytest.raises(ExistsError, match="exists already"):
        publish_new(path, b"new")

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_not_followed_to_where_somebody_wants_a_key(tmp_path: Path) -> None:
    link = tmp_path / "a.key"
    link.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(ExistsError):
        write_new(link, b"secret", private=True)

    assert not (tmp_path / "elsewhere").exists()


def test_a_private_file_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_new(tmp_path / "a.key", b"secret", private=True)
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "a.key").stat().st_mode) == 0o600


def test_a_tree_that_fails_is_removed_with_all_that_was_in_it(tmp_path: Path) -> None:
    def make() -> None:
        with new_tree(tmp_path / "fleet", private=True) as partial:
            (partial / "sub").mkdir()
            write_new(partial / "sub" / "a.key", b"secret", private=True)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make()

    assert list(tmp_path.iterdir()) == []


def test_a_half_made_tree_that_cannot_be_removed_is_named(tmp_path: Path) -> None:
    def make() -> None:
        with new_tree(tmp_path / "fleet", private=True) as partial:
            partial.rmdir()
            partial.write_text("a file, which is not removed as a tree")
            raise OSError(28, "No space left on device")

    with pytest.raises(FleetError, match=r"\.fleet\.partial-.* is half made") as caught:
        make()

    assert "remove it by hand" in caught.value.advice


def test_a_tree_that_somebody_else_removed_fails_for_its_own_reason(
    tmp_path: Path,
) -> None:
    def make() -> None:
        with new_tree(tmp_path / "fleet", private=True) as partial:
            partial.rmdir()

    with pytest.raises(FileNotFoundError):
        make()

    assert list(tmp_path.iterdir()) == []


def test_a_tree_does_not_replace_what_appeared_meanwhile(tmp_path: Path) -> None:
    target = tmp_path / "fleet"

    def make() -> None:
        with new_tree(target, private=True) as partial:
            write_new(partial / "a.key", b"ours", private=True)
            target.mkdir()
            (target / "a.key").write_text("theirs")

    with pytest.raises(ExistsError, match="not empty"):
        make()

    assert list(tmp_path.iterdir()) == [target]
    assert (target / "a.key").read_text() == "theirs"


def test_a_missing_key_says_where_it_may_be(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match="is missing") as caught:
        read_private(tmp_path / "root.key")

    assert "offline" in caught.value.advice
