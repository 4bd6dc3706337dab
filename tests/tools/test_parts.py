"""Parts lists name all that is installed, and what pip accepts of it (K27)."""

import importlib.metadata
import json
import re
import tomllib
from typing import Any, Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.parts import LISTS, REQUIREMENTS, parts_list, text_of

EXTRAS: Final = {
    "bridge": ("bridge", "postgres", "kafka", "jetstream", "tracing"),
    "vehicle": ("vehicle", "tracing"),
}
"""What each list is of; `make lock` names the same."""


def needed(extras: tuple[str, ...]) -> set[str]:
    """Return the names of all that the project needs with these extras, however deep.

    By what pyproject.toml asks for, and what the parts that run here say they need.
    """
    text = REQUIREMENTS.with_name("pyproject.toml").read_text(encoding="utf-8")
    project: dict[str, Any] = tomllib.loads(text)["project"]
    optional = project["optional-dependencies"]
    asked = [
        *project["dependencies"],
        *(one for name in extras for one in optional[name]),
    ]
    waiting = [Requirement(one) for one in asked]
    found: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        part = waiting.pop()
        if (key := (canonicalize_name(part.name), frozenset(part.extras))) in found:
            continue
        found.add(key)
        for line in importlib.metadata.requires(part.name) or []:
            further, marker = Requirement(line), Requirement(line).marker
            wanted = ({"extra": extra} for extra in ("", *part.extras))
            if marker is None or any(marker.evaluate(one) for one in wanted):
                waiting.append(further)
    return {name for name, _ in found}


@pytest.mark.parametrize("name", LISTS)
def test_a_parts_list_is_that_of_the_pinned_requirements(name: str) -> None:
    # K27
    kept = (REQUIREMENTS / f"{name}.cdx.json").read_text(encoding="utf-8")

    assert kept == text_of(name), "run 'python -m tools.parts'"


@pytest.mark.parametrize("name", LISTS)
def test_every_pin_and_every_archive_of_it_is_in_the_list(name: str) -> None:
    # K27: counted in another way than the list was made.
    pinned = (REQUIREMENTS / f"{name}.txt").read_text(encoding="utf-8")
    document = json.loads(text_of(name))
    parts = document["components"]

    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    assert len(parts) == pinned.count("==") > 0
    assert sum(len(part["properties"]) for part in parts) == pinned.count("sha256:")
    assert len({part["bom-ref"] for part in parts}) == len(parts)
    assert all(
        re.fullmatch(r"pkg:pypi/[a-z0-9-]+@[0-9][^ ]*", part["purl"]) for part in parts
    )


@pytest.mark.parametrize("name", LISTS)
def test_a_list_holds_whatever_the_project_needs_and_nothing_else(name: str) -> None:
    # K27: a part that is asked for and not pinned would be in no list.
    parts = json.loads(text_of(name))["components"]

    assert {part["name"] for part in parts} == needed(EXTRAS[name])


def test_what_runs_here_is_what_the_list_of_the_bridge_says() -> None:
    # K27
    parts = json.loads(text_of("bridge"))["components"]
    versions = {part["name"]: part["version"] for part in parts}

    for name in ("cryptography", "sqlalchemy", "aiohttp", "msgspec"):
        assert importlib.metadata.version(name) == versions[name]


def test_a_part_without_a_hash_is_refused() -> None:
    # K27
    with pytest.raises(ValueError, match="left-pad has no hash"):
        parts_list("x", "left-pad==1.0\n")
