"""Every command of the CLI on a mesh of this process and a CLI of Pulumi that answers by a script.

Run as a program with a directory, it runs all of them one after the other on its own standard output, as a person's
terminal or a CI system's log would have it, and leaves in `result.json` there their exit
codes and what each has to show.
"""

import base64
import gzip
import json
import os
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from meshtrust.commands import adopt
from meshtrust.commands.cli import main
from meshtrust.pki.pem import fingerprint
from meshtrust.rotation import gate
from meshtrust.stacks import target
from meshtrust.stacks.stack import Stack
from tests.certificates import Pair, make_certificate
from tests.fake_cluster import (
    NOW,
    FakeCluster,
    Port,
    identity_answers,
    injector_answers,
    leaf,
    of_deployment,
    pod_item,
    proxy_answers,
)
from tests.recorder import REPOSITORY

CONTEXT = "arn:aws:eks:eu-west-1:123456789012:cluster/production-in-größe"
STACK = "production-in-the-west-of-europe-2"
UID = "6c4f"
GENERATIONS = ("2026", "2027-with-a-name-that-is-rather-long")
CLUSTERS = ("production-in-the-west-of-europe-3", "east")
COMMANDS = {
    "status": ["status", "--stack", STACK],
    "status until": ["status", "--stack", STACK, "--until", "converged", "--timeout", "0"],
    "verify": ["verify", "--stack", STACK],
    "plan": ["plan", "--stack", STACK],
    "chain": ["chain", "--stack", STACK],
    "export": ["export", "--stack", STACK],
    "heal": ["heal", "--stack", STACK],
    "rotate": ["rotate", "--stack", STACK, "--step"],
    "rotate verbose": ["rotate", "--stack", STACK, "--step", "--verbose"],
    "abort": ["abort", "--stack", STACK, "--step"],
    "adopt": ["adopt", "--stack", "taken-over", "--context", CONTEXT],
    "lint": ["lint"],
    "fleet up": ["fleet", "up"],
    "fleet status": ["fleet", "status"],
    "fleet status until": ["fleet", "status", "--until", "converged", "--timeout", "0", "--anchor-stack", "anchor"],
    "fleet verify": ["fleet", "verify"],
    "fleet rotate": ["fleet", "rotate", "--to", GENERATIONS[1]],
}
# Exit codes other than 0: verify finds that the mesh has no webhooks, lint finds an error, and the fleet waits for an
# anchor stack whose outputs do not change; the last run of STACK had another goal, and that of the anchor stack left no
# report.
CODES = {"status until": 4, "verify": 1, "lint": 1, "fleet status until": 3, "fleet verify": 1, "fleet rotate": 4}

OLD, NEW = make_certificate("root old", days=3650), make_certificate("root new", days=7300)
ISSUER = make_certificate("issuer", issuer=OLD, days=2)
BOTH = f"{OLD.pem.strip()}\n{NEW.pem.strip()}"

WAITING = "checkout-in-the-west-of-europe/basket-7d9c8b6f5-x2x7p: its proxy does not trust the new anchor"
ROTATION = {
    "goal": {"anchors": [GENERATIONS[1]], "signer": GENERATIONS[1]},
    "phase": "introduce",
    # The outputs do not change, and say what a run that switches leaves.
    "next": f"retire-{GENERATIONS[0]}",
    "waitingFor": {"count": 12, "first": [WAITING, "shop/migrate: a Job"]},
    "converged": False,
    "since": "2026-11-20T08:00:00+00:00",
}


def make_mesh() -> FakeCluster:
    """A mesh in the middle of a rotation, which is ready for the switch."""
    mesh = FakeCluster()
    mesh.set_bundle(BOTH, NOW - timedelta(hours=2))
    mesh.set_issuer(ISSUER, OLD)
    mesh.objects["api/v1/namespaces/kube-system"] = {"metadata": {"name": "kube-system", "uid": UID}}
    for kind in ("deployments", "statefulsets", "daemonsets"):
        mesh.objects[f"apis/apps/v1/{kind}"] = []
    mesh.objects["apis/batch/v1/cronjobs"] = mesh.objects["apis/batch/v1/jobs"] = []
    for name in ("linkerd-identity", "linkerd-proxy-injector"):
        pod = pod_item(f"{name}-1", "linkerd", anchors=None, **of_deployment(name))
        mesh.add("api/v1/namespaces/linkerd/pods", pod)
        mesh.ports[f"linkerd/{name}-1", 4191] = Port(proxy_answers(BOTH), leaf(ISSUER))
    mesh.ports["linkerd/linkerd-identity-1", 9990] = Port(identity_answers(ISSUER))
    mesh.ports["linkerd/linkerd-proxy-injector-1", 8443] = Port(injector_answers(lambda: BOTH), leaf(ISSUER))
    for number in range(20):
        mesh.add("api/v1/namespaces/shop/pods", pod_item(f"web-{number}", anchors=BOTH, **of_deployment("web")))
        mesh.ports[f"shop/web-{number}", 4191] = Port(proxy_answers(BOTH), leaf(ISSUER))
    secrets = [_release(name) for name in ("linkerd-control-plane", "linkerd-crds")]
    mesh.objects["api/v1/namespaces/linkerd/secrets"] = secrets
    return mesh


def _release(chart: str) -> dict[str, object]:
    values = {"identity": {"issuer": {"scheme": "kubernetes.io/tls"}}, "identityTrustAnchorsPEM": BOTH}
    release = {
        "name": chart,
        "chart": {"metadata": {"name": chart, "version": "2026.1.1"}},
        "config": values if chart == "linkerd-control-plane" else {},
    }
    packed = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(release).encode())))
    return {"metadata": {"name": f"sh.helm.{chart}", "namespace": "linkerd"}, "data": {"release": packed.decode()}}


def _outputs() -> dict[str, object]:
    roots = {name: _root(pair) for name, pair in zip(GENERATIONS, (OLD, NEW), strict=True)}
    return {"anchors": list(GENERATIONS), "roots": roots, "trustAnchors": BOTH}


def _root(pair: Pair) -> dict[str, object]:
    return {"fingerprint": fingerprint(pair.certificate), "brought": False}


def make_project(directory: Path) -> None:
    """Write a stack, a fleet of two more, their outputs, a file to lint, and a CLI of Pulumi."""
    (directory / "stacks").mkdir()
    (directory / "Pulumi.yaml").write_text((REPOSITORY / "Pulumi.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    anchors = json.dumps(list(GENERATIONS))
    anchor = f"config:\n  meshtrust:role: anchor\n  meshtrust:anchors: {anchors}\n"
    files = {"anchor": anchor + f"  meshtrust:clusters: {json.dumps(CLUSTERS)}\n"}
    outputs = {"anchor": _outputs() | {"clusters": CLUSTERS, "protected": GENERATIONS[:1]}}
    outputs["anchor"]["pledges"] = {name: {} for name in CLUSTERS}
    for name in (STACK, *CLUSTERS):
        files[name] = f"config:\n  # Größe\n  meshtrust:context: {json.dumps(CONTEXT)}\n"
        files[name] += f"  meshtrust:anchors: {anchors}\n"
        files[name] += "  meshtrust:anchorStack: anchor\n" if name in CLUSTERS else ""
        outputs[name] = _outputs() | {"signer": GENERATIONS[0], "clusterUid": UID, "rotation": ROTATION}
    for name, text in files.items():
        (directory / "stacks" / f"Pulumi.{name}.yaml").write_text(text, encoding="utf-8")
        (directory / f"outputs-{name}.json").write_text(json.dumps(outputs[name]), encoding="utf-8")
    values = f"identity: {{issuer: {{scheme: {'größe-' * 30}}}}}\n"
    (directory / "values.yaml").write_text(values, encoding="utf-8")
    cli = directory / "bin" / "pulumi"
    cli.parent.mkdir()
    cli.write_text(
        f"""#!/bin/sh
case "$*" in *version*) echo v3.272.0; exit;; esac
for argument; do [ "$last" = --stack ] && stack="$argument"; last="$argument"; done
case "$*" in *stack*output*) exec cat "{directory}/outputs-$stack.json";; esac
echo " ~  kubernetes:core/v1:Namespace größe updating"
""",
        encoding="utf-8",
    )
    cli.chmod(0o755)


def _arguments(directory: Path) -> Iterator[tuple[str, list[str]]]:
    for name, arguments in COMMANDS.items():
        where = [str(directory / "values.yaml")] if name == "lint" else ["-C", str(directory)]
        yield name, ["meshtrust", *arguments, *where]


def _facts() -> dict[str, list[str]]:
    """Return the numbers, dates and fingerprints that each command has to show whole."""
    ends = {pair: pair.certificate.not_valid_after_utc for pair in (OLD, NEW, ISSUER)}
    prints = [fingerprint(pair.certificate)[:12] for pair in (OLD, NEW)]
    days, issuer = ["3650 days", "7300 days"], fingerprint(ISSUER.certificate)[:12]
    moments = [f"{end:%Y-%m-%d %H:%M}" for end in ends.values()]
    goal = ["waits for 12", "2026-11-20 08:00", "x2x7p", "new anchor", "and 10 more"]
    dates = [f"{ends[pair]:%Y-%m-%d}" for pair in (OLD, NEW)]
    return {
        "status": [*prints, issuer, *days, "48 hours", *moments, "served 1/1", "22 proxies", *goal],
        "status until": ["is not reached after 0 s", f"anchors {GENERATIONS[1]}, signer {GENERATIONS[1]}"],
        "fleet status until": ['stack "anchor" have no report', "pulumi up --stack anchor"],
        "chain": [*prints, issuer, *days, "48 hours", *moments, "22 proxies"],
        "plan": ["0 workloads (0 pods)", "17 hours after the switch"],
        "fleet status": [*prints, *dates, *days, "48 hours", "2 of 2", "0 of 2", "0 of 2 stacks", *goal],
        "rotate": [f"signer {GENERATIONS[1]}", "The step is taken."],
        "rotate verbose": ["kubernetes:core/v1:Namespace"],
        "adopt": ["pulumi import --stack taken-over --file import-taken-over.json"],
        "lint": ["MT504", "1 error, 1 note in 1 file"],
        "fleet up": ["3 done"],
        "fleet rotate": ["1 blocked, 1 not begun"],
    }


def run_all(directory: Path) -> None:
    """Run every command, each below a line with its name."""
    make_project(directory)
    mesh, codes = make_mesh(), {}

    async def open_cluster(*_: object) -> FakeCluster:
        return mesh

    # Every other part is the real one.
    for module in (target, adopt):
        vars(module)["open_cluster"] = open_cluster
    gate._PATIENCE_SECONDS = 0.3
    os.environ["PATH"] = f"{directory / 'bin'}{os.pathsep}{os.environ['PATH']}"
    before = {name: Stack(name, directory).file.read_bytes() for name in ("anchor", STACK, *CLUSTERS)}
    for name, sys.argv in _arguments(directory):
        print(f"#### {name}", flush=True)
        try:
            main()
        except SystemExit as ended:
            codes[name] = ended.code
        for stack, content in before.items():
            Stack(stack, directory).file.write_bytes(content)
    (directory / "result.json").write_text(json.dumps({"codes": codes, "facts": _facts()}), encoding="utf-8")


if __name__ == "__main__":
    run_all(Path(sys.argv[1]))
