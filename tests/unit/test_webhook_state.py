"""Both sides of a webhook's caBundle: each thing that makes its calls fail is named, with the side to put right."""

import base64
from datetime import UTC, datetime, timedelta

import pytest

from meshtrust.linkerd.webhooks.authority import CONTROL_PLANE, VIZ
from meshtrust.linkerd.webhooks.state import WebhookState
from meshtrust.pki.pem import fingerprint, read_bundle
from tests.certificates import make_certificate

NOW = datetime.now(UTC)
INJECTOR, TAP = CONTROL_PLANE[0], VIZ[0]
HOST = "linkerd-proxy-injector.linkerd.svc"
CA, OTHER = make_certificate("authority"), make_certificate("another authority")


def leaf(issuer=CA, host=HOST, **more):
    return make_certificate(host, issuer=issuer, ca=False, names=[host], key_cert_sign=False, **{"days": 90, **more})


SERVED = leaf()


def encoded(text):
    return base64.b64encode(text.encode()).decode()


def state(
    *,
    trusted=CA.pem,
    held=SERVED,
    key=None,
    shown=SERVED,
    authorities=(CA,),
    policy="Fail",
    annotations=None,
    webhook=INJECTOR,
    **changes,
):
    config = {"clientConfig": {"caBundle": encoded(trusted)}, "failurePolicy": policy}
    metadata = {"name": webhook.configuration, "annotations": annotations or {}, "resourceVersion": "1"}
    configuration = {"metadata": metadata, "webhooks": [config]}
    if webhook.kind == "APIService":
        configuration = {"metadata": metadata, "spec": config["clientConfig"]}
    secret = held and {
        "metadata": {"annotations": {"cert-manager.io/certificate-name": "x"} if authorities else {}},
        "data": {"tls.crt": encoded(held.pem), "tls.key": encoded((key or held).key_pem)},
    }
    return WebhookState(
        **{
            "webhook": webhook,
            "namespace": "linkerd",
            "configuration": configuration,
            "secret": secret,
            "secret_is_forbidden": False,
            "served": {"linkerd-proxy-injector-1": [shown.certificate] if shown else "refused"},
            "authorities": None if authorities is None else [pair.certificate for pair in authorities],
            **changes,
        }
    )


def judged(given, heal="meshtrust heal --stack dev"):
    return [(finding.severity, str(finding)) for finding in given.judge(NOW, heal)]


def test_sides_that_fit_are_not_criticised():
    assert judged(state()) == []
    assert state().right_bundle() == ""


@pytest.mark.parametrize(("policy", "follows"), [("Fail", "new pods are refused"), ("Ignore", "start without a proxy")])
def test_another_authority_in_the_ca_bundle_is_named_with_its_side_and_cure(policy, follows):
    [(severity, told)] = judged(state(trusted=OTHER.pem, policy=policy))
    assert severity == "error"
    assert told.startswith("MutatingWebhookConfiguration linkerd-proxy-injector-webhook-config trusts CN=another")
    assert "linkerd-proxy-injector-k8s-tls holds a certificate of another authority (CN=authority)" in told
    assert follows in told
    assert told.endswith("Set the caBundle right: meshtrust heal --stack dev.")


def test_a_certificate_of_another_authority_is_the_other_side():
    [(severity, told)] = judged(state(held=leaf(OTHER), shown=leaf(OTHER)))[:1]
    assert severity == "error"
    assert told.endswith("kubectl -n linkerd delete secret linkerd-proxy-injector-k8s-tls.")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"configuration": None}, "is not there, so that the API server never asks linkerd-proxy-injector"),
        ({"trusted": "none"}, "has a caBundle that the API server cannot use (it holds no certificate)"),
        ({"held": None}, "linkerd-proxy-injector-k8s-tls is not there, and no pod can start that serves it"),
        ({"key": OTHER}, "holds a key that is not its certificate's"),
        ({"held": leaf(host="x.linkerd.svc")}, "for other names (x.linkerd.svc) than linkerd-proxy-injector.linkerd"),
        ({"held": leaf(age=3, days=-1), "shown": None}, "holds a certificate that ended on"),
        ({"shown": leaf(OTHER)}, "serves linkerd-proxy-injector with another certificate than Secret linkerd/linkerd"),
        ({"trusted": make_certificate("old", age=3, days=-1).pem + CA.pem}, "trusts CN=old, which ended on"),
    ],
)
def test_each_thing_that_makes_calls_fail_is_an_error(changes, says):
    found = judged(state(**changes))
    assert [severity for severity, told in found if says in told] == ["error"], found


def test_a_certificate_that_a_pod_has_not_loaded_yet_is_a_warning():
    [(severity, told)] = judged(state(shown=leaf()))
    assert (severity, "a pod loads a new one within two minutes" in told) == ("warning", True)


def test_without_the_right_to_the_secret_what_pods_serve_is_judged():
    hidden = {"held": None, "secret_is_forbidden": True}
    assert judged(state(**hidden)) == []
    [(severity, told)] = judged(state(trusted=OTHER.pem, **hidden))
    assert severity == "error"
    assert "linkerd/linkerd-proxy-injector-1 serves a certificate of another authority" in told


def test_a_certificate_of_the_chart_is_its_own_authority():
    """linkerd2's charts make it by genSelfSignedCert: it is not a CA, and Go accepts it nevertheless."""
    own = make_certificate(HOST, ca=False, names=[HOST], key_cert_sign=False, days=365)
    made = {"held": own, "shown": own, "authorities": None}
    assert judged(state(trusted=own.pem, **made)) == []
    broken = state(trusted=OTHER.pem, **made)
    [(_, told)] = judged(broken)
    assert told.endswith("meshtrust heal --stack dev.")
    assert [fingerprint(root) for root in read_bundle(broken.right_bundle())] == [fingerprint(own.certificate)]


def test_a_certificate_of_the_chart_that_ends_soon_is_a_warning():
    own = make_certificate(HOST, ca=False, names=[HOST], key_cert_sign=False, days=30)
    [(severity, told)] = judged(state(trusted=own.pem, held=own, shown=own, authorities=None))
    assert (severity, "which cert-manager does not renew" in told) == ("warning", True)


def test_what_is_right_is_not_guessed_where_nobody_knows_it():
    unknown = state(trusted=OTHER.pem, authorities=None)
    assert unknown.right_bundle() == ""
    [(_, told)] = judged(unknown)
    assert told.endswith("helm rollback linkerd-control-plane --namespace linkerd.")


def test_what_cert_managers_injector_writes_is_left_to_it():
    injected = state(trusted=OTHER.pem, annotations={"cert-manager.io/inject-ca-from": "linkerd/x"})
    assert injected.right_bundle() == ""
    assert "CA injector" in judged(injected)[0][1]


def test_the_api_of_viz_is_judged_like_a_webhook():
    served = leaf(host="tap.linkerd-viz.svc")
    tap = {"webhook": TAP, "namespace": "linkerd-viz", "held": served, "shown": served}
    assert judged(state(**tap)) == []
    [(_, told)] = judged(state(trusted=OTHER.pem, **tap))
    assert told.startswith("APIService v1alpha1.tap.linkerd.io trusts CN=another authority")


def test_an_end_in_the_past_is_told_by_its_date():
    ended = leaf(age=3, days=-1)
    [told] = [told for _, told in judged(state(held=ended, shown=None)) if "ended on" in told]
    assert f"{ended.certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC" in told
    assert ended.certificate.not_valid_after_utc < NOW - timedelta(hours=1)
