"""The check of the Secret that has the license of Linkerd's enterprise distribution."""

import base64

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
    data = (found or {}).get("data") or {}
    if base64.b64decode(data.get(LICENSE_SECRET_KEY) or "").strip():
        return
    kubectl = settings.cluster.access.kubectl
    if found is None:
        lacks = "does not exist"
    elif LICENSE_SECRET_KEY in data:
        lacks = f'has nothing under its key "{LICENSE_SECRET_KEY}"'
    else:
        lacks = f'has no key "{LICENSE_SECRET_KEY}"'
    msg = (
        f'meshtrust:linkerd.licenseSecret is "{name}", and Secret {namespace}/{name} {lacks}. The control plane would '
        f"not start without a license. Write it:\n  {kubectl} create namespace {namespace}\n  {kubectl} -n {namespace} "
        f"create secret generic {name} --from-file={LICENSE_SECRET_KEY}=<file>"
    )
    raise ClusterError(msg)
