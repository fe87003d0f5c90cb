"""Runs the program, or parts of it, against Pulumi's mock monitor and keeps what was registered as plain data."""

import signal
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

import pulumi
from cryptography import x509
from pulumi.runtime import mocks

from meshtrust.pki.pem import fingerprint
from meshtrust.stacks.outputs import flatten
from rehearsal.mocks import READ_OUTPUTS, Recording, Registered, Secret, engine_config, record, unwrapped
from rehearsal.mocks import run_program as run_under_mocks
from rehearsal.workspace import REPOSITORY, stack_config
from tests.certificates import Pair, make_certificate, make_request

__all__ = [
    "REPOSITORY",
    "Recording",
    "Registered",
    "Secret",
    "build",
    "record_main",
    "run_program",
    "stack_config",
    "unwrapped",
]


# The pairs of all runs, by fingerprint: what a stack has deployed is kept by its state.
_MADE: dict[str, Pair] = {}


def remember(pair: Pair) -> None:
    """Have a root be one that a stack has deployed, where its outputs tell of it."""
    _MADE[fingerprint(pair.certificate)] = pair


class _Providers(mocks.Mocks):
    """Stands in for the tls and random providers, whose outputs the program needs; all others echo their inputs.

    The trust anchor's roots that the stack has deployed last are the same in its next run, unless its state has lost
    them.
    """

    def __init__(
        self, outputs: Mapping[str, Mapping[str, Any]], stack: str = "test", *, loses_state: bool = False
    ) -> None:
        self._outputs = outputs
        roots = {} if loses_state else flatten(outputs.get(stack, {})).get("roots") or {}
        self._kept = {
            f"trust-anchor-{generation}-key": _MADE[root["fingerprint"]]
            for generation, root in roots.items()
            if root["fingerprint"] in _MADE
        }
        self._pairs: dict[str, Pair] = {}

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]]]:
        if args.token != READ_OUTPUTS:
            return {}, []
        outputs = self._outputs.get(args.args["name"].rpartition("/")[2], {})
        secret = [name for name, value in outputs.items() if isinstance(value, Secret)]
        plain = {name: value.value if isinstance(value, Secret) else value for name, value in outputs.items()}
        return {"outputs": plain, "secretOutputNames": secret}, []

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        state = dict(args.inputs)
        if args.typ == "random:index/randomId:RandomId":
            state["hex"] = "c0ffee00"
        elif args.typ == "tls:index/privateKey:PrivateKey":
            pair = self._kept.get(args.name) or make_certificate(args.name)
            self._pairs[pair.key_pem] = pair
            _MADE[fingerprint(pair.certificate)] = pair
            state["privateKeyPem"] = pair.key_pem
        elif args.typ == "tls:index/selfSignedCert:SelfSignedCert":
            state["certPem"] = self._pairs[unwrapped(args.inputs["privateKeyPem"])].pem
        elif args.typ == "tls:index/certRequest:CertRequest":
            pair = self._pairs[unwrapped(args.inputs["privateKeyPem"])]
            state["certRequestPem"] = make_request(pair.key, **args.inputs["subject"])
        elif args.typ == "tls:index/locallySignedCert:LocallySignedCert":
            # An issuer that was brought along is no pair of this stand-in's making.
            issuer = Pair.of(args.inputs["caCertPem"], unwrapped(args.inputs["caPrivateKeyPem"]))
            asked = x509.load_pem_x509_csr(args.inputs["certRequestPem"].encode()).public_key()
            state["certPem"] = make_certificate(
                args.name,
                issuer=issuer,
                public_key=asked,
                path_length=int(args.inputs["maxPathLength"]) if "maxPathLength" in args.inputs else None,
                digital_signature=False,
                days=0,
                hours=int(args.inputs["validityPeriodHours"]),
            ).pem
        return f"{args.name}-id", state


def build(declare: Callable[[], Any]) -> Recording:
    """Run a function that declares resources, until all of them are registered."""

    def run() -> None:
        declare()

    return record(run, _Providers({}), stack="test")


def record_main(main: Callable[[], Any], config: Mapping[str, Any]) -> Recording:
    """Run a function in the place of the program, as a preview with a configuration; it may return a coroutine."""
    pulumi.runtime.set_all_config(engine_config(config), [])
    return record(main, _Providers({}), stack="test", preview=True, in_stack=True)


def run_program(
    config: Mapping[str, Any],
    *,
    last_outputs: Mapping[str, Any] | None = None,
    others: Mapping[str, Mapping[str, Any]] | None = None,
    stack: str = "test",
    preview: bool = True,
    secret_keys: Collection[str] = (),
    loses_state: bool = False,
    flat: bool = True,
) -> Recording:
    """Run the whole program with a configuration, as a preview unless told otherwise.

    Args:
        config: The configuration.
        last_outputs: What the stack has deployed last.
        others: What other stacks have deployed last, by name; an output may be a `Secret`.
        stack: Name of the stack.
        preview: Whether it is a preview.
        secret_keys: Keys of the configuration that are encrypted.
        loses_state: Whether the stack's state has lost the roots that its outputs tell of.
        flat: Whether the outputs of the stack's memory are beside the others, as `flatten` has it.

    Raises:
        pulumi.RunError: The program has refused the run.
    """
    providers = _Providers({**(others or {}), stack: last_outputs or {}}, stack, loses_state=loses_state)
    # The program answers an interrupt as a process of its own, which the tests are not.
    answer = signal.getsignal(signal.SIGINT)
    try:
        recording = run_under_mocks(config, providers, stack=stack, preview=preview, secret_keys=secret_keys)
        return replace(recording, outputs=flatten(recording.outputs)) if flat else recording
    finally:
        signal.signal(signal.SIGINT, answer)
