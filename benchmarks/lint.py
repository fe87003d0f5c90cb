"""The cost of `meshtrust lint` on a tree of 3,000 documents and on a cluster's dump of 1,500 Secrets.

Both are compared with reading the same YAML once by PyYAML's own loader, which checks nothing. Most of the documents
have nothing to do with Linkerd, as in a tree of a company's manifests.
"""

import base64
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from meshtrust.lint.reading.files import read_files
from meshtrust.lint.runner import lint_material
from meshtrust.names import CERT_MANAGER_API, IDENTITY_ISSUER, KUBERNETES_TLS
from tests.certificates import Pair, make_certificate

_DIRECTORIES, _FILES, _EACH = 100, 6, 5
_SECRETS = 1500
_TIMES = 3


def measure() -> dict[str, Any]:
    """Write both, judge them several times, and read them as often without judging anything."""
    with tempfile.TemporaryDirectory() as directory:
        tree, dump = Path(directory, "tree"), Path(directory, "dump.yaml")
        _write_tree(tree)
        _write_dump(dump)
        rows = {"tree of 3000 documents": _compare(tree), "dump of 1500 Secrets": _compare(dump)}
    return {
        "by what is judged": rows,
        "ratio": {"tree": rows["tree of 3000 documents"]["ratio"], "dump": rows["dump of 1500 Secrets"]["ratio"]},
    }


def _compare(path: Path) -> dict[str, float]:
    files = sorted(path.rglob("*.yaml")) if path.is_dir() else [path]

    def read() -> None:
        for file in files:
            list(yaml.safe_load_all(file.read_text(encoding="utf-8")))

    def judge() -> None:
        lint_material(read_files([path]), datetime.now(UTC))

    pairs = [(_seconds(judge), _seconds(read)) for _ in range(_TIMES)]
    return {
        "seconds": round(statistics.median(judged for judged, _ in pairs), 2),
        "secondsToRead": round(statistics.median(only_read for _, only_read in pairs), 2),
        "ratio": round(statistics.median(judged / only_read for judged, only_read in pairs), 2),
    }


def _seconds(what: Callable[[], None]) -> float:
    started = time.perf_counter()
    what()
    return time.perf_counter() - started


def _write_tree(tree: Path) -> None:
    root = make_certificate(days=3650)
    leaf = make_certificate("web", issuer=root, ca=False)
    number = 0
    for directory in range(_DIRECTORIES):
        for file in range(_FILES):
            documents = [_document(number + position, leaf) for position in range(_EACH)]
            number += _EACH
            path = tree / f"app-{directory}" / f"{file}.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(yaml.safe_dump_all(documents), encoding="utf-8")
    values = {"identity": {"issuer": {"scheme": KUBERNETES_TLS}}, "identityTrustAnchorsPEM": root.pem.strip()}
    (tree / "linkerd").mkdir()
    (tree / "linkerd" / "values.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")


def _document(number: int, leaf: Pair) -> dict[str, Any]:
    apis = {
        "Deployment": "apps/v1",
        "Service": "v1",
        "ConfigMap": "v1",
        "Secret": "v1",
        "Ingress": "networking.k8s.io/v1",
        "HelmRelease": "helm.toolkit.fluxcd.io/v2",
        "Application": "argoproj.io/v1alpha1",
        "Certificate": CERT_MANAGER_API,
        "Namespace": "v1",
        "ServiceAccount": "v1",
    }
    kind = list(apis)[number % len(apis)]
    env = [{"name": f"VARIABLE_{position}", "value": str(position)} for position in range(10)]
    members: dict[str, dict[str, Any]] = {
        "Deployment": {"spec": {"template": {"spec": {"containers": [{"name": "a", "env": env}, {"name": "b"}]}}}},
        "ConfigMap": {"data": {f"key-{position}": "a line\n" * 20 for position in range(3)}},
        "Secret": {"type": KUBERNETES_TLS, "data": _tls(leaf)},
        "HelmRelease": {"spec": {"chart": {"spec": {"chart": "web"}}, "values": {f"v{n}": [n] * 3 for n in range(10)}}},
        "Application": {"spec": {"source": {"chart": "web", "helm": {"values": "a: 1\nb: 2\n"}}}},
        "Certificate": {"spec": {"secretName": f"web-{number}", "issuerRef": {"name": "ca"}, "dnsNames": ["web"]}},
    }
    metadata = {"name": f"x{number}", "namespace": "web", "labels": {f"label-{n}": "value" for n in range(5)}}
    return {"apiVersion": apis[kind], "kind": kind, "metadata": metadata, **members.get(kind, {})}


def _tls(pair: Pair) -> dict[str, str]:
    held = {"tls.crt": pair.pem, "tls.key": pair.key_pem}
    return {name: base64.b64encode(text.encode()).decode() for name, text in held.items()}


def _write_dump(path: Path) -> None:
    root = make_certificate(days=3650)
    issuer, leaf = make_certificate("issuer", issuer=root, days=30), make_certificate("web", issuer=root, ca=False)
    items = []
    for number in range(_SECRETS):
        is_issuer = number == _SECRETS // 2
        name, namespace = (IDENTITY_ISSUER, "linkerd") if is_issuer else (f"web-{number}", "web")
        data = {**_tls(issuer if is_issuer else leaf), "ca.crt": base64.b64encode(root.pem.encode()).decode()}
        metadata = {"name": name, "namespace": namespace, "uid": str(number), "resourceVersion": str(number)}
        items.append({"apiVersion": "v1", "kind": "Secret", "type": KUBERNETES_TLS, "metadata": metadata, "data": data})
    path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": items}), encoding="utf-8")
