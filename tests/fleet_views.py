"""Clusters of a fleet as a look into them finds them: one pod, an issuer under one root, and what trusts what."""

from datetime import UTC, datetime

from meshtrust.fleet.view import ClusterView
from meshtrust.linkerd.evidence import Mesh
from meshtrust.linkerd.links import Links
from meshtrust.linkerd.pods import MeshedPod, ProxyTrust, Workload
from meshtrust.pki.pem import fingerprint
from meshtrust.rotation.pledge import Pledge
from meshtrust.rotation.steps import Trust
from meshtrust.stacks.inspection import Inspection
from tests.certificates import make_certificate

OLD, NEW = make_certificate("root 2026", days=20), make_certificate("root 2027", days=3650)


def view(
    stack,
    *,
    signed_by=OLD,
    trusts=(OLD, NEW),
    bundle=None,
    findings=(),
    links=(),
    deployed=True,
    domain="cluster.local",
):
    """A cluster; what its pod trusts is what its bundle holds, unless that is named."""
    if not deployed:
        return ClusterView(stack=stack, link_name=stack)
    roots = tuple(pair.certificate for pair in trusts)
    issuer = make_certificate("issuer", issuer=signed_by, days=2)
    pod = MeshedPod(
        namespace="shop",
        name="web-1",
        workload=Workload(kind="Deployment", namespace="shop", name="web"),
        created=datetime.now(UTC),
        trust=ProxyTrust(state="trusts", roots=frozenset(map(fingerprint, roots)), source="environment"),
    )
    held = roots if bundle is None else tuple(pair.certificate for pair in bundle)
    mesh = Mesh(namespace="linkerd", trust_domain=domain, roots=held, issuer=(issuer.certificate,), pods=(pod,))
    names = {fingerprint(OLD.certificate): "2026", fingerprint(NEW.certificate): "2027"}
    anchors = tuple(names[fingerprint(root)] for root in held)
    inspection = Inspection(
        context=stack,
        mesh=mesh,
        served={pod: issuer.certificate.not_valid_after_utc},
        trust=Trust(anchors=anchors, signer=names[fingerprint(signed_by.certificate)]),
        deployed={},
        names=names,
        retired=frozenset(),
        now=datetime.now(UTC),
    )
    pledge = Pledge(accepts=frozenset(anchors[-1:]), released=frozenset(anchors[:-1]))
    return ClusterView(
        stack=stack,
        link_name=stack,
        inspection=inspection,
        findings=findings,
        pledge=pledge,
        links=Links(found=tuple(links), installed=bool(links)),
    )
