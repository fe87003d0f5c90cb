"""The check of the Secret that has the license of Linkerd's enterprise distribution."""

from meshtrust.cluster.api import SECRETS, Api, ClusterError
from meshtrust.names import LICENSE_SECRET_KEY
from program.configuration.settings import Settings


async def check(api: Api, settings: Settings) -> None:
    """Make sure that the Secret which the configuration names is there and has a license.

    Args:
        api: Client of the cluster.
        settings: What the stack says.

    Raises:
        ClusterError: It is not there, has no license, or cannot be read.
    """
    namespace, name = settings.linkerd.namespace, settings.linkerd.license_secret
    if not name:
        return
    found = await api.find(SECRETS, name, namespace=namespace)
    if found and (found.get("data") or {}).get(LICENSE_SECRET_KEY):
        return
    kubectl = settings.cluster.access.kubectl
    lacks = f'has no key "{LICENSE_SECRET_KEY}"' if found else "does not exist"
    msg = (
        f'meshtrust:linkerd.licenseSecret is "{name}", and Secret {namespace}/{name} {lacks}. The control plane would '
        f"not start without a license. Write it:\n  {kubectl} create namespace {namespace}\n  {kubectl} -n {namespace} "
        f"create secret generic {name} --from-file={LICENSE_SECRET_KEY}=<file>"
    )
    raise ClusterError(msg)
