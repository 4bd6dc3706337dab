"""The parts lists of what is installed: CycloneDX 1.6, made of the pinned requirements.

    python -m tools.parts

writes ``requirements/bridge.cdx.json`` and ``requirements/vehicle.cdx.json``. Feed them
to what looks for known vulnerabilities. The archives that may be installed of a part
are named by their SHA-256, as pip checks them; which one it is depends on the machine.
"""

import json
import re
from pathlib import Path
from typing import Any, Final

REQUIREMENTS: Final = Path(__file__).parents[1] / "requirements"
LISTS: Final = ("bridge", "vehicle")

_PIN: Final = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\]+)")
_HASH: Final = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def parts_list(name: str, requirements: str) -> dict[str, Any]:
    """Return the CycloneDX document of a file of pinned requirements.

    Args:
        name: of what is installed with them.
        requirements: the file's text.

    Raises:
        ValueError: a part has no hash; pip would refuse it too.
    """
    parts: list[dict[str, Any]] = []
    for line in requirements.splitlines():
        if found := _PIN.match(line):
            parts.append(_part(*found.groups()))
        elif (archive := _HASH.search(line)) and parts:
            parts[-1]["properties"].append(
                {"name": "freefloat:archive:sha256", "value": archive[1]}
            )
    for part in parts:
        if not part["properties"]:
            raise ValueError(f"{part['name']} has no hash: run 'make lock'")
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": f"freefloat-{name}",
                "name": f"freefloat-{name}",
            }
        },
        "components": parts,
    }


def _part(name: str, version: str) -> dict[str, Any]:
    # The normal form of a name, as package URLs have it (PEP 503, purl-spec pypi).
    normal = re.sub(r"[-_.]+", "-", name).lower()
    purl = f"pkg:pypi/{normal}@{version}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": normal,
        "version": version,
        "purl": purl,
        "properties": [],
    }


def text_of(name: str) -> str:
    """Return the file that a parts list is."""
    requirements = (REQUIREMENTS / f"{name}.txt").read_text(encoding="utf-8")
    return json.dumps(parts_list(name, requirements), indent=1) + "\n"


def main() -> None:
    """Write every parts list."""
    for name in LISTS:
        path = REQUIREMENTS / f"{name}.cdx.json"
        path.write_text(text_of(name), encoding="utf-8")


if __name__ == "__main__":
    main()
