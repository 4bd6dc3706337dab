"""What the guide packs for a bridge's machine, by the guide's own commands (I-34)."""

import re
import subprocess
import tarfile
from pathlib import Path
from typing import Final

import pytest

from bridge.signing.settings import load_signer_settings
from tests.tools.command_line import freefloat

ROOT: Final = Path(__file__).parents[2]
GUIDE: Final = ROOT / "docs/operations.md"


@pytest.mark.parametrize("number", [1, 2])
def test_a_bridge_is_given_its_own_keys_and_all_bundles_by_the_guides_command(
    number: int, tmp_path: Path
) -> None:
    name = "bridge-part.tar" if number == 1 else f"bridge-{number}-part.tar"
    [command] = re.findall(
        rf"^.*tar .*\b{name} .*$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE
    )
    freefloat("certs", "init", "fleet", cwd=tmp_path)
    freefloat("certs", "issue", "fleet", cwd=tmp_path)
    if number > 1:
        freefloat("certs", "bridge", "fleet", cwd=tmp_path)

    subprocess.run(["sh", "-ec", command], cwd=tmp_path, check=True, timeout=30)

    with tarfile.open(tmp_path / name) as packed:
        names = {one.name for one in packed if one.isfile()}
    assert {one for one in names if one.endswith(".key")} == {
        f"bridge/{number}/tls.key",
        f"signer/command-{number}.key",
        f"signer/receipt-{number}.key",
    }
    assert {one for one in names if one.startswith("trust/")} == {
        f"trust/bundle-{version}.bin" for version in range(1, number + 1)
    }
    assert len([one for one in names if one.startswith("registry/")]) == 1
    assert {"fleet.json", "ca/issuing.crt", "ca/trust-anchors.pem"} <= names


def test_a_signer_is_given_what_its_example_reads_and_no_more(tmp_path: Path) -> None:
    guide = GUIDE.read_text(encoding="utf-8")
    [command] = re.findall(r"^.*tar .*\bsigner-part.tar .*$", guide, re.MULTILINE)[:1]
    freefloat("certs", "init", "fleet", cwd=tmp_path)

    subprocess.run(["sh", "-ec", command], cwd=tmp_path, check=True, timeout=30)
    directory = load_signer_settings(ROOT / "deploy/signer.toml").fleet.directory

    with tarfile.open(tmp_path / "signer-part.tar") as packed:
        names = {one.name for one in packed if one.isfile()}
    assert names == {"fleet.json", "trust/bundle-1.bin", "signer/command-1.key"}
    # Not the bridge's directory, which another user owns.
    assert Path(directory).name == "signer-fleet"
    assert f"tar -C /etc/freefloat/{Path(directory).name} -xf signer-part.tar" in guide
