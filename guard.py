"""What may refuse a run: all of it is decided before the first resource is registered, in previews too."""

import os

import pulumi

from deployed import LastDeployment
from meshtrust import preflight
from settings import Settings

OFFLINE = "MESHTRUST_OFFLINE"


async def admit(settings: Settings, last: LastDeployment) -> str | None:
    """Let a run begin, or refuse it.

    Args:
        settings: What the stack says.
        last: What it last deployed.

    Returns:
        UID of the cluster, or nothing in an offline preview, which no cluster is asked about.

    Raises:
        pulumi.RunError: The cluster is unreachable or another one, a release is half done, or a source of charts that
            this run needs does not answer.
    """
    if os.environ.get(OFFLINE) == "1":
        if not pulumi.runtime.is_dry_run():
            msg = f"{OFFLINE}=1 is for previews, which plan without a cluster. Unset it to deploy."
            raise pulumi.RunError(msg)
        return None
    try:
        return await _check(settings, last)
    except preflight.PreflightError as error:
        msg = f"{error}\nNothing was changed."
        raise pulumi.RunError(msg) from None


async def _check(settings: Settings, last: LastDeployment) -> str:
    cluster = settings.cluster
    api = await preflight.connect(cluster.context, cluster.kubeconfig)
    uid = await preflight.cluster_uid(api)
    preflight.check_cluster_uid(uid, context=cluster.context, pinned=cluster.uid, last=last.cluster_uid)
    releases = [
        (settings.cert_manager.namespace, "cert-manager"),
        (settings.linkerd.namespace, "linkerd-crds"),
        (settings.linkerd.namespace, "linkerd-control-plane"),
    ]
    await preflight.check_releases(api, releases, cluster.context)
    for key, source in settings.chart_sources.items():
        # A repository's bad day must not stop a run that installs nothing from it.
        if not source.is_directory and last.charts.get(key) != str(source):
            await preflight.check_chart_source(source.location, f"meshtrust:{key}")
    return uid
