"""Checks of the sources of charts, and of what their distribution needs."""

from program.configuration.model import Configuration
from program.configuration.report import Report

# Kubernetes, Namespaces, "Initial namespaces".
_KUBERNETES = ("default", "kube-node-lease", "kube-public", "kube-system")


def check_directories(configuration: Configuration, report: Report) -> None:
    """Check that a local directory of charts holds each of them."""
    for section in (configuration.linkerd, configuration.cert_manager, configuration.trust_bundle):
        source, key = section.source, f"{section.section}.charts"
        for chart in source.missing(source.names):
            report.refuse(
                key,
                f"is {report.quoted(key, source.location)}, where there is no {chart}/Chart.yaml",
                "Name a directory that holds the chart, a Helm repository (https://) or an OCI registry (oci://)",
            )


def check_names(configuration: Configuration, report: Report) -> None:
    """Check that the definitions and the control plane are two charts and two releases."""
    linkerd = configuration.linkerd
    for key, names in (("controlPlaneChart", linkerd.source.names), ("controlPlaneRelease", linkerd.releases)):
        if len(set(names)) < len(names):
            other = key.replace("controlPlane", "crds")
            report.refuse(
                f"linkerd.{key}",
                f'names "{names[-1]}", which is what meshtrust:linkerd.{other} names too',
                f"Name another for one of them, or leave both empty: pulumi config rm --path linkerd.{key}",
            )


def check_namespaces(configuration: Configuration, report: Report) -> None:
    """Check that each namespace which the program makes is one of its own: it is deleted with all that is in it."""
    installs = {
        "linkerd": True,
        "certManager": configuration.cert_manager.install and configuration.needs_cert_manager,
        "trustBundle": configuration.trust_bundle.install and configuration.trust_bundle.mode == "trust-manager",
    }
    sections = (configuration.linkerd, configuration.cert_manager, configuration.trust_bundle)
    taken = dict.fromkeys(_KUBERNETES, "which is Kubernetes' own")
    for section in sections if configuration.role == "cluster" else ():
        key = f"{section.section}.namespace"
        if not installs[section.section]:
            continue
        if section.namespace in taken:
            report.refuse(
                key,
                f'is "{section.namespace}", {taken[section.namespace]}, and the program makes it, and deletes it with '
                "all that is in it",
                f"Name another: pulumi config set --path {key} <name>",
            )
        taken.setdefault(section.namespace, f"as meshtrust:{key} is")


def check_license(configuration: Configuration, report: Report) -> None:
    """Check that the enterprise distribution has one license, and the other none."""
    linkerd = configuration.linkerd
    given = {"linkerd.license": linkerd.license, "linkerd.licenseSecret": linkerd.license_secret}
    named = [key for key, value in given.items() if value]
    if linkerd.distribution == "enterprise":
        if not named:
            report.refuse(
                "linkerd.license",
                'is not set, and meshtrust:linkerd.distribution is "enterprise", whose charts need one',
                "Encrypt it: pulumi config set --path --secret linkerd.license < <file>. Or name a Secret in Linkerd's "
                "namespace that has it under the key license: pulumi config set --path linkerd.licenseSecret "
                "buoyant-license",
            )
        if len(named) > 1:
            fix = "Remove one of them: pulumi config rm --path linkerd.licenseSecret"
            report.refuse("linkerd.licenseSecret", "is set, and meshtrust:linkerd.license is set too", fix)
        return
    for key in named:
        wrong = 'is set, and only meshtrust:linkerd.distribution "enterprise" takes a license'
        report.refuse(key, wrong, f"Remove it: pulumi config rm --path {key}; or set the distribution")
