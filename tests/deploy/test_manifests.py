"""What deploy/ holds fits published schemas, the program and itself (issue 5, 7)."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import jsonschema
import kubernetes_validate
import pytest
import yaml

from bridge.bootstrap import SCRAPE_DRAIN_S
from bridge.ending import END_S
from bridge.listener import DRAIN_S
from bridge.settings import Settings, check_settings, parse_settings
from bridge.signing.settings import SignerSettings, load_signer_settings
from tools.cli import LEAVE_S

ROOT: Final = Path(__file__).parents[2]
DEPLOY: Final = ROOT / "deploy"
COMPOSE: Final[dict[str, Any]] = yaml.safe_load(
    (DEPLOY / "compose/compose.yaml").read_text()
)
OBJECTS: Final[list[dict[str, Any]]] = [
    item
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    for item in yaml.safe_load_all(path.read_text())
]
SCHEMA: Final = ROOT / "tests/schemas/compose-spec/compose-spec.json"

STOP_S: Final = SCRAPE_DRAIN_S + DRAIN_S + END_S + LEAVE_S
"""What a bridge takes after `api.drain_s` at the most, whatever is away."""

SITE: Final = "./site/"
"""What an operator makes by docs/operations.md; no part of the project."""


def of_kind(kind: str) -> dict[str, Any]:
    (found,) = [one for one in OBJECTS if one["kind"] == kind]
    return found


def pod() -> dict[str, Any]:
    spec: dict[str, Any] = of_kind("StatefulSet")["spec"]["template"]["spec"]
    return spec


def replica_settings() -> Settings:
    text = next(
        one["data"]["bridge.toml"]
        for one in OBJECTS
        if one["metadata"]["name"] == "bridge-settings"
    )
    return parse_settings(text.encode(), directory=Path("/etc/freefloat"))


def seconds(text: str) -> int:
    assert text.endswith("s")
    return int(text[:-1])


@pytest.mark.parametrize("item", OBJECTS, ids=lambda one: str(one["kind"]))
def test_each_manifest_fits_kubernetes_schema_without_an_unknown_field(
    item: dict[str, Any],
) -> None:
    for version in ("1.31", "1.37"):
        kubernetes_validate.validate(item, version, strict=True)


def test_a_misspelt_field_would_be_found() -> None:
    wrong = json.loads(json.dumps(of_kind("StatefulSet")))
    wrong["spec"]["template"]["spec"]["terminationGracePeriod"] = 3

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.31", strict=True)


def test_the_compose_file_fits_the_published_schema() -> None:
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))

    assert [error.message for error in validator.iter_errors(COMPOSE)] == []
    assert not validator.is_valid(COMPOSE | {"colour": {}})


def compose_sources() -> Iterator[str]:
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source in COMPOSE["volumes"]:
                continue
            yield source
    yield from (secret["file"] for secret in COMPOSE["secrets"].values())


def test_files_that_compose_mounts_are_here_or_made_by_the_guide() -> None:
    guide = (ROOT / "docs/operations.md").read_text()
    for source in compose_sources():
        if source.startswith(SITE):
            assert source.removeprefix("./").rstrip("/") in guide, source
        else:
            assert (DEPLOY / "compose" / source).exists(), source
    (build,) = (s["build"] for s in COMPOSE["services"].values() if "build" in s)
    assert (DEPLOY / "compose" / build["context"] / build["dockerfile"]).exists()


def compose_settings() -> Settings:
    text = (DEPLOY / "compose/bridge.toml").read_bytes()
    return parse_settings(text, directory=Path("/etc/freefloat"))


@pytest.mark.parametrize("number", [1, 2])
def test_each_bridge_of_compose_has_an_identity_of_its_own(number: int) -> None:
    settings = compose_settings()
    check_settings(settings)

    service = COMPOSE["services"][f"bridge-{number}"]
    own = "/etc/freefloat/own"
    assert f"./site/bridge-{number}:{own}:ro" in service["volumes"]
    assert settings.fleet.command_key is None
    for path, made in (
        (settings.tls.certificate, "bridge/$n/tls.crt"),
        (settings.tls.key, "bridge/$n/tls.key"),
        (settings.fleet.receipt_key, "signer/receipt-$n.key"),
    ):
        assert str(path).startswith(f"{own}/")
        assert f"site-fleet/{made}" in guide_of_compose()
    assert "./bridge.toml:/etc/freefloat/bridge.toml:ro" in service["volumes"]
    assert settings.broker.host in COMPOSE["services"]
    assert seconds(service["stop_grace_period"]) > (settings.api.drain_s + STOP_S)
    # A key opens the API to whoever is on this machine, and to nobody else.
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def guide_of_compose() -> str:
    guide = (ROOT / "docs/operations.md").read_text()
    return guide[guide.index("### Compose") : guide.index("### Kubernetes")]


def test_what_compose_shares_among_its_containers_has_no_key() -> None:
    """I-34: the public part is one, and it is all that containers have in common."""
    guide = guide_of_compose()
    made = next(line for line in guide.splitlines() if "-C site/fleet -xf" in line)
    sharers = [
        name
        for name, service in COMPOSE["services"].items()
        if any("site/fleet:" in volume for volume in service.get("volumes", ()))
    ]

    assert sharers == ["guard", "bridge-1", "signer-1", "bridge-2", "signer-2"]
    for key in ("signer/", "bridge/", ".key", "root"):
        assert key not in made
    for part in ("fleet.json", "issuing.crt", "trust-anchors.pem", "registry", "trust"):
        assert part in made


def test_cars_of_composes_guide_know_both_bridges_from_the_first() -> None:
    """A car is issued with the newest trust bundle; a canary is brought no other."""
    lines = guide_of_compose().splitlines()

    assert lines.index("freefloat certs bridge site-fleet") < lines.index(
        "freefloat certs issue site-fleet --count 2"
    )


def test_compose_never_asks_a_registry_for_our_own_image() -> None:
    """K27: whoever has the name there would be given the command keys."""
    ours = [
        service
        for service in COMPOSE["services"].values()
        if service["image"].startswith("freefloat/")
    ]

    assert len(ours) == 5
    assert {service["pull_policy"] for service in ours} == {"never"}
    # Built once: each build would be another image, and all but one without a name.
    assert sum("build" in service for service in ours) == 1


@pytest.mark.parametrize("number", [1, 2])
def test_a_bridge_of_compose_drains_before_what_it_needs_is_stopped(
    number: int,
) -> None:
    """I-34: Compose stops who depends on others first."""
    needs = COMPOSE["services"][f"bridge-{number}"]["depends_on"]

    assert {name: need["condition"] for name, need in needs.items()} == dict.fromkeys(
        ("postgres", "mosquitto", f"signer-{number}"), "service_healthy"
    )
    # By TCP, for the server that makes the database answers at its socket alone.
    assert "-h" in COMPOSE["services"]["postgres"]["healthcheck"]["test"]


def test_the_guard_of_compose_can_reach_what_it_must() -> None:
    """A withdrawn car is thrown out, also after a crash of the broker (ADR 11)."""
    guard, broker = (COMPOSE["services"][name] for name in ("guard", "mosquitto"))
    folder = "/etc/mosquitto/freefloat"
    bridges = [n for n in COMPOSE["services"] if n.startswith("bridge-")]

    assert guard["network_mode"] == guard["pid"] == "service:mosquitto"
    assert guard["user"] == broker["user"]
    assert f"./site/broker:{folder}" in guard["volumes"]
    assert f"./site/broker:{folder}:ro" in broker["volumes"]
    assert "broker-run:/run/mosquitto" in broker["volumes"]
    assert [name for name in guard["command"] if name.startswith("ff-")] == [
        f"ff-{name}" for name in bridges
    ]
    # The container outlives its mosquitto, or the guard would not come back with it.
    assert broker["command"][:2] == ["sh", "-c"]
    assert "while :; do" in broker["command"][2]


def test_no_container_of_compose_writes_where_root_alone_may() -> None:
    """A named volume belongs to root unless the image has that directory.

    nats has none, and its server ended at once; the other images, by their published
    Dockerfiles, have theirs.
    """
    made_by_image = {
        ("postgres", "/var/lib/postgresql/data"),
        ("prometheus", "/prometheus"),
        ("grafana", "/var/lib/grafana"),
        ("signer-1", "/var/lib/freefloat-signer"),
        ("signer-2", "/var/lib/freefloat-signer"),
    }
    named = {
        (name, volume.split(":")[1])
        for name, service in COMPOSE["services"].items()
        for volume in service.get("volumes", ())
        if volume.split(":")[0] in COMPOSE["volumes"]
        and not (COMPOSE["volumes"][volume.split(":")[0]] or {}).get("driver_opts")
    }

    assert named == made_by_image


def mosquitto_limit(name: str) -> int:
    text = (DEPLOY / "mosquitto.conf").read_text()
    [value] = re.findall(rf"^{name} (\d+)$", text, re.MULTILINE)
    return int(value)


def test_a_flooded_broker_has_the_memory_that_its_limits_come_to() -> None:
    """Row 24: what one bridge that stands still may fill, for each bridge of Compose.

    Messages of QoS 0 are bounded by their number, those of QoS 1 by bytes as well.
    """
    each = mosquitto_limit("max_queued_messages") * mosquitto_limit("max_packet_size")
    each += mosquitto_limit("max_queued_bytes")
    bridges = [name for name in COMPOSE["services"] if name.startswith("bridge-")]
    guide = (ROOT / "docs/operations.md").read_text()
    said = re.search(
        r"\*Size\*: (\d) GB for each bridge \(.+?\) and (\d) GB for connections, 30 KB",
        guide,
    )
    assert said is not None
    for_each, for_connections = map(int, said.groups())
    of_compose = for_each * len(bridges) + for_connections

    assert (for_each - 1) * 10**9 < each <= for_each * 10**9
    assert COMPOSE["services"]["mosquitto"]["mem_limit"] == f"{of_compose}g"
    assert f"the Compose file has {of_compose} GB for its two" in guide
    assert f"`MemoryMax={for_each + for_connections}G` for one bridge" in guide
    comments = re.sub(r"\s*# ", " ", (DEPLOY / "mosquitto.conf").read_text())
    assert f"{for_each} GB for each bridge" in comments
    assert f"{for_connections} GB for connections" in comments


@pytest.mark.parametrize("name", sorted(COMPOSE["services"]))
def test_no_container_of_compose_can_do_more_than_it_must(name: str) -> None:
    service = COMPOSE["services"][name]

    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert not service.get("privileged")
    assert not service["user"].startswith("0")
    assert service["mem_limit"]
    # PostgreSQL's image writes beside its data, as do no others.
    assert service.get("read_only") or name == "postgres"


def test_no_container_of_the_cluster_can_do_more_than_it_must() -> None:
    whole = pod()
    assert whole["securityContext"]["runAsNonRoot"] is True
    assert whole["automountServiceAccountToken"] is False
    for container in (*whole["initContainers"], *whole["containers"]):
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]
    labels = of_kind("Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_secrets_come_by_reference_and_the_bridge_sees_no_other_ones_keys() -> None:
    (bridge,) = pod()["containers"]
    mounted = {one["name"] for one in bridge["volumeMounts"]}
    by_name = {one["name"]: one for one in pod()["volumes"]}

    assert not [one for one in OBJECTS if one["kind"] == "Secret"]
    assert not [name for name in mounted if "secret" in by_name[name]]
    assert by_name["own"]["emptyDir"]["medium"] == "Memory"
    assert "umask 077" in pod()["initContainers"][0]["command"][-1]


def test_the_init_container_lays_out_what_the_settings_name() -> None:
    settings, script = replica_settings(), pod()["initContainers"][0]["command"][-1]
    check_settings(settings)
    named = {
        str(path)
        for path in (
            settings.tls.certificate,
            settings.tls.key,
            settings.fleet.receipt_key,
            settings.store.password_file,
            settings.store.trust_anchors,
            settings.api.keys_file,
            *(one.secret_file for one in settings.sinks.webhook),
        )
    }
    copied = {
        name
        for names in re.findall(r"for file in ([^;]+);", script)
        for name in names.split()
    }
    assert named == {f"/run/freefloat/{name}" for name in copied}


def signer_settings(text: str, folder: Path) -> SignerSettings:
    path = folder / "signer.toml"
    path.write_text(text)
    return load_signer_settings(path)


@pytest.mark.parametrize("number", [1, 2])
def test_each_bridge_of_compose_has_a_signer_with_the_only_command_key(
    number: int, tmp_path: Path
) -> None:
    """I-34, K28: a bridge that is taken over has no key to copy."""
    text = (DEPLOY / "compose/signer.toml").read_text()
    settings = signer_settings(text, tmp_path)
    bridge, signer = (
        COMPOSE["services"][f"{n}-{number}"] for n in ("bridge", "signer")
    )
    bridges = compose_settings()
    volume = f"signer-{number}:/run/freefloat-signer"

    assert settings.fleet.command_key == "/etc/freefloat/own/command.key"
    assert f"./site/signer-{number}:/etc/freefloat/own:ro" in signer["volumes"]
    assert bridges.signer is not None
    assert bridges.approvals.signed
    assert bridges.signer.socket == settings.socket.path
    assert f"{volume}:ro" in bridge["volumes"]
    assert volume in signer["volumes"]
    assert signer["network_mode"] == "none"
    bridge_user, group = bridge["user"].split(":")
    assert signer["user"].split(":")[1] == group
    assert settings.socket.is_for_group
    assert settings.socket.peers == (int(bridge_user),)
    made = next(
        line for line in guide_of_compose().splitlines() if "site/bridge-$n/;" in line
    )
    assert "command" not in made
    assert ("uid=10002,gid=10001,mode=0750") in str(COMPOSE["volumes"])
    image = (DEPLOY / "container/Dockerfile").read_text()
    assert "--uid 10002 --gid 10001" in image


def test_in_the_cluster_the_signer_alone_has_the_command_key(tmp_path: Path) -> None:
    """I-34, K28."""
    text = next(
        one["data"]["signer.toml"]
        for one in OBJECTS
        if one["metadata"]["name"] == "signer-settings"
    )
    settings = signer_settings(text, tmp_path)
    bridges = replica_settings()
    identity, signer_identity, signer = pod()["initContainers"]
    (bridge,) = pod()["containers"]

    def mounts(container: dict[str, Any]) -> dict[str, str]:
        return {one["name"]: one["mountPath"] for one in container["volumeMounts"]}

    assert bridges.fleet.command_key is None
    assert bridges.signer is not None
    assert bridges.signer.socket == settings.socket.path
    assert "command.key" not in identity["command"][-1]
    assert settings.fleet.command_key == f"{mounts(signer)['signing']}/command.key"
    assert mounts(signer_identity)["signing"] == mounts(signer)["signing"]
    assert "signing" not in mounts(bridge) | mounts(identity)
    with_keys = [
        c for c in (identity, signer, bridge) if "signer-identities" in mounts(c)
    ]
    assert with_keys == []
    assert mounts(bridge)["signer-socket"] == mounts(signer)["signer-socket"]
    assert settings.socket.path.startswith(mounts(signer)["signer-socket"])
    assert settings.log.startswith(mounts(signer)["signer-log"])
    assert of_kind("StatefulSet")["spec"]["volumeClaimTemplates"]
    # A sidecar ends after the bridge has drained, and its user is another one.
    assert signer["restartPolicy"] == "Always"
    users = [one["securityContext"]["runAsUser"] for one in (signer_identity, signer)]
    assert users == [10002, 10002]
    assert settings.socket.peers == (pod()["securityContext"]["runAsUser"],)


def test_the_cluster_runs_no_image_of_a_stranger() -> None:
    """K27: a name without a registry is looked for at Docker Hub: anybody's."""
    whole = (*pod()["initContainers"], *pod()["containers"])
    images = {one["image"] for one in whole}

    assert images == {"registry.example.com/freefloat/bridge:1"}


def test_the_bridges_group_does_not_get_at_the_signers_log() -> None:
    """I-34: by default fsGroup opens a claim to the group at every start of the pod."""
    security = pod()["securityContext"]

    assert security["fsGroup"] == security["runAsGroup"]
    assert security["fsGroupChangePolicy"] == "OnRootMismatch"


def test_a_pod_has_the_time_to_drain_and_leaves_alone() -> None:
    """I-34."""
    settings, stateful = replica_settings(), of_kind("StatefulSet")["spec"]
    (bridge,) = pod()["containers"]
    ready = bridge["readinessProbe"]
    noticed_s = ready["periodSeconds"] * ready["failureThreshold"]

    assert settings.api.drain_s > noticed_s + ready["timeoutSeconds"]
    assert pod()["terminationGracePeriodSeconds"] > (settings.api.drain_s + STOP_S)
    assert stateful["updateStrategy"]["type"] == "RollingUpdate"
    assert of_kind("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    assert ready["httpGet"]["path"] == "/ready"
    # A dependency that is down must not have bridges killed.
    assert bridge["livenessProbe"]["httpGet"]["path"] == "/health"


def test_labels_ports_and_names_lead_where_they_say() -> None:
    stateful = of_kind("StatefulSet")
    labels = stateful["spec"]["template"]["metadata"]["labels"]
    ports = {one["name"]: one for one in pod()["containers"][0]["ports"]}
    settings = replica_settings()

    assert settings.metrics is not None
    assert ports["api"]["containerPort"] == settings.api.port
    assert ports["metrics"]["containerPort"] == settings.metrics.port
    assert stateful["spec"]["selector"]["matchLabels"] == labels
    for kind in ("PodDisruptionBudget",):
        assert of_kind(kind)["spec"]["selector"]["matchLabels"] == labels
    assert of_kind("NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == labels
    services = [one for one in OBJECTS if one["kind"] == "Service"]
    assert [one["spec"]["selector"] for one in services] == [labels, labels]
    assert {p["targetPort"] for one in services for p in one["spec"]["ports"]} == set(
        ports
    )
    assert stateful["spec"]["serviceName"] in {s["metadata"]["name"] for s in services}


def test_as_many_bridges_may_run_as_the_access_list_of_the_broker_knows() -> None:
    scaler = of_kind("HorizontalPodAutoscaler")["spec"]
    known = re.findall(
        r"^user ff-bridge-(\d+)$", (DEPLOY / "mosquitto.acl").read_text(), re.MULTILINE
    )

    assert scaler["maxReplicas"] == len(known)
    assert of_kind("StatefulSet")["spec"]["ordinals"]["start"] == 1
    assert scaler["minReplicas"] >= 2
    down, up = scaler["behavior"]["scaleDown"], scaler["behavior"]["scaleUp"]
    # Hysteresis: slower down than up, and longer than a bridge needs to come up.
    assert down["stabilizationWindowSeconds"] >= 10 * up["stabilizationWindowSeconds"]
    assert down["policies"][0]["periodSeconds"] > up["policies"][0]["periodSeconds"]


def test_the_autoscaler_asks_for_what_the_adapter_makes_of_metrics() -> None:
    scaler = of_kind("HorizontalPodAutoscaler")["spec"]
    adapter = yaml.safe_load(
        next(
            one["data"]["config.yaml"]
            for one in OBJECTS
            if one["metadata"]["name"] == "adapter-config"
        )
    )
    made = {
        rule.get("name", {}).get("as") or rule["seriesQuery"].split("{")[0]
        for rule in (*adapter["rules"], *adapter["externalRules"])
    }
    asked = {
        metric[kind]["metric"]["name"]
        for metric in scaler["metrics"]
        for kind in ("pods", "external")
        if kind in metric
    }
    assert asked == made
    kinds = {metric["type"] for metric in scaler["metrics"]}
    assert kinds == {"Pods", "External", "Resource"}


def test_the_image_is_confined_and_made_of_pinned_files() -> None:
    """K27."""
    text = (DEPLOY / "container/Dockerfile").read_text()
    final = text[text.rindex("FROM ") :]

    assert "USER 10001:10001" in final
    assert pod()["securityContext"]["runAsUser"] == 10001
    assert "HEALTHCHECK" in final
    installs = re.findall(r"pip install (.+?)(?: \\)?$", text, re.MULTILINE)
    assert len(installs) == 3
    for arguments in installs:
        is_ours = "--no-deps /dist" in arguments
        # pip fetches what a source distribution is built with, and no hash is asked.
        is_hashed = "--require-hashes" in arguments and "--only-binary" in arguments
        assert is_ours or is_hashed
    sources = {
        source
        for copied in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
        for source in copied.split()
    }
    for source in sources:
        assert (ROOT / source).exists(), source
    # What is copied comes near the image, and nothing else: keys lie beside it.
    ignored = (DEPLOY / "container/Dockerfile.dockerignore").read_text().split("\n")
    allowed = [line for line in ignored if line.startswith(("*", "!"))]
    assert allowed[0] == "*"
    assert {line[1:] for line in allowed if line.startswith("!")} == sources
    assert {"**/*.key", "**/*.sqlite"} <= set(allowed)
    packages = re.search(
        r"^packages = \[(.+)\]$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE
    )
    assert packages is not None
    for name in re.findall(r'"(\w+)"', packages.group(1)):
        assert f"COPY {name} {name}\n" in text
