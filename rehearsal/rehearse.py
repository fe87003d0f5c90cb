"""The main job on a rehearsal cluster: deploy a stack, renew its identity issuer, verify it, and destroy the stack."""

import contextlib
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from rich.console import Console
from rich.panel import Panel
from rich.text import Text
from rich.tree import Tree

from meshtrust.names import IDENTITY_ISSUER
from meshtrust.pki.chain import ChainError, verify_chain
from meshtrust.pki.pem import fingerprint, read_bundle, subject_of
from rehearsal import external_issuer, mesh, vault
from rehearsal.cluster import Cluster, ensure
from rehearsal.cluster.waiting_times import WaitingTimes
from rehearsal.errors import RehearsalError
from rehearsal.observe import Observer
from rehearsal.prepare import ensure_programs
from rehearsal.pulumi.home import describe_plugins
from rehearsal.workspace import Workspace, stack_config, workspace

NAMESPACE, SECRET = "linkerd", IDENTITY_ISSUER
# Deadline for cert-manager and the identity service, which both answer within a second or two.
REACTION_SECONDS = 60
_NO_PROMPT = ("--yes", "--skip-preview", "--non-interactive")


@dataclass
class Rehearsal:
    """One rehearsal of a stack.

    Attributes:
        stack: Name of the stack in stacks/.
        console: Console that it is shown on.
        linkerd_charts: A directory with Linkerd's own charts; the stand-ins if there is none.
        keep: Whether the cluster and its deployment are kept.
        name: Name of the cluster; the stack's unless given.
        waiting_times: How long pods take to start; they are ready at once without it.
    """

    stack: str
    console: Console
    linkerd_charts: Path | None = None
    keep: bool = False
    name: str = ""
    waiting_times: WaitingTimes | None = None
    _step: int = 0
    _external: dict[str, dict[str, str]] = field(default_factory=dict)
    _external_roots: dict[str, str] = field(default_factory=dict)

    def run(self) -> None:
        """Run it from beginning to end.

        Raises:
            RehearsalError: A check failed.
            rehearsal.cluster.ClusterError: The cluster cannot be built or started.
        """
        # Checked before anything is built: a misspelt name, and a mode that has no renewal to show.
        self._check_mode()
        self.console.print(f"{ensure_programs()}; providers: {describe_plugins()}", soft_wrap=True, highlight=False)
        with contextlib.ExitStack() as stack:
            with self._step_shown(
                "a cluster: etcd, Kubernetes, kwok and cert-manager's controllers, as processes of this machine"
            ) as report:
                beside = [vault.declare] if self._external else []
                cluster = Cluster.start(
                    self.name or self.stack, keep=self.keep, beside=beside, waiting_times=self.waiting_times
                )
                report(f"Linkerd's identity service is {mesh.describe_identity(cluster)}")
                if not self.keep:
                    stack.enter_context(cluster)
            if self._external:
                with self._step_shown(
                    "OpenBao's server, which has the root's key, and cert-manager with issuers on it"
                ):
                    self._external_roots = external_issuer.prepare(cluster, self._external)
            project = stack.enter_context(
                workspace(
                    self.stack,
                    settings=self._settings(cluster),
                    directory=cluster.directory / "project" if self.keep else None,
                )
            )
            self._rehearse(project, Observer(cluster))
        self.console.print(f"[bold green]All of it held.[/] {self._step} steps.")
        if self.keep:
            self._show_what_is_left(cluster, project)

    def _check_mode(self) -> None:
        """Refuse a stack whose issuer cert-manager does not sign: there would be no renewal to show."""
        config = stack_config(self.stack)
        mode = config.get("meshtrust:issuer", {}).get("mode", "intermediate")
        if mode == "external-issuer":
            self._external = self._references(config["meshtrust:issuer"]["refs"])
            external_issuer.check_references(self.stack, self._external)
        elif mode not in ("intermediate", "anchor"):
            msg = (
                f'Stack "{self.stack}" is of mode {mode}, in which cert-manager does not sign here. '
                f"Show its plan: python -m rehearsal preview {self.stack}"
            )
            raise RehearsalError(msg)

    def _references(self, named: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
        """Return the issuer of each generation that this rehearsal comes to, given those that the stack names."""
        return named

    def _rehearse(self, project: Workspace, observer: Observer) -> None:
        before = observer.inventory()
        with self._step_shown("`up` of the unmodified program, by the Pulumi CLI"):
            self._engine(project, "up", *_NO_PROMPT)
        first = self._chain(project, observer)
        self._show("the chain", first)
        self._renew(project, observer, first)
        with self._step_shown("`up` again: 0 changes"):
            self._engine(project, "up", *_NO_PROMPT, "--expect-no-changes")
        with self._step_shown("`refresh`: the cluster is as declared"):
            self._engine(project, "refresh", *_NO_PROMPT, "--expect-no-changes")
        if self.keep:
            return
        with self._step_shown("`destroy`: nothing is left"):
            self._engine(project, "destroy", *_NO_PROMPT)
            observer.wait_for_inventory(before, REACTION_SECONDS)

    def _renew(self, project: Workspace, observer: Observer, first: list[x509.Certificate]) -> None:
        started = datetime.now(UTC)
        with self._step_shown("cert-manager is made to renew the identity issuer, as `cmctl renew` does") as report:
            old = observer.secret_certificate(NAMESPACE, SECRET)
            observer.renew_certificate(NAMESPACE, SECRET)
            new = observer.wait_for_another(NAMESPACE, SECRET, old, REACTION_SECONDS)
            report(f"{_short(old)} -> {_short(new)}")
        with self._step_shown("the identity service takes it over while it runs") as report:
            event = mesh.wait_event(observer.cluster, "IssuerUpdated", since=started, timeout_seconds=REACTION_SECONDS)
            report(f"event {event.reason}: {event.message}")
        second = self._chain(project, observer)
        self._show("the chain after the renewal", second)
        with self._step_shown("the leaf from before and the leaf from after both verify against the bundle"):
            if first[1] == second[1] or first[-1] != second[-1]:
                msg = "The new leaf is not from a new issuer under the same root."
                raise RehearsalError(msg)
            for chain in (first, second):
                verify_chain(chain[:-1], self._roots(project), datetime.now(UTC))

    def _chain(self, project: Workspace, observer: Observer) -> list[x509.Certificate]:
        """Ask the identity service for a leaf, as a proxy does, and return its verified chain up to the root."""
        with self._step_shown("a proxy's request for a certificate is answered, and the answer verifies") as report:
            leaf = mesh.request_leaf(observer.cluster, namespace=NAMESPACE, service_account="default")
            try:
                chain = verify_chain(read_bundle(leaf.chain_pem), self._roots(project), datetime.now(UTC))
            except ChainError as error:
                raise RehearsalError(str(error)) from error
            report(f"{len(chain)} certificates from leaf to root")
        return chain

    def _roots(self, project: Workspace) -> list[x509.Certificate]:
        return read_bundle(str(project.outputs()["trustAnchors"]))

    def _settings(self, cluster: Cluster) -> dict[str, Any]:
        charts = self.linkerd_charts or mesh.charts()
        named = stack_config(self.stack).get("meshtrust:issuer", {}).get("refs", {})
        external = {generation: self._external_roots[generation] for generation in named}
        return {
            **({"anchorCertificates": external} if external else {}),
            "context": cluster.context,
            "kubeconfig": str(cluster.kubeconfig),
            "anchor": {"protect": False},
            "linkerd": {"charts": str(charts), "namespace": NAMESPACE},
            "certManager": {"charts": str(ensure().charts)},
        }

    def _engine(self, project: Workspace, *command: str) -> None:
        if project.run(*command):
            msg = f"`{' '.join(command[:1])}` failed; what it wrote is above."
            raise RehearsalError(msg)

    @contextlib.contextmanager
    def _step_shown(self, what: str) -> Iterator[Any]:
        """Show a step: its title, its duration and its results."""
        self._step += 1
        results: list[str] = []
        self.console.print(f"\n[bold]{self._step}. {what}[/]")
        started = time.monotonic()
        mark = "[red]✗[/]"
        try:
            yield results.append
            mark = "[green]✓[/]"
        finally:
            seconds = time.monotonic() - started
            self.console.print(f"{mark} {'; '.join(results) + ' ' if results else ''}[dim]({seconds:.1f} s)[/]")

    def _show(self, title: str, chain: list[x509.Certificate]) -> None:
        self.console.print(Panel(chain_tree(chain), title=f"[bold]{title}[/]", title_align="left", expand=False))

    def _show_what_is_left(self, cluster: Cluster, project: Workspace) -> None:
        exports = {**project.environment, "KUBECONFIG": cluster.kubeconfig, "PATH": f"{project.cli.path.parent}:$PATH"}
        if self._external:
            exports |= external_issuer.describe(cluster)
        lines = [
            "\nThe cluster keeps running, with the stack on it. To use `pulumi` and `meshtrust` on it, run:\n",
            f"cd {shlex.quote(str(project.directory))}",
            *(f'export {name}="{value}"' for name, value in exports.items()),
            'meshtrust() { .venv/bin/python -m meshtrust "$@"; }',
            "pulumi stack select " + project.stack,
            f"\nFor example: meshtrust status --stack {project.stack}",
            f"To end it, in this directory: {cluster.stop_command}",
        ]
        self.console.print("\n".join(lines), soft_wrap=True, highlight=False, markup=False)


def chain_tree(chain: list[x509.Certificate]) -> Tree:
    """Draw a chain, given from leaf to root, from the root down."""
    *_, root = chain
    names = {1: ["trust anchor"], 3: ["trust anchor", "identity issuer", "leaf"]}
    titles = names.get(len(chain), ["trust anchor", "intermediate", "identity issuer", "leaf"])
    tree = branch = Tree(_line(titles[0], root), guide_style="dim")
    for title, certificate in zip(titles[1:], reversed(chain[:-1]), strict=True):
        branch = branch.add(_line(title, certificate))
    return tree


def _line(title: str, certificate: x509.Certificate) -> Text:
    left = certificate.not_valid_after_utc - datetime.now(UTC)
    return Text.assemble(
        (title, "bold cyan"),
        f"\n{subject_of(certificate)}\n",
        ("sha256 ", "dim"),
        _short(certificate),
        ("  until ", "dim"),
        f"{certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC",
        (f"  ({_left(left.total_seconds())} left)", "green"),
    )


def _short(certificate: x509.Certificate) -> str:
    return fingerprint(certificate)[:16]


def _left(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:.0f} hours" if hours < 72 else f"{hours / 24:.0f} days"
