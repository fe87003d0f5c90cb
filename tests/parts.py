"""Real parts that no package registry carries: tests run them where they are found, and say where they are not."""

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from rehearsal.pulumi.home import PROVIDERS, find_installed


@dataclass(frozen=True)
class Part:
    """A real part.

    Attributes:
        is_found: Whether it is on this machine.
        title: What it is, and what a run without it leaves out.
        how: How tests are given it.
    """

    is_found: Callable[[], bool]
    title: str
    how: str


def _plugins_not_installed() -> list[str]:
    return [provider for provider in PROVIDERS if not find_installed(provider)]


def _has_mount_namespaces() -> bool:
    unshare = shutil.which("unshare")
    command = [str(unshare), "--map-root-user", "--mount", "true"]
    return bool(unshare) and not subprocess.run(command, capture_output=True, check=False).returncode


PARTS = {
    "linkerd-charts": Part(
        lambda: bool(os.environ.get("LINKERD_CHARTS")),
        "Linkerd's own charts (the stand-ins are tested, and were not compared with them)",
        "LINKERD_CHARTS=directory",
    ),
    "linkerd-controller": Part(
        lambda: bool(shutil.which(os.environ.get("LINKERD_CONTROLLER") or "linkerd-controller")),
        "Linkerd's own identity controller (the stand-in is tested alone)",
        "LINKERD_CONTROLLER=path, or on PATH",
    ),
    "pulumi-plugins": Part(
        lambda: not _plugins_not_installed(),
        f"Pulumi's own plugins {', '.join(_plugins_not_installed())} (the stand-ins were compared with the answers "
        "that these gave when tests/providers/answers was written)",
        "pulumi plugin install resource, in the versions of requirements.txt",
    ),
    "linkerd-cli": Part(
        lambda: shutil.which("linkerd") is not None,
        "Linkerd's own CLI (`verify` is not compared with `linkerd check`)",
        "linkerd on PATH",
    ),
    "mount-namespaces": Part(
        _has_mount_namespaces,
        "a mount namespace (context in-cluster is not run by the CLI)",
        "unshare on PATH, and the right to use it",
    ),
    "operator-definitions": Part(
        lambda: bool(os.environ.get("PULUMI_OPERATOR_CRDS")),
        "the definitions of Pulumi's operator (deploy/operator is not validated by them)",
        "PULUMI_OPERATOR_CRDS=directory, a copy of deploy/crds of pulumi/pulumi-kubernetes-operator",
    ),
}
