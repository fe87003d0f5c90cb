"""Everything that a rehearsal runs, built side by side before the first of it is needed."""

import shutil

from rehearsal.cluster.binaries import CLUSTER
from rehearsal.programs import ensure_all
from rehearsal.pulumi.cli import CLI, PulumiCli, find_cli


def ensure_programs() -> PulumiCli:
    """Build the cluster's parts, and the Pulumi CLI if none is on PATH, unless the cache has them; return the CLI.

    Raises:
        BuildError: One cannot be built, or the CLI on PATH is too old.
    """
    ensure_all([CLUSTER] if shutil.which("pulumi") else [CLUSTER, CLI])
    return find_cli()
