"""A stack of meshtrust: the credentials of a Linkerd mesh, or the trust anchor that the meshes of a fleet share."""

# ruff: noqa: E402 - garbage is not looked for while the rest is imported

import gc

# Whatever is imported stays. To look through it for garbage, and once more at the end, takes a seventh of a run that
# changes nothing.
gc.disable()

import os
import signal

import pulumi

from program.anchor_stack import run_anchor_stack
from program.cluster_stack import run_cluster_stack
from program.completeness import check_complete
from program.configuration.settings import AnchorSettings, load_settings
from program.refusal import end
from program.stack_outputs import last_deployment

gc.freeze()
gc.enable()
# The engine interrupts the program when a step has failed, and has reported why: Python's own answer is a traceback.
signal.signal(signal.SIGINT, signal.SIG_DFL)
# A command for credentials must not inherit the decrypted configuration, which the SDK has read (pulumiConfigVar in
# pulumi sdk/python/cmd/pulumi-language-python/main.go).
os.environ.pop("PULUMI_CONFIG", None)


async def main() -> pulumi.Inputs:
    """Run the stack, by its role, and return its outputs; end with the reason if the run is refused."""
    try:
        last = await last_deployment()
        settings = load_settings(last)
        if isinstance(settings, AnchorSettings):
            outputs = await run_anchor_stack(settings, last)
        else:
            outputs = await run_cluster_stack(settings, last)
        await check_complete(outputs)
        return outputs
    except pulumi.RunError as refusal:
        end(refusal)


pulumi.run(main)
