"""Sound meshes as files, and the resources by which people carry Helm values to Linkerd."""

import base64
import json
from textwrap import indent
from typing import Any

import yaml

from tests.certificates import Pair, make_certificate

ROOT = make_certificate(days=3650, age=1)
ISSUER = make_certificate("identity.linkerd.cluster.local", issuer=ROOT, path_length=0, days=365)
OTHER_ROOT = make_certificate("other", days=3650)
OTHER_ISSUER = make_certificate("identity.linkerd.cluster.local", issuer=OTHER_ROOT, path_length=0, days=365)

SOUND_VALUES = {"identity": {"issuer": {"scheme": "kubernetes.io/tls"}}, "identityTrustAnchorsPEM": ROOT.pem.strip()}
WRONG_VALUES = {"identity": {"issuer": {"scheme": "kubernetes-tls"}}, "identityTrustAnchorsPEM": "no certificate here"}
SOUND_SPEC: dict[str, Any] = {
    "secretName": "linkerd-identity-issuer",
    "commonName": "identity.linkerd.cluster.local",
    "isCA": True,
    "duration": "48h",
    "renewBefore": "25h",
    "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
    "usages": ["cert sign", "crl sign", "server auth", "client auth"],
    "issuerRef": {"name": "linkerd-trust-anchor", "kind": "Issuer"},
}


def dump(*documents: Any) -> str:
    return yaml.safe_dump_all(documents, sort_keys=False)


def thing(kind: str, name: str, api: str = "v1", namespace: str = "", **members: Any) -> dict[str, Any]:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": api, "kind": kind, "metadata": metadata, **members}


def certificate(
    name: str = "linkerd-identity-issuer", namespace: str = "linkerd", version: str = "v1", **changes: Any
) -> dict[str, Any]:
    """Return a sound Certificate of the identity issuer, with some fields changed, or left out if they are None."""
    spec = {key: value for key, value in {**SOUND_SPEC, **changes}.items() if value is not None}
    return thing("Certificate", name, f"cert-manager.io/{version}", namespace, spec=spec)


def anchor(name: str = "linkerd-trust-anchor", namespace: str = "cert-manager", **changes: Any) -> dict[str, Any]:
    """Return a sound Certificate of a trust anchor, likewise."""
    given = {"secretName": name, "commonName": "root.linkerd.cluster.local", "duration": "87600h", "renewBefore": None}
    reference = {"name": "selfsigned", "kind": "ClusterIssuer"}
    spec = {**given, "renewal": {"policy": "Disabled"}, "usages": None, "issuerRef": reference, **changes}
    return certificate(name, namespace, **spec)


def issuer(name: str, kind: str = "Issuer", namespace: str = "linkerd", **spec: Any) -> dict[str, Any]:
    return thing(kind, name, "cert-manager.io/v1", namespace if kind == "Issuer" else "", spec=spec)


def secret(name: str = "linkerd-identity-issuer", namespace: str = "linkerd", **data: str) -> dict[str, Any]:
    encoded = {key.replace("_", "."): base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return thing("Secret", name, namespace=namespace, type="kubernetes.io/tls", data=encoded)


def issuer_secret(pair: Pair = ISSUER, root: Pair = ROOT) -> dict[str, Any]:
    return secret(tls_crt=pair.pem, tls_key=pair.key_pem, ca_crt=root.pem)


def trust_roots(text: str = ROOT.pem.strip()) -> dict[str, Any]:
    return thing("ConfigMap", "linkerd-identity-trust-roots", namespace="linkerd", data={"ca-bundle.crt": text})


def bundle(*sources: dict[str, Any], **target: Any) -> dict[str, Any]:
    spec = {"sources": list(sources), "target": {"configMap": {"key": "ca-bundle.crt"}, **target}}
    return thing("Bundle", "linkerd-identity-trust-roots", "trust.cert-manager.io/v1alpha1", spec=spec)


def source(name: str, key: str = "tls.crt") -> dict[str, Any]:
    return {"secret": {"name": name, "key": key}}


GUIDE = (
    issuer("selfsigned", "ClusterIssuer", selfSigned={}),
    anchor(),
    issuer("linkerd-identity-issuer", "ClusterIssuer", ca={"secretName": "linkerd-trust-anchor"}),
    certificate(issuerRef={"name": "linkerd-identity-issuer", "kind": "ClusterIssuer"}),
    bundle(source("linkerd-trust-anchor")),
)


def release(values: Any, **spec: Any) -> dict[str, Any]:
    chart = {"spec": {"chart": "linkerd-control-plane"}}
    spec = {"chart": chart, "values": values, **spec}
    return thing("HelmRelease", "linkerd", "helm.toolkit.fluxcd.io/v2", "linkerd", spec=spec)


def application(helm: dict[str, Any], **members: Any) -> dict[str, Any]:
    source = {"chart": "linkerd-control-plane", "helm": helm}
    spec = {"source": source, "destination": {"namespace": "linkerd"}}
    return thing("Application", "linkerd", "argoproj.io/v1alpha1", spec=spec, **members)


def application_set(helm: dict[str, Any]) -> dict[str, Any]:
    sources = [{"ref": "values"}, {"chart": "linkerd-control-plane", "helm": helm}]
    template = {"metadata": {"name": "{{cluster}}"}, "spec": {"sources": sources}}
    return thing("ApplicationSet", "linkerd", "argoproj.io/v1alpha1", spec={"generators": [], "template": template})


def parameters(values: Any, path: str = "") -> list[dict[str, str]]:
    """Return values as ``helm --set`` has them."""
    if isinstance(values, dict):
        return [one for name, value in values.items() for one in parameters(value, f"{path}.{name}".lstrip("."))]
    return [{"name": path, "value": str(values).lower() if isinstance(values, bool) else values}]


def kustomization(**members: Any) -> dict[str, Any]:
    return {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", **members}


def _patch(values: Any) -> dict[str, Any]:
    return thing("HelmRelease", "linkerd", "helm.toolkit.fluxcd.io/v2", spec={"values": values})


def _json_patch(values: Any) -> list[dict[str, Any]]:
    return [{"op": "replace", "path": f"/spec/values/{name}", "value": value} for name, value in values.items()]


def _helm_chart(kind: str, **spec: Any) -> dict[str, Any]:
    return thing(kind, "linkerd-control-plane", "helm.cattle.io/v1", "kube-system", spec=spec)


# By name: files that carry values to Linkerd's chart.
CARRIERS = {
    "values": lambda values: {"values.yaml": dump(values)},
    "values of a subchart": lambda values: {"values.yaml": dump({"linkerd-control-plane": values})},
    "values below an alias": lambda values: {"values.yaml": dump({"platform": {"mesh": values}})},
    "a template of values": lambda values: {"values.yaml.gotmpl": dump(values)},
    "HelmRelease": lambda values: {"a.yaml": dump(release(values))},
    "HelmRelease, indented": lambda values: {"a.yaml": indent(dump(release(values)), "    ")},
    "HelmRelease, quoted": lambda values: {"a.yaml": json.dumps(release(values), indent=2)},
    "HelmRelease, as Terraform writes it": lambda values: {
        "a.yaml": yaml.safe_dump(release(values), default_style='"', sort_keys=False)
    },
    "HelmRelease of Buoyant's chart": lambda values: {
        "a.yaml": dump(release(values)).replace("chart: linkerd-", "chart: linkerd-enterprise-")
    },
    "HelmRelease of a chart reference": lambda values: {
        "a.yaml": dump(release(values, chart=None, chartRef={"name": "linkerd-control-plane"}))
    },
    "HelmRelease in a List": lambda values: {"a.yaml": dump(thing("List", "x", items=[release(values)]))},
    "HelmRelease in a typed List": lambda values: {
        "a.yaml": dump(
            {
                "apiVersion": "helm.toolkit.fluxcd.io/v2",
                "kind": "HelmReleaseList",
                "items": [{key: value for key, value in release(values).items() if key in ("metadata", "spec")}],
            }
        )
    },
    "HelmRelease in a list": lambda values: {"a.yaml": dump([release(values)])},
    "several objects in JSON": lambda values: {
        "a.json": json.dumps(thing("Secret", "other")) + "\n" + json.dumps(release(values))
    },
    "HelmRelease, patched in place": lambda values: {
        "kustomization.yaml": dump(kustomization(patches=[{"patch": dump(_patch(values))}]))
    },
    "HelmRelease, patched by a file": lambda values: {
        "kustomization.yaml": dump(kustomization(patches=[{"path": "patch.yaml"}])),
        "patch.yaml": dump(_patch(values)),
    },
    "HelmRelease, patched in JSON": lambda values: {
        "kustomization.yaml": dump(
            kustomization(
                patches=[
                    {
                        "target": {"group": "helm.toolkit.fluxcd.io", "version": "v2", "kind": "HelmRelease"},
                        "patch": dump(_json_patch(values)),
                    }
                ]
            )
        )
    },
    "Application": lambda values: {"a.yaml": dump(application({"valuesObject": values}))},
    "Application, as text": lambda values: {"a.yaml": dump(application({"values": dump(values)}))},
    "Application, by parameters": lambda values: {"a.yaml": dump(application({"parameters": parameters(values)}))},
    "ApplicationSet": lambda values: {"a.yaml": dump(application_set({"valuesObject": values}))},
    "HelmChart of k3s": lambda values: {
        "a.yaml": dump(_helm_chart("HelmChart", chart="linkerd-control-plane", valuesContent=dump(values)))
    },
    "HelmChart of k3s, by set": lambda values: {
        "a.yaml": dump(
            _helm_chart(
                "HelmChart",
                chart="linkerd-control-plane",
                set={one["name"]: one["value"] for one in parameters(values)},
            )
        )
    },
    "HelmChartConfig of k3s": lambda values: {
        "a.yaml": dump(_helm_chart("HelmChartConfig", valuesContent=dump(values)))
    },
    "helmCharts of Kustomize": lambda values: {
        "kustomization.yaml": dump(
            kustomization(helmCharts=[{"name": "linkerd-control-plane", "valuesInline": values}])
        )
    },
    "generator of Kustomize": lambda values: {
        "a.yaml": dump(
            {
                **thing("HelmChartInflationGenerator", "x", "builtin"),
                "name": "linkerd-control-plane",
                "valuesInline": values,
            }
        )
    },
    "ControlPlane of Buoyant": lambda values: {
        "a.yaml": dump(
            thing(
                "ControlPlane",
                "mesh",
                "linkerd.buoyant.io/v1alpha1",
                spec={"components": {"linkerd": {"version": "x", "controlPlaneConfig": values}}},
            )
        )
    },
    "helmfile": lambda values: {
        "helmfile.yaml": dump({"releases": [{"chart": "linkerd/linkerd-control-plane", "values": [values]}]})
    },
    "helmfile, by set": lambda values: {
        "helmfile.yaml": dump({"releases": [{"chart": "linkerd/linkerd-control-plane", "set": parameters(values)}]})
    },
    "bundle of Rancher's Fleet": lambda values: {"fleet.yaml": dump({"helm": {"chart": "linkerd", "values": values}})},
    "Release of Crossplane": lambda values: {
        "a.yaml": dump(thing("Release", "x", "helm.crossplane.io/v1beta1", spec={"forProvider": {"values": values}}))
    },
    "ConfigMap that a release takes": lambda values: {
        "a.yaml": dump(thing("ConfigMap", "values", data={"values.yaml": dump(values)}))
    },
    "Secret that a release takes": lambda values: {
        "a.yaml": dump(thing("Secret", "values", stringData={"values.yaml": dump(values)}))
    },
    "play of Ansible": lambda values: {
        "a.yaml": dump([{"hosts": "x", "tasks": [{"kubernetes.core.helm": {"release_values": values}}]}])
    },
}
# What something else fills in later, as people write it.
PLACEHOLDERS = (
    *("{{ .Values.x }}", "{{ x }}", "{{x}}", "{% if x %}y{% endif %}", "%{ if x }y%{ endif }", "${x}", "${X:=y}"),
    *("$X", "$(X)", "@X@", "#{X}#", "((x))", "[[ .x ]]", "<% x %>", "%X_Y%", "__X__", "<x>", "<path:kv/mesh#x>"),
    *(
        "ENC[AES256_GCM,data:x,type:str]",
        "ref+vault://x",
        "vault:x",
        "op://a/b/c",
        "REPLACE_ME",
        "changeme",
        "a-${x}-b",
    ),
)
