"""A stack of meshtrust: the credentials of a Linkerd mesh, or the trust anchor that the meshes of a fleet share."""

import atexit
import gc
import os
import signal

import pulumi

from meshtrust.cluster.api import OFFLINE
from meshtrust.cluster.connection.process import ClusterProcess

# The engine interrupts the program when a step has failed, and has said why: Python's own answer is a traceback.
signal.signal(signal.SIGINT, signal.SIG_DFL)
# A run needs what it has loaded until it ends. To look for what could be freed, and once more at the end, takes as long
# as a tenth of a run that changes nothing.
gc.disable()
atexit.register(gc.freeze)

# The SDK has read it. What this program starts, such as a kubeconfig's command for credentials, is not to inherit the
# configuration, decrypted as it is (pulumi sdk/python/cmd/pulumi-language-python/main.go, pulumiConfigVar).
os.environ.pop("PULUMI_CONFIG", None)

asker = ClusterProcess()
if pulumi.Config("meshtrust").get("context") and os.environ.get(OFFLINE) != "1":
    # What asks the cluster is slow to load, and so is what follows here: side by side they take half the time.
    asker.start()

from program.anchor_stack import declare_anchor_stack  # noqa: E402
from program.cluster_stack import declare_cluster_stack  # noqa: E402
from program.completeness import check_complete  # noqa: E402
from program.configuration.settings import AnchorSettings, load_settings  # noqa: E402
from program.membership import last_deployment  # noqa: E402
from program.refusal import end  # noqa: E402


async def main() -> pulumi.Inputs:
    """Declare the stack, by its role, and return its outputs; end with what a refusal says, where it is refused."""
    try:
        last = await last_deployment()
        settings = load_settings(last)
        if isinstance(settings, AnchorSettings):
            outputs = await declare_anchor_stack(settings, last)
        else:
            outputs = await declare_cluster_stack(settings, last, asker)
        await check_complete(outputs)
        return outputs
    except pulumi.RunError as refusal:
        end(refusal)


pulumi.run(main)
