"""The plan of a stack as a person wants to see it: the chain it makes, the resources in order, what each stands for."""

import json
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi.runtime import mocks
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from meshtrust.cluster.api import OFFLINE
from meshtrust.linkerd.evidence import leaf_lifetime
from meshtrust.names import CERT_MANAGER_API, CONTROL_PLANE_CHARTS, CRDS_CHARTS, IDENTITY_ISSUER, TRUST_MANAGER_API
from meshtrust.pki.durations import format_duration
from rehearsal.errors import RehearsalError
from rehearsal.mocks import READ_OUTPUTS, engine_config, run_program
from rehearsal.providers import values
from rehearsal.providers.base import Operation
from rehearsal.providers.server import load
from rehearsal.workspace import stack_config

# What a resource stands for, by its type; a Release by the name of its chart.
_MEANING = {
    "random:index/randomId:RandomId": "a short id in the root's subject, by which people distinguish two roots",
    "tls:index/privateKey:PrivateKey": "an ECDSA P-256 key, in the stack's encrypted state",
    "tls:index/selfSignedCert:SelfSignedCert": "the root that every proxy trusts",
    "tls:index/certRequest:CertRequest": "what the next is signed from",
    "tls:index/locallySignedCert:LocallySignedCert": "the {subject}, signed by the root",
    "kubernetes:core/v1:Namespace": "the namespace {name}",
    "kubernetes:core/v1:Secret": "what {reader} signs with: {namespace}/{name}",
    f"kubernetes:{CERT_MANAGER_API}:Issuer": "cert-manager's issuer on that Secret",
    f"kubernetes:{CERT_MANAGER_API}:Certificate": (
        "the identity issuer: cert-manager issues it into Secret {namespace}/{secretName} and renews it by itself"
    ),
    "pulumi:providers:kubernetes": "the cluster: {cluster}",
    "cert-manager": "cert-manager, up once its API answers",
    **dict.fromkeys(CRDS_CHARTS, "Linkerd's CRDs"),
    **dict.fromkeys(CONTROL_PLANE_CHARTS, "Linkerd's control plane, under the trusted roots"),
    "trust-manager": "trust-manager, which publishes the trusted roots",
    f"kubernetes:{TRUST_MANAGER_API}:Bundle": "the trusted roots, as trust-manager publishes them to Linkerd",
}
# What differs of the webhooks' certificates, which have an authority of their own.
_WEBHOOKS = "webhooks-"
_MEANING_FOR_WEBHOOKS = {
    "tls:index/selfSignedCert:SelfSignedCert": "the authority of the webhooks' certificates, which no proxy trusts",
    f"kubernetes:{CERT_MANAGER_API}:Certificate": (
        "the certificate of webhook {name}: cert-manager issues it into Secret {namespace}/{secretName} and renews it"
    ),
}
_RELEASE = "kubernetes:helm.sh/v3:Release"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One resource of a plan.

    Attributes:
        type: Its type token.
        name: Its name in the program.
        inputs: Its inputs.
    """

    type: str
    name: str
    inputs: Mapping[str, Any]

    @property
    def meaning(self) -> str:
        """Its meaning."""
        chart = str(self.inputs.get("name", "")) if self.type == _RELEASE else ""
        facts = {**self.inputs, **self.inputs.get("metadata", {}), **self.inputs.get("spec", {})}
        facts["subject"] = "intermediate CA of this cluster" if "maxPathLength" in facts else "identity issuer"
        facts["cluster"] = f"context {facts['context']}" if facts.get("context") else "a kubeconfig that is no file"
        facts["reader"] = "Linkerd" if facts.get("name") == IDENTITY_ISSUER else "cert-manager"
        meaning = {**_MEANING, **_MEANING_FOR_WEBHOOKS} if self.name.startswith(_WEBHOOKS) else _MEANING
        return meaning.get(chart or self.type, "").format_map(_Facts(facts))


# What the stack that makes the cluster may export.
_KUBECONFIG = {
    "current-context": "made",
    "contexts": [{"name": "made", "context": {"cluster": "made", "user": "made"}}],
    "clusters": [{"name": "made", "cluster": {"server": "https://made.example.com"}}],
    "users": [{"name": "made", "user": {"tokenFile": "/made/token"}}],
}


class _Facts(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return f"<{key}>"


@dataclass(frozen=True)
class Plan:
    """The plan of a run of a stack.

    Attributes:
        steps: The resources, in the order in which the program registers them.
        config: The stack's configuration with its defaults, as the program reads it.
        warnings: The program's warnings.
    """

    steps: list[Step]
    config: Mapping[str, Any]
    warnings: list[str]

    def signing_secret(self) -> Step | None:
        """Return the step that makes the Secret which the identity issuer is signed with, or is in."""
        secrets = (step for step in self.steps if step.type == "kubernetes:core/v1:Secret")
        return next((step for step in secrets if not step.name.startswith(_WEBHOOKS)), None)


def make_plan(stack: str) -> Plan:
    """Run the program under Pulumi's mocks, as a first preview of a stack of stacks/ that reaches no cluster.

    Raises:
        RehearsalError: The stack does not exist, or the program refuses it; the message is the program's.
    """
    config = stack_config(stack)
    os.environ[OFFLINE] = "1"
    try:
        recording = run_program(config, _Providers(config.get("meshtrust:cluster") or {}), stack=stack)
    except pulumi.RunError as refusal:
        raise RehearsalError(str(refusal)) from None
    steps = [
        Step(type=resource.type, name=resource.name, inputs=resource.inputs)
        for resource in recording.resources
        if resource.is_custom and not resource.type.startswith("pulumi:pulumi:")
    ]
    warnings = [message for level, message in recording.messages if level == logging.WARNING]
    with_defaults = {key.partition(":")[2]: _value(text) for key, text in engine_config(config).items()}
    return Plan(steps, with_defaults, warnings)


class _Providers(mocks.Mocks):
    """The providers' answers: of `tls` and `random` those of the stand-ins, of others the inputs."""

    def __init__(self, cluster: Mapping[str, str]) -> None:
        """Begin without resources.

        Args:
            cluster: The configuration's section ``cluster``.
        """
        self._cluster = cluster
        self._providers = {name: load(name) for name in ("random", "tls")}

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]]]:
        """Answer the engine's function that reads a stack's outputs: nothing is deployed but the cluster."""
        if args.token != READ_OUTPUTS:
            return {}, []
        made = str(args.args["name"]).endswith(self._cluster.get("fromStack") or "\0")
        return {"outputs": {self._cluster.get("output") or "kubeconfig": _KUBECONFIG} if made else {}}, []

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        """Return the id and the outputs of a resource."""
        provider = self._providers.get(args.typ.partition(":")[0])
        if provider is None:
            return args.name, dict(args.inputs)
        # The mocks have each number as a float. These two providers take no secrets: the engine marks their outputs.
        inputs = values.plain(values.properties_from_wire(values.properties_to_wire(args.inputs)))
        identity, outputs = provider.create(Operation(urn="", type=args.typ, name=args.name), inputs)
        return identity, values.plain(outputs)


def _value(text: str) -> Any:
    """Return a configured map or list; anything else is the text that it was written as."""
    return json.loads(text) if text.startswith(("{", "[")) else text


def show_plan(plan: Plan, stack: str, console: Console) -> None:
    """Draw a plan."""
    console.print(
        Panel(_chain(plan), title=f"[bold]stack {stack}: the chain it makes[/]", expand=False, padding=(1, 2))
    )
    console.print(_table(plan.steps))
    for warning in plan.warnings:
        console.print(Text.assemble(("warning: ", "bold yellow"), warning))
    console.print(f"{len(plan.steps)} to create. Nothing was changed, and no cluster was asked.")


def _chain(plan: Plan) -> RenderableType:
    config = plan.config
    issuer, anchor = config["issuer"], config["anchor"]
    domain, namespace = config["trustDomain"], config["linkerd"]["namespace"]
    signer = config["signer"] or config["anchors"][0]
    mode, made_here = issuer["mode"], signer not in config["anchorCertificates"]
    secret = plan.signing_secret()
    on_cluster = f"Secret {namespace}/{secret.inputs['metadata']['name'] if secret else '?'}"
    key_of_anchor = {
        "anchor": on_cluster,
        "external-issuer": "elsewhere",
        "external-secret": "elsewhere",
    }.get(mode, "only in the stack's encrypted state")
    about_anchor = f"CN=root.linkerd.{domain}, {anchor['validityDays']} days" if made_here else "made elsewhere"
    tree = branch = Tree(_link(f"trust anchor {signer}", about_anchor, key_of_anchor), guide_style="dim")
    if config["role"] == "anchor":
        branch.add(Text(f"the intermediates of {', '.join(config['clusters'])}, once they have asked", style="cyan"))
        return tree
    if mode == "intermediate":
        branch = branch.add(
            _link("intermediate", f"CN=intermediate.linkerd.{domain}, a day less than its root", on_cluster)
        )
    branch = branch.add(_link("identity issuer", *_issuer(issuer, domain, signer, namespace)))
    leaf = format_duration(leaf_lifetime(config["linkerd"].get("values") or {}))
    branch.add(_link("leaf of each proxy", f"{leaf}, renewed by the proxy", "in the proxy's memory"))
    others = [generation for generation in config["anchors"] if generation != signer]
    trusted = Text(f"also trusted: {', '.join(others)}", style="yellow") if others else Text()
    return Group(tree, trusted) if others else tree


def _issuer(issuer: Mapping[str, Any], domain: str, signer: str, namespace: str) -> tuple[str, str]:
    """Return a description of the identity issuer and of the place of its key."""
    name, secret = f"CN=identity.linkerd.{domain}", f"Secret {namespace}/{IDENTITY_ISSUER}"
    if issuer["mode"] == "external-secret":
        return "signed and renewed by a third party", f"{secret}, which only the third party writes"
    if issuer["mode"] == "pulumi":
        about = f"{name}, {issuer['validityDays']} days, renewed by another issuer.serial"
        return about, f"{secret}, and the stack's encrypted state"
    about = f"{name}, {issuer['duration']}, renewed {issuer['renewBefore']} before its end"
    if issuer["mode"] == "external-issuer":
        reference = issuer["refs"][signer]
        about += f", by {reference.get('kind', 'Issuer')} {reference['name']}"
    return about, f"{secret}, which only cert-manager writes"


def _link(title: str, about: str, key: str) -> Text:
    return Text.assemble((title, "bold cyan"), f"  {about}\n", ("key: ", "dim"), (key, "green"))


def _table(steps: Iterable[Step]) -> Table:
    table = Table(title="resources, in order", title_style="bold", title_justify="left", show_header=False, box=None)
    table.add_column(justify="right", style="dim")
    table.add_column(style="green")
    table.add_column()
    for number, step in enumerate(steps, start=1):
        resource = Text(f"{step.type.rpartition(':')[2]} {step.name}", style="dim", no_wrap=True, overflow="ellipsis")
        table.add_row(str(number), "+", Group(Text(step.meaning), resource))
    return table
