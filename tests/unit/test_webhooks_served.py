"""An authority of the webhooks goes only when nothing serves under it, in linkerd-viz either."""

import asyncio

from meshtrust.linkerd.webhooks.authority import CONTROL_PLANE, VIZ, find_pods_with_other_ca
from tests.certificates import make_certificate
from tests.fake_cluster import FakeCluster, Port

OLD, NEW = make_certificate("authority 1"), make_certificate("authority 2")


def pod(namespace, name):
    return {"metadata": {"namespace": namespace, "name": name, "labels": {}}}


PODS = {"linkerd": [], "linkerd-viz": [pod("linkerd-viz", "tap-1")]}


def find(viz_namespace, chain):
    leaf = make_certificate("tap", issuer=chain, ca=False, key_cert_sign=False)
    port = Port(answer=lambda *_: (200, b""), chain=(leaf,))
    cluster = FakeCluster(
        objects={
            "api/v1/namespaces/linkerd/pods": [],
            "api/v1/namespaces/linkerd-viz/pods": [pod("linkerd-viz", "tap-1")],
        },
        ports={("linkerd-viz/tap-1", webhook.port): port for webhook in VIZ},
    )
    return asyncio.run(find_pods_with_other_ca(cluster, "linkerd", [NEW.certificate], viz_namespace))


def test_what_viz_serves_under_an_authority_that_would_go_is_found():
    assert find("linkerd-viz", OLD) == [
        f"linkerd-viz/tap-1: it serves {webhook.service} with a certificate of another authority" for webhook in VIZ
    ]
    assert find("linkerd-viz", NEW) == []


def test_viz_is_not_asked_where_its_certificates_are_of_elsewhere():
    assert find("", OLD) == []
    assert len(CONTROL_PLANE) == 3
