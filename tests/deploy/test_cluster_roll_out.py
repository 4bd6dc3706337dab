"""An image whose canary fails is taken back by itself on Kubernetes too (row 37).

`kubectl` and `freefloat smoke` are stand-ins: no cluster runs here. What kubectl itself
makes of the command is asked of it where it is installed.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import yaml

KUBERNETES: Final = Path(__file__).parents[2] / "deploy/kubernetes"
SCRIPT: Final = KUBERNETES / "freefloat-roll-out"

KUBECTL: Final = """#!/bin/sh
# The StatefulSet is a file with the image of its template; a revision is a file too.
cd {folder}
echo "$*" >>calls
[ "$1 $2" = "--namespace freefloat" ] || exit 9
shift 2
case "$*" in
  "get statefulset/bridge --output jsonpath={{.status.updateRevision}}") cat update ;;
  "get statefulset/bridge --output jsonpath={{.status.currentRevision}}") cat current ;;
  "get controllerrevision/bridge-old --output jsonpath={{.revision}}") echo 7 ;;
  "set image statefulset/bridge *=new") echo bridge-new >update ;;
  "set image statefulset/bridge *=old") ;;
  "set image "*) exit 1 ;;
  "rollout undo statefulset/bridge --to-revision=7") echo bridge-old >update ;;
  "rollout status statefulset/bridge --timeout 900s")
    grep -qx "$(cat update)" starting && cp update current ;;
  *) exit 9 ;;
esac
"""

SMOKE: Final = """#!/bin/sh
cd {folder}
[ "$*" = "smoke --car canary" ] || exit 9
grep -qx "$(cat current)" passing
"""


@dataclass(frozen=True)
class Cluster:
    """What the two stand-ins look at."""

    folder: Path

    def roll_out(self, *words: str) -> tuple[int, str]:
        done = subprocess.run(
            [str(SCRIPT), *words],
            env={**os.environ, "PATH": f"{self.folder}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        return done.returncode, done.stderr

    @property
    def runs(self) -> tuple[str, str]:
        """What the template says, and what all pods are."""
        update, current = (
            (self.folder / name).read_text().strip() for name in ("update", "current")
        )
        return update, current

    @property
    def undone(self) -> int:
        return (self.folder / "calls").read_text().count("rollout undo")


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    for name, text in (("kubectl", KUBECTL), ("freefloat", SMOKE)):
        (tmp_path / name).write_text(text.format(folder=tmp_path))
        (tmp_path / name).chmod(0o755)
    for name in ("update", "current"):
        (tmp_path / name).write_text("bridge-old\n")
    for name in ("starting", "passing"):
        (tmp_path / name).write_text("bridge-old\nbridge-new\n")
    (tmp_path / "calls").touch()
    return Cluster(tmp_path)


def test_a_good_image_stays(cluster: Cluster) -> None:
    ended, said = cluster.roll_out("new", "--car", "canary")

    assert (ended, cluster.runs) == (0, ("bridge-new", "bridge-new")), said
    assert cluster.undone == 0


@pytest.mark.parametrize("what", ["starting", "passing"])
def test_an_image_that_does_not_start_or_pass_is_taken_back(
    cluster: Cluster, what: str
) -> None:
    (cluster.folder / what).write_text("bridge-old\n")
    ended, said = cluster.roll_out("new", "--car", "canary")

    assert (ended, cluster.runs) == (1, ("bridge-old", "bridge-old")), said
    assert "new does not pass: back to revision 7" in said


def test_if_the_former_one_does_not_pass_either_somebody_is_told(
    cluster: Cluster,
) -> None:
    (cluster.folder / "passing").write_text("")
    ended, said = cluster.roll_out("new", "--car", "canary")

    assert (ended, cluster.runs[0]) == (2, "bridge-old")
    assert "does not pass either" in said


@pytest.mark.parametrize("image", ["old", "refused"])
def test_where_nothing_changed_no_older_release_is_gone_back_to(
    cluster: Cluster, image: str
) -> None:
    """The image that runs already, and one that the cluster refuses."""
    if image == "old":
        (cluster.folder / "passing").write_text("")
    ended, said = cluster.roll_out(image, "--car", "canary")

    assert ended == (2 if image == "old" else 1), said
    assert (cluster.undone, cluster.runs) == (0, ("bridge-old", "bridge-old"))


def test_a_roll_out_that_is_under_way_is_not_interfered_with(cluster: Cluster) -> None:
    (cluster.folder / "update").write_text("bridge-new\n")
    ended, said = cluster.roll_out("new", "--car", "canary")

    assert ended == 2
    assert "under way" in said
    assert "set image" not in (cluster.folder / "calls").read_text()


def test_no_image_is_no_roll_out(cluster: Cluster) -> None:
    assert cluster.roll_out()[0] == cluster.roll_out("--car", "canary")[0] == 2
    assert (cluster.folder / "calls").read_text() == ""


def test_kubectl_sets_the_image_of_every_container(tmp_path: Path) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run(
        [
            *("kubectl", "set", "image", "--local", "--output", "yaml"),
            *("--filename", str(KUBERNETES / "statefulset.yaml"), "*=registry/new:2"),
        ],
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    pod = yaml.safe_load(done.stdout)["spec"]["template"]["spec"]
    images = [each["image"] for each in (*pod["initContainers"], *pod["containers"])]

    assert images == ["registry/new:2"] * 4


def test_a_pod_that_never_becomes_ready_does_not_keep_the_way_back_shut() -> None:
    """With OrderedReady a StatefulSet waits for it for ever, also after `undo`
    (Kubernetes' documentation, StatefulSets, forced rollback)."""
    statefulset = yaml.safe_load((KUBERNETES / "statefulset.yaml").read_text())

    assert statefulset["spec"]["podManagementPolicy"] == "Parallel"
    assert statefulset["spec"]["revisionHistoryLimit"] >= 2
