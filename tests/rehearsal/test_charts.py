"""Linkerd's charts as the program uses them: the stand-ins, or the real ones that LINKERD_CHARTS leads to."""

import base64
import hashlib
import json
import subprocess

import pytest
import yaml
from cryptography import x509

from components import linkerd
from components.charts import NO_OWNER, ChartSource
from rehearsal import mesh
from tests.certificates import make_certificate

BUNDLE = make_certificate().pem.strip()
COMPONENTS = ("identity", "destination", "proxy-injector")
WEBHOOKS = {
    "proxyInjector": "linkerd-proxy-injector",
    "profileValidator": "linkerd-sp-validator",
    "policyValidator": "linkerd-policy-validator",
}


@pytest.fixture(scope="module")
def helm_template(binaries, linkerd_charts):
    """Render a chart with values."""

    def render(values, chart="linkerd-control-plane", charts=linkerd_charts):
        command = [*binaries.helm, "template", chart, str(charts / chart), "--namespace", "linkerd", "--values", "-"]
        return subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, check=False)

    return render


@pytest.fixture(scope="module")
def render(helm_template):
    """Render a chart with values that it takes; return its objects by kind and name."""

    def render(values, chart="linkerd-control-plane", **more):
        result = helm_template(values, chart, **more)
        assert result.returncode == 0, result.stderr
        objects = [entry for entry in yaml.safe_load_all(result.stdout) if entry]
        return {(entry["kind"], entry["metadata"]["name"]): entry for entry in objects}

    return render


@pytest.fixture(scope="module")
def default(render):
    """Objects that the program's own values make."""
    return render(program_values())


@pytest.fixture(scope="module")
def available(render):
    """Objects that they make in high availability."""
    return render(program_values(ha=True))


def program_values(*, ha=False, **values):
    """The values that the program gives linkerd-control-plane."""
    installation = linkerd.LinkerdInstallation(
        namespace="linkerd",
        trust_domain="example.org",
        charts=ChartSource(location=".", version=""),
        crds=ChartSource(location=".", version=""),
        releases=("linkerd-crds", "linkerd-control-plane"),
        ha=ha,
        install_gateway_api=True,
        values=values,
        timeout_seconds=1,
    )
    digest = hashlib.sha256(BUNDLE.encode()).hexdigest()
    args = linkerd.LinkerdArgs(
        installation=installation,
        namespace="linkerd",
        bundle=BUNDLE,
        publishes_bundle=True,
        bundle_sha256=digest,
        credentials=[],
        webhook_bundle=None,
        owner=NO_OWNER,
    )
    return linkerd.control_plane_values(args)


def deployments(objects):
    return {name: objects["Deployment", f"linkerd-{name}"] for name in COMPONENTS}


def proxy(deployment):
    spec = deployment["spec"]["template"]["spec"]
    [found] = [
        entry for entry in [*spec["containers"], *spec.get("initContainers", [])] if entry["name"] == "linkerd-proxy"
    ]
    return found


def webhook_of(objects, service):
    [found] = [entry for (_, name), entry in objects.items() if name == f"{service}-webhook-config"]
    return found


def certificate(base64_pem):
    return x509.load_pem_x509_certificate(base64.b64decode(base64_pem))


def test_the_programs_values_reach_the_control_plane(default):
    roots = default["ConfigMap", "linkerd-identity-trust-roots"]["data"]["ca-bundle.crt"]
    assert roots == BUNDLE
    config = yaml.safe_load(default["ConfigMap", "linkerd-config"]["data"]["values"])
    assert config["identityTrustAnchorsPEM"] == BUNDLE
    assert config["identityTrustDomain"] == "example.org"
    arguments = default["Deployment", "linkerd-identity"]["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "-identity-trust-domain=example.org" in arguments
    assert "-identity-scheme=kubernetes.io/tls" in arguments
    assert ("Secret", "linkerd-identity-issuer") not in default, "cert-manager makes it"


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_control_plane_pod_tells_what_it_trusts_as_the_status_command_reads_it(default, component):
    deployment = deployments(default)[component]
    metadata = deployment["spec"]["template"]["metadata"]
    digest = hashlib.sha256(BUNDLE.encode()).hexdigest()
    assert metadata["annotations"]["linkerd.io/trust-root-sha256"] == digest
    assert metadata["annotations"][linkerd.BUNDLE_ANNOTATION] == digest
    assert metadata["labels"]["linkerd.io/control-plane-component"] == component
    assert metadata["labels"]["linkerd.io/control-plane-ns"] == "linkerd"
    anchors = {entry["name"]: entry for entry in proxy(deployment)["env"]}["LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS"]
    assert anchors["valueFrom"]["configMapKeyRef"] == {"name": "linkerd-identity-trust-roots", "key": "ca-bundle.crt"}


def test_the_bundle_is_hashed_before_it_is_trimmed(render):
    """Reason to normalise a bundle: a newline at its end gives control plane and data plane different annotations."""
    values = program_values()
    objects = render({**values, "identityTrustAnchorsPEM": f"{BUNDLE}\n"})
    assert objects["ConfigMap", "linkerd-identity-trust-roots"]["data"]["ca-bundle.crt"] == BUNDLE
    annotations = deployments(objects)["identity"]["spec"]["template"]["metadata"]["annotations"]
    digest = hashlib.sha256(f"{BUNDLE}\n".encode()).hexdigest()
    assert annotations["linkerd.io/trust-root-sha256"] == digest


def test_a_bundle_that_others_keep_is_not_made(render):
    objects = render({**program_values(), "identity": {"externalCA": True, "issuer": {"scheme": "kubernetes.io/tls"}}})
    assert ("ConfigMap", "linkerd-identity-trust-roots") not in objects


@pytest.mark.parametrize("component", COMPONENTS)
def test_high_availability_has_the_effect_that_it_has_on_linkerd(available, component):
    spec = deployments(available)[component]["spec"]
    assert spec["replicas"] == 3
    assert spec["strategy"] == {"rollingUpdate": {"maxUnavailable": 1, "maxSurge": "25%"}}
    affinity = spec["template"]["spec"]["affinity"]["podAntiAffinity"]
    [apart] = affinity["requiredDuringSchedulingIgnoredDuringExecution"]
    assert apart["topologyKey"] == "kubernetes.io/hostname"
    for container in [proxy(deployments(available)[component]), spec["template"]["spec"]["containers"][0]]:
        assert container["resources"]["requests"]["cpu"] == "100m"
    budget = available["PodDisruptionBudget", {"destination": "linkerd-dst"}.get(component, f"linkerd-{component}")]
    assert budget["spec"]["maxUnavailable"] == 1


def test_webhooks_fail_closed_in_high_availability_only(default, available):
    for objects, policy in ((default, "Ignore"), (available, "Fail")):
        found = [entry for (kind, _), entry in objects.items() if kind.endswith("WebhookConfiguration")]
        assert [entry["webhooks"][0]["failurePolicy"] for entry in found] == [policy] * 3
    assert not any(kind == "PodDisruptionBudget" for kind, _ in default)


@pytest.mark.parametrize("service", WEBHOOKS.values())
def test_a_webhook_makes_its_own_certificate_anew_every_time(default, available, service):
    secret = default["Secret", f"{service}-k8s-tls"]
    served = certificate(secret["data"]["tls.crt"])
    names = served.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [f"{service}.linkerd.svc"]
    client = webhook_of(default, service)["webhooks"][0]["clientConfig"]
    assert client["service"]["name"] == service
    assert certificate(client["caBundle"]) == served
    assert certificate(available["Secret", f"{service}-k8s-tls"]["data"]["tls.crt"]) != served


@pytest.mark.parametrize("section", WEBHOOKS)
@pytest.mark.parametrize(
    ("own", "annotation", "has_bundle"),
    [
        ({"caBundle": BUNDLE}, None, True),
        ({"injectCaFrom": "linkerd/webhooks"}, ("cert-manager.io/inject-ca-from", "linkerd/webhooks"), False),
        ({"injectCaFromSecret": "linkerd/ca"}, ("cert-manager.io/inject-ca-from-secret", "linkerd/ca"), False),
    ],
)
def test_a_webhooks_certificate_may_be_kept_by_others(render, section, own, annotation, has_bundle):
    objects = render({**program_values(), section: {"externalSecret": True, **own}})
    service = WEBHOOKS[section]
    assert ("Secret", f"{service}-k8s-tls") not in objects
    webhook = webhook_of(objects, service)
    annotations = webhook["metadata"].get("annotations", {})
    assert {key: value for key, value in annotations.items() if "inject" in key} == dict(
        [annotation] if annotation else []
    )
    assert ("caBundle" in webhook["webhooks"][0]["clientConfig"]) == has_bundle


@pytest.mark.parametrize("section", WEBHOOKS)
@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"externalSecret": True}, ("externalSecret", "caBundle", "injectCaFrom")),
        ({"injectCaFrom": "a/b"}, ("externalSecret", "injectCaFrom")),
        ({"injectCaFromSecret": "a/b"}, ("externalSecret", "injectCaFromSecret")),
        (
            {"externalSecret": True, "injectCaFrom": "a/b", "injectCaFromSecret": "a/b"},
            ("injectCaFrom", "injectCaFromSecret"),
        ),
        ({"externalSecret": True, "injectCaFrom": "a/b", "caBundle": BUNDLE}, ("injectCaFrom", "caBundle")),
        ({"externalSecret": True, "injectCaFromSecret": "a/b", "caBundle": BUNDLE}, ("injectCaFromSecret", "caBundle")),
    ],
)
def test_webhook_values_that_contradict_each_other_are_refused(helm_template, section, values, named):
    assert_refused(helm_template({**program_values(), section: values}), *named)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"identity": {"issuer": {"scheme": "linkerd.io/tls"}}}, ("issuer",)),
        ({"proxy": {"logHTTPHeaders": "all"}}, ("logHTTPHeaders", "insecure")),
        ({"proxy": {"tracing": {"enabled": True}}}, ("proxy.tracing", "collector.endpoint")),
        ({"controller": {"tracing": {"enabled": True}}}, ("controller.tracing", "collector.endpoint")),
        ({"proxyInit": {"iptablesMode": "ipvs"}}, ("proxyInit.iptablesMode", "nft", "legacy")),
        ({"proxyInit": {"closeWaitTimeoutSecs": 5}}, ("closeWaitTimeoutSecs", "runAsRoot")),
    ],
)
def test_other_values_that_linkerds_chart_refuses_are_refused(helm_template, values, named):
    assert_refused(helm_template({**program_values(), **values}), *named)


def assert_refused(result, *named):
    assert result.returncode != 0, "the chart takes these values"
    for name in named:
        assert name in result.stderr, result.stderr


def test_no_private_key_is_in_what_everybody_may_read(render):
    pair = make_certificate()
    keys = {"crtPEM": pair.pem, "keyPEM": pair.key_pem}
    issuer = {"identity": {"issuer": {"scheme": "linkerd.io/tls", "tls": keys}}}
    objects = render({**program_values(), **issuer, **dict.fromkeys(WEBHOOKS, keys)})
    assert (
        base64.b64decode(objects["Secret", "linkerd-identity-issuer"]["data"]["key.pem"]).decode()
        == pair.key_pem.strip()
    )
    for (kind, name), entry in objects.items():
        assert kind == "Secret" or "PRIVATE KEY" not in json.dumps(entry), f"a private key in {kind} {name}"


@pytest.mark.parametrize("installed", [True, False])
def test_the_gateway_apis_crds_come_on_demand_and_are_kept(render, installed):
    objects = render({"installGatewayAPI": installed}, "linkerd-crds")
    gateway = {
        name: entry for (_, name), entry in objects.items() if entry["spec"]["group"] == "gateway.networking.k8s.io"
    }
    kinds = ("grpcroutes", "httproutes", "tcproutes", "tlsroutes")
    assert sorted(gateway) == [f"{kind}.gateway.networking.k8s.io" for kind in kinds if installed]
    for entry in gateway.values():
        assert entry["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert {"servers.policy.linkerd.io", "serviceprofiles.linkerd.io"} <= {name for _, name in objects}


@pytest.mark.needs("linkerd-charts")
@pytest.mark.parametrize("chart", ["linkerd-crds", "linkerd-control-plane"])
def test_the_stand_ins_make_the_objects_of_the_real_charts(render, chart):
    values = program_values(ha=True) if chart == "linkerd-control-plane" else {"installGatewayAPI": True}
    ours, theirs = render(values, chart, charts=mesh.charts()), render(values, chart)
    assert ours.keys() == theirs.keys()
    for key, entry in theirs.items():
        if entry["kind"] in ("Service", "CustomResourceDefinition"):
            assert facts(ours[key]) == facts(entry), key


def facts(entry):
    """Parts of a Service or a CRD that others rely on."""
    spec = entry["spec"]
    if entry["kind"] == "Service":
        return spec["ports"], spec["selector"], spec.get("clusterIP")
    versions = {version["name"]: version["storage"] for version in spec["versions"]}
    has_status = [bool(version.get("subresources")) for version in spec["versions"] if version["storage"]]
    return spec["group"], spec["names"]["kind"], spec["names"].get("shortNames"), versions, has_status
