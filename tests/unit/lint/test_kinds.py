"""Inputs as people have them, by kind: for each kind inputs that are wrong, and inputs that only look so."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from meshtrust.lint.reading.files import read_files
from meshtrust.lint.runner import lint_material
from tests.certificates import make_certificate, make_v1_root
from tests.unit.lint import meshes
from tests.unit.lint.meshes import (
    CARRIERS,
    GUIDE,
    ISSUER,
    OTHER_ISSUER,
    OTHER_ROOT,
    PLACEHOLDERS,
    ROOT,
    SOUND_SPEC,
    SOUND_VALUES,
    WRONG_VALUES,
    anchor,
    application,
    bundle,
    certificate,
    dump,
    issuer,
    issuer_secret,
    kustomization,
    release,
    secret,
    source,
    thing,
    trust_roots,
)


@pytest.fixture
def lint(tmp_path):
    """Write files and return the ids of the errors and warnings, as two sets."""

    def run(files):
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content) if isinstance(content, bytes) else path.write_text(content, encoding="utf-8")
        findings = lint_material(read_files([tmp_path]), datetime.now(UTC)).findings
        return tuple(
            {one.rule.id for one in findings if one.rule and one.severity == level} for level in ("error", "warning")
        )

    return run


def result_of(*files: Path):
    return lint_material(read_files(files), datetime.now(UTC))


@pytest.mark.parametrize("carrier", CARRIERS)
def test_values_are_judged_whoever_carries_them(carrier, lint):
    errors, _ = lint(CARRIERS[carrier](WRONG_VALUES))
    assert errors == {"MT504", "MT120"}


@pytest.mark.parametrize("carrier", CARRIERS)
def test_sound_values_have_no_finding_whoever_carries_them(carrier, lint):
    assert lint(CARRIERS[carrier](SOUND_VALUES)) == (set(), set())


def both(*documents):
    return {"a.yaml": dump(*documents)}


def under(name="ca", kind="Issuer"):
    return certificate(issuerRef={"name": name, "kind": kind})


VAULT = {
    "server": "https://vault.example.org",
    "auth": {"kubernetes": {"role": "mesh", "serviceAccountRef": {"name": "vault"}}},
}
ACME = {"server": "https://acme.example.org", "privateKeySecretRef": {"name": "x"}}
ANCHOR_ISSUER = issuer("linkerd-trust-anchor", ca={"secretName": "linkerd-trust-anchor"})
CLUSTER_ISSUER = issuer("ca", "ClusterIssuer", ca={"secretName": "linkerd-trust-anchor"})
SELECTED_BY = {"matchExpressions": [{"key": "linkerd.io/is-control-plane", "operator": "In", "values": ["true"]}]}
COPIED = {"annotations": {"reflector.v1.k8s.emberstack.com/reflection-allowed": "true"}}
CERT_MANAGER = thing(
    "HelmRelease",
    "cert-manager",
    "helm.toolkit.fluxcd.io/v2",
    "security",
    spec={"chart": {"spec": {"chart": "cert-manager"}}},
)
TRUST_MANAGER = thing(
    "HelmRelease",
    "trust-manager",
    "helm.toolkit.fluxcd.io/v2",
    "linkerd",
    spec={"chart": {"spec": {"chart": "trust-manager"}}, "values": {"app": {"trust": {"namespace": "linkerd"}}}},
)

# By input: the errors and the warnings that it has.
GRAPH = {
    "the guide": (both(*GUIDE), set(), set()),
    "an issuer from selfSigned": (both(issuer("ca", selfSigned={}), under()), {"MT331"}, set()),
    "an issuer from a selfSigned ClusterIssuer": (
        both(issuer("ca", "ClusterIssuer", selfSigned={}), under(kind="ClusterIssuer")),
        {"MT331"},
        set(),
    ),
    "an anchor under its own Secret": (
        both(ANCHOR_ISSUER, anchor(namespace="linkerd", issuerRef={"name": "linkerd-trust-anchor"})),
        {"MT334"},
        set(),
    ),
    "a Secret that a ClusterIssuer does not read": (
        both(CLUSTER_ISSUER, under(kind="ClusterIssuer"), anchor(namespace="linkerd")),
        {"MT335"},
        set(),
    ),
    "a Secret in another namespace than the mesh's and cert-manager's": (
        both(CLUSTER_ISSUER, under(kind="ClusterIssuer"), anchor(namespace="security")),
        set(),
        {"MT335"},
    ),
    "a cert-manager in a namespace of its own": (
        both(CLUSTER_ISSUER, under(kind="ClusterIssuer"), anchor(namespace="security"), CERT_MANAGER),
        set(),
        set(),
    ),
    "a Secret that an Issuer does not read": (both(ANCHOR_ISSUER, certificate(), anchor()), {"MT335"}, set()),
    "a Secret that is copied": (both(ANCHOR_ISSUER, certificate(), anchor(secretTemplate=COPIED)), set(), set()),
    "Vault that signs leaves": (
        both(issuer("ca", vault={**VAULT, "path": "pki/sign/mesh"}), under()),
        {"MT332"},
        set(),
    ),
    "Vault by an issuer of its mount": (
        both(issuer("ca", vault={**VAULT, "path": "pki/issuer/x/sign/mesh"}), under()),
        {"MT332"},
        set(),
    ),
    "Vault that signs intermediates": (
        both(issuer("ca", vault={**VAULT, "path": "sign/root/sign-intermediate"}), under()),
        set(),
        set(),
    ),
    "Vault by a path that is no endpoint of its PKI engine": (
        both(issuer("ca", vault={**VAULT, "path": "pki"}), under()),
        {"MT336"},
        set(),
    ),
    "Vault by a static token, without TLS": (
        both(
            issuer(
                "ca",
                vault={
                    "server": "http://vault:8200",
                    "path": "pki/root/sign-intermediate",
                    "auth": {"tokenSecretRef": {"name": "x"}},
                },
            ),
            under(),
        ),
        set(),
        {"MT339", "MT340"},
    ),
    "a webhook's certificate by Vault": (
        both(
            issuer("ca", vault={**VAULT, "path": "pki/sign/webhooks"}),
            certificate(
                "linkerd-proxy-injector",
                secretName="linkerd-proxy-injector-k8s-tls",
                isCA=None,
                commonName="linkerd-proxy-injector.linkerd.svc",
                dnsNames=["linkerd-proxy-injector.linkerd.svc"],
                usages=["server auth", "digital signature"],
                privateKey={"algorithm": "ECDSA", "encoding": "PKCS8", "rotationPolicy": "Always"},
                issuerRef={"name": "ca"},
            ),
        ),
        set(),
        set(),
    ),
    "ACME": (both(issuer("ca", acme=ACME), under()), {"MT333"}, set()),
    "an Issuer of another group": (
        both(
            issuer("ca", namespace="apps", selfSigned={}), certificate(issuerRef={"name": "ca", "group": "example.org"})
        ),
        set(),
        set(),
    ),
    "an Issuer in another namespace": (both(issuer("ca", namespace="apps", selfSigned={}), under()), {"MT323"}, set()),
    "an Issuer of another application": (
        {"linkerd/a.yaml": dump(under()), "apps/b.yaml": dump(issuer("ca", namespace="apps", selfSigned={}))},
        set(),
        set(),
    ),
    "siblings under Vault": (
        both(
            issuer("vault", "ClusterIssuer", vault={**VAULT, "path": "pki/root/sign-intermediate"}),
            anchor(issuerRef={"name": "vault", "kind": "ClusterIssuer"}),
            under("vault", "ClusterIssuer"),
            bundle(source("linkerd-trust-anchor")),
        ),
        {"MT615"},
        set(),
    ),
    "strangers": (both(*GUIDE[:-1], anchor("another"), bundle(source("another"))), {"MT615"}, set()),
    "the same mesh twice": (
        {
            "a.yaml": dump(*GUIDE),
            "other/b.yaml": dump(
                issuer("selfsigned", "ClusterIssuer", selfSigned={}),
                anchor("another"),
                issuer("another", "ClusterIssuer", ca={"secretName": "another"}),
                under("another", "ClusterIssuer"),
                bundle(source("another")),
            ),
        },
        set(),
        set(),
    ),
    "the anchor and its predecessor": (
        both(*GUIDE[:-1], bundle(source("linkerd-trust-anchor"), source("linkerd-previous-anchor"))),
        set(),
        set(),
    ),
    "a copy of the anchor": (both(*GUIDE[:-1], bundle(source("a-copy"))), set(), set()),
    "a bundle of the issuer itself": (both(bundle(source("linkerd-identity-issuer"))), {"MT614"}, set()),
    "a source in another namespace": (
        both(certificate(), bundle(source("linkerd-identity-issuer", "ca.crt"))),
        set(),
        {"MT613"},
    ),
    "a trust-manager of the mesh": (
        both(certificate(), bundle(source("linkerd-identity-issuer", "ca.crt")), TRUST_MANAGER),
        set(),
        set(),
    ),
    "a selector that does not select": (
        both(
            bundle(source("x"), namespaceSelector=SELECTED_BY),
            thing("Namespace", "linkerd"),
        ),
        {"MT604"},
        {"MT601", "MT603"},
    ),
    "a CA's Secret with two roots": (
        both(secret("linkerd-trust-anchor", "cert-manager", tls_crt=ROOT.pem + OTHER_ROOT.pem, tls_key=ROOT.key_pem)),
        {"MT409"},
        set(),
    ),
    "an anchor's Secret without its key": (
        both(
            {**secret("linkerd-trust-anchor", "cert-manager", tls_crt=ROOT.pem), "type": "Opaque"},
            bundle(source("linkerd-trust-anchor")),
        ),
        set(),
        set(),
    ),
    "a webhook's CA that is called an anchor": (
        both(
            issuer("selfsigned", "ClusterIssuer", selfSigned={}),
            anchor("linkerd-webhook-trust-anchor", "linkerd", renewal=None, duration="8760h"),
            issuer("hooks", ca={"secretName": "linkerd-webhook-trust-anchor"}),
            certificate(
                "hook",
                secretName="linkerd-proxy-injector-k8s-tls",
                issuerRef={"name": "hooks"},
                isCA=None,
                dnsNames=["linkerd-proxy-injector.linkerd.svc"],
                usages=["server auth"],
            ),
        ),
        set(),
        set(),
    ),
    "a Certificate for a Service that is called as one of Linkerd's": (
        both(certificate("tap", "brewery", secretName="tap-k8s-tls", isCA=None, dnsNames=["tap.example.org"])),
        set(),
        set(),
    ),
    "an unused CA of another": (both(anchor("dapr-trust-anchor", "dapr", renewal=None)), set(), set()),
    "a Certificate among a release's values": (
        both(release({**SOUND_VALUES, "extraObjects": [certificate(duration="2d")]})),
        {"MT311"},
        set(),
    ),
}


@pytest.mark.parametrize("name", GRAPH)
def test_the_graph_of_issuers_is_followed(name, lint):
    files, errors, warnings = GRAPH[name]
    assert lint(files) == (errors, warnings)


PARTS = {
    "a base that is patched": {
        "base/kustomization.yaml": dump(kustomization(resources=["release.yaml"])),
        "base/release.yaml": dump(release({})),
        "prod/kustomization.yaml": dump(kustomization(resources=["../base"], patches=[{"path": "patch.yaml"}])),
        "prod/patch.yaml": dump(release(SOUND_VALUES, chart=None)),
    },
    "a base that Flux patches": {
        "clusters/prod.yaml": dump(
            thing(
                "Kustomization",
                "linkerd",
                "kustomize.toolkit.fluxcd.io/v1",
                spec={"path": "./base", "patches": [{"patch": dump(release(SOUND_VALUES, chart=None))}]},
            )
        ),
        "base/release.yaml": dump(release({})),
    },
    "a patch of a Certificate": both(
        thing("Certificate", "linkerd-identity-issuer", "cert-manager.io/v1", spec={"duration": "72h"})
    ),
    "a patch of a Bundle": {
        "kustomization.yaml": dump(kustomization(patches=[{"path": "bundle.yaml"}])),
        "bundle.yaml": dump(
            thing("Bundle", "linkerd-identity-trust-roots", "trust.cert-manager.io/v1alpha1", spec={"sources": []})
        ),
    },
    "one layer of values": {"values.yaml": dump({"identity": {"issuer": {"scheme": "kubernetes.io/tls"}}})},
    "a webhook in one layer": {"values.yaml": dump({"proxyInjector": {"injectCaFrom": "linkerd/hook"}})},
    "roots by --set-file": {
        "values.yaml": dump({"identity": {"issuer": {"scheme": "kubernetes.io/tls"}}}),
        "ca.crt": ROOT.pem,
    },
    "values from elsewhere": both(release({}, valuesFrom=[{"kind": "Secret", "name": "x"}])),
    "files of values": both(application({"valueFiles": ["x.yaml"], "valuesObject": {"identity": {"issuer": {}}}})),
    "parameters from files": both(
        application(
            {
                "fileParameters": [{"name": "identityTrustAnchorsPEM", "path": "ca.crt"}],
                "values": "identity: {issuer: {scheme: kubernetes.io/tls}}",
            }
        )
    ),
    "a Secret that something else fills": both(thing("Secret", "linkerd-identity-issuer", namespace="linkerd")),
    "a ConfigMap that something else fills": both(thing("ConfigMap", "linkerd-identity-trust-roots")),
}


@pytest.mark.parametrize("name", PARTS)
def test_what_may_stand_elsewhere_is_at_most_a_note(name, lint):
    assert lint(PARTS[name]) == (set(), set())


def test_what_is_missing_of_a_whole_is_an_error(lint):
    errors, _ = lint(both(release({}), application({})))
    assert errors == {"MT501", "MT503"}


DAPR = make_certificate("dapr.io/sentry", days=365)
DAPR_ISSUER = make_certificate("cluster.local", issuer=DAPR, days=365)
LARGE = make_certificate("a public CA", key=OTHER_ROOT.key, days=365, path_length=0)
MESH = {"mesh/values.yaml": dump(SOUND_VALUES)}
DEPLOYMENT = {"apps/web.yaml": dump(thing("Deployment", "web", "apps/v1"))}
PEMS = {"certs/ca.crt": ROOT.pem, "certs/issuer.crt": ISSUER.pem, "certs/issuer.key": ISSUER.key_pem}
BOM = b"\xef\xbb\xbf"
KINSHIP = {
    "a sound directory": (PEMS, set()),
    "a directory of Kubernetes": (
        {f"kubernetes/{name}": text for name, text in {**PEMS, "certs/ca.crt": OTHER_ROOT.pem}.items()},
        {"MT208"},
    ),
    "a cluster's own CA": ({**MESH, "pki/ca.crt": make_certificate("kubernetes", path_length=0).pem}, set()),
    "a sound directory among others": ({**PEMS, **DEPLOYMENT}, set()),
    "an issuer under another root": ({**PEMS, "certs/ca.crt": OTHER_ROOT.pem}, {"MT208"}),
    "a root with a byte order mark": ({**PEMS, **DEPLOYMENT, "certs/ca.crt": BOM + ROOT.pem.encode()}, {"MT120"}),
    "a root in UTF-16": ({**PEMS, "certs/ca.crt": ROOT.pem.encode("utf-16")}, {"MT001"}),
    "an issuer in DER": ({**PEMS, "certs/issuer.crt": b"\x30\x82\x01\xa9\xff"}, {"MT001"}),
    "a key in DER": ({**PEMS, "certs/issuer.key": b"\x30\x81\x87\xff"}, {"MT001"}),
    "an empty root": ({**PEMS, "certs/ca.crt": ""}, {"MT120"}),
    "a root that is not a CA": (
        {
            "ca.crt": (leaf := make_certificate("root", ca=False, key_cert_sign=False)).pem,
            "issuer.crt": make_certificate("identity.linkerd.cluster.local", issuer=leaf).pem,
        },
        {"MT104", "MT105", "MT208"},
    ),
    "root and issuer of one name": (
        {
            "ca.crt": (same := make_certificate("identity.linkerd.cluster.local", days=3650)).pem,
            "issuer.crt": make_certificate("identity.linkerd.cluster.local", issuer=same, days=30).pem,
        },
        set(),
    ),
    "a root of X.509 v1": ({"ca.crt": make_v1_root().pem}, set()),
    "an issuer of X.509 v1": (
        {**PEMS, "certs/issuer.crt": (old := make_v1_root("x")).pem, "certs/issuer.key": old.key_pem},
        {"MT203"},
    ),
    "dapr by its path": (
        {**MESH, "dapr/ca.crt": DAPR.pem, "dapr/issuer.crt": DAPR_ISSUER.pem, "dapr/issuer.key": ROOT.key_pem},
        set(),
    ),
    "dapr by its name": ({**MESH, "certs/ca.crt": DAPR.pem, "certs/issuer.crt": DAPR_ISSUER.pem}, set()),
    "etcd and a VPN": ({**MESH, "etcd/ca.crt": "", "vpn/server-ca.pem": LARGE.pem}, set()),
    "a bundle of public CAs": ({**MESH, "docker/ca-bundle.crt": LARGE.pem}, set()),
    "two clusters": ({**MESH, "west/issuer.yaml": dump(issuer_secret(OTHER_ISSUER, OTHER_ROOT))}, set()),
    "two clusters with trust domains of their own": (
        {
            "east/values.yaml": dump({**SOUND_VALUES, "identityTrustDomain": "east.example"}),
            "west/certificate.yaml": dump(certificate()),
        },
        set(),
    ),
    "a file that Kustomize takes": (
        {
            "kustomization.yaml": dump(
                kustomization(
                    configMapGenerator=[
                        {"name": "linkerd-identity-trust-roots", "files": ["ca-bundle.crt=vpn/anchors.pem"]}
                    ]
                )
            ),
            "vpn/anchors.pem": "no certificate here",
        },
        {"MT120"},
    ),
    "an issuer that Kustomize takes": (
        {
            "kustomization.yaml": dump(
                kustomization(
                    secretGenerator=[{"name": "linkerd-identity-issuer", "files": ["tls.crt=a.pem", "tls.key=b.pem"]}]
                )
            ),
            "a.pem": ISSUER.pem,
            "b.pem": OTHER_ROOT.key_pem,
        },
        {"MT207"},
    ),
}


@pytest.mark.parametrize("name", KINSHIP)
def test_a_pem_file_is_linkerds_by_what_refers_to_it_or_lies_beside_it(name, lint):
    files, errors = KINSHIP[name]
    assert lint(files)[0] == errors


def test_a_pem_file_that_the_user_names_is_judged_whatever_it_is_called(tmp_path):
    path = tmp_path / "etcd-ca.pem"
    path.write_text("")
    assert [one.rule.id for one in result_of(path).findings] == ["MT120"]
    assert result_of(tmp_path).pem_files == (str(path),)


@pytest.mark.parametrize("placeholder", PLACEHOLDERS)
def test_a_placeholder_in_any_field_is_no_finding(placeholder, lint):
    fields = [{**SOUND_SPEC, name: placeholder} for name in SOUND_SPEC]
    fields += [
        {**SOUND_SPEC, "privateKey": {**SOUND_SPEC["privateKey"], name: placeholder}} for name in ("algorithm", "size")
    ]
    fields += [{**SOUND_SPEC, "usages": ["cert sign", placeholder]}]
    made = [certificate(**spec) for spec in fields] + [
        thing("Certificate", "linkerd-identity-issuer", "cert-manager.io/v1", spec=placeholder),
        release(placeholder),
        release({"identity": placeholder, "identityTrustAnchorsPEM": placeholder}),
        release({"identity": {"externalCA": placeholder, "issuer": {"scheme": placeholder}}}),
        release({**SOUND_VALUES, "proxyInjector": {"externalSecret": placeholder, "injectCaFrom": placeholder}}),
        trust_roots(placeholder),
        thing("Secret", "linkerd-identity-issuer", data={"tls.crt": placeholder, "tls.key": placeholder}),
        thing("Secret", "linkerd-identity-issuer", stringData={"tls.crt": placeholder, "tls.key": "x"}),
        bundle(source(placeholder, placeholder), {"inLine": placeholder}, configMap={"key": placeholder}),
    ]
    for number, one in enumerate(made):
        assert lint({f"{number}.yaml": dump(one)})[0] == set(), one


TEMPLATES = (
    "  {{- if .Values.x }}\n  a: b\n  {{- end }}\n",
    '%{ if anchor != "" }\n  a: b\n%{ endif }\n',
    "{% if anchor %}\n  a: b\n{% endif %}\n",
    "$(sed 's/^/  /' ca.crt)\n",
    "@ANCHORS@\n",
    "<% if x %>\n",
)


@pytest.mark.parametrize("directive", TEMPLATES)
def test_a_template_is_a_note_and_not_broken_yaml(directive, tmp_path):
    (tmp_path / "a.yaml").write_text(dump(release(SOUND_VALUES)).replace("  values:\n", f"  values:\n{directive}"))
    assert [one.rule.id for one in result_of(tmp_path).findings] == ["MT003"]


def wrapped(one):
    """Return a Secret in YAML whose data is wrapped over lines, as `base64` writes it."""
    lines = [
        f"  {key}: |\n" + "".join(f"    {value[at : at + 64]}\r\n" for at in range(0, len(value), 64))
        for key, value in one["data"].items()
    ]
    return dump({**one, "data": None}).replace("data: null\n", "") + "data:\n" + "".join(lines)


SECRET, KEY = issuer_secret(), SOUND_SPEC["privateKey"]
RESTRICTED = {"name": "linkerd", "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}
USES_CNI = {"values": "cniEnabled: true\nidentityTrustDomain: x\n"}
RULES_OF_KUBERNETES = {
    "base64 over lines": ({"a.yaml": wrapped(SECRET)}, set()),
    "base64 with blanks": (both({**SECRET, "data": {**SECRET["data"], "ca.crt": "TUlJ QkFB"}}), {"MT407"}),
    "base64 for URLs": (both({**SECRET, "data": {**SECRET["data"], "ca.crt": "-_-_"}}), {"MT407"}),
    "PEM in place of base64": (both({**SECRET, "data": {**SECRET["data"], "ca.crt": ROOT.pem}}), {"MT407"}),
    "base64 twice": (
        both(secret(tls_crt=SECRET["data"]["tls.crt"], tls_key=ISSUER.key_pem, ca_crt=ROOT.pem)),
        {"MT216"},
    ),
    "a misspelt field": (both(certificate(renewBefore=None, renewbefore="25h")), {"MT702"}),
    "a misspelt field of a Bundle": (both(bundle({"inline": ROOT.pem})), {"MT702"}),
    "a misspelt value of Helm": (both(release({**SOUND_VALUES, "proxyinjector": {}})), {"MT517"}),
    "usages as Go has them": (both(certificate(usages=["certSign", "serverAuth"])), {"MT703"}),
    "an algorithm in lower case": (
        both(certificate(privateKey={**KEY, "algorithm": "ecdsa"})),
        {"MT703"},
    ),
    "a kind in lower case": (both(certificate(issuerRef={"name": "x", "kind": "clusterissuer"})), {"MT703"}),
    "a truth in quotes": (both(certificate(isCA="true")), {"MT704"}),
    "a number in quotes": (
        both(certificate(privateKey={**KEY, "size": "256"})),
        {"MT704"},
    ),
    "no issuerRef": (both(certificate(issuerRef=None)), {"MT705"}),
    "a removed version": (both(certificate(version="v1alpha2", privateKey=None, keyAlgorithm="ecdsa")), {"MT701"}),
    "a removed version of an Issuer": (
        both({**ANCHOR_ISSUER, "apiVersion": "certmanager.k8s.io/v1alpha1"}),
        {"MT701"},
    ),
    "a ConfigMap in bytes": (
        both({**trust_roots(), "data": None, "binaryData": {"ca-bundle.crt": "//4tAC0A"}}),
        {"MT120"},
    ),
    "a byte order mark before YAML": ({"a.yaml": "\ufeff" + dump(certificate(duration="2d"))}, {"MT311"}),
    "a misspelt name of a Bundle": (
        both({**bundle(source("x")), "metadata": {"name": "linkerd-identity-trust-root"}}),
        {"MT616"},
    ),
    "another key": (both({**trust_roots(), "data": {"ca.crt": ROOT.pem}}), {"MT120"}),
    "items without a kind": (
        both(
            {
                "apiVersion": "v1",
                "kind": "ConfigMapList",
                "items": [{"metadata": {"name": "linkerd-identity-trust-roots"}, "data": {"ca-bundle.crt": "none"}}],
            }
        ),
        {"MT120"},
    ),
    "the CNI plugin": (
        both(
            thing(
                "Namespace",
                "linkerd",
                metadata={"name": "linkerd", "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
            ),
            thing(
                "ConfigMap",
                "linkerd-config",
                namespace="linkerd",
                data={"values": "cniEnabled: true\nidentityTrustDomain: x\n"},
            ),
        ),
        set(),
    ),
}


@pytest.mark.parametrize("name", RULES_OF_KUBERNETES)
def test_kubernetes_own_rules_are_told_as_the_api_server_has_them(name, lint):
    files, errors = RULES_OF_KUBERNETES[name]
    assert lint(files)[0] == errors


def test_a_repeated_key_is_reported_with_its_lines(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(dump(certificate()).replace("  isCA: true\n", "  isCA: true\n  duration: 72h\n"))
    (found,) = [one for one in result_of(path).findings if one.rule.id == "MT711"]
    assert "spec.duration occurs twice, in lines 10 and 11" in str(found)
    assert found.location.line == 11


def test_a_default_is_not_told_as_if_it_were_written(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(dump(certificate(renewBefore=None)))
    (found,) = [one for one in result_of(path).findings if one.rule.id == "MT304"]
    assert 'spec.renewBefore is not set, which makes it "16h"' in str(found)


@pytest.mark.parametrize(
    "text",
    [
        "kind: Secret\nmetadata:\n\tname: x\n",
        "kind: Secret\na: b: c\n",
        "kind: Secret\n'a\n",
        "kind: Secret\na: [\n",
        "kind: Secret\na: *b\n",
        "kind: Secret\n? {a: b}\n: c\n",
        "kind: Secret\n  a: b\n",
        "kind: Secret\na: @b\n",
    ],
)
def test_no_message_is_a_librarys_own(text, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    (found,) = result_of(path).findings
    assert found.rule.id == "MT002"
    assert found.location.line
    for word in ("Error", "token", "mapping", "scalar", "expected", "block", "Exception", "flow"):
        assert word not in found.wrong


def test_a_certificate_that_is_cut_off_is_reported_in_plain_words(tmp_path):
    lines = ROOT.pem.splitlines()
    (tmp_path / "ca.crt").write_text("\n".join([*lines[:3], *lines[4:]]))
    (found,) = result_of(tmp_path).findings
    assert "it is cut off, altered, or not an X.509 certificate" in found.wrong


def test_documents_that_were_not_judged_are_counted_by_kind(tmp_path):
    (tmp_path / "a.yaml").write_text(dump(thing("Deployment", "a"), thing("Secret", "b"), thing("Secret", "c")))
    (tmp_path / "b.yaml").write_text(dump(release(SOUND_VALUES)))
    result = result_of(tmp_path)
    assert (result.judged, dict(result.passed_over)) == (1, {"Deployment": 1, "Secret": 2})


def test_an_objects_line_is_that_of_its_own_object_in_several_of_json(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(
        json.dumps(thing("Secret", "x"), indent=1) + "\n" + json.dumps(certificate(duration="2d"), indent=1)
    )
    (found,) = [one for one in result_of(path).findings if one.severity == "error"]
    assert '"duration": "2d"' in path.read_text().splitlines()[found.location.line - 1]


def test_the_meshes_of_this_folder_are_sound(lint):
    assert meshes.CARRIERS
    assert lint({"a.yaml": dump(*GUIDE, issuer_secret(), trust_roots())}) == (set(), set())
