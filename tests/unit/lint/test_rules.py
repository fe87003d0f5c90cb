"""Every rule finds what it is for, and leaves alone what is right."""

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from meshtrust.lint.facts import certificate_facts
from meshtrust.lint.objects import Object
from meshtrust.lint.reading.documents import Document
from meshtrust.lint.reading.files import Unread
from meshtrust.lint.reading.schema import Duplicate, Manifest
from meshtrust.lint.relations.issuance import Signing
from meshtrust.lint.rule import Location
from meshtrust.lint.rule_sets import RULE_SETS, RULES
from meshtrust.lint.rules.anchors import Anchor, Bundle
from meshtrust.lint.rules.bundles import Source, TrustBundle
from meshtrust.lint.rules.certificates import CertificateSpec
from meshtrust.lint.rules.cluster import ControlPlaneNamespace, TrustRootsSecret
from meshtrust.lint.rules.credentials import Credentials
from meshtrust.lint.rules.helm import HelmValues
from meshtrust.lint.rules.secrets import CredentialSecret
from meshtrust.lint.rules.vault import VaultIssuer
from meshtrust.lint.rules.webhooks import Webhook, WebhookSecret
from meshtrust.lint.rules.windows import LifetimeUnderCA, Window
from tests.certificates import make_certificate, make_v1_root

NOW = datetime.now(UTC)
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
ANY = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE
RSA_2048, RSA_3072, RSA_4096 = (rsa.generate_private_key(65537, size) for size in (2048, 3072, 4096))

ROOT = make_certificate(age=100, days=3650)
INTERMEDIATE = make_certificate("intermediate", issuer=ROOT, path_length=1, days=365)
ISSUER = make_certificate("issuer", issuer=INTERMEDIATE, path_length=0, days=30)
OTHER_ROOT = make_certificate(days=3650)
EXPIRED = make_certificate("expired", issuer=ROOT, age=20, days=-10)
ED25519 = make_certificate("ed25519", issuer=ROOT, key=ed25519.Ed25519PrivateKey.generate())
SHORT = make_certificate("short", issuer=ROOT, path_length=0)
UNDER_SHORT = make_certificate("under short", issuer=SHORT)
SHORT_ROOT = make_certificate("short root", path_length=1)
MIDDLE = make_certificate("middle", issuer=SHORT_ROOT)
UNDER_SHORT_ROOT = make_certificate("under short root", issuer=MIDDLE)
ENCRYPTED_KEY = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"
BROKEN_KEY = "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n"
PARAMETERS = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"


def anchor(pair):
    return Anchor(root=certificate_facts(pair.certificate), at=NOW)


def bundle(*pems, **changes):
    return Bundle(name="Bundle", text="".join(pems).strip(), at=NOW, **changes)


def raw(text, **changes):
    return Bundle(name="Bundle", text=text, at=NOW, **changes)


def credentials(*pairs, key=None, role="issuer", roots=(ROOT,), chain=None):
    return Credentials(
        name="Credentials",
        role=role,
        chain=chain if chain is not None else "".join(pair.pem for pair in pairs),
        key=key,
        roots=tuple(certificate_facts(root.certificate) for root in roots),
        at=NOW,
    )


SOUND = credentials(ISSUER, INTERMEDIATE, key=ISSUER.key_pem)


def window(role="issuer", duration=48.0, renew_before=25.0):
    return Window(role=role, duration=timedelta(hours=duration), renew_before=timedelta(hours=renew_before))


def lifetime(duration=48, ca_duration=8760, ca_renew_before=None):
    left = None if ca_renew_before is None else timedelta(hours=ca_renew_before)
    return LifetimeUnderCA(
        duration=timedelta(hours=duration),
        ca="its CA",
        ca_says="the CA lives",
        ca_duration=timedelta(hours=ca_duration),
        ca_renew_before=left,
    )


ISSUER_SPEC = {
    "secretName": "linkerd-identity-issuer",
    "duration": "48h",
    "renewBefore": "25h",
    "isCA": True,
    "commonName": "identity.linkerd.cluster.local",
    "dnsNames": ["identity.linkerd.cluster.local"],
    "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
    "usages": ["cert sign", "crl sign", "server auth", "client auth"],
    "issuerRef": {"name": "linkerd-trust-anchor"},
}
ANCHOR_SPEC = {
    "secretName": "linkerd-trust-anchor",
    "duration": "8760h",
    "isCA": True,
    "renewal": {"policy": "Disabled"},
    "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
}
WEBHOOK_SPEC = {
    "secretName": "linkerd-policy-validator-k8s-tls",
    "dnsNames": ["linkerd-policy-validator.linkerd.svc"],
    "isCA": False,
    "privateKey": {"algorithm": "ECDSA", "encoding": "PKCS8", "rotationPolicy": "Always"},
    "usages": ["server auth"],
}
EAST_SPEC = {**ISSUER_SPEC, "commonName": "identity.linkerd.east", "dnsNames": ["identity.linkerd.east"]}


def certificate(base=None, role="issuer", without=(), issuer_elsewhere=(), **changes):
    spec = {key: value for key, value in {**(base or ISSUER_SPEC), **changes}.items() if key not in without}
    return CertificateSpec(
        object_name="linkerd-identity-issuer",
        namespace="linkerd",
        role=role,
        spec=spec,
        trust_domain="cluster.local",
        issuer_elsewhere=issuer_elsewhere,
    )


def anchor_certificate(without=(), **changes):
    return certificate(ANCHOR_SPEC, "anchor", without, **changes)


def renewed(**changes):
    return anchor_certificate(without=("renewal",), **changes)


def encoded(text):
    return base64.b64encode(text.encode()).decode()


def secret(role="issuer", kind="kubernetes.io/tls", roots=(ROOT,), scheme=None, **data):
    names = {name.replace("_", "."): value for name, value in data.items()}
    manifest = {"data": {name: encoded(value) for name, value in names.items()}}
    return CredentialSecret(
        object_name="linkerd-identity-issuer",
        namespace="linkerd",
        role=role,
        manifest={**manifest, "type": kind} if kind else manifest,
        scheme=scheme,
        roots=tuple(certificate_facts(root.certificate) for root in roots) or None,
    )


TLS = {"tls_crt": ISSUER.pem + INTERMEDIATE.pem, "tls_key": ISSUER.key_pem, "ca_crt": ROOT.pem}
LINKERD_TLS = {"crt_pem": ISSUER.pem, "key_pem": ISSUER.key_pem}


def helm(values, **changes):
    return HelmValues(name="Helm value", values=values, **changes)


def issuer_values(**changes):
    return helm({"identityTrustAnchorsPEM": ROOT.pem.strip(), "identity": {"issuer": changes}})


def webhook(**values):
    return helm({"proxyInjector": values})


def selecting(*names):
    expressions = [{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": list(names)}]
    return {
        "webhookFailurePolicy": "Fail",
        "proxyInjector": {"namespaceSelector": {"matchExpressions": expressions}},
    }


def expression(operator, key, *values):
    return {"matchExpressions": [{"key": key, "operator": operator, **({"values": list(values)} if values else {})}]}


FAIL_AND_SELECT_NONE, FAIL_AND_SELECT = selecting(), selecting("kube-system", "security")
LABELS = {
    "linkerd.io/is-control-plane": "true",
    "linkerd.io/control-plane-ns": "linkerd",
    "config.linkerd.io/admission-webhooks": "disabled",
    "pod-security.kubernetes.io/enforce": "privileged",
}


def namespace(labels=None, annotations=None, **changes):
    metadata = {
        "labels": LABELS if labels is None else labels,
        "annotations": {"linkerd.io/inject": "disabled"} if annotations is None else annotations,
    }
    return ControlPlaneNamespace(object_name="linkerd", manifest={"metadata": metadata}, **changes)


def manifest(kind, spec=None, api="cert-manager.io/v1", name="x", **members):
    value = {"apiVersion": api, "kind": kind, "metadata": {"name": name}, **members}
    if spec is not None:
        value["spec"] = spec
    return Object(document=Document(file="x.yaml", value=value, node=None), path=(), manifest=value)


def trust_bundle(key="ca-bundle.crt", source=None, **changes):
    spec = {"sources": [source or {"inLine": ROOT.pem}], "target": {"configMap": {"key": key}}}
    return TrustBundle(one=manifest("Bundle", spec, "trust.cert-manager.io/v1alpha1"), **changes)


def cluster_bundle(key="ca-bundle.crt", **spec):
    target = {"configMap": {"data": [{"key": "other", "format": "PKCS12"}, {"key": key}]}}
    one = manifest("ClusterBundle", {"target": target, **spec}, "trust-manager.io/v1alpha2")
    return TrustBundle(one=one)


def signing(issuer, role="issuer", kind="Issuer", **changes):
    spec = {"secretName": "linkerd-identity-issuer", "issuerRef": {"name": "ca"}}
    one = manifest("Certificate", spec, name="linkerd-identity-issuer")
    return Signing(certificate=one, role=role, issuer=manifest(kind, issuer, name="ca"), **changes)


KUBERNETES = {"kubernetes": {"role": "mesh", "serviceAccountRef": {"name": "vault"}}}


def vault_issuer(part=False, **changes):
    """A sound one; a member of None is left out."""
    sound = {
        "server": "https://vault.example.org",
        "path": "pki/root/sign-intermediate",
        "caBundle": base64.b64encode(ROOT.pem.encode()).decode(),
        "auth": KUBERNETES,
    }
    vault = {key: value for key, value in {**sound, **changes}.items() if value is not None}
    return VaultIssuer(title="ClusterIssuer vault", vault=vault, part=part)


def login(method, **changes):
    sound = {
        "appRole": {"roleId": "x", "secretRef": {"name": "x", "key": "y"}},
        "kubernetes": KUBERNETES["kubernetes"],
    }
    return vault_issuer(auth={method: {**sound[method], **changes}})


def typed(spec, kind="Certificate", part=False, **changes):
    required = {"secretName": "x", "issuerRef": {"name": "x"}} if kind == "Certificate" else {}
    return Manifest(one=manifest(kind, {**required, **spec}, **changes), part=part)


HOOK = make_certificate("linkerd-proxy-injector.linkerd.svc", ca=False, names=["linkerd-proxy-injector.linkerd.svc"])
ENDED_HOOK = make_certificate(ca=False, age=20, days=-10, names=["linkerd-proxy-injector.linkerd.svc"])
SIGNED_HOOK = make_certificate("x", issuer=ROOT, ca=False, names=["linkerd-proxy-injector.linkerd.svc"])


def hook_secret(pair=HOOK, key=None, authorities=(), **data):
    held = data or {"tls_crt": pair.pem, "tls_key": (key or pair).key_pem}
    return WebhookSecret(
        secret=replace(secret("webhook", **held), object_name="linkerd-proxy-injector-k8s-tls"),
        service="linkerd-proxy-injector",
        at=NOW,
        authorities=tuple(authority.certificate for authority in authorities),
    )


def configuration(authority, annotations=None, without=(), version="v1", **members):
    service = {"name": "linkerd-proxy-injector", "namespace": "linkerd"}
    webhook = {
        "name": "linkerd-proxy-injector.linkerd.io",
        "clientConfig": {"service": service, "caBundle": authority},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        **members,
    }
    kept = {name: value for name, value in webhook.items() if name not in without}
    one = manifest("MutatingWebhookConfiguration", api=f"admissionregistration.k8s.io/{version}", webhooks=[kept])
    one.manifest["metadata"]["annotations"] = annotations or {}
    return Webhook(one=one, index=0)


def injected(name, **changes):
    return replace(webhook(externalSecret=True, injectCaFrom=name), **changes)


def source(name="linkerd-identity-issuer", key="ca.crt"):
    return Source(kind="Secret", name=name, key=key, location=Location("x.yaml"))


def unread(kind):
    return Unread(name="file", kind=kind, reason="cannot be read", location=Location("file"))


def with_blank_line():
    return ROOT.pem + OTHER_ROOT.pem + "\n"


def key_of(curve):
    return ec.generate_private_key(curve)


# By rule: what it finds, each with a part of what it says; and what it leaves alone.
CASES = {
    "MT001": ([(unread("text"), "cannot be read")], [unread("yaml")]),
    "MT002": ([(unread("yaml"), "cannot be read")], [unread("template")]),
    "MT003": ([(unread("template"), "cannot be read")], [unread("text")]),
    "MT101": (
        [
            (anchor(make_certificate(key=key_of(ec.SECP384R1()))), "has an ECDSA key on secp384r1"),
            (anchor(make_certificate(key=RSA_3072)), "has an RSA key of 3072 bits"),
            (anchor(make_certificate(key=ed25519.Ed25519PrivateKey.generate())), "has a key of type Ed25519"),
        ],
        [anchor(ROOT), anchor(make_certificate(key=RSA_2048)), anchor(make_certificate(key=RSA_4096))],
    ),
    "MT102": (
        [
            (anchor(make_certificate(algorithm=hashes.SHA512())), "but with ECDSA-SHA512"),
            (anchor(make_certificate(key=RSA_4096, algorithm=hashes.SHA512())), "but with SHA512-RSA"),
            (anchor(make_certificate("x", key=RSA_2048, issuer=ROOT)), "but with ECDSA-SHA256"),
        ],
        [anchor(ROOT), anchor(make_certificate(key=RSA_4096))],
    ),
    "MT103": ([(anchor(INTERMEDIATE), "is not self-signed but issued by CN=root")], [anchor(ROOT)]),
    "MT104": ([(anchor(make_certificate(ca=False)), "is not marked as a CA")], [anchor(ROOT)]),
    "MT110": ([(anchor(make_v1_root()), "is of X.509 version 1")], [anchor(ROOT)]),
    "MT105": ([(anchor(make_certificate(key_cert_sign=False)), "without certificate signing")], [anchor(ROOT)]),
    "MT106": (
        [(anchor(make_certificate(path_length=0)), "a path length of 0")],
        [anchor(ROOT), anchor(make_certificate(path_length=1))],
    ),
    "MT107": (
        [
            (anchor(make_certificate(extended_usages=[CLIENT])), "usages client auth, without server auth"),
            (anchor(make_certificate(extended_usages=[ANY])), "usages any, without server auth, client auth"),
        ],
        [anchor(ROOT), anchor(make_certificate(extended_usages=[SERVER, CLIENT]))],
    ),
    "MT108": (
        [
            (anchor(make_certificate(age=20, days=-10)), "expired on "),
            (anchor(make_certificate(age=-1)), "is not valid before "),
        ],
        [anchor(ROOT)],
    ),
    "MT109": (
        [
            (anchor(make_certificate(age=700, days=58.5)), "in 58 days"),
            (anchor(make_certificate(age=2, days=0.49)), "in 11h45m"),
        ],
        [anchor(ROOT), anchor(make_certificate(age=1, days=10)), anchor(make_certificate(age=20, days=-10))],
    ),
    "MT120": ([(bundle(), "holds no certificate"), (bundle("text"), "holds no certificate")], [bundle(ROOT.pem)]),
    "MT121": (
        [(bundle(ROOT.pem, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"), "cannot be read")],
        [bundle(ROOT.pem)],
    ),
    "MT122": (
        [
            (
                bundle(ROOT.pem, OTHER_ROOT.pem.replace("-----BEGIN", "  -----BEGIN")),
                "has a BEGIN line that is indented",
            ),
            (bundle(ROOT.pem, OTHER_ROOT.pem.replace("END CERTIFICATE", "END CERT")), "an END line of another name"),
        ],
        [bundle("# a comment\n", ROOT.pem, "# another\n", OTHER_ROOT.pem)],
    ),
    "MT123": ([(bundle(ROOT.pem, ROOT.key_pem), "holds a private key")], [bundle(ROOT.pem)]),
    "MT124": (
        [
            (bundle(ROOT.pem.replace("CERTIFICATE", "TRUSTED CERTIFICATE")), "a block TRUSTED CERTIFICATE"),
            (bundle(PARAMETERS), "holds a block EC PARAMETERS"),
            (bundle("-----BEGIN a secret-----\nAAAA\n-----END a secret-----"), "holds a block without a label"),
        ],
        [bundle(ROOT.pem), bundle(ROOT.key_pem)],
    ),
    "MT125": (
        [
            (raw(with_blank_line()), "has a blank line after"),
            (raw(ROOT.pem + "# the end"), "has text after"),
            (raw(ROOT.pem + "# the end\n", trimmed=True), "has text after"),
        ],
        [raw(ROOT.pem + OTHER_ROOT.pem), raw(with_blank_line(), trimmed=True), raw("no PEM")],
    ),
    "MT126": (
        [
            (raw(ROOT.pem, hashed=True), "ends with a newline"),
            (raw(" " + ROOT.pem.strip(), hashed=True), "white space"),
        ],
        [raw(ROOT.pem), bundle(ROOT.pem, hashed=True)],
    ),
    "MT127": ([(bundle(ROOT.pem, OTHER_ROOT.pem, ROOT.pem), "more than once")], [bundle(ROOT.pem, OTHER_ROOT.pem)]),
    "MT128": (
        [(bundle(make_certificate(age=20, days=-10).pem), "holds 1 root, none of which is valid")],
        [bundle(make_certificate(age=20, days=-10).pem, ROOT.pem), bundle()],
    ),
    "MT201": (
        [
            (credentials(make_certificate("i", issuer=ROOT, key=RSA_2048)), "of type RSA of 2048 bits"),
            (credentials(make_certificate("i", issuer=ROOT, key=key_of(ec.SECP384R1()))), "ECDSA on secp384r1"),
        ],
        [SOUND, credentials(make_certificate("i", issuer=ROOT, key=RSA_2048), role="ca")],
    ),
    "MT202": (
        [(credentials(make_certificate("i", issuer=ROOT, algorithm=hashes.SHA384())), "is signed with ECDSA-SHA384")],
        [SOUND, credentials(make_certificate("i", issuer=make_certificate(key=RSA_2048)))],
    ),
    "MT203": (
        [(credentials(make_certificate("i", issuer=ROOT, ca=False)), "CN=i, which is not marked as a CA")],
        [SOUND],
    ),
    "MT204": (
        [(credentials(make_certificate("i", issuer=ROOT, key_cert_sign=False)), "CN=i, whose key usage")],
        [SOUND],
    ),
    "MT205": (
        [
            (credentials(UNDER_SHORT, SHORT), "CN=short, whose path length is 0: 1 CA come"),
            (credentials(SHORT, role="ca"), "CN=short, whose path length is 0: 1 CA come"),
            (credentials(UNDER_SHORT_ROOT, MIDDLE, roots=(SHORT_ROOT,)), "whose path length is 1: 2 CAs come"),
        ],
        [SOUND, credentials(INTERMEDIATE, role="ca"), credentials(chain="")],
    ),
    "MT206": (
        [
            (credentials(make_certificate("i", issuer=ROOT, extended_usages=[CLIENT])), "without server auth"),
            (credentials(make_certificate("i", issuer=ROOT, extended_usages=[SERVER])), "without client auth"),
            (credentials(make_certificate("i", issuer=ROOT, extended_usages=[ANY])), "usages any, without"),
        ],
        [SOUND, credentials(make_certificate("i", issuer=ROOT, extended_usages=[SERVER, CLIENT]))],
    ),
    "MT207": (
        [
            (credentials(ISSUER, key=ROOT.key_pem), "a key that does not match its first certificate, CN=issuer"),
            (credentials(ISSUER, INTERMEDIATE, key=OTHER_ROOT.pkcs8_pem), "does not match"),
        ],
        [SOUND, credentials(ISSUER, key=ISSUER.pkcs8_pem), credentials(INTERMEDIATE, ISSUER, key=ISSUER.key_pem)],
    ),
    "MT208": (
        [
            (
                credentials(ISSUER, INTERMEDIATE, roots=(OTHER_ROOT,)),
                "CN=intermediate is signed by another key than that",
            ),
            (credentials(ISSUER), "CN=issuer is signed by CN=intermediate, which is not among the trusted roots"),
            (credentials(OTHER_ROOT), "it is under CN=root"),
            (
                credentials(EXPIRED, roots=(OTHER_ROOT,)),
                "CN=expired is signed by another key than that of the trusted root CN=root",
            ),
        ],
        [
            SOUND,
            credentials(ISSUER, INTERMEDIATE, roots=(OTHER_ROOT, ROOT)),
            credentials(EXPIRED),
            credentials(ISSUER, roots=()),
            credentials(UNDER_SHORT, SHORT),
        ],
    ),
    "MT209": (
        [
            (credentials(INTERMEDIATE, ISSUER, key=ISSUER.key_pem), "begins with CN=intermediate"),
            (credentials(INTERMEDIATE, ISSUER), "its own certificate is CN=issuer"),
        ],
        [SOUND, credentials(ISSUER, INTERMEDIATE), credentials(ISSUER, key=ISSUER.key_pem)],
    ),
    "MT210": (
        [(credentials(ISSUER, ROOT, INTERMEDIATE), "after CN=issuer, which it did not sign")],
        [credentials(ISSUER, INTERMEDIATE, ROOT), credentials(INTERMEDIATE, ROOT, ISSUER)],
    ),
    "MT211": (
        [
            (credentials(ISSUER, key="no key"), "has a key that holds no PEM"),
            (credentials(ISSUER, key=PARAMETERS + ISSUER.key_pem), "begins with a block EC PARAMETERS"),
            (credentials(ISSUER, key=ENCRYPTED_KEY), "begins with a block ENCRYPTED PRIVATE KEY"),
            (credentials(ISSUER, key=BROKEN_KEY), "a block EC PRIVATE KEY that cannot be read"),
            (credentials(ISSUER, key=ISSUER.pkcs8_pem.replace("PRIVATE", "RSA PRIVATE")), "that cannot be read"),
            (credentials(ED25519, key=ED25519.pkcs8_pem), "has a key of type Ed25519"),
        ],
        [SOUND, credentials(ISSUER, key=ISSUER.pkcs8_pem), credentials(ISSUER, key=ISSUER.key_pem + PARAMETERS)],
    ),
    "MT212": (
        [
            (credentials(EXPIRED), "CN=expired, which expired on"),
            (credentials(make_certificate("i", issuer=ROOT, age=-1)), "CN=i, which is not valid before"),
        ],
        [SOUND],
    ),
    "MT213": (
        [
            (credentials(make_certificate("i", issuer=ROOT, age=300, days=58.5)), "in 58 days"),
            (credentials(make_certificate("i", issuer=ROOT, age=1, days=1)), "to live, less than the 24h of a proxy's"),
        ],
        [
            SOUND,
            credentials(EXPIRED),
            credentials(make_certificate("i", issuer=ROOT, age=0.9, days=1.1)),
            credentials(make_certificate("i", issuer=ROOT, age=1, days=1), role="ca"),
        ],
    ),
    "MT214": (
        [(credentials(make_certificate("i", issuer=ROOT, days=9999)), "chains CN=i, valid until")],
        [SOUND, credentials(chain="")],
    ),
    "MT215": (
        [(credentials(ROOT, key=ROOT.key_pem), "which is self-signed")],
        [SOUND, credentials(ROOT, role="ca")],
    ),
    "MT216": (
        [
            (credentials(chain=""), "holds no certificate"),
            (credentials(chain=ISSUER.pem + "\n"), "has something after its last certificate"),
            (credentials(chain=ISSUER.pem + ROOT.key_pem), "a block EC PRIVATE KEY among its certificates"),
            (credentials(chain=ISSUER.pem + " " + ROOT.pem), "has a BEGIN line that is indented"),
            (credentials(chain=ISSUER.pem.replace("MII", "AAA")), "holds a block that cannot be read"),
        ],
        [SOUND, credentials(chain="# the issuer\n" + ISSUER.pem)],
    ),
    "MT301": ([(window(duration=0.9, renew_before=0.5), 'is "54m", below cert-manager')], [window(duration=1)]),
    "MT302": ([(window(renew_before=0.05), 'is "3m", below cert-manager')], [window(renew_before=0.1)]),
    "MT303": (
        [(window(renew_before=48), 'is "48h", not below'), (window(renew_before=49), "due for renewal the moment")],
        [window()],
    ),
    "MT304": (
        [
            (window(renew_before=24), "below the 24h of a proxy's certificate and the 20s of clock skew"),
            (window(duration=12, renew_before=6), 'is "6h", below'),
        ],
        [window(), window("anchor", renew_before=12), window(renew_before=24 + 20 / 3600), window(renew_before=48)],
    ),
    "MT305": (
        [
            (window("anchor", 8760, 7320), "so it is renewed 60 days after each issue"),
            (window("intermediate", 48, 47), "so it is renewed 1h after each issue"),
        ],
        [window(), window("anchor", 8760, 1440), window("anchor", 48, 48)],
    ),
    "MT306": (
        [(lifetime(8760), 'is "8760h", and the CA lives: the issuer would outlive its CA')],
        [lifetime(8759)],
    ),
    "MT307": (
        [(lifetime(48, 720, 48), "its CA has only 48h to live when it is issued again")],
        [lifetime(48, 720, 49), lifetime(48, 720), lifetime(720, 720, 48)],
    ),
    "MT311": (
        [
            (certificate(duration="2d"), 'spec.duration is "2d", which is not a Go duration'),
            (certificate(renewBefore=25), 'spec.renewBefore is "25", which'),
            (certificate(renewBefore="48h\n"), "spec.renewBefore is a text of 4 characters, which"),
            (certificate(renewBefore=["48h"]), "spec.renewBefore is a list, which"),
        ],
        [certificate(), certificate(without=("duration",)), certificate(duration="${DURATION}")],
    ),
    "MT312": (
        [(certificate(renewBeforePercentage=50), 'is "50", and renewBefore is set as well')],
        [certificate(), certificate(without=("renewBefore",), renewBeforePercentage=50)],
    ),
    "MT313": (
        [(certificate(without=("isCA",)), "isCA is not set"), (anchor_certificate(isCA=False), 'isCA is "False"')],
        [certificate(), certificate(WEBHOOK_SPEC, "webhook")],
    ),
    "MT314": (
        [
            (certificate(without=("privateKey",)), "asks for RSA of 2048 bits"),
            (certificate(privateKey={"algorithm": "ECDSA", "size": 384}), "asks for ECDSA of 384 bits"),
            (certificate(privateKey={"algorithm": "Ed25519"}), "asks for a key of the kind Ed25519"),
        ],
        [certificate(), certificate(privateKey={"algorithm": "ECDSA"}), anchor_certificate(privateKey={})],
    ),
    "MT315": (
        [
            (anchor_certificate(privateKey={"algorithm": "RSA", "size": 4096}), "asks for RSA of 4096 bits"),
            (anchor_certificate(privateKey={"algorithm": "ECDSA", "size": 384}), "asks for ECDSA of 384 bits"),
        ],
        [anchor_certificate(), anchor_certificate(privateKey={}), certificate(privateKey={"size": 4096})],
    ),
    "MT316": (
        [
            (certificate(usages=["cert sign", "client auth"]), "lists client auth, without server auth"),
            (certificate(usages=["server auth"]), "lists server auth, without client auth"),
            (certificate(WEBHOOK_SPEC, "webhook", usages=["client auth"]), "without server auth"),
        ],
        [certificate(), certificate(usages=["cert sign"]), certificate(WEBHOOK_SPEC, "webhook")],
    ),
    "MT317": (
        [(certificate(usages=["crl sign"]), "crl sign, without cert sign"), (certificate(usages=None), "lists none")],
        [certificate(), anchor_certificate()],
    ),
    "MT318": (
        [(certificate(secretName="issuer"), 'is "issuer"'), (certificate(without=("secretName",)), "is not set")],
        [certificate(), certificate(secretName="${NAME}"), anchor_certificate()],
    ),
    "MT319": (
        [
            (certificate(commonName="identity.linkerd.east.local"), "not identity.linkerd.cluster.local"),
            (certificate(dnsNames=["linkerd"]), 'dnsNames is "linkerd"'),
        ],
        [certificate(), replace(certificate(commonName="identity.linkerd.x"), trust_domain=None, spec=EAST_SPEC)],
    ),
    "MT320": (
        [(certificate(privateKey={"algorithm": "ECDSA"}), "privateKey.rotationPolicy is not set")],
        [certificate(), anchor_certificate()],
    ),
    "MT321": (
        [
            (renewed(renewBefore="7320h"), "again by cert-manager 1440h (60 days) after each issue (8760h less 7320h)"),
            (renewed(privateKey={}), "5840h (243 days) after each issue (8760h less 2920h), with a new key"),
            (renewed(renewBeforePercentage=10), "7884h"),
        ],
        [anchor_certificate(), renewed(privateKey={"rotationPolicy": "Never"}), certificate()],
    ),
    "MT322": (
        [(renewed(privateKey={"rotationPolicy": "Never"}), "after each issue (8760h less 2920h), with the same key")],
        [renewed(), anchor_certificate(privateKey={"rotationPolicy": "Never"})],
    ),
    "MT323": (
        [(certificate(issuer_elsewhere=("cert-manager",)), "which is in namespace cert-manager")],
        [certificate()],
    ),
    "MT324": (
        [
            (certificate(WEBHOOK_SPEC, "webhook", dnsNames=["other"]), "without linkerd-policy-validator.linkerd.svc"),
            (certificate(WEBHOOK_SPEC, "webhook", privateKey={}), "privateKey.encoding is not set"),
            (certificate(WEBHOOK_SPEC, "webhook", isCA=True), "isCA is true"),
        ],
        [certificate(WEBHOOK_SPEC, "webhook"), certificate()],
    ),
    "MT331": (
        [(signing({"selfSigned": {}}), "which is selfSigned, so no trust anchor signs it")],
        [signing({"ca": {"secretName": "x"}}), signing({"selfSigned": {}}, "anchor"), signing({"selfSigned": None})],
    ),
    "MT333": ([(signing({"acme": {}}), "an ACME issuer")], [signing({"ca": {"secretName": "x"}})]),
    "MT334": (
        [(signing({"ca": {"secretName": "linkerd-identity-issuer"}}), "the one it is written to")],
        [signing({"ca": {"secretName": "linkerd-trust-anchor"}})],
    ),
    "MT335": (
        [
            (
                signing({"ca": {"secretName": "a"}}, reads="cert-manager", written=("linkerd",)),
                "does not find Secret a: it is read in namespace cert-manager, and written to namespace linkerd",
            )
        ],
        [signing({"ca": {"secretName": "a"}}, reads="cert-manager")],
    ),
    "MT332": (
        [
            (vault_issuer(path="pki/sign/linkerd"), 'path "pki/sign/linkerd", which issues no CA'),
            (vault_issuer(path="sign/linkerd"), 'path "sign/linkerd"'),
            (vault_issuer(path="a/b/issue/linkerd"), 'path "a/b/issue/linkerd"'),
            (vault_issuer(path="pki/sign-verbatim"), 'path "pki/sign-verbatim"'),
        ],
        [
            vault_issuer(),
            vault_issuer(path="pki/issuer/2026/sign-intermediate"),
            vault_issuer(path="${MOUNT}/sign/linkerd"),
        ],
    ),
    "MT336": (
        [
            (vault_issuer(path="pki"), 'path "pki", which is not one that signs a CA'),
            (vault_issuer(path="v1/pki/root/sign-intermediate"), "which is not one that signs a CA"),
            (vault_issuer(path="pki/intermediate/generate/internal"), "which is not one that signs a CA"),
            (vault_issuer(path="pki/root/sign-self-issued"), "which is not one that signs a CA"),
            (vault_issuer(path=None), "has no path in Vault"),
        ],
        [
            vault_issuer(),
            vault_issuer(path="/teams/mesh/pki/root/sign-intermediate/"),
            vault_issuer(path="pki/issuer/2026/sign-intermediate"),
            vault_issuer(path="pki/sign/linkerd"),
            vault_issuer(path="${VAULT_PATH}"),
            vault_issuer(path=None, part=True),
        ],
    ),
    "MT337": (
        [
            (vault_issuer(auth={}), "does not say how to log in to Vault"),
            (
                vault_issuer(auth={"tokenSecretRef": {"name": "x"}, **KUBERNETES}),
                "tokenSecretRef, kubernetes, of which",
            ),
            (vault_issuer(auth={"appRole": {"roleId": "x", "secretRef": {"name": "x"}}}), "appRole.secretRef.key"),
            (vault_issuer(auth={"kubernetes": {"serviceAccountRef": {"name": "x"}}}), "has no auth.kubernetes.role"),
            (vault_issuer(auth={"kubernetes": {"role": "x"}}), "both or neither of a service account and a Secret"),
        ],
        [
            vault_issuer(),
            vault_issuer(auth={"appRole": {"roleId": "x", "secretRef": {"name": "x", "key": "y"}}}),
            vault_issuer(auth={"clientCertificate": {}}),
            vault_issuer(auth={}, part=True),
        ],
    ),
    "MT338": (
        [
            (login("kubernetes", mountPath="kubernetes"), '"kubernetes" as its auth.kubernetes.mountPath'),
            (login("kubernetes", mountPath="auth/kubernetes"), "not below /v1/auth/"),
            (login("appRole", path="auth/approle"), '"auth/approle" as its auth.appRole.path'),
        ],
        [
            login("kubernetes", mountPath="/v1/auth/east"),
            login("kubernetes", mountPath="/v1/team/auth/east"),
            login("appRole", path="approle"),
            vault_issuer(),
        ],
    ),
    "MT339": (
        [
            (vault_issuer(caBundle=None), "names no authority of Vault's certificate"),
            (vault_issuer(server="http://vault.example.org:8200"), "reaches Vault without TLS"),
            (vault_issuer(server="vault.example.org:8200"), "which is no URL"),
            (vault_issuer(server=None), "does not say where Vault is"),
            (vault_issuer(caBundleSecretRef={"name": "x"}), "has both caBundle and caBundleSecretRef"),
            (vault_issuer(caBundle=ROOT.pem), "a caBundle in which there is no certificate"),
            (vault_issuer(caBundle="bm9uZQ=="), "a caBundle in which there is no certificate"),
        ],
        [
            vault_issuer(),
            vault_issuer(caBundle=None, caBundleSecretRef={"name": "x"}),
            vault_issuer(server="${VAULT_ADDR}", caBundle=None),
            vault_issuer(caBundle=None, part=True),
        ],
    ),
    "MT340": (
        [(vault_issuer(auth={"tokenSecretRef": {"name": "x"}}), "a token that cert-manager does not renew")],
        [vault_issuer()],
    ),
    "MT401": (
        [
            (secret(tls_crt=ISSUER.pem), "has no tls.key; it holds tls.crt"),
            (secret(ca_crt=ROOT.pem), "has no tls.crt; it holds ca.crt"),
            (secret(crt_pem=ISSUER.pem), "has no key.pem"),
        ],
        [secret(**TLS), secret(**LINKERD_TLS)],
    ),
    "MT402": (
        [
            (secret(scheme="linkerd.io/tls", **TLS), "holds tls.crt, tls.key, and the chart's scheme"),
            (secret(scheme="kubernetes.io/tls", **LINKERD_TLS), "reads tls.crt, tls.key"),
        ],
        [secret(**TLS), secret(scheme="kubernetes.io/tls", **TLS), secret(scheme="linkerd.io/tls", **LINKERD_TLS)],
    ),
    "MT403": (
        [(secret(kind="Opaque", **TLS), 'is of type "Opaque"'), (secret(kind=None, **TLS), "has no type")],
        [secret(**TLS), secret(kind=None, **LINKERD_TLS)],
    ),
    "MT404": (
        [(secret(tls_crt=ISSUER.pem, tls_key=ISSUER.key_pem), "has no ca.crt; it holds tls.crt, tls.key")],
        [secret(**TLS), secret(**LINKERD_TLS), secret("ca", tls_crt=ROOT.pem)],
    ),
    "MT405": (
        [(secret(**{**TLS, "ca_crt": INTERMEDIATE.pem}), "ca.crt holds CN=intermediate, which is not self-signed")],
        [secret(**TLS), secret(roots=(INTERMEDIATE,), **{**TLS, "ca_crt": INTERMEDIATE.pem})],
    ),
    "MT406": (
        [(secret(**{**TLS, "ca_crt": OTHER_ROOT.pem}), "which is not one of the 1 trusted roots")],
        [secret(**TLS), secret(roots=(), **TLS), secret(**{**TLS, "ca_crt": INTERMEDIATE.pem})],
    ),
    "MT407": (
        [(replace(secret(), manifest={"data": {"tls.crt": "-----"}}), "tls.crt is not base64")],
        [secret(**TLS), replace(secret(), manifest={"stringData": {"tls.crt": "-----"}})],
    ),
    "MT408": (
        [(secret("ca", tls_crt=INTERMEDIATE.pem), "holds CN=intermediate, and not the root above it")],
        [secret("ca", tls_crt=INTERMEDIATE.pem + ROOT.pem), secret("ca", tls_crt=ROOT.pem), secret(**TLS)],
    ),
    "MT409": (
        [
            (secret("ca", tls_crt=ROOT.pem + OTHER_ROOT.pem), "holds 2 roots"),
            (secret("ca", tls_crt=ISSUER.pem + OTHER_ROOT.pem), "holds 2 chains"),
        ],
        [
            secret("ca", tls_crt=ROOT.pem + ROOT.pem),
            secret("ca", tls_crt=ISSUER.pem + INTERMEDIATE.pem + ROOT.pem),
            secret(tls_crt=ROOT.pem + OTHER_ROOT.pem),
        ],
    ),
    "MT411": (
        [
            (hook_secret(tls_crt="", tls_key=HOOK.key_pem), "tls.crt holds no certificate: it is empty"),
            (hook_secret(tls_crt=HOOK.pem, tls_key="x"), "tls.key holds no private key: it holds no PEM"),
            (hook_secret(tls_crt=HOOK.pem), "has no tls.key; it holds tls.crt"),
        ],
        [hook_secret()],
    ),
    "MT412": ([(hook_secret(key=ROOT), "does not match the certificate")], [hook_secret(), hook_secret(tls_crt="x")]),
    "MT413": (
        [
            (
                hook_secret(make_certificate("linkerd-proxy-injector.linkerd.svc", ca=False)),
                "has no DNS name, and the API server calls",
            )
        ],
        [hook_secret(), replace(hook_secret(), secret=replace(hook_secret().secret, namespace=""))],
    ),
    "MT414": ([(hook_secret(ENDED_HOOK), "expired on")], [hook_secret()]),
    "MT415": (
        [(hook_secret(SIGNED_HOOK, authorities=(OTHER_ROOT,)), "which its caBundle does not trust")],
        [
            hook_secret(SIGNED_HOOK, authorities=(OTHER_ROOT, ROOT)),
            hook_secret(authorities=(HOOK,)),
            hook_secret(SIGNED_HOOK),
        ],
    ),
    "MT501": (
        [
            (helm({"identity": {"issuer": {"scheme": "kubernetes.io/tls"}}}), "identityTrustAnchorsPEM is not set"),
            (
                helm({"identity": {"issuer": {"tls": {"crtPEM": "x"}}}}),
                "so that there are no trust anchors, and identity.externalCA",
            ),
        ],
        [
            issuer_values(scheme="kubernetes.io/tls"),
            helm({"identity": {"externalCA": True, "issuer": {"scheme": "kubernetes.io/tls"}}}),
            helm({"identity": {"issuer": {"scheme": "kubernetes.io/tls"}}}, extent="part"),
            helm({"identityTrustDomain": "cluster.local"}, extent="layer"),
        ],
    ),
    "MT502": (
        [
            (
                helm({"identityTrustAnchorsPEM": ROOT.pem, "identity": {"externalCA": True}}),
                "identity.externalCA is true",
            )
        ],
        [helm({"identityTrustAnchorsPEM": ROOT.pem}), helm({"identity": {"externalCA": True}})],
    ),
    "MT503": (
        [
            (issuer_values(scheme="linkerd.io/tls"), "lacks crtPEM, keyPEM"),
            (issuer_values(tls={"crtPEM": ISSUER.pem}), "lacks keyPEM"),
        ],
        [
            issuer_values(tls={"crtPEM": ISSUER.pem, "keyPEM": ISSUER.key_pem}),
            issuer_values(scheme="kubernetes.io/tls"),
            helm({"identity": {"issuer": {"scheme": "linkerd.io/tls"}}}, extent="part"),
        ],
    ),
    "MT504": (
        [(issuer_values(scheme="kubernetes/tls"), 'identity.issuer.scheme is "kubernetes/tls"')],
        [issuer_values(scheme="kubernetes.io/tls"), issuer_values(scheme="${SCHEME}"), issuer_values()],
    ),
    "MT505": (
        [(issuer_values(tls={"keyPEM": ISSUER.key_pem}), "keyPEM holds the private key")],
        [issuer_values(tls={"keyPEM": "ref+vault://key"}), issuer_values(tls={"keyPEM": "\n"})],
    ),
    "MT506": (
        [(issuer_values(scheme="kubernetes.io/tls", tls={"crtPEM": "x"}), "has crtPEM, and the scheme is")],
        [issuer_values(scheme="kubernetes.io/tls"), issuer_values(tls={"crtPEM": "x"})],
    ),
    "MT507": (
        [(issuer_values(issuanceLifetime="1d"), 'issuanceLifetime is "1d", which is not a Go duration')],
        [issuer_values(issuanceLifetime="24h0m0s", clockSkewAllowance="20s"), issuer_values()],
    ),
    "MT511": (
        [(webhook(externalSecret=True, injectCaFrom="a/b", injectCaFromSecret="a/b"), "proxyInjector sets both")],
        [webhook(externalSecret=True, injectCaFrom="a/b")],
    ),
    "MT512": (
        [(webhook(externalSecret=True, injectCaFrom="a/b", caBundle="x"), "sets caBundle beside")],
        [webhook(externalSecret=True, caBundle="x"), webhook(externalSecret=True, injectCaFrom="a/b")],
    ),
    "MT513": (
        [(webhook(externalSecret=True, caBundle=""), "sets externalSecret and no CA")],
        [webhook(externalSecret=True, caBundle="x"), webhook(), webhook(caBundle="x")],
    ),
    "MT514": (
        [(webhook(injectCaFrom="a/b"), "and not externalSecret"), (webhook(injectCaFromSecret="a/b"), "and not ext")],
        [webhook(externalSecret=True, injectCaFrom="a/b"), webhook(injectCaFrom="")],
    ),
    "MT515": (
        [
            (
                helm({"webhookFailurePolicy": "Fail"}, cert_manager="security"),
                'cert-manager is in namespace "security"',
            ),
            (helm(FAIL_AND_SELECT_NONE, cert_manager="cert-manager"), "cert-manager is in namespace"),
        ],
        [
            helm({"webhookFailurePolicy": "Fail"}, cert_manager="cert-manager"),
            helm({"webhookFailurePolicy": "Fail"}),
            helm({"webhookFailurePolicy": "Ignore"}, cert_manager="security"),
            helm({"webhookFailurePolicy": "Fail"}, cert_manager="security", left_alone=frozenset({"security"})),
            helm(FAIL_AND_SELECT, cert_manager="security"),
        ],
    ),
    "MT516": (
        [
            (injected("linkerd-proxy-injector"), "which has no namespace"),
            (injected("linkerd/proxy_injector"), "which names no Certificate"),
            (
                injected(
                    "linkerd/injector",
                    certificates={"proxyInjector": frozenset({"linkerd/hook"})},
                    known_certificates=frozenset({"linkerd/hook"}),
                ),
                "and the webhook's Certificate is linkerd/hook",
            ),
        ],
        [injected("linkerd/injector"), injected("${NAMESPACE}/injector"), injected("")],
    ),
    "MT517": (
        [
            (
                helm({"identityTrustAnchorPEM": "x"}),
                "identityTrustAnchorPEM is not a value of the chart; identityTrust",
            ),
            (helm({"identity": {"externalCa": True}}), "identity.externalCa is not a value"),
            (issuer_values(issuancelifetime="8h"), "issuanceLifetime is"),
        ],
        [issuer_values(scheme="x"), helm({"identityTrustAnchorsPEM": "x", "podAnnotations": {}, "proxy": {}})],
    ),
    "MT518": (
        [
            (
                webhook(externalSecret=True, caBundle="no PEM"),
                "proxyInjector.caBundle holds no certificate: it",
            ),
            (webhook(crtPEM=ROOT.key_pem), "proxyInjector.crtPEM holds no certificate"),
        ],
        [webhook(externalSecret=True, caBundle=ROOT.pem), webhook(caBundle="${CA}"), webhook(caBundle="")],
    ),
    "MT521": (
        [
            (configuration(encoded("not a certificate")), "caBundle holds no certificate: it holds no PEM"),
            (configuration("-"), "it is not base64"),
            (configuration(""), "it is empty"),
        ],
        [
            configuration(encoded(ROOT.pem)),
            configuration(None),
            configuration("${CA}"),
            configuration("Cg==", annotations={"cert-manager.io/inject-ca-from": "linkerd/x"}),
        ],
    ),
    "MT522": (
        [(configuration(None, without=("sideEffects",)), "a webhook without sideEffects")],
        [configuration(None), configuration(None, without=("sideEffects",), version="v1beta1")],
    ),
    "MT601": (
        [
            (namespace({}), "has no label linkerd.io/is-control-plane"),
            (namespace({**LABELS, "linkerd.io/control-plane-ns": "mesh"}), 'has "mesh" as its label'),
        ],
        [namespace()],
    ),
    "MT602": (
        [(namespace({**LABELS, "pod-security.kubernetes.io/enforce": "restricted"}), 'enforces "restricted"')],
        [namespace(), namespace({**LABELS, "pod-security.kubernetes.io/enforce": "restricted"}, cni=True)],
    ),
    "MT603": (
        [
            (namespace(annotations={}), "has no annotation linkerd.io/inject"),
            (namespace(annotations={"linkerd.io/inject": "enabled"}), 'has "enabled" as its annotation'),
        ],
        [namespace()],
    ),
    "MT604": (
        [
            (namespace({"a": "c"}, selector={"matchLabels": {"a": "b"}}), 'has no label "a" of "b", by which Bundle'),
            (namespace({"a": "c"}, selector=expression("In", "a", "b")), "does not fit a In b, by which Bundle"),
            (namespace({"a": "c"}, selector=expression("NotIn", "a", "c")), "does not fit a NotIn c"),
            (namespace({}, selector=expression("Exists", "a")), "does not fit a Exists"),
            (namespace({"a": "c"}, selector=expression("DoesNotExist", "a")), "does not fit a DoesNotExist"),
        ],
        [
            namespace({"a": "b"}, selector={"matchLabels": {"a": "b"}}),
            namespace({}),
            namespace({}, selector={"matchLabels": {"kubernetes.io/metadata.name": "linkerd"}}),
            namespace({"a": "c"}, selector={"matchLabels": {"a": "${LABEL}"}}),
            namespace({}, selector=expression("In", "kubernetes.io/metadata.name", "linkerd", "shop")),
            namespace({}, selector=expression("NotIn", "a", "c")),
        ],
    ),
    "MT611": (
        [
            (trust_bundle("ca.crt"), 'key is "ca.crt"'),
            (trust_bundle(None), "key is not set"),
            (cluster_bundle("roots.pem"), 'data is "roots.pem", so that the ConfigMap has no ca-bundle.crt'),
        ],
        [trust_bundle(), cluster_bundle(), trust_bundle("${KEY}"), trust_bundle(None, part=True)],
    ),
    "MT612": (
        [
            (trust_bundle(source={"useDefaultCAs": True}), "has useDefaultCAs among its sources"),
            (cluster_bundle(defaultCAs={"provider": "System"}), 'has defaultCAs of provider "System"'),
        ],
        [trust_bundle(), cluster_bundle(defaultCAs={"provider": "Disabled"})],
    ),
    "MT613": (
        [(trust_bundle(reads="cert-manager", elsewhere=((source(), ("linkerd",)),)), "written to namespace linkerd")],
        [trust_bundle()],
    ),
    "MT614": (
        [(trust_bundle(source={"secret": {"name": "linkerd-identity-issuer", "key": "tls.crt"}}), "reads tls.crt of")],
        [trust_bundle(source={"secret": {"name": "linkerd-identity-issuer", "key": "ca.crt"}}), trust_bundle()],
    ),
    "MT615": ([(trust_bundle(siblings=("Certificate x", "both come from y")), "both come from y")], [trust_bundle()]),
    "MT616": (
        [(replace(trust_bundle(), one=manifest("Bundle", {}, "x/v1", "linkerd-identity-trust-root")), "is not called")],
        [replace(trust_bundle(), one=manifest("Bundle", {}, "x/v1", "linkerd-identity-trust-roots"))],
    ),
    "MT621": (
        [
            (
                TrustRootsSecret(one=manifest("Secret", api="v1", name="roots")),
                "is a Secret, and Linkerd reads ConfigMap",
            )
        ],
        [],
    ),
    "MT701": (
        [
            (
                typed({}, api="cert-manager.io/v1alpha2"),
                "has apiVersion cert-manager.io/v1alpha2, which is no longer served",
            ),
            (typed({}, api="certmanager.k8s.io/v1alpha1"), "cert-manager.io/v1 is"),
        ],
        [typed({}), typed({}, "Bundle", api="trust.cert-manager.io/v1alpha1")],
    ),
    "MT702": (
        [
            (typed({"renewbefore": "25h"}), "spec.renewbefore is not a field; renewBefore is. Write renewBefore."),
            (typed({"privateKey": {"alogrithm": "RSA"}}), "spec.privateKey.alogrithm is not a field; algorithm is"),
            (typed({"ca": {"secretname": "x"}}, "Issuer"), "spec.ca.secretname is not a field; secretName is"),
            (
                typed({"sources": [{"inline": "x"}]}, "Bundle", api="trust.cert-manager.io/v1alpha1"),
                "spec.sources[0].inline is not a field; inLine is",
            ),
            (typed({"ofANewVersion": 1}), "is not a known field of Certificate"),
        ],
        [
            typed({"renewBefore": "25h", "$patch": "delete"}),
            typed({"renewbefore": "25h"}, api="cert-manager.io/v1alpha2"),
        ],
    ),
    "MT703": (
        [
            (
                typed({"usages": ["certSign", "client auth"]}),
                "has certSign, which is not a value of the API. Write cert sign.",
            ),
            (
                typed({"privateKey": {"rotationPolicy": "Allways"}}),
                '"Allways", neither Never nor Always. Write Always.',
            ),
            (typed({"privateKey": {"algorithm": "ecdsa"}}), "Write ECDSA."),
        ],
        [typed({"usages": ["cert sign"]}), typed({"usages": ["${USAGE}"]}), typed({"privateKey": "${KEY}"})],
    ),
    "MT704": (
        [
            (typed({"isCA": "true"}), 'is "true", and has to be true or false'),
            (typed({"privateKey": {"size": "256"}}), "has to be a number"),
            (typed({"dnsNames": "x"}), "has to be a list"),
            (typed({"privateKey": []}), "has to be a map"),
            (typed({"secretName": 1}), "has to be a text"),
            (typed({"privateKey": {"size": True}}), "has to be a number"),
        ],
        [typed({"isCA": True}), typed({"isCA": None}), typed({"isCA": "${CA}"})],
    ),
    "MT705": (
        [(Manifest(one=manifest("Certificate", {"secretName": "x"})), "spec.issuerRef is missing")],
        [typed({}), Manifest(one=manifest("Certificate", {"duration": "48h"}), part=True)],
    ),
    "MT711": (
        [
            (
                Duplicate(title="X", path="a.b", lines=(8, 10), location=Location("x")),
                "occurs twice, in lines 8 and 10",
            ),
            (Duplicate(title="X", path="a", lines=(1, 2, 3), location=Location("x")), "occurs 3 times"),
        ],
        [],
    ),
}


def group_of(rule_id):
    return next(group for group in RULE_SETS if any(rule.id == rule_id for rule in group.rules))


def said(rule_id, subject):
    return [str(found) for found in group_of(rule_id).check(subject) if found.rule.id == rule_id]


WRONG = [(rule, subject, part) for rule, (wrong, _) in CASES.items() for subject, part in wrong]
RIGHT = [(rule, subject) for rule, (_, right) in CASES.items() for subject in right]


@pytest.mark.parametrize(("rule_id", "subject", "part"), WRONG, ids=[f"{rule}-{part[:40]}" for rule, _, part in WRONG])
def test_a_rule_finds_what_it_is_for(rule_id, subject, part):
    assert any(part in found for found in said(rule_id, subject)), said(rule_id, subject)


@pytest.mark.parametrize(("rule_id", "subject"), RIGHT, ids=[rule for rule, _ in RIGHT])
def test_a_rule_leaves_alone_what_is_right(rule_id, subject):
    assert said(rule_id, subject) == []


def test_every_rule_has_an_example_of_both():
    assert sorted(CASES) == sorted(rule.id for rule in RULES)
    # What these two judge is wrong by being there.
    assert {rule for rule, (wrong, right) in CASES.items() if not (wrong and right)} == {"MT621", "MT711"}


def test_a_rule_has_an_id_of_its_own_and_says_why_and_what_to_do():
    assert len({rule.id for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert rule.title
        assert rule.reason.endswith(".")
        assert rule.source
        assert rule.fix
        assert not rule.fix.endswith(".")


def test_sound_credentials_have_no_finding_at_all():
    assert [str(found) for found in group_of("MT201").check(SOUND)] == []
    assert [str(found) for found in group_of("MT101").check(anchor(ROOT))] == []
    assert [str(found) for found in group_of("MT120").check(bundle(ROOT.pem, OTHER_ROOT.pem))] == []
    assert [str(found) for found in group_of("MT401").check(secret(**TLS))] == []
    assert [str(found) for found in group_of("MT311").check(certificate())] == []
    assert [str(found) for found in group_of("MT311").check(anchor_certificate())] == []
    assert [str(found) for found in group_of("MT311").check(certificate(WEBHOOK_SPEC, "webhook"))] == []
    assert [str(found) for found in group_of("MT301").check(window())] == []
    assert [str(found) for found in group_of("MT601").check(namespace())] == []
