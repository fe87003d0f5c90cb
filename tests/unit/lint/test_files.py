"""Files that the linter reads, and the objects in them that belong together."""

import base64
import io
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from textwrap import indent

import pytest
import yaml

from meshtrust.lint.reading.files import read_files
from meshtrust.lint.runner import lint_material
from tests.certificates import make_certificate
from tests.recorder import REPOSITORY, run_program, stack_config

STACKS = [path.name.split(".")[1] for path in sorted((REPOSITORY / "stacks").glob("Pulumi.*.yaml"))]
# Those of a fleet need each other; what they make is made alike.
ALONE = [name for name in STACKS if not stack_config(name).keys() & {"meshtrust:role", "meshtrust:anchorStack"}]
ROOT = make_certificate(days=3650, age=1)
INTERMEDIATE = make_certificate("intermediate", issuer=ROOT, path_length=1, days=365)
ISSUER = make_certificate("issuer", issuer=INTERMEDIATE, path_length=0, days=30)
OTHER_ROOT = make_certificate("other", days=3650)
# Not even the beginning of a key may be repeated; the first nine characters are the same in all.
KEYS = [pair.key_pem.splitlines()[1][:20] for pair in (ROOT, INTERMEDIATE, ISSUER, OTHER_ROOT)]

# Linkerd's guide on rotating control-plane credentials automatically, in our own words.
GUIDE = """\
# The anchor signs itself; its key is on the cluster.
apiVersion: cert-manager.io/v1
kind: ClusterIssuer
metadata: {name: anchor-of-itself}
spec: {selfSigned: {}}
---
apiVersion: cert-manager.io/v1
kind: Certificate
metadata:
  name: linkerd-trust-anchor
  namespace: cert-manager
spec:
  secretName: linkerd-trust-anchor
  issuerRef: {kind: ClusterIssuer, name: anchor-of-itself}
  commonName: root.linkerd.cluster.local
  isCA: true
  duration: 8760h
  renewBefore: 7320h
  privateKey: {algorithm: ECDSA, rotationPolicy: Always}
---
apiVersion: cert-manager.io/v1
kind: ClusterIssuer
metadata: {name: linkerd-identity-issuer}
spec: {ca: {secretName: linkerd-trust-anchor}}
---
apiVersion: cert-manager.io/v1
kind: Certificate
metadata:
  name: linkerd-identity-issuer
  namespace: linkerd
spec:
  secretName: linkerd-identity-issuer
  issuerRef: {kind: ClusterIssuer, name: linkerd-identity-issuer}
  commonName: identity.linkerd.cluster.local
  dnsNames: [identity.linkerd.cluster.local]
  isCA: true
  duration: 48h
  renewBefore: 25h
  privateKey: {algorithm: ECDSA, rotationPolicy: Always}
  usages: [cert sign, crl sign, server auth, client auth]
---
apiVersion: trust.cert-manager.io/v1alpha1
kind: Bundle
metadata: {name: linkerd-identity-trust-roots}
spec:
  sources:
    - secret: {name: linkerd-trust-anchor, key: tls.crt}
  target:
    configMap: {key: ca-bundle.crt}
"""


@pytest.fixture
def lint(tmp_path):
    """Write files, lint the directory, and return what is found as (file, line, id)."""

    def run(**files):
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return found(tmp_path)

    return run


def found(*paths):
    places = []
    for finding in lint_material(read_files(paths), datetime.now(UTC)).findings:
        assert not any(key in f"{finding} {finding!r}" for key in KEYS), "no finding repeats a key"
        assert finding.location
        assert finding.rule
        places.append((Path(finding.location.file).name, finding.location.line, finding.rule.id))
    return places


def manifest(kind, name, namespace="linkerd", api="v1", **members):
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return yaml.safe_dump({"apiVersion": api, "kind": kind, "metadata": metadata, **members}, sort_keys=False)


def secret(name="linkerd-identity-issuer", namespace="linkerd", kind="kubernetes.io/tls", **data):
    encoded = {key.replace("_", "."): base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return manifest("Secret", name, namespace, type=kind, data=encoded)


def sound_secret(issuer=ISSUER, key=ISSUER, root=ROOT):
    return secret(tls_crt=issuer.pem + INTERMEDIATE.pem, tls_key=key.key_pem, ca_crt=root.pem)


def trust_roots(text):
    head = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: linkerd-identity-trust-roots\ndata:\n"
    return f"{head}  ca-bundle.crt: |\n{indent(text, '    ')}"


def values(root=ROOT, style="|-", **issuer):
    scheme = yaml.safe_dump({"identity": {"issuer": issuer or {"scheme": "kubernetes.io/tls"}}})
    return f"{scheme}identityTrustAnchorsPEM: {style}\n{indent(root.pem, '  ')}"


def test_the_guides_anchor_that_renews_itself_after_sixty_days_is_found(lint):
    assert lint(**{"guide.yaml": GUIDE}) == [("guide.yaml", 18, "MT305"), ("guide.yaml", 18, "MT321")]


def test_the_guide_is_sound_once_the_anchor_stays(lint):
    stays = GUIDE.replace("  renewBefore: 7320h\n", "  renewal: {policy: Disabled}\n")
    assert lint(**{"guide.yaml": stays}) == []


def test_a_ca_that_ends_before_what_it_signs_is_found_through_issuer_and_secret(lint):
    short = GUIDE.replace("8760h", "240h").replace("7320h", "36h")
    assert ("guide.yaml", 37, "MT306") in lint(**{"guide.yaml": short.replace("duration: 48h", "duration: 240h")})
    assert ("guide.yaml", 37, "MT307") in lint(**{"guide.yaml": short})


def test_an_intermediate_is_known_by_what_it_signs(lint):
    above = manifest(
        "Certificate",
        "east",
        api="cert-manager.io/v1",
        spec={
            "secretName": "east-ca",
            "issuerRef": {"name": "vault"},
            "privateKey": {"algorithm": "RSA", "size": 4096},
        },
    )
    issuer = manifest("Issuer", "linkerd", api="cert-manager.io/v1", spec={"ca": {"secretName": "east-ca"}})
    vault = manifest("Issuer", "vault", api="cert-manager.io/v1", spec={"vault": {}})
    below = GUIDE.replace("kind: ClusterIssuer, name: linkerd-identity-issuer", "name: linkerd")
    ids = {
        rule
        for file, _, rule in lint(**{"a.yaml": above, "b.yaml": f"{issuer}---\n{vault}", "guide.yaml": below})
        if file == "a.yaml"
    }
    assert ids == {"MT313", "MT315", "MT320"}


def test_an_issuer_in_another_namespace_is_found(lint):
    issuer = manifest("Issuer", "mine", "cert-manager", api="cert-manager.io/v1", spec={"ca": {"secretName": "x"}})
    mine = GUIDE.replace("kind: ClusterIssuer, name: linkerd-identity-issuer", "name: mine")
    assert ("guide.yaml", 33, "MT323") in lint(**{"guide.yaml": mine, "issuer.yaml": issuer})


def test_certificates_of_others_are_nobodys_business(lint):
    other = GUIDE.replace("linkerd-trust-anchor", "web-ca").replace("linkerd-identity-issuer", "web")
    assert lint(**{"web.yaml": other.replace("identity-trust-roots", "web-roots")}) == []


def test_a_sound_secret_is_left_alone(lint):
    assert lint(**{"secret.yaml": sound_secret(), "roots.yaml": trust_roots(ROOT.pem)}) == []


def test_an_issuer_that_the_bundle_does_not_trust_is_found(lint):
    files = {"secret.yaml": sound_secret(), "roots.yaml": trust_roots(OTHER_ROOT.pem)}
    assert {rule for _, _, rule in lint(**files)} == {"MT208", "MT406"}


def test_a_secret_without_a_bundle_is_judged_by_its_own_root(lint):
    assert lint(**{"secret.yaml": sound_secret()}) == []
    assert [rule for _, _, rule in lint(**{"secret.yaml": sound_secret(root=OTHER_ROOT)})] == ["MT208"]


def test_a_key_that_does_not_match_is_found_at_its_line(lint):
    text = sound_secret(key=OTHER_ROOT)
    line = next(number for number, line in enumerate(text.splitlines(), 1) if "tls.key" in line)
    assert lint(**{"secret.yaml": text}) == [("secret.yaml", line, "MT207")]


def test_a_secret_as_plain_text_is_judged_line_by_line(lint):
    head = "apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata: {name: linkerd-identity-issuer}\n"
    members = {"tls.crt": ISSUER.pem + INTERMEDIATE.pem + "\n", "tls.key": ISSUER.key_pem, "ca.crt": ROOT.pem}
    text = (
        head
        + "stringData:\n"
        + "".join(f"  {name}: |+\n{indent(value, '    ', lambda _: True)}" for name, value in members.items())
    )
    blank = 6 + len((ISSUER.pem + INTERMEDIATE.pem).splitlines()) + 1
    assert lint(**{"secret.yaml": text}) == [("secret.yaml", blank, "MT216")]


def test_the_ca_secret_of_an_issuer_is_judged(lint):
    ca = secret("linkerd-trust-anchor", "cert-manager", tls_crt=INTERMEDIATE.pem, tls_key=INTERMEDIATE.key_pem)
    found_there = [rule for file, _, rule in lint(**{"ca.yaml": ca, "guide.yaml": GUIDE}) if file == "ca.yaml"]
    assert found_there == ["MT408"]


def test_a_lifetime_is_held_against_a_ca_that_nothing_renews(lint):
    ending = make_certificate(days=1)
    ca = secret("east-ca", tls_crt=ending.pem, tls_key=ending.key_pem)
    issuer = manifest("Issuer", "east", api="cert-manager.io/v1", spec={"ca": {"secretName": "east-ca"}})
    below = GUIDE.replace("kind: ClusterIssuer, name: linkerd-identity-issuer", "name: east")
    assert ("guide.yaml", 37, "MT306") in lint(**{"ca.yaml": f"{ca}---\n{issuer}", "guide.yaml": below})


def test_encrypted_secrets_are_not_judged(lint):
    sops = yaml.safe_load(sound_secret(key=OTHER_ROOT)) | {"sops": {"version": "3"}}
    filled_in = manifest("Secret", "linkerd-identity-issuer", stringData={"tls.crt": "${CRT}", "tls.key": "${KEY}"})
    assert lint(**{"a.yaml": yaml.safe_dump(sops), "b.yaml": filled_in}) == []


def test_a_blank_line_after_the_last_root_is_found_at_its_line(lint):
    text = trust_roots(ROOT.pem + OTHER_ROOT.pem).replace("ca-bundle.crt: |", "ca-bundle.crt: |+") + "\n"
    line = 7 + len((ROOT.pem + OTHER_ROOT.pem).splitlines())
    assert lint(**{"roots.yaml": text}) == [("roots.yaml", line, "MT125")]


def test_a_newline_at_the_end_of_a_helm_value_is_found(lint):
    assert lint(**{"values.yaml": values()}) == []
    assert [rule for _, _, rule in lint(**{"values.yaml": values(style="|")})] == ["MT126"]


def test_values_of_a_subchart_are_found_below_its_name(lint):
    assert [
        rule for _, _, rule in lint(**{"values.yaml": f"linkerd-control-plane:\n{indent(values(style='|'), '  ')}"})
    ] == ["MT126"]


def test_values_in_several_files_are_taken_together(lint):
    ha = "identity: {issuer: {scheme: kubernetes.io/tls}}\nwebhookFailurePolicy: Fail\n"
    assert [rule for _, _, rule in lint(**{"ha.yaml": ha})] == ["MT501"]
    assert lint(**{"ha.yaml": ha, "values.yaml": values()}) == []


def test_the_issuer_in_helm_values_is_judged(lint):
    text = values(tls={"crtPEM": make_certificate("i", issuer=OTHER_ROOT).pem, "keyPEM": ISSUER.key_pem})
    assert {rule for _, _, rule in lint(**{"values.yaml": text})} == {"MT207", "MT208", "MT505"}


def test_a_secret_of_another_scheme_than_the_values_is_found(lint):
    files = {"secret.yaml": sound_secret(), "values.yaml": values(scheme="linkerd.io/tls")}
    assert {rule for _, _, rule in lint(**files)} == {"MT402", "MT503"}


def test_names_of_another_trust_domain_are_found(lint):
    text = values() + "identityTrustDomain: east.example\n"
    below = GUIDE.replace("  renewBefore: 7320h\n", "  renewal: {policy: Disabled}\n")
    assert [rule for _, _, rule in lint(**{"guide.yaml": below, "values.yaml": text})] == ["MT319", "MT319"]


def test_a_shorter_leaf_needs_less_of_the_issuer(lint):
    text = GUIDE.replace("  renewBefore: 7320h\n", "  renewal: {policy: Disabled}\n").replace("25h", "9h")
    assert [rule for _, _, rule in lint(**{"guide.yaml": text})] == ["MT304"]
    leaf = {"scheme": "kubernetes.io/tls", "issuanceLifetime": "8h"}
    assert lint(**{"guide.yaml": text, "values.yaml": values(**leaf)}) == []


HELM_RELEASE = """\
apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata: {name: linkerd, namespace: flux-system}
spec:
  targetNamespace: mesh
  chart: {spec: {chart: linkerd-control-plane}}
  values:
    webhookFailurePolicy: Fail
    identity:
      issuer:
        scheme: kubernetes.io/tls
    proxyInjector:
      injectCaFrom: mesh/injector
"""
APPLICATION = """\
apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: linkerd, namespace: argocd}
spec:
  destination: {namespace: linkerd}
  sources:
    - chart: other
    - chart: linkerd-control-plane
      helm:
        values: |
          identityTrustDomain: x
          policyValidator:
            externalSecret: true
"""
CERT_MANAGER = """\
apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: cert-manager}
spec:
  destination: {namespace: security}
  source: {chart: cert-manager}
"""


def test_values_of_a_flux_release_are_judged_at_their_lines(lint):
    assert lint(**{"release.yaml": HELM_RELEASE}) == [("release.yaml", 7, "MT501"), ("release.yaml", 12, "MT514")]
    more = HELM_RELEASE.replace("  values:\n", "  valuesFrom: [{kind: Secret, name: anchors}]\n  values:\n")
    assert lint(**{"release.yaml": more}) == []


def test_values_of_an_argo_application_are_judged_at_their_lines(lint):
    places = [("application.yaml", 11, "MT501"), ("application.yaml", 11, "MT503"), ("application.yaml", 12, "MT513")]
    assert lint(**{"application.yaml": APPLICATION}) == places
    as_object = APPLICATION.replace("values: |", "valuesObject:")
    at = [("application.yaml", 10, "MT501"), ("application.yaml", 10, "MT503"), ("application.yaml", 12, "MT513")]
    assert lint(**{"application.yaml": as_object}) == at


def test_cert_manager_where_the_injector_may_lock_it_out_is_found(lint):
    files = {"release.yaml": HELM_RELEASE, "cert-manager.yaml": CERT_MANAGER}
    assert ("release.yaml", 8, "MT515") in lint(**files)
    label = {"config.linkerd.io/admission-webhooks": "disabled"}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "security", "labels": label}}
    assert ("release.yaml", 8, "MT515") not in lint(**files, **{"namespace.yaml": yaml.safe_dump(namespace)})


def test_the_namespace_that_linkerd_goes_to_needs_its_labels(lint):
    plain = manifest("Namespace", "mesh", "")
    assert lint(**{"namespace.yaml": plain}) == []
    both = lint(**{"namespace.yaml": plain, "release.yaml": HELM_RELEASE})
    assert [rule for file, _, rule in both if file == "namespace.yaml"] == ["MT601", "MT601", "MT601", "MT603"]


def test_a_namespace_that_trust_manager_does_not_select_is_found(lint):
    selector = "    namespaceSelector: {matchLabels: {linkerd.io/is-control-plane: 'true'}}\n"
    files = {"guide.yaml": GUIDE + selector, "namespace.yaml": manifest("Namespace", "linkerd", "")}
    assert [rule for file, _, rule in lint(**files) if file == "namespace.yaml"][-1] == "MT604"


def test_a_bundle_of_trust_manager_is_judged_with_its_inline_roots(lint):
    text = GUIDE.replace("secret: {name: linkerd-trust-anchor, key: tls.crt}", "useDefaultCAs: true").replace(
        "ca-bundle.crt", "ca.crt"
    )
    inline = f"    - inLine: |\n{indent(make_certificate(path_length=0).pem, '        ')}"
    text = text.replace("  target:\n", f"{inline}  target:\n")
    assert [rule for _, line, rule in lint(**{"guide.yaml": text}) if line > 42] == ["MT612", "MT106", "MT611"]


def test_a_list_of_a_cluster_is_taken_apart(lint):
    items = [yaml.safe_load(text) for text in (sound_secret(), trust_roots(OTHER_ROOT.pem))]
    listed = {"apiVersion": "v1", "kind": "List", "items": items}
    assert {rule for _, _, rule in lint(**{"dump.yaml": yaml.safe_dump(listed)})} == {"MT208", "MT406"}
    with_tabs = json.dumps(listed, indent="\t")
    assert {rule for _, _, rule in lint(**{"dump.yaml": "", "dump.json": with_tabs})} == {"MT208", "MT406"}


def test_pem_files_are_known_by_name_and_content_and_belong_together(lint):
    sound = {"ca.crt": ROOT.pem, "issuer.crt": ISSUER.pem + INTERMEDIATE.pem, "issuer.key": ISSUER.key_pem}
    assert lint(**sound) == []
    assert [rule for _, _, rule in lint(**{**sound, "issuer.key": OTHER_ROOT.key_pem})] == ["MT207"]
    assert [rule for _, _, rule in lint(**{**sound, "ca.crt": OTHER_ROOT.pem})] == ["MT208"]


def test_a_certificate_and_key_with_the_names_of_a_secret_belong_together(lint):
    files = {"tls.crt": ISSUER.pem + INTERMEDIATE.pem, "tls.key": OTHER_ROOT.key_pem}
    assert [rule for _, _, rule in lint(**files)] == ["MT207"]
    files = {f"other/{name}": text for name, text in zip(("crt.pem", "key.pem"), files.values(), strict=True)}
    assert [(file, rule) for file, _, rule in lint(**files)] == [("key.pem", "MT207"), ("tls.key", "MT207")]


def test_a_bundle_in_pem_is_judged_at_its_lines(lint):
    text = ROOT.pem + make_certificate(path_length=0).pem + OTHER_ROOT.key_pem
    line = len(ROOT.pem.splitlines()) + 1
    key = line + len(ROOT.pem.splitlines())
    assert lint(**{"anchors.pem": text}) == [("anchors.pem", line, "MT106"), ("anchors.pem", key, "MT123")]


def test_certificates_of_others_in_pem_are_nobodys_business(lint):
    leaf = make_certificate("web", issuer=OTHER_ROOT, ca=False, key_cert_sign=False)
    assert lint(**{"web.crt": leaf.pem, "web.key": ROOT.key_pem, "ca.crt": ROOT.pem, "notes.pem": "no PEM"}) == []


def test_clusters_in_directories_of_their_own_are_not_mixed(lint):
    east_issuer = make_certificate("east", issuer=OTHER_ROOT)
    assert (
        lint(
            **{
                "east/values.yaml": values(OTHER_ROOT),
                "east/secret.yaml": secret(tls_crt=east_issuer.pem, tls_key=east_issuer.key_pem, ca_crt=OTHER_ROOT.pem),
                "west/values.yaml": values(),
                "west/secret.yaml": sound_secret(),
            }
        )
        == []
    )


def test_the_nearest_bundle_is_the_one_that_counts(lint):
    files = {"east/values.yaml": values(), "west/values.yaml": values(OTHER_ROOT), "west/secret.yaml": sound_secret()}
    assert {rule for _, _, rule in lint(**files)} == {"MT208", "MT406"}


def test_what_has_nothing_to_do_with_linkerd_is_fine(lint):
    deployment = manifest("Deployment", "web", spec={"replicas": 1})
    broken = "a: [\n"
    assert (
        lint(**{"a.yaml": deployment, "b.yaml": "", "c.yaml": "- 1\n- 2\n", "d.txt": "identity:", "e.yaml": broken})
        == []
    )
    assert lint(**{".git/secret.yaml": sound_secret(key=OTHER_ROOT), "node_modules/tls.crt": ""}) == []


def test_a_file_that_is_not_there_is_one_finding(tmp_path):
    assert found(tmp_path / "none.yaml") == [("none.yaml", None, "MT001")]


def test_a_file_that_is_not_text_is_one_finding(tmp_path):
    path = tmp_path / "ca.crt"
    path.write_bytes(b"\x30\x82\xff\xfe")
    assert found(path) == [("ca.crt", None, "MT001")]
    assert found(tmp_path) == [("ca.crt", None, "MT001")], "below a directory it is no less unread"
    (tmp_path / "web.yaml").write_text(manifest("Deployment", "web"))
    assert found(tmp_path) == [], "among files that are not Linkerd's it is not Linkerd's either"


def test_a_directory_that_is_empty_has_no_finding(tmp_path):
    assert found(tmp_path) == []


def test_a_document_that_is_no_yaml_is_found_at_its_line_and_nothing_of_it_is_repeated(lint):
    key = indent(OTHER_ROOT.key_pem, "  ")
    text = f"{sound_secret()}---\nkind: Secret\nstringData:\n  tls.key: \"\n{key}\n  x: 'a\n"
    (where,) = lint(**{"secret.yaml": text})
    assert where[0] == "secret.yaml"
    assert where[1] > len(sound_secret().splitlines())
    assert where[2] == "MT002"


def test_a_key_that_lost_its_indentation_is_not_repeated_by_the_message(lint):
    head = "kind: Secret\nstringData:\n  tls.key: |\n"
    assert lint(**{"secret.yaml": head + OTHER_ROOT.key_pem}) == [("secret.yaml", 5, "MT002")]
    without_its_first_line = OTHER_ROOT.key_pem.partition("\n")[2]
    assert lint(**{"secret.yaml": head + without_its_first_line}) == [("secret.yaml", 5, "MT002")]


def test_a_key_in_place_of_a_name_is_not_repeated(lint):
    named = GUIDE.replace("  name: linkerd-trust-anchor\n", f"  name: {json.dumps(OTHER_ROOT.key_pem)}\n")
    assert lint(**{"guide.yaml": named}) == [("guide.yaml", 18, "MT305"), ("guide.yaml", 18, "MT321")]


def test_a_date_is_a_text_as_it_is_to_kubernetes(lint):
    odd = GUIDE.replace("  renewBefore: 7320h\n", "  renewBefore: 2026-99-99\n")
    assert lint(**{"guide.yaml": odd}) == [("guide.yaml", 18, "MT311")]


def test_a_template_is_a_note(lint):
    template = "kind: Secret\nmetadata:\n  name: {{ .Values.name }}-linkerd\n{{- if .Values.x }}\n"
    assert lint(**{"secret.yaml": template}) == [("secret.yaml", 3, "MT003")]
    assert lint(**{"secret.yaml": template.replace("linkerd", "web")}) == [], "others' templates are others' business"


def test_a_tag_of_somebodys_own_is_filled_in_later(lint):
    text = "identity: {issuer: {scheme: kubernetes.io/tls}}\nidentityTrustAnchorsPEM: !vault |\n  $ANSIBLE_VAULT\n"
    assert lint(**{"values.yaml": text}) == []


def test_standard_input_is_read(monkeypatch):
    class Input:
        buffer = io.BytesIO(GUIDE.encode())

    monkeypatch.setattr(sys, "stdin", Input)
    assert found(Path("-")) == [("stdin", 18, "MT305"), ("stdin", 18, "MT321")]


@pytest.mark.parametrize("stack", ALONE)
def test_what_this_program_makes_has_no_finding(stack, lint):
    recording = run_program(stack_config(stack), stack=stack)
    documents = []
    for entry in recording.resources:
        inputs = entry.inputs
        if entry.type == "kubernetes:helm.sh/v3:Release" and inputs["name"] == "linkerd-control-plane":
            documents.append(json.loads(json.dumps(inputs["values"])))
        # The stand-in for the tls provider signs with keys of its own, which match no certificate.
        elif "apiVersion" in inputs and inputs["kind"] != "Secret":
            documents.append(inputs)
    assert any("identityTrustAnchorsPEM" in one or one.get("kind") == "Bundle" for one in documents)
    assert lint(**{"made.yaml": yaml.safe_dump_all(documents)}) == []
