"""Checks of the keys that only some stacks have: those of a cluster, of an anchor stack, and of a fleet."""

from collections.abc import Mapping

from meshtrust.cluster.connection.access import IN_CLUSTER
from meshtrust.cluster.connection.kubeconfig import is_content
from meshtrust.pki.issuer_mode import SIGNING_MODES
from program.configuration.model import Configuration
from program.configuration.report import Report


def check_cluster(configuration: Configuration, report: Report) -> None:
    """Check that a cluster's stack names one way to its cluster: a context, or the stack that made the cluster."""
    if configuration.role != "cluster":
        return
    source, context = configuration.cluster.from_stack, configuration.context
    if source:
        for key in ("context", "kubeconfig"):
            because = "and the kubeconfig is an output of another stack (meshtrust:cluster.fromStack), whose current "
            _refuse_set(report, key, f"{because}context counts")
        return
    if configuration.cluster.output:
        shown = report.quoted("cluster.output", configuration.cluster.output)
        fix = "Name the stack that made the cluster: pulumi config set --path cluster.fromStack <value>"
        report.refuse("cluster.output", f"is {shown}, and no stack is named whose output that is", fix)
    if not context:
        fix = "Run: pulumi config set context <value>. Or name the stack that made the cluster (cluster.fromStack)"
        report.refuse("context", "is empty", fix)
    elif context == IN_CLUSTER:
        because = f'and meshtrust:context is "{IN_CLUSTER}", which takes the files of the service account'
        _refuse_set(report, "kubeconfig", because)


def check_kubeconfig(configuration: Configuration, report: Report) -> None:
    """Check that a cluster's kubeconfig is a path; the content of one is not shown."""
    key = "kubeconfig"
    if configuration.role == "cluster" and is_content(configuration.kubeconfig):
        known = "" if report.is_encrypted(key) else ", with other credentials: the stack's file shows those of this one"
        report.refuse(
            key,
            "is a kubeconfig's content, and has to be its path",
            f"Save it as a file that only you can read (chmod 600 <file>){known}. Then run: "
            f"pulumi config set {key} <file>",
        )


def check_role(configuration: Configuration, report: Report) -> None:
    """Check that no key is set that belongs to a stack of the other role."""
    if configuration.role == "cluster":
        _refuse_set(report, "clusters", "and only an anchor stack signs for others (meshtrust:role)")
        return
    for key in ("cluster.fromStack", "cluster.output", "context", "kubeconfig", "clusterUid"):
        _refuse_set(report, key, "and an anchor stack touches no cluster")
    _refuse_set(report, "signer", "and in an anchor stack each cluster names its own")
    because = "and this stack owns the trust anchor itself (meshtrust:role)"
    _refuse_set(report, "anchorStack", because)


def check_fleet(configuration: Configuration, report: Report) -> None:
    """Check that a cluster of a fleet leaves roots to the anchor stack, and only it has what is about its fleet."""
    if not configuration.anchor_stack:
        because = "and only a cluster of a fleet (meshtrust:anchorStack) is known by it"
        _refuse_set(report, "linkName", because)
        because = "and this is no stack of a cluster in a fleet (meshtrust:anchorStack)"
        _refuse_set(report, "gate.fleetGateways", because)
        return
    for key in ("anchorCertificates", "anchorKeys"):
        _refuse_set(report, key, "and the roots come from the anchor stack (meshtrust:anchorStack)")


def check_fleet_mode(configuration: Configuration, report: Report) -> None:
    """Check that a cluster of a fleet does not sign by the key of the trust anchor."""
    mode = configuration.issuer.mode
    if configuration.anchor_stack and mode in SIGNING_MODES and mode != "intermediate":
        report.refuse(
            "issuer.mode",
            f'is "{mode}", which takes the anchor\'s key, and that never leaves the anchor stack',
            "Use intermediate, external-issuer or external-secret",
        )


def _refuse_set(report: Report, key: str, because: str) -> None:
    """Add an error if a key has a value, whether or not it is valid, which a stack like this one cannot have."""
    section, _, member = key.partition(".")
    value = report.given.get(section)
    if member:
        value = value.get(member) if isinstance(value, Mapping) else None
    if value:
        path = "--path " if member else ""
        report.refuse(key, f"is {report.masked(key, value)}, {because}", f"Remove it: pulumi config rm {path}{key}")
