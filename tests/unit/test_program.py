"""The whole program, run for stacks: what it registers, in which order, and what it exports."""

import base64
from typing import get_args

import pulumi
import pytest

from meshtrust.pki.issuer_mode import CERT_MANAGER_MODES, IssuerMode
from meshtrust.pki.pem import fingerprint, normalise_bundle, read_bundle, sha256_hex, to_pem
from tests.certificates import make_certificate
from tests.recorder import REPOSITORY, Recording, Secret, remember, run_program, stack_config

FILES = sorted(path.name.split(".")[1] for path in (REPOSITORY / "stacks").glob("Pulumi.*.yaml"))
# Those of a fleet are run together, in test_fleet_program.py.
STACKS = [stack for stack in FILES if not {"meshtrust:role", "meshtrust:anchorStack"} & stack_config(stack).keys()]
ISSUER = "kubernetes:cert-manager.io/v1:Issuer"
CERTIFICATE = "kubernetes:cert-manager.io/v1:Certificate"
CA_SECRET = "kubernetes:core/v1:Secret"
RELEASE = "kubernetes:helm.sh/v3:Release"
NAMESPACE = "kubernetes:core/v1:Namespace"


def everything_before(recording: Recording, name: str) -> set[str]:
    """Names of all that the engine finishes before a resource: what it, its parents and their dependencies wait for."""
    by_urn = {entry.urn: entry for entry in recording.resources}
    # A component and its child may share a name; the resource that does the work is the one that was asked for.
    waiting = [entry for entry in recording.resources if entry.name == name]
    before: dict[str, str] = {}
    while waiting:
        entry = waiting.pop()
        for urn in {*entry.depends_on, entry.parent} & by_urn.keys():
            if urn not in before:
                before[urn] = by_urn[urn].name
                waiting.append(by_urn[urn])
    return set(before.values())


@pytest.mark.parametrize("stack", STACKS)
def test_every_stack_file_makes_the_whole_chain(stack):
    config = stack_config(stack)
    mode = config.get("meshtrust:issuer", {}).get("mode", "intermediate")
    recording = run_program(config, stack=stack)
    installs = mode in CERT_MANAGER_MODES and config.get("meshtrust:certManager", {}).get("install", True)
    assert {entry.inputs["name"] for entry in recording.of_type(RELEASE)} == {
        *(["cert-manager"] if installs else []),
        "linkerd-crds",
        "linkerd-control-plane",
    }
    certificates = {entry.inputs["metadata"]["name"] for entry in recording.of_type(CERTIFICATE)}
    webhooks = {"linkerd-proxy-injector", "linkerd-sp-validator", "linkerd-policy-validator"}
    if config.get("meshtrust:webhooks", {}).get("vizNamespace"):
        webhooks |= {"tap", "tap-injector"}
    assert certificates == ({"linkerd-identity-issuer", *webhooks} if mode in CERT_MANAGER_MODES else set())
    assert recording.outputs["signer"] == "2026"


@pytest.mark.parametrize("mode", get_args(IssuerMode))
def test_every_mode_has_a_stack_to_copy(mode):
    assert mode in [stack_config(stack).get("meshtrust:issuer", {}).get("mode", "intermediate") for stack in STACKS]


def test_there_are_stack_files():
    assert "dev" in STACKS


def test_nothing_on_the_cluster_uses_an_ambient_provider(config):
    recording = run_program(config)
    on_cluster = [entry for entry in recording.resources if entry.type.startswith("kubernetes:")]
    cluster = recording.named("cluster")
    assert len(on_cluster) == 13
    assert all(entry.provider.startswith(cluster.urn) for entry in on_cluster)
    assert cluster.inputs["context"] == "kind-test"


def test_the_machines_kubeconfig_never_reaches_the_state(config, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", "/home/someone/.kube/config")
    assert run_program(config).named("cluster").inputs["kubeconfig"] == ""


def test_every_resource_belongs_to_a_component(config):
    recording = run_program(config)
    for entry in recording.resources:
        if entry.type.startswith(("meshtrust:", "pulumi:")):
            continue
        assert recording.parent(entry), f"{entry.name} has no component"


def test_custom_resources_wait_for_cert_manager_and_linkerd_for_its_issuer(config):
    recording = run_program(config)
    assert "cert-manager-release" in everything_before(recording, "identity-issuer-2026-issuer")
    assert "identity-issuer-2026-issuer" in everything_before(recording, "identity-issuer-certificate")
    control_plane = everything_before(recording, "linkerd-control-plane")
    assert {
        "identity-issuer-certificate",
        "linkerd-crds",
        "linkerd-namespace",
        "trust-anchor-2026-root",
    } <= control_plane
    # The CRDs need no certificate, so that they are installed while cert-manager starts.
    assert "identity-issuer-2026-issuer" not in everything_before(recording, "linkerd-crds")


def test_pulumis_provider_waits_for_nothing_that_a_run_itself_waits_for(config):
    managed = {**config, "meshtrust:trustBundle.mode": "trust-manager", "meshtrust:webhooks.vizNamespace": "viz"}
    recording = run_program(managed)
    waited_for = {entry.name for entry in recording.resources if "pulumi.com/waitFor" in str(entry.inputs)}
    assert waited_for == {"webhooks-viz-tap", "webhooks-viz-tap-injector"}


def test_the_certificate_is_that_of_linkerds_guide(config):
    certificate = run_program({**config, "meshtrust:issuer.mode": "anchor"}).named("identity-issuer-certificate")
    assert certificate.inputs["metadata"]["name"] == "linkerd-identity-issuer"
    assert certificate.inputs["metadata"]["namespace"] == "linkerd"
    assert certificate.inputs["spec"] == {
        "secretName": "linkerd-identity-issuer",
        "duration": "48h",
        "renewBefore": "25h",
        "issuerRef": {"name": "linkerd-trust-anchor", "kind": "Issuer", "group": "cert-manager.io"},
        "commonName": "identity.linkerd.cluster.local",
        "dnsNames": ["identity.linkerd.cluster.local"],
        "isCA": True,
        "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
        "usages": ["cert sign", "crl sign", "server auth", "client auth"],
    }


def test_anchor_mode_has_the_names_of_linkerds_guide(config):
    recording = run_program({**config, "meshtrust:issuer.mode": "anchor"})
    secret, issuer = recording.named("identity-issuer-2026-ca"), recording.named("identity-issuer-2026-issuer")
    metadata = secret.inputs["metadata"]
    assert (metadata["namespace"], metadata["name"]) == ("linkerd", "linkerd-trust-anchor")
    assert secret.inputs["type"] == "kubernetes.io/tls"
    assert issuer.inputs["metadata"]["name"] == "linkerd-trust-anchor"
    assert issuer.inputs["spec"] == {"ca": {"secretName": "linkerd-trust-anchor"}}
    assert recording.outputs["guideGeneration"] == "2026"


def test_a_later_generation_leaves_the_guides_names_to_the_first(config):
    later = {
        **config,
        "meshtrust:issuer.mode": "anchor",
        "meshtrust:anchors": ["2026", "2027"],
        "meshtrust:signer": "2027",
    }
    recording = run_program(later, last_outputs={"guideGeneration": "2026"})
    assert recording.named("identity-issuer-2027-issuer").inputs["metadata"]["name"] == "linkerd-trust-anchor-2027"
    assert recording.outputs["guideGeneration"] == "2026"


def test_intermediate_mode_keeps_the_anchors_key_off_the_cluster(config):
    recording = run_program(config)
    secret = recording.named("identity-issuer-2026-ca")
    assert isinstance(secret.inputs["data"], Secret)
    data = secret.inputs["data"].value
    assert secret.inputs["metadata"]["name"] == "linkerd-issuer-ca-2026"
    intermediate, root = read_bundle(base64.b64decode(data["tls.crt"]).decode())
    assert intermediate.issuer == root.subject
    assert root.issuer == root.subject
    key = recording.named("trust-anchor-2026-root").inputs["privateKeyPem"]
    assert isinstance(key, Secret)
    assert base64.b64decode(data["tls.key"]).decode() != key.value


def test_private_keys_are_registered_as_secrets_and_nowhere_else(config):
    for mode in ("anchor", "intermediate"):
        recording = run_program({**config, "meshtrust:issuer.mode": mode})
        for entry in recording.resources:
            assert_no_open_key(entry.inputs, entry.name)
        assert_no_open_key(recording.outputs, "outputs")


def assert_no_open_key(value, where):
    if isinstance(value, dict):
        for key, entry in value.items():
            assert_no_open_key(entry, f"{where}.{key}")
    elif isinstance(value, list):
        for entry in value:
            assert_no_open_key(entry, where)
    elif isinstance(value, str):
        assert "PRIVATE KEY" not in value, where
        assert base64.b64encode(b"-----BEGIN EC PRIVATE KEY")[:30].decode() not in value, where


def test_linkerd_trusts_the_bundle_and_rolls_when_it_changes(config):
    recording = run_program(config)
    values = recording.named("linkerd-control-plane").inputs["values"]
    bundle = recording.outputs["trustAnchors"]
    by_cert_manager = {"externalSecret": True, "caBundle": recording.outputs["webhooks"]["caBundle"]}
    assert values == {
        "proxyInjector": by_cert_manager,
        "profileValidator": by_cert_manager,
        "policyValidator": by_cert_manager,
        "identityTrustAnchorsPEM": bundle,
        "identityTrustDomain": "cluster.local",
        "identity": {"issuer": {"scheme": "kubernetes.io/tls"}},
        "podAnnotations": {"meshtrust.io/trust-anchors-sha256": sha256_hex(bundle)},
    }
    assert bundle == bundle.strip()
    assert recording.outputs["trustAnchorsSha256"] == sha256_hex(bundle)


def test_the_bundle_holds_every_generation_in_order_and_roots_from_elsewhere(config):
    brought = make_certificate("root.linkerd.elsewhere")
    recording = run_program(
        {
            **config,
            "meshtrust:anchors": ["2025", "2026"],
            "meshtrust:signer": "2026",
            "meshtrust:anchorCertificates": {"2025": brought.pem},
        }
    )
    first, second = read_bundle(recording.outputs["trustAnchors"])
    assert first == brought.certificate
    assert second.subject != first.subject
    assert {entry.name for entry in recording.of_type("tls:index/privateKey:PrivateKey")} == {
        "trust-anchor-2026-key",
        "identity-issuer-2026-intermediate-key",
        "webhooks-1-key",
    }, "no key is made for a root from elsewhere"
    assert recording.outputs["roots"]["2025"]["subject"] == "CN=root.linkerd.elsewhere"


def test_the_signing_generation_is_protected_and_no_other(config):
    recording = run_program({**config, "meshtrust:anchors": ["2026", "2027"], "meshtrust:signer": "2027"})
    protected = {entry.name for entry in recording.resources if entry.protect}
    assert protected == {"trust-anchor-2027-id", "trust-anchor-2027-key", "trust-anchor-2027-root"}


def test_protection_can_be_turned_off_for_clusters_that_are_thrown_away(config):
    recording = run_program({**config, "meshtrust:anchor.protect": False})
    assert not [entry.name for entry in recording.resources if entry.protect]


def test_a_root_is_p256_has_no_extended_usage_and_is_never_rekeyed_by_configuration(config):
    recording = run_program({**config, "meshtrust:anchor.validityDays": 400, "meshtrust:trustDomain": "mesh.example"})
    key, root = recording.named("trust-anchor-2026-key"), recording.named("trust-anchor-2026-root")
    assert key.inputs == {"algorithm": "ECDSA", "ecdsaCurve": "P256"}
    assert root.inputs["allowedUses"] == ["cert_signing", "crl_signing"]
    assert root.inputs["isCaCertificate"] is True
    assert root.inputs["validityPeriodHours"] == 9600
    assert root.inputs["subject"] == {
        "commonName": "root.linkerd.mesh.example",
        "organizationalUnit": "generation 2026",
        "serialNumber": "c0ffee00",
    }
    assert set(root.ignore_changes) == {"subject", "validityPeriodHours"}
    assert "earlyRenewalHours" not in root.inputs


def test_the_intermediate_may_sign_one_more_ca_and_ends_before_its_root(config):
    inputs = run_program(config).named("identity-issuer-2026-intermediate-certificate").inputs
    assert inputs["maxPathLength"] == 1
    assert inputs["isCaCertificate"] is True
    # The tls provider's stand-in makes roots of ten days; a moment of the first has passed.
    assert inputs["validityPeriodHours"] == 9 * 24 - 1


def test_the_namespace_carries_what_linkerd_needs(config):
    recording = run_program({**config, "meshtrust:linkerd.namespace": "mesh"})
    namespace = recording.named("linkerd-namespace", NAMESPACE)
    assert namespace.inputs["metadata"] == {
        "name": "mesh",
        "labels": {
            "linkerd.io/is-control-plane": "true",
            "linkerd.io/control-plane-ns": "mesh",
            "config.linkerd.io/admission-webhooks": "disabled",
            "pod-security.kubernetes.io/enforce": "privileged",
        },
        "annotations": {"linkerd.io/inject": "disabled"},
    }
    assert {entry.inputs["namespace"] for entry in recording.of_type(RELEASE)} == {"mesh", "cert-manager"}


def test_cert_manager_keeps_within_its_release_and_its_namespace(config):
    release = run_program(
        {**config, "meshtrust:certManager.values": {"crds": {"keep": True}, "replicaCount": 2}}
    ).named("cert-manager-release")
    assert release.inputs["values"] == {
        "crds": {"enabled": True, "keep": True},
        "global": {"leaderElection": {"namespace": "cert-manager"}},
        "startupapicheck": {"enabled": False},
        "replicaCount": 2,
    }


def plain_texts(value):
    """Yield all texts of what was registered, but for those in secrets."""
    if isinstance(value, dict):
        for entry in value.values():
            yield from plain_texts(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from plain_texts(entry)
    elif isinstance(value, str):
        yield value


ENCRYPTED = {
    "meshtrust:linkerd": {
        "namespace": "mesh",
        "ha": True,
        "values": {
            "podAnnotations": {"team": "hush"},
            "controllerReplicas": 5,
            "proxy": {"env": ["hush"], "resources": {"cpu": {"request": "hush"}}},
            "imagePullSecrets": [{"name": "hush"}],
            "webhookFailurePolicy": None,
        },
    },
    "meshtrust:certManager": {"values": {"global": {"leaderElection": {"namespace": "hush"}}}},
    "meshtrust:trustBundle": {"mode": "trust-manager", "values": {"commonLabels": {"team": "hush"}}},
}


def test_encrypted_values_are_secrets_of_their_releases_and_the_programs_own_stay_readable(config):
    recording = run_program({**config, **ENCRYPTED}, secret_keys=ENCRYPTED)
    values = {entry.inputs["name"]: entry.inputs["values"] for entry in recording.of_type(RELEASE)}
    linkerd = values["linkerd-control-plane"]
    assert linkerd["podAnnotations"]["team"] == Secret("hush")
    assert linkerd["podAnnotations"]["meshtrust.io/trust-anchors-sha256"] == recording.outputs["trustAnchorsSha256"]
    assert linkerd["controllerReplicas"] == Secret(5)
    assert linkerd["proxy"]["env"] == Secret(["hush"])
    assert linkerd["proxy"]["resources"] == {
        "cpu": {"request": Secret("hush")},
        "memory": {"request": "20Mi", "limit": "250Mi"},
    }
    assert linkerd["webhookFailurePolicy"] is None
    assert values["cert-manager"]["global"] == {"leaderElection": {"namespace": Secret("hush")}}
    assert values["trust-manager"]["commonLabels"] == {"team": Secret("hush")}
    everything = [recording.outputs, *(entry.inputs for entry in recording.resources)]
    assert "hush" not in list(plain_texts(everything))
    assert recording.outputs["namespace"] == "mesh"


def test_values_in_plaintext_stay_readable(config):
    recording = run_program({**config, **ENCRYPTED}, secret_keys=["meshtrust:certManager"])
    assert recording.named("linkerd-control-plane").inputs["values"]["podAnnotations"]["team"] == "hush"


def test_helm_waits_for_nothing_since_the_program_waits_for_definitions_and_pods(config):
    recording = run_program(config)
    waits = {
        entry.inputs["name"]: (entry.inputs.get("atomic", False), entry.inputs.get("skipAwait", False))
        for entry in recording.of_type(RELEASE)
    }
    assert waits == dict.fromkeys(("cert-manager", "linkerd-crds", "linkerd-control-plane"), (False, True))


def test_what_is_in_a_namespace_of_the_stack_is_deleted_with_it(config):
    recording = run_program(config)
    namespace = recording.named("linkerd-namespace", "kubernetes:core/v1:Namespace").urn
    inside = [
        entry
        for entry in recording.resources
        if (entry.inputs.get("metadata") or {}).get("namespace") and not entry.type.endswith(":Release")
    ]
    assert {entry.deleted_with for entry in inside} == {namespace}
    assert {entry.deleted_with for entry in recording.resources if entry not in inside} == {""}


def test_charts_come_from_a_repository_a_registry_or_a_directory(config, tmp_path):
    for chart in ("linkerd-crds", "linkerd-control-plane"):
        (tmp_path / chart).mkdir()
        (tmp_path / chart / "Chart.yaml").write_text("name: a chart\n")
    sources = {
        "https://charts.example.com": ("linkerd-crds", "1.2.3", {"repo": "https://charts.example.com"}),
        "oci://registry.example.com/mesh/": ("oci://registry.example.com/mesh/linkerd-crds", "1.2.3", None),
        str(tmp_path): (str(tmp_path / "linkerd-crds"), None, None),
    }
    for location, (chart, version, repository) in sources.items():
        recording = run_program({**config, "meshtrust:linkerd.charts": location, "meshtrust:linkerd.version": "1.2.3"})
        inputs = recording.named("linkerd-crds").inputs
        assert (inputs["chart"], inputs.get("version"), inputs.get("repositoryOpts")) == (chart, version, repository)


def test_the_stable_line_versions_its_two_charts_apart(config):
    stable = {"charts": "https://charts.example.com/stable", "version": "1.16.11", "crdsVersion": "1.8.0"}
    recording = run_program({**config, "meshtrust:linkerd": stable})
    versions = {name: recording.named(name).inputs["version"] for name in ("linkerd-crds", "linkerd-control-plane")}
    assert versions == {"linkerd-crds": "1.8.0", "linkerd-control-plane": "1.16.11"}
    charts = recording.outputs["charts"]
    assert charts["linkerd.crdsVersion"] == "https://charts.example.com/stable 1.8.0"
    assert "linkerd.crdsVersion" not in run_program(config).outputs["charts"]


def test_high_availability_is_linkerds_own_and_the_users_values_go_before_it(config):
    recording = run_program(
        {
            **config,
            "meshtrust:linkerd.ha": True,
            "meshtrust:linkerd.values": {"controllerReplicas": 5, "podAnnotations": {"team": "mesh"}},
        }
    )
    values = recording.named("linkerd-control-plane").inputs["values"]
    assert values["controllerReplicas"] == 5
    assert values["podAnnotations"]["team"] == "mesh"
    assert "meshtrust.io/trust-anchors-sha256" in values["podAnnotations"]
    assert values["webhookFailurePolicy"] == "Fail"
    assert values["controller"] == {"podDisruptionBudget": {"maxUnavailable": 1}}
    assert values["identityResources"]["memory"] == {"request": "10Mi", "limit": "250Mi"}


def test_the_same_configuration_declares_the_same_thing_twice(config):
    """No clock and no chance decide an input, so that a second preview has nothing to show."""
    first, second = run_program(config), run_program(config)
    of = {entry.name: entry.inputs for entry in first.resources if not entry.type.startswith("kubernetes:")}
    again = {entry.name: entry.inputs for entry in second.resources if not entry.type.startswith("kubernetes:")}
    keys = ("privateKeyPem", "caPrivateKeyPem", "caCertPem", "certRequestPem")
    for name, inputs in of.items():
        assert {key: inputs[key] for key in inputs if key not in keys} == {
            key: again[name][key] for key in again[name] if key not in keys
        }


def test_a_goal_that_is_several_steps_away_is_reached_by_one_step_in_each_run(config):
    last, goal, seen = run_program(config).outputs, {**config, "meshtrust:anchors": ["2027"]}, []
    for _ in range(4):
        last = run_program(goal, last_outputs=last).outputs
        seen.append((last["anchors"], last["signer"], last["rotation"]["next"]))
    assert seen == [
        (["2026", "2027"], "2026", "switch-2027"),
        (["2026", "2027"], "2027", "retire-2026"),
        (["2027"], "2027", ""),
        (["2027"], "2027", ""),
    ]


def test_an_illegal_jump_is_refused_before_anything_is_planned_in_mode_step(config):
    last = run_program(config).outputs
    jump = {**config, "meshtrust:anchors": ["2027"], "meshtrust:rotation": {"mode": "step"}}
    with pytest.raises(pulumi.RunError) as caught:
        run_program(jump, last_outputs=last)
    assert 'First deploy meshtrust:anchors ["2026", "2027"] with meshtrust:signer "2026"' in str(caught.value)
    assert "Nothing was changed" in str(caught.value)


def test_a_preview_that_asks_no_cluster_leaves_the_audit_trail_as_it_is(config):
    last = run_program(config).outputs
    introduced = {**config, "meshtrust:anchors": ["2026", "2027"], "meshtrust:signer": "2026"}
    recording = run_program(introduced, last_outputs=last)
    assert recording.outputs["anchors"] == ["2026", "2027"]
    assert recording.outputs["transitions"] == last["transitions"] == []


def test_anchors_that_have_all_ended_are_replaced_in_one_run(config):
    last = run_program(config).outputs
    ended = make_certificate(days=0)
    last |= {
        "trustAnchors": ended.pem,
        "roots": {"2026": {**last["roots"]["2026"], "fingerprint": fingerprint(ended.certificate)}},
    }
    recording = run_program({**config, "meshtrust:anchors": ["2027"]}, last_outputs=last)
    assert recording.outputs["anchors"] == ["2027"]
    assert list(recording.outputs["retired"]) == ["2026"]


def test_a_state_that_has_lost_the_roots_makes_no_others_under_their_names(config):
    last = run_program(config).outputs
    run_program(config, last_outputs=last)
    with pytest.raises(pulumi.RunError) as caught:
        run_program(config, last_outputs=last, loses_state=True)
    assert last["roots"]["2026"]["fingerprint"][:16] in str(caught.value)
    assert "A generation is one root for good" in str(caught.value)
    assert "Nothing was changed" in str(caught.value)


def test_nothing_new_is_made_before_the_roots_that_exist_are_checked(config):
    last = run_program(config).outputs
    introduced = {**config, "meshtrust:anchors": ["2026", "2027"], "meshtrust:signer": "2026"}
    names = [
        entry.name for entry in run_program(introduced, last_outputs=last).of_type("tls:index/privateKey:PrivateKey")
    ]
    assert names.index("trust-anchor-2026-key") < names.index("trust-anchor-2027-key")
    with pytest.raises(pulumi.RunError, match="A generation is one root for good"):
        run_program(introduced, last_outputs=last, loses_state=True)


def with_an_ended_root(config, *, signer):
    """The outputs of a stack whose older generation has ended, and what it says."""
    config = {**config, "meshtrust:anchors": ["2026", "2027"], "meshtrust:signer": signer}
    last = run_program(config).outputs
    root, other = make_certificate(generation="2026", age=10, days=0, hours=-1), read_bundle(last["trustAnchors"])[1]
    remember(root)
    described = {**last["roots"]["2026"], "fingerprint": fingerprint(root.certificate)}
    bundle = normalise_bundle(root.pem, to_pem(other))
    return {**last, "trustAnchors": bundle, "roots": {**last["roots"], "2026": described}}, config


def test_a_root_that_has_ended_stays_as_it_is_and_is_not_shown_to_its_provider(config):
    """The provider makes a certificate again that has ended, whatever the program ignores."""
    last, config = with_an_ended_root(config, signer="2027")
    recording = run_program(config, last_outputs=last)
    assert recording.outputs["trustAnchors"] == last["trustAnchors"]
    prints = [
        {name: root["fingerprint"] for name, root in roots["roots"].items()} for roots in (recording.outputs, last)
    ]
    assert prints[0] == prints[1]
    assert not [entry for entry in recording.resources if entry.name == "trust-anchor-2026-root"]
    assert recording.named("trust-anchor-2026-key"), "the key is kept"
    assert "It stays in the bundle as it is, and is never made again" in " ".join(
        text for _, text in recording.messages
    )


def test_a_root_that_has_ended_signs_no_more(config):
    last, config = with_an_ended_root(config, signer="2026")
    with pytest.raises(pulumi.RunError) as caught:
        run_program(config, last_outputs=last)
    assert 'meshtrust:signer is "2026", whose root ends at' in str(caught.value)
    assert "Sign with another generation" in str(caught.value)


def test_a_root_that_has_ended_and_is_protected_is_told_of_before_the_engine_fails(config):
    last, config = with_an_ended_root(config, signer="2026")
    switch = {**config, "meshtrust:signer": "2027"}
    with pytest.raises(pulumi.RunError) as caught:
        run_program(switch, last_outputs=last)
    assert "The root of generation 2026 has ended, or does within the hour, and the engine protects it" in str(
        caught.value
    )
    assert "pulumi state unprotect --all --yes --stack test" in str(caught.value)
    lifted = run_program({**switch, "meshtrust:anchor.protect": False}, last_outputs=last)
    assert lifted.outputs["signer"] == "2027"


def test_a_retired_name_stays_known_and_is_not_used_again(config):
    both = {**config, "meshtrust:anchors": ["2026", "2027"], "meshtrust:signer": "2027"}
    last = run_program(both).outputs
    retired = run_program({**config, "meshtrust:anchors": ["2027"]}, last_outputs=last).outputs
    assert list(retired["retired"]) == ["2026"]
    assert retired["retired"]["2026"]["fingerprint"] == last["roots"]["2026"]["fingerprint"]
    with pytest.raises(pulumi.RunError, match='generation "2026" has been retired'):
        run_program(both, last_outputs=retired)


def test_the_name_of_a_generation_may_look_like_a_number(config):
    """`pulumi config set --path` writes a number where a name looks like one."""
    assert run_program({**config, "meshtrust:anchors": [2026]}).outputs["anchors"] == ["2026"]
