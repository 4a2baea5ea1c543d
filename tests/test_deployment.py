"""What operators copy from docs/ops/ runs what the Dockerfile and docker-compose.yml run. The form of the manifests is
held by `make check`."""

import json
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from django.conf import settings
from django.urls import resolve

from project import env

BASE: Path = settings.BASE_DIR
FOLDER = BASE / "docs/ops/kubernetes"
EXAMPLES = {"secret.example.yaml", "ingress.yaml"}  # not applied before somebody has filled them in
PROCESSES = ("web", "worker", "beat", "migrate")

Manifest = dict[str, Any]


@cache
def manifests() -> dict[tuple[str, str], Manifest]:
    """Each kind and name."""
    found: dict[tuple[str, str], Manifest] = {}
    for path in sorted(FOLDER.glob("*.yaml")):
        if path.name != "kustomization.yaml":
            for manifest in yaml.safe_load_all(path.read_text()):
                key = (manifest["kind"], manifest["metadata"]["name"])
                assert key not in found, key
                found[key] = manifest
    return found


def spec(name: str) -> Manifest:
    kind = "Job" if name == "migrate" else "Deployment"
    found: Manifest = manifests()[kind, name]["spec"]
    return found


def pod(name: str) -> Manifest:
    found: Manifest = spec(name)["template"]["spec"]
    return found


def container(name: str) -> Manifest:
    (found,) = pod(name)["containers"]
    assert isinstance(found, dict)
    return found


def compose(name: str) -> Manifest:
    found: Manifest = yaml.safe_load((BASE / "docker-compose.yml").read_text())["services"][name]
    return found


def dockerfile(instruction: str) -> str:
    found: list[str] = re.findall(rf"^{instruction} ((?:.*\\\n)*.*)", (BASE / "Dockerfile").read_text(), re.MULTILINE)
    return found[-1]


def megabytes(size: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([MmGg])i?", size).groups()  # type: ignore[union-attr]
    return int(number) * (1024 if unit in "Gg" else 1)


def test_kustomize_knows_each_file_and_the_version_of_the_image() -> None:
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    there = {path.name for path in FOLDER.iterdir()} - EXAMPLES - {"kustomization.yaml"}
    assert set(kustomization["resources"]) == there
    version = re.search(r'^version = "(.+)"', (BASE / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    (image,) = kustomization["images"]
    assert image["newTag"] == version[1]
    assert {container(name)["image"] for name in PROCESSES} == {image["name"]}
    assert manifests()["Namespace", kustomization["namespace"]]


def test_every_setting_reaches_every_process_and_every_name_is_a_setting() -> None:
    """Whatever stands in the ConfigMap and the Secret is read whole, so each name of .env.example may stand there."""
    sources: list[Manifest] = [{"configMapRef": {"name": "user-service"}}, {"secretRef": {"name": "user-service"}}]
    direct = {"secretRef": {"name": "user-service-direct", "optional": True}}
    for name in PROCESSES:
        assert container(name)["envFrom"] == sources + [direct] * (name == "migrate"), name
        assert "env" not in container(name), name
    plain = manifests()["ConfigMap", "user-service"]["data"]
    secret = manifests()["Secret", "user-service"]["stringData"]
    straight = manifests()["Secret", "user-service-direct"]["stringData"]
    asked = env.asked
    assert set(asked) > {*plain, *secret}
    assert {name for name in plain if asked[name].secret} == set()
    assert {name for name in secret if not asked[name].secret} == set()
    assert {name for name, setting in asked.items() if setting.default is None} <= {*plain, *secret}
    assert set(straight) == {"DATABASE_URL"}
    assert {type(value) for value in (plain | secret | straight).values()} == {str}


def test_each_process_runs_as_it_does_elsewhere() -> None:
    user, group = map(int, dockerfile("USER").split(":"))
    for name in PROCESSES:
        mine, own = container(name), pod(name)
        if name == "migrate":
            assert " ".join(mine["command"]) in compose(name)["command"][-1]
        else:
            assert mine.get("command") == compose(name).get("command"), name
        assert own["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": user,
            "runAsGroup": group,
            "seccompProfile": {"type": "RuntimeDefault"},
        }, name
        assert mine["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name
        assert own["automountServiceAccountToken"] is own["enableServiceLinks"] is False, name
        (mounted,) = compose(name)["tmpfs"]
        assert [mount["mountPath"] for mount in mine["volumeMounts"]] == [mounted.partition(":")[0]], name
        (volume,) = own["volumes"]
        assert volume["emptyDir"]["medium"] == "Memory", name
        assert megabytes(volume["emptyDir"]["sizeLimit"]) == megabytes(mounted.partition("size=")[2]), name
        limit = mine["resources"]["limits"]["memory"]
        assert megabytes(limit) == megabytes(compose(name)["mem_limit"]) > megabytes(volume["emptyDir"]["sizeLimit"])


def test_probes_ask_what_is_there() -> None:
    web = container("web")
    (port,) = web["ports"]
    assert port["containerPort"] == int(dockerfile("EXPOSE"))
    asked = {probe: web[probe]["httpGet"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert {get["port"] for get in asked.values()} == {port["name"]}
    assert {resolve(get["path"]).func.__name__ for get in asked.values()} == {"livez", "readyz"}
    for name in ("worker", "beat"):
        shell, flag, line = container(name)["livenessProbe"]["exec"]["command"]
        assert (shell, flag) == ("sh", "-c")
        assert line == compose(name)["healthcheck"]["test"][1].replace("$$", "$"), name


def test_nobody_is_cut_off_by_an_upgrade_or_a_drain() -> None:
    web = container("web")
    command = json.loads(dockerfile("CMD").replace("\\\n", ""))
    kill = int(command[command.index("--workers-kill-timeout") + 1])
    assert pod("web")["terminationGracePeriodSeconds"] > kill + web["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod("worker")["terminationGracePeriodSeconds"] == 60
    for name in ("web", "worker"):
        assert spec(name)["replicas"] > 1
        assert spec(name)["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
        assert manifests()["PodDisruptionBudget", name]["spec"]["maxUnavailable"] == 1
    assert (spec("beat")["replicas"], spec("beat")["strategy"]["type"]) == (1, "Recreate")


def test_every_selector_finds_pods() -> None:
    labels = [spec(name)["template"]["metadata"]["labels"] for name in PROCESSES]

    def found(wanted: Manifest) -> list[bool]:
        return [wanted.items() <= one.items() for one in labels]

    for name in PROCESSES[:3]:
        assert found(spec(name)["selector"]["matchLabels"]) == [name == one for one in PROCESSES]
    for kind, name in (("Service", "web"), ("PodDisruptionBudget", "web"), ("PodDisruptionBudget", "worker")):
        wanted = manifests()[kind, name]["spec"]["selector"]
        assert found(wanted.get("matchLabels", wanted)) == [name == one for one in PROCESSES], kind
    components = {one["app.kubernetes.io/component"] for one in labels}
    for (kind, name), manifest in manifests().items():
        if kind == "NetworkPolicy":
            selector = manifest["spec"]["podSelector"]
            assert any(found(selector["matchLabels"])), name
            for expression in selector.get("matchExpressions", []):
                assert set(expression["values"]) <= components, name
    assert manifests()["NetworkPolicy", "all"]["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert all(found(manifests()["NetworkPolicy", "all"]["spec"]["podSelector"]["matchLabels"]))


def test_the_example_for_ci_calls_what_there_is() -> None:
    jobs = yaml.safe_load((BASE / "docs/ops/ci.yml").read_text())["jobs"]
    commands = "\n".join(step["run"] for job in jobs.values() for step in job["steps"] if "run" in step)
    targets = re.findall(r"^make (.+)", commands, re.MULTILINE)
    assert targets
    makefile = (BASE / "Makefile").read_text()
    for target in targets[0].split():
        assert f"\n{target}:" in makefile, target
    stages = re.findall(r"--target (\w+)", commands)
    assert stages
    assert {stage for stage in stages if f" AS {stage}\n" not in (BASE / "Dockerfile").read_text()} == set()
    arguments = set(re.findall(r'--build-arg "?(\w+)=', commands))
    assert arguments == {name for name in arguments if f"\nARG {name}=" in (BASE / "Dockerfile").read_text()}
    assert "VERSION" in arguments  # or us_build_info would be the same for each build
    assert f"--tag {compose('web')['image'].partition(':-')[2].rstrip('}')} " in commands


def test_without_docker_the_same_commands_are_typed() -> None:
    section = (BASE / "docs/operating.md").read_text().partition("### Without Docker")[2].partition("\n### ")[0]
    typed = section.partition("```sh\n")[2].partition("```")[0].splitlines()
    image = {"web": shlex.join(json.loads(dockerfile("CMD").replace("\\\n", "")))}
    wanted = image | {name: shlex.join(compose(name)["command"]) for name in ("worker", "beat")}
    wanted["web"] = wanted["web"].replace("/app/staticroot", '"$STATIC_ROOT"')
    assert typed[-3:] == list(wanted.values())


def test_the_commands_that_install_it_name_what_there_is() -> None:
    section = (BASE / "docs/operating.md").read_text().partition("### On Kubernetes")[2].partition("\n### ")[0]
    block = section.partition("```sh\n")[2].partition("```")[0]
    commands = [line.partition("  #")[0] for line in block.splitlines()]
    assert len(commands) <= 13
    files = set(re.findall(r"[\w.]+\.yaml", "\n".join(commands))) - {"secret.yaml"}
    assert {name for name in files if not (FOLDER / name).exists()} == set()
    version = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["images"][0]
    assert f"--tag {version['newName']}:{version['newTag']} " in commands[0]
    # What migrate needs is there before it runs, and nothing else is.
    first = re.findall(r"component in \(([^)]+)\)", block)[0].split(", ")
    chosen = {
        key for key, one in manifests().items() if one["metadata"]["labels"].get("app.kubernetes.io/component") in first
    }
    assert {kind for kind, _ in chosen} == {"ConfigMap", "Secret", "Job"}
    policy = manifests()["NetworkPolicy", "web"]["spec"]["ingress"][0]["from"][0]["namespaceSelector"]["matchLabels"]
    assert {f"{key}={value}" for key, value in policy.items()} <= set(block.split())


def test_the_example_of_an_ingress_publishes_nothing_for_the_operator_alone() -> None:
    (rule,) = manifests()["Ingress", "web"]["spec"]["rules"]
    sent = {path["path"]: path["backend"]["service"]["name"] for path in rule["http"]["paths"]}
    assert sent == {"/metrics": "nobody", "/readyz": "nobody", "/": "web"}
    assert "selector" not in manifests()["Service", "nobody"]["spec"]
    hidden = re.findall(r"location = (/\w+) \{\s+return 404;", (BASE / "docker/nginx.conf").read_text())
    assert set(hidden) == sent.keys() - {"/"}
