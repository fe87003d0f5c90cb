"""A stack of meshtrust: the credentials of a Linkerd mesh, or the trust anchor that the meshes of a fleet share."""

import signal

import pulumi

from program.anchor_stack import declare_anchor_stack
from program.cluster_stack import declare_cluster_stack
from program.membership import last_deployment
from settings import AnchorSettings, load_settings


async def main() -> pulumi.Inputs:
    """Declare the stack, by its role, and return its outputs."""
    last = await last_deployment()
    settings = load_settings(last)
    if isinstance(settings, AnchorSettings):
        return await declare_anchor_stack(settings, last)
    return await declare_cluster_stack(settings, last)


# The engine interrupts the program when a step has failed, and has said why: Python's own answer is a traceback.
signal.signal(signal.SIGINT, signal.SIG_DFL)
pulumi.run(main)
