"""Helm releases: the resource `kubernetes:helm.sh/v3:Release`, installed by the helm command.

The rules are those of the real provider (pulumi/pulumi-kubernetes: provider/pkg/provider/helm_release.go): the
chart's own version is part of the inputs, so a chart directory counts as changed when its version does, not when
only its content does; `name` and `namespace` force replacement; the inputs are secret in the state as a whole.
After an install that failed the release stays and the next update upgrades it. After an install or upgrade that was
killed, helm itself refuses the next ("cannot re-use a name that is still in use", "another operation ... is in
progress") until it is rolled back or uninstalled: neither the real provider nor this one does that unasked.

Values go to helm on standard input, never in an argument or a file.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from rehearsal.providers import kubernetes_diff, values
from rehearsal.providers.base import Diff, Operation
from rehearsal.providers.errors import CheckError, InitError, ProviderError
from rehearsal.providers.values import UNKNOWN, Properties

Body = dict[str, Any]

_DEFAULT_SECONDS = 300
# What the real provider makes of arguments that are left out (helm_release.go, Release).
_EMPTY = {
    **dict.fromkeys(("description", "keyring", "postrender"), ""),
    **dict.fromkeys(
        (
            "allowNullValues",
            "atomic",
            "cleanupOnFail",
            "createNamespace",
            "dependencyUpdate",
            "devel",
            "disableCRDHooks",
            "disableOpenapiValidation",
            "disableWebhooks",
            "forceUpdate",
            "lint",
            "recreatePods",
            "renderSubchartNotes",
            "replace",
            "resetValues",
            "reuseValues",
            "skipAwait",
            "skipCrds",
            "verify",
            "waitForJobs",
        ),
        False,
    ),
    "timeout": 0,
    "values": {},
    "version": "",
}
_NOT_SERVED = {
    "disableOpenapiValidation",
    "keyring",
    "lint",
    "postrender",
    "recreatePods",
    "renderSubchartNotes",
    "replace",
    "verify",
}
_SERVED = {*_EMPTY, "chart", "maxHistory", "name", "namespace", "repositoryOpts"}
# Set by the SDK for its own use.
_IGNORED = {"compat", "resourceNames"}
_FLAGS = {
    "atomic": "--atomic",
    "dependencyUpdate": "--dependency-update",
    "devel": "--devel",
    "disableWebhooks": "--no-hooks",
    "skipCrds": "--skip-crds",
}
_UPGRADE_FLAGS = {
    "cleanupOnFail": "--cleanup-on-fail",
    "disableCRDHooks": "--no-hooks",
    "forceUpdate": "--force",
    "resetValues": "--reset-values",
    "reuseValues": "--reuse-values",
}


# Messages of helm when it has not touched the release.
_NOT_BEGUN = ("another operation", "has no deployed releases")


class HelmError(ProviderError):
    """Helm ended with an error, in its own words."""


class HelmRelease:
    """Helm releases on one cluster."""

    def __init__(self, kubeconfig: str, context: str, namespace: str) -> None:
        self._kubeconfig = kubeconfig
        self._context = context
        self._namespace = namespace

    def check(self, operation: Operation, old: Properties | None, new: Properties) -> Properties:
        """Fill in the name, the namespace, the timeout and the chart's version."""
        given = {key for key, value in new.items() if value not in (None, _EMPTY.get(key))}
        unserved = sorted(given - (_SERVED - _NOT_SERVED) - _IGNORED)
        if unserved:
            msg = f"This stand-in does not serve {', '.join(unserved)} of a Release. Install the provider's own plugin."
            raise ProviderError(msg)
        inputs = {**_EMPTY, **{key: value for key, value in new.items() if key in _SERVED and value is not None}}
        if not inputs.get("name"):
            inputs["name"] = (old or {}).get("name") or f"{operation.name}-{secrets.token_hex(4)}"
        if not inputs.get("namespace"):
            inputs["namespace"] = self._namespace
        if not inputs["skipAwait"] and "timeout" not in new:
            inputs["timeout"] = _DEFAULT_SECONDS
        if not inputs.get("chart"):
            raise CheckError([("chart", "the chart's name, path or URL is missing")])
        if not values.has_unknowns(inputs):
            try:
                inputs["version"] = self._chart_version(values.plain(inputs))
            except ProviderError as error:
                reason = f"{error}; check the chart name and repository configuration."
                raise CheckError([("chart", reason)]) from error
        return inputs

    @staticmethod
    def diff(outputs: Properties, new: Properties, ignored: tuple[str, ...]) -> Diff:
        """Compare new inputs with the release, and with the former inputs where they leave something out.

        Args:
            outputs: The last outputs.
            new: The new inputs.
            ignored: What the program ignores, of which the provider knows the version alone.
        """
        former = values.plain(outputs.get("__inputs")) or {}
        live = values.plain({key: value for key, value in outputs.items() if key in _SERVED})
        wanted = values.plain(new)
        if "version" in ignored:
            wanted["version"] = live.get("version")
        changes = {path: kind for path, kind in values.diff(live, wanted).items() if kind != "delete"}
        changes |= {path: kind for path, kind in values.diff(former, wanted).items() if kind == "delete"}
        detailed = kubernetes_diff.detailed(changes, (("name",), ("namespace",)))
        return Diff(
            names=frozenset(str(path[0]) for path in changes),
            replaces=frozenset(values.format_path(path) for path, change in detailed.items() if change.replaces),
            detailed=detailed or None,
        )

    @staticmethod
    def planned(inputs: Properties) -> Properties:
        """The outputs of a preview."""
        return {**inputs, "__inputs": values.Secret(inputs), "resourceNames": UNKNOWN, "status": UNKNOWN}

    def create(self, operation: Operation, inputs: Properties) -> tuple[str, Properties]:
        """Install the release and wait for it.

        Raises:
            InitError: the release exists but has failed.
            ProviderError: The release does not exist.
        """
        plain = values.plain(inputs)
        identity = f"{plain['namespace']}/{plain['name']}"
        # Merged here, as by the real provider's Helm 3, whose takeover of what others made knows no conflicts.
        merging = "--server-side=false"
        arguments = ["install", plain["name"], *self._chart_arguments(plain), *_flags(plain, _FLAGS), merging]
        if plain.get("createNamespace"):
            arguments.append("--create-namespace")
        try:
            release = self._deploy(operation, arguments, plain)
        except HelmError as error:
            if "a name that is still in use" in str(error):
                # The message of Helm 3, which the real provider uses.
                raise HelmError("cannot re-use a name that is still in use") from error
            found = self._get(plain)
            if found is None:
                raise
            operation.warn(
                f'Helm release "{plain["name"]}" was created but has a failed status. Use the `helm` command to '
                f"investigate the error, correct it, then retry. Reason: {error}"
            )
            message = (
                f'Helm release "{identity}" was created, but failed to initialize completely. Use Helm CLI to '
                f"investigate: {_unavailable(identity, error)}"
            )
            raise _init_error(message, identity, _outputs(inputs, found)) from error
        return identity, _outputs(inputs, release)

    def update(self, operation: Operation, resource_id: str, outputs: Properties, new: Properties) -> Properties:
        """Upgrade the release and wait for it."""
        del outputs
        plain = values.plain(new)
        arguments = ["upgrade", plain["name"], *self._chart_arguments(plain)]
        arguments += _flags(plain, {**_FLAGS, **_UPGRADE_FLAGS})
        if plain.get("maxHistory"):
            arguments += ["--history-max", str(plain["maxHistory"])]
        try:
            return _outputs(new, self._deploy(operation, arguments, plain))
        except HelmError as error:
            found = self._get(plain)
            if found is None or any(text in str(error) for text in _NOT_BEGUN):
                raise
            message = (
                f'Helm release "{resource_id}" failed to initialize completely. Use Helm CLI to investigate: '
                f"{_unavailable(resource_id, error)}"
            )
            raise _init_error(message, resource_id, _outputs(new, found)) from error

    def delete(self, operation: Operation, outputs: Properties) -> None:
        """Uninstall the release and wait until its objects are gone.

        Raises:
            HelmError: It cannot be uninstalled, or is gone: the real provider fails then too.
        """
        plain = values.plain(outputs)
        arguments = ["uninstall", plain["name"], "--namespace", plain["namespace"]]
        if plain.get("atomic") or not plain.get("skipAwait"):
            arguments += ["--wait", "--timeout", f"{plain.get('timeout') or _DEFAULT_SECONDS}s"]
        self._helm(arguments, cancelled=operation.cancelled)

    def read(
        self, operation: Operation, resource_id: str, inputs: Properties, outputs: Properties
    ) -> tuple[Properties, Properties] | None:
        """Return the release as it is now; without outputs, by its id, with the inputs that it holds."""
        del operation
        namespace, _, name = resource_id.rpartition("/")
        release = self._get(values.plain(outputs) or {"name": name, "namespace": namespace})
        if release is None:
            return None
        if not outputs:
            metadata = release["chart"]["metadata"]
            inputs = {
                **_EMPTY,
                "name": name,
                "namespace": namespace,
                "chart": metadata["name"],
                "version": metadata["version"],
                "values": release["config"] or {},
            }
        return inputs, _outputs(inputs, release)

    def _deploy(self, operation: Operation, arguments: list[str], plain: Body) -> Body:
        arguments += ["--namespace", plain["namespace"], "--values", "-", "--output", "json"]
        if not plain.get("skipAwait"):
            arguments.append("--wait")
            if plain.get("waitForJobs"):
                arguments.append("--wait-for-jobs")
        arguments += ["--timeout", f"{plain.get('timeout') or _DEFAULT_SECONDS}s"]
        if plain.get("description"):
            arguments += ["--description", plain["description"]]
        operation.status(f"helm {arguments[0]} {plain['chart']} {plain.get('version', '')}".rstrip())
        text = self._helm(arguments, stdin=json.dumps(plain.get("values") or {}), cancelled=operation.cancelled)
        release: Body = json.loads(text)
        return release

    def _get(self, plain: Body) -> Body | None:
        try:
            name, namespace = plain["name"], plain["namespace"]
            release: Body = json.loads(self._helm(["status", name, "--namespace", namespace, "--output", "json"]))
            release.setdefault("manifest", self._helm(["get", "manifest", name, "--namespace", namespace]))
            metadata = json.loads(self._helm(["get", "metadata", name, "--namespace", namespace, "--output", "json"]))
            release.setdefault("chart", {"metadata": _chart_metadata(metadata)})
            given = self._helm(["get", "values", name, "--namespace", namespace, "--output", "json"])
            release.setdefault("config", json.loads(given))
        except HelmError as error:
            if "not found" in str(error):
                return None
            raise
        return release

    def _chart_version(self, plain: Body) -> str:
        directory = Path(plain["chart"])
        if (directory / "Chart.yaml").is_file():
            text = (directory / "Chart.yaml").read_text()
        else:
            arguments = self._chart_arguments(plain)
            text = self._helm(["show", "chart", *arguments])
        return str((yaml.safe_load(text) or {}).get("version", ""))

    @staticmethod
    def _chart_arguments(plain: Body) -> list[str]:
        chart = str(plain["chart"])
        repository = plain.get("repositoryOpts") or {}
        arguments: list[str] = []
        url = repository.get("repo") or ""
        if url.startswith("oci://"):
            chart = f"{url.rstrip('/')}/{chart}"
        elif url:
            arguments += ["--repo", url]
        if Path(chart).exists() and not url:
            return [chart]
        for key, flag in (("caFile", "--ca-file"), ("certFile", "--cert-file"), ("keyFile", "--key-file")):
            if repository.get(key):
                arguments += [flag, repository[key]]
        if repository.get("username") or repository.get("password"):
            raise ProviderError(
                "this stand-in passes no repository password to helm, whose arguments everybody can read"
            )
        if plain.get("version"):
            arguments += ["--version", str(plain["version"])]
        return [chart, *arguments]

    def _helm(self, arguments: list[str], *, stdin: str = "", cancelled: threading.Event | None = None) -> str:
        with self._kubeconfig_file() as kubeconfig:
            command = [*_helm_command(), *arguments]
            if kubeconfig:
                command += ["--kubeconfig", kubeconfig]
            if self._context:
                command += ["--kube-context", self._context]
            # In the engine's own process group: who kills that must not leave helm at work on a release of no state.
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            if cancelled is not None:
                threading.Thread(target=_interrupt_when, args=(process, cancelled), daemon=True).start()
            stdout, stderr = process.communicate(stdin)
        if process.returncode != 0:
            lines = [line for line in stderr.strip().splitlines() if line]
            raise HelmError(_without_prefix(lines[-1]) if lines else f"helm ended with status {process.returncode}")
        return stdout

    @contextlib.contextmanager
    def _kubeconfig_file(self) -> Iterator[str]:
        """The kubeconfig as a file; given as content it is one for the length of a call, readable by us only."""
        if "\n" not in self._kubeconfig and not self._kubeconfig.lstrip().startswith("{"):
            yield self._kubeconfig
            return
        descriptor, name = tempfile.mkstemp(prefix="kubeconfig-")
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(self._kubeconfig)
            yield name
        finally:
            Path(name).unlink(missing_ok=True)


@cache
def _helm_command() -> tuple[str, ...]:
    """The helm of the rehearsal's binaries, or else the one on PATH."""
    try:
        from rehearsal.cluster import binaries  # noqa: PLC0415 - may build them, so only when it comes to it
    except ImportError:
        found = shutil.which("helm")
        if found is None:
            raise ProviderError("helm is needed for Helm releases, and it is not on PATH") from None
        return (found,)
    return tuple(str(part) for part in binaries.ensure().helm)


def _interrupt_when(process: subprocess.Popen[str], cancelled: threading.Event) -> None:
    while process.poll() is None:
        if cancelled.wait(timeout=0.5):
            # Helm marks the release as failed when it is interrupted, so that a later upgrade can continue from there.
            process.send_signal(signal.SIGINT)
            return


def _unavailable(identity: str, error: HelmError) -> str:
    return f"failed to become available within allocated timeout. Error: Helm Release {identity}: {error}"


def _init_error(message: str, identity: str, outputs: Properties) -> InitError:
    return InitError(message, resource_id=identity, outputs=outputs, reasons=[message])


def _flags(plain: Body, flags: dict[str, str]) -> list[str]:
    return list(dict.fromkeys(flag for key, flag in flags.items() if plain.get(key)))


def _outputs(inputs: Properties, release: Body) -> Properties:
    chart = (release.get("chart") or {}).get("metadata") or {}
    merged = {**inputs, "version": chart.get("version", inputs.get("version"))}
    if release.get("config") is not None and "values" in inputs:
        merged["values"] = _marked_like(release["config"], inputs["values"])
    return {
        **merged,
        "__inputs": values.Secret(inputs),
        "resourceNames": _resource_names(str(release.get("manifest") or "")),
        "status": {
            "appVersion": chart.get("appVersion", ""),
            "chart": chart.get("name", ""),
            "name": release.get("name"),
            "namespace": release.get("namespace"),
            "revision": release.get("version"),
            "status": (release.get("info") or {}).get("status"),
            "version": chart.get("version", ""),
        },
    }


def _marked_like(plain: Any, marked: Any) -> Any:
    """A value of the release with the secret marks of the input that it came from."""
    if isinstance(marked, values.Secret):
        return values.Secret(plain)
    if isinstance(plain, dict) and isinstance(marked, dict):
        return {key: _marked_like(item, marked.get(key)) for key, item in plain.items()}
    if isinstance(plain, list) and isinstance(marked, list) and len(plain) == len(marked):
        return [_marked_like(item, mark) for item, mark in zip(plain, marked, strict=True)]
    return plain


def _resource_names(manifest: str) -> Body:
    found: dict[str, set[str]] = {}
    for obj in yaml.safe_load_all(manifest):
        if not isinstance(obj, dict) or "kind" not in obj:
            continue
        api_version = str(obj["apiVersion"])
        group = api_version.rpartition("/")[0]
        metadata = obj.get("metadata") or {}
        name = f"{metadata['namespace']}/{metadata['name']}" if metadata.get("namespace") else str(metadata.get("name"))
        found.setdefault(f"{obj['kind']}{'.' + group if group else ''}/{api_version}", set()).add(name)
    return {key: sorted(names) for key, names in sorted(found.items())}


def _chart_metadata(metadata: Body) -> Body:
    return {
        "name": metadata.get("chart", ""),
        "version": metadata.get("version", ""),
        "appVersion": metadata.get("appVersion", ""),
    }


def _without_prefix(line: str) -> str:
    for prefix in ("Error: ", "INSTALLATION FAILED: ", "UPGRADE FAILED: "):
        line = line.removeprefix(prefix)
    return line
