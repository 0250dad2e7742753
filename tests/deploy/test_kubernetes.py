"""The Kubernetes manifests agree with the services, with themselves, and with the API's schemas."""

import copy
import functools
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from voxroute_asr_whisperx.settings import WhisperXSettings
from voxroute_gateway.settings import GatewaySettings
from voxroute_orchestrator.jetstream.calls import pool_of, translation_pool_of
from voxroute_orchestrator.jetstream.setup import SPANS
from voxroute_orchestrator.jetstream.worker_process import WorkerSettings
from voxroute_orchestrator.server_settings import JobServerSettings
from voxroute_serving.process import main
from voxroute_serving.process.settings import ENV_PREFIX, ProcessSettings, misspelt_variables
from voxroute_translate.settings import TranslateSettings

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "deploy" / "k8s"
SETTINGS: dict[str, type[ProcessSettings]] = {
    "asr": WhisperXSettings,
    "translate": TranslateSettings,
    "jobs": JobServerSettings,
    "gateway": GatewaySettings,
}
BY_GRPC = ("asr", "translate", "jobs")
ON_DEVICES = ("asr", "translate")
DRAIN_S = {"asr": 300, "translate": 300, "jobs": 10, "gateway": 300}
VERSIONS = ("1.30", "1.33", "1.36")
Manifest = dict[str, Any]
_TCP = {"protocol": "TCP"}


@functools.cache
def base() -> list[Manifest]:
    """The manifests of the base, as they are."""
    names = yaml.safe_load((K8S / "base" / "kustomization.yaml").read_text())["resources"]
    loaded = [yaml.safe_load_all((K8S / "base" / name).read_text()) for name in names]
    return [document for documents in loaded for document in documents]


@functools.cache
def rendered(overlay: str) -> list[Manifest]:
    """What an overlay gives; skips without kubectl."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed: the overlays were not rendered")
    command = ["kubectl", "kustomize", str(K8S / "overlays" / overlay)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return list(yaml.safe_load_all(done.stdout))


def of(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    """The one manifest of a kind and a name."""
    [found] = [m for m in manifests if (m["kind"], m["metadata"]["name"]) == (kind, name)]
    return found


def workload(manifests: list[Manifest], name: str) -> Manifest:
    """What runs the pods of a service; the one that keeps jobs is a StatefulSet."""
    return of(manifests, "StatefulSet" if name == "jobs" else "Deployment", name)


def pod(manifests: list[Manifest], name: str) -> tuple[Manifest, Manifest, dict[str, Any]]:
    """Pod specification, its only container, and the container's variables."""
    spec = workload(manifests, name)["spec"]["template"]["spec"]
    [container] = spec["containers"]
    names = [entry["name"] for entry in container["env"]]
    assert len(names) == len(set(names)), names
    return spec, container, {entry["name"]: entry.get("value", "") for entry in container["env"]}


@pytest.mark.parametrize("name", SETTINGS)
def test_ports_probes_and_variables_agree(name: str) -> None:
    """The ports that the service listens on are those of container, probes and Service."""
    _, container, variables = pod(base(), name)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    service = of(base(), "Service", name)["spec"]
    listen = variables["VOXROUTE_LISTEN"].split(",")[0]
    assert variables["VOXROUTE_METRICS_LISTEN"] == f"0.0.0.0:{ports['metrics']}"
    alive = container["livenessProbe"]["exec"]["command"]
    if name in BY_GRPC:
        assert listen == f"0.0.0.0:{ports['grpc']}"
        assert container["startupProbe"]["grpc"]["port"] == ports["grpc"]
        assert container["readinessProbe"]["grpc"]["port"] == ports["grpc"]
        assert str(ports["grpc"]) in alive[-1]
        assert service["clusterIP"] == "None"
    else:
        assert listen == f"0.0.0.0:{ports['http']}"
        assert container["startupProbe"]["httpGet"] == {"path": "/health", "port": "http"}
        assert container["readinessProbe"]["httpGet"] == {"path": "/health", "port": "http"}
        assert alive[-2:] == ["--by", "http"]
    assert {port["name"]: port["port"] for port in service["ports"]} == ports
    assert all(port["targetPort"] in ports for port in service["ports"])
    template = workload(base(), name)["spec"]["template"]
    assert template["metadata"]["annotations"]["prometheus.io/port"] == str(ports["metrics"])


@pytest.mark.parametrize("name", SETTINGS)
def test_the_services_take_the_variables(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable is misspelt, and the settings can be built from them."""
    _, _, variables = pod(base(), name)
    own = {key: value for key, value in variables.items() if key.startswith(ENV_PREFIX)}
    assert not misspelt_variables(SETTINGS[name], own)
    for key, value in own.items():
        monkeypatch.setenv(key, value)
    settings = SETTINGS[name]()
    assert settings.drain_s == DRAIN_S[name]


@pytest.mark.parametrize("name", SETTINGS)
def test_a_pod_may_drain_before_it_is_killed(name: str) -> None:
    """The grace period is longer than the drain and twice the freeing of the models."""
    spec, _, variables = pod(base(), name)
    longest_s = float(variables["VOXROUTE_DRAIN_S"]) + 2 * main._FREE_S
    assert spec["terminationGracePeriodSeconds"] > longest_s


@pytest.mark.parametrize("name", SETTINGS)
def test_selectors_match_the_pods(name: str) -> None:
    """Service, workload, budget and network policy mean the same pods."""
    manifests = base()
    labels = workload(manifests, name)["spec"]["template"]["metadata"]["labels"]
    selectors = [
        workload(manifests, name)["spec"]["selector"]["matchLabels"],
        of(manifests, "Service", name)["spec"]["selector"],
        of(manifests, "PodDisruptionBudget", name)["spec"]["selector"]["matchLabels"],
    ]
    assert all(selector.items() <= labels.items() for selector in selectors)
    policies = [manifest for manifest in manifests if manifest["kind"] == "NetworkPolicy"]
    assert [_selects(policy["spec"]["podSelector"], labels) for policy in policies].count(True) == 1
    if name not in ON_DEVICES:
        return
    target = of(manifests, "HorizontalPodAutoscaler", name)["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", name)


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a selector means a pod with these labels."""
    wanted = selector.get("matchLabels", {})
    within = selector.get("matchExpressions", [])
    return wanted.items() <= labels.items() and all(
        one["operator"] == "In" and labels.get(one["key"]) in one["values"] for one in within
    )


@pytest.mark.parametrize(
    ("client", "called"),
    [
        ("jobs", {"asr": "ASR_ENDPOINTS", "translate": "TRANSLATE_ENDPOINTS"}),
        (
            "gateway",
            {
                "asr": "ASR_ENDPOINTS",
                "translate": "TRANSLATE_ENDPOINTS",
                "jobs": "JOBS_ENDPOINT",
            },
        ),
    ],
)
def test_a_client_may_call_what_it_names(client: str, called: dict[str, str]) -> None:
    """Its endpoints are Services that let it in and that it may reach."""
    manifests = base()
    _, _, variables = pod(manifests, client)
    labels = workload(manifests, client)["spec"]["template"]["metadata"]["labels"]
    out = of(manifests, "NetworkPolicy", client)["spec"]["egress"]
    for name, variable in called.items():
        ports = {p["name"]: p["port"] for p in of(manifests, "Service", name)["spec"]["ports"]}
        assert variables[f"VOXROUTE_{variable}"] == f"dns:///{name}:{ports['grpc']}"
        theirs = workload(manifests, name)["spec"]["template"]["metadata"]["labels"]
        peers = [peer for rule in out for peer in rule["to"] if "podSelector" in peer]
        assert any(_selects(peer["podSelector"], theirs) for peer in peers)
        [policy] = [
            one
            for one in manifests
            if one["kind"] == "NetworkPolicy" and _selects(one["spec"]["podSelector"], theirs)
        ]
        clients = policy["spec"]["ingress"][0]["from"]
        assert any("podSelector" in one and _selects(one["podSelector"], labels) for one in clients)


def test_the_job_service_keeps_its_data() -> None:
    """One pod, one claim."""
    manifests = base()
    _, container, _ = pod(manifests, "jobs")
    stateful = workload(manifests, "jobs")["spec"]
    assert stateful["replicas"] == 1
    assert stateful["serviceName"] == of(manifests, "Service", "jobs")["metadata"]["name"]
    [claim] = stateful["volumeClaimTemplates"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    dockerfile = (ROOT / "deploy" / "docker" / "Dockerfile").read_text()
    assert f"VOXROUTE_DATA_DIR={mounts[claim['metadata']['name']]}" in dockerfile


@pytest.mark.parametrize("name", SETTINGS)
def test_a_pod_is_not_root_and_writes_where_it_may(name: str) -> None:
    """What a restricted namespace demands; every writable path is a volume."""
    spec, container, variables = pod(base(), name)
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"]
    assert not security["allowPrivilegeEscalation"]
    assert security["capabilities"]["drop"] == ["ALL"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    claims = workload(base(), name)["spec"].get("volumeClaimTemplates", [])
    kept = {claim["metadata"]["name"] for claim in claims}
    assert set(mounts) == {volume["name"] for volume in spec["volumes"]} | kept
    socket = Path(variables["VOXROUTE_LISTEN"].split("unix:")[1])
    assert str(socket.parent) in mounts.values()
    dockerfile = (ROOT / "deploy" / "docker" / "Dockerfile").read_text()
    assert f"useradd --uid {spec['securityContext']['runAsUser']}" in dockerfile
    for path in mounts.values():
        assert path in dockerfile


def test_the_autoscalers_metric_is_one_that_services_have() -> None:
    """Autoscaler, adapter and metric have one name; the scrape gives the labels it asks for."""
    adapter = (K8S / "prometheus-adapter.yaml").read_text()
    [rule] = yaml.safe_load(adapter)["rules"]["custom"]
    for name in ON_DEVICES:
        [metric] = of(base(), "HorizontalPodAutoscaler", name)["spec"]["metrics"]
        assert metric["pods"]["metric"]["name"] == "voxroute_work_queued"
        assert rule["seriesQuery"].startswith(metric["pods"]["metric"]["name"] + "{")
    scrape = yaml.safe_load((ROOT / "deploy/prometheus/kubernetes-scrape.yaml").read_text())
    relabelled = {
        rule["target_label"]
        for rule in scrape["scrape_configs"][0]["relabel_configs"]
        if "target_label" in rule
    }
    assert {"job", "instance", "namespace", "pod", "accelerator"} <= relabelled


@pytest.mark.parametrize("overlay", ["cpu", "cuda"])
def test_an_overlay_asks_for_its_device(overlay: str) -> None:
    """CUDA pods have one GPU, its image, its toleration; processors have none of that."""
    for name in ON_DEVICES:
        manifests = rendered(overlay)
        spec, container, variables = pod(manifests, name)
        gpus = container["resources"]["limits"].get("nvidia.com/gpu")
        assert gpus == ("1" if overlay == "cuda" else None)
        assert ("tolerations" in spec) == (overlay == "cuda")
        assert variables["VOXROUTE_DEVICE"] == overlay
        assert container["image"].endswith(f":{overlay}")
        labels = of(manifests, "Deployment", name)["spec"]["template"]["metadata"]["labels"]
        assert labels["voxroute.org/accelerator"] == overlay


def _variables(container: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry.get("value", "") for entry in container["env"]}


def _taken(
    settings: type[ProcessSettings], container: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> Any:
    """The settings that a container's variables make; none is misspelt."""
    own = {k: v for k, v in _variables(container).items() if k.startswith(ENV_PREFIX)}
    assert not misspelt_variables(settings, own)
    with monkeypatch.context() as patch:
        for key, value in own.items():
            patch.setenv(key, value)
        return settings()


def test_several_job_services_share_no_folder_and_give_their_work_to_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No claim, files on three servers, and spans for workers alone.

    Single segments are translated again by a service that is called.
    """
    manifests = rendered("fleet")
    stateful = workload(manifests, "jobs")["spec"]
    assert stateful["replicas"] > 1
    assert "volumeClaimTemplates" not in stateful
    spec, container, _ = pod(manifests, "jobs")
    settings = _taken(JobServerSettings, container, monkeypatch)
    assert settings.workers
    assert len(settings.engine) == 3
    assert settings.engine_files == "server"
    assert not settings.asr_endpoints
    assert settings.translate_endpoints
    volumes = {one["name"]: one for one in spec["volumes"]}
    mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    assert "emptyDir" in volumes["data"]
    assert settings.data_dir.parent == Path(mounts["data"])
    assert not [one for one in manifests if one["kind"] == "PersistentVolumeClaim"]
    assert settings.engine_credentials.parent == Path(mounts["nats"])
    assert set(mounts) == set(volumes)


@pytest.mark.parametrize(
    ("name", "pool"), [("asr", pool_of("")), ("translate", translation_pool_of(""))]
)
def test_a_worker_stands_beside_each_service(
    name: str, pool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its pod, at its port, let out to the same servers, and scaled by what waits for it."""
    manifests = rendered("fleet")
    template = workload(manifests, name)["spec"]["template"]
    service, worker = template["spec"]["containers"]
    assert (service["name"], worker["name"]) == (name, "worker")
    settings = _taken(WorkerSettings, worker, monkeypatch)
    [port] = [one["containerPort"] for one in service["ports"] if one["name"] == "grpc"]
    beside = {"asr": settings.asr_endpoint, "translate": settings.translate_endpoint}
    assert beside[name] == f"127.0.0.1:{port}"
    [metrics] = worker["ports"]
    assert settings.metrics_listen.endswith(f":{metrics['containerPort']}")
    scrape = (ROOT / "deploy" / "prometheus" / "kubernetes-scrape.yaml").read_text()
    assert f"regex: {metrics['name']}, target_label: job, replacement: worker" in scrape
    policy = of(manifests, "NetworkPolicy", "voxroute")["spec"]
    assert _selects(policy["podSelector"], template["metadata"]["labels"])
    [scraped] = [one for one in policy["ingress"] if {"port": "metrics", **_TCP} in one["ports"]]
    assert {"port": metrics["name"], **_TCP} in scraped["ports"]
    mounts = {one["name"]: one["mountPath"] for one in worker["volumeMounts"]}
    assert settings.engine_credentials.parent == Path(mounts["nats"])
    _, jobs, _ = pod(manifests, "jobs")
    assert settings.engine == _taken(JobServerSettings, jobs, monkeypatch).engine
    assert worker["image"] == jobs["image"]
    assert worker["securityContext"] == service["securityContext"]
    for policed in ("voxroute", "jobs"):
        [rule] = [
            rule
            for rule in of(manifests, "NetworkPolicy", policed)["spec"]["egress"]
            if rule["ports"] == [{"port": 4222, **_TCP}]
        ]
        [peer] = rule["to"]
        namespace = peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
        assert all(one.endswith(f"-headless.{namespace}:4222") for one in settings.engine)
    # two autoscalers of one deployment would quarrel
    assert not [one for one in manifests if one["kind"] == "HorizontalPodAutoscaler"]
    scalers = list(yaml.safe_load_all((K8S / "keda.yaml").read_text()))
    [keda] = [one for one in scalers if one["spec"]["scaleTargetRef"] == {"name": name}]
    assert keda["metadata"] == {"name": name, "namespace": "voxroute"}
    [trigger] = keda["spec"]["triggers"]
    asked = trigger["metadata"]
    assert (asked["stream"], asked["consumer"]) == (SPANS, pool)
    assert f"  {asked['account']} {{" in (ROOT / "deploy" / "nats" / "accounts.conf").read_text()


def test_the_servers_of_the_chart_have_the_accounts() -> None:
    """Every password that they name is given, where they are included from is where they are."""
    values = yaml.safe_load((K8S / "nats-values.yaml").read_text())
    accounts = (ROOT / "deploy" / "nats" / "accounts.conf").read_text()
    container = values["container"]
    assert set(re.findall(r"\$(\w+_PASSWORD)", accounts)) == set(container["env"])
    [mount] = [one["value"] for one in container["patch"]]
    [volume] = [one["value"] for one in values["podTemplate"]["patch"]]
    assert mount["name"] == volume["name"]
    included = values["config"]["merge"]["accounts$include"]
    assert Path("/etc/nats-config", included).resolve().parent == Path(mount["mountPath"])
    assert values["config"]["cluster"] == {"enabled": True, "replicas": 3}
    assert values["config"]["jetstream"]["merge"]["sync_interval"] == "always"


@pytest.mark.parametrize("version", VERSIONS)
def test_the_manifests_are_valid(version: str) -> None:
    """Strictly, so that a misspelt key fails; on the rendered overlays where kubectl is there."""
    sources = [base()]
    if shutil.which("kubectl"):
        sources = [rendered("cpu"), rendered("cuda"), rendered("fleet")]
    for manifest in (manifest for source in sources for manifest in source):
        kubernetes_validate.validate(manifest, version, strict=True)
    broken = copy.deepcopy(of(sources[0], "Deployment", "asr"))
    broken["spec"]["replicsa"] = 2
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, version, strict=True)
