"""Cost of a preview without changes, against an empty Pulumi program with the same providers.

And against itself where no cluster is asked (`MESHTRUST_OFFLINE=1`): what is left then over the empty program is what
Pulumi takes to load, check and compare the stack's thirty resources.

The program once asked the cluster in a second process, and imported in threads: a preview then took 1.45 seconds, 1.41
times the empty program. Without these it takes more, and its code is plain.
"""

import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.machine import deployed, timed
from meshtrust.cluster.api import OFFLINE
from rehearsal.workspace import workspace

TURNS = 9
_PREVIEW = ("preview", "--non-interactive")
_EMPTY = """
import pulumi, pulumi_kubernetes, pulumi_random, pulumi_tls

config = pulumi.Config()
pulumi_kubernetes.Provider("kubernetes", kubeconfig=config.get("kubeconfig"), context=config.get("context"))
pulumi_random.Provider("random")
pulumi_tls.Provider("tls")
"""


def measure() -> dict[str, Any]:
    """Preview a deployed stack, the same without its cluster, and a deployed empty program, in turn."""
    with deployed("dev") as (cluster, project), tempfile.TemporaryDirectory(prefix="meshtrust-empty-") as directory:
        settings = {"context": cluster.context, "kubeconfig": str(cluster.kubeconfig)}
        offline = replace(project, environment={**project.environment, OFFLINE: "1"})
        with workspace("dev", settings=settings, directory=Path(directory)) as empty:
            program = empty.directory / "__main__.py"
            program.unlink()
            program.write_text(_EMPTY)
            empty.capture("up", "--yes", "--skip-preview", "--non-interactive").check_returncode()
            rounds = {"stack": project, "offline": offline, "empty": empty}
            seconds: dict[str, list[float]] = {name: [] for name in rounds}
            for _ in range(TURNS):
                for name, previewed in rounds.items():
                    seconds[name].append(timed(previewed, *_PREVIEW))
    return {
        "engine": project.describe_engine(),
        "turns": TURNS,
        "secondsMedian": {name: round(statistics.median(values), 2) for name, values in seconds.items()},
        "ratioMedian": {
            name: round(statistics.median(a / b for a, b in zip(seconds["stack"], seconds[name], strict=True)), 3)
            for name in ("offline", "empty")
        },
    }
