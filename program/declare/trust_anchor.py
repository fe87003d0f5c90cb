"""The trust anchor, declared so that a generation keeps its root, whatever would have the engine make another one.

The last deployment's outputs, the cluster's bundle and the stacks of a fleet's clusters say which roots exist. What of
them this stack makes is declared first, with a hook that refuses to make it again, in previews too: the engine calls it
before it creates anything, for a replacement as well as for what its state has lost (pulumi
``pkg/resource/deploy/step.go``, CreateStep.Apply). Then it is compared with what is known, and only then anything else
is declared.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

import pulumi

from components.trust_anchor import ExistingRoots, TrustAnchor, TrustAnchorArgs
from meshtrust.pki.pem import to_pem
from meshtrust.rotation.known_roots import ChangedRootError, Held, KnownRoot, check_root, find_known, would_change
from meshtrust.rotation.steps import Root
from meshtrust.stacks.outputs import StackOutputs

# A root that ends while a run is under way counts as ended: the provider looks at the clock later than this program.
_A_RUN = timedelta(hours=1)
# What the component makes of a generation.
_PARTS = ("id", "key", "root")


async def declare_trust_anchor(
    args: TrustAnchorArgs,
    last: StackOutputs,
    held: Held,
    elsewhere: Iterable[tuple[str, str, Root]] = (),
) -> TrustAnchor:
    """Declare the trust anchor, once it is known that every generation keeps its root.

    Args:
        args: What it is made from.
        last: What the stack last deployed.
        held: The trust that the cluster holds; empty offline, and where the cluster's mesh is given up.
        elsewhere: Roots that other stacks trust: the stack, the generation and the root.

    Raises:
        pulumi.RunError: A generation would get another root.
    """
    try:
        made = [generation for generation in args.generations if generation not in args.certificates]
        known = find_known(made, deployed=last.roots, held=held, elsewhere=elsewhere)
        ended = _ended(args, last, known)
        anchor = TrustAnchor("trust-anchor", args, _existing(known, ended))
        for generation, root in known.items():
            signer = anchor.signers[generation]
            key = await signer.private_key_pem.future() if signer.private_key_pem is not None else None
            check_root(generation, root, await signer.certificate_pem.future(), key)
    except ChangedRootError as error:
        msg = f"meshtrust:anchors cannot be deployed: {error}.\nNothing was changed."
        raise pulumi.RunError(msg) from None
    anchor.complete()
    return anchor


def _existing(known: Mapping[str, KnownRoot], ended: Mapping[str, str]) -> ExistingRoots:
    def refuse(hook: pulumi.ResourceHookArgs) -> None:
        generation = next(name for name in known if hook.name in {f"trust-anchor-{name}-{part}" for part in _PARTS})
        msg = f"meshtrust:anchors cannot be deployed: {would_change(generation, known[generation])}."
        raise ChangedRootError(msg)

    hook = pulumi.ResourceHook("root-is-kept", refuse, pulumi.ResourceHookOptions(on_dry_run=True)) if known else None
    return ExistingRoots(generations=frozenset(known), ended=ended, before_create=hook)


def _ended(args: TrustAnchorArgs, last: StackOutputs, known: Mapping[str, KnownRoot]) -> dict[str, str]:
    """Return the roots of this stack's making that have ended, as PEM by generation.

    Raises:
        pulumi.RunError: One of them signs here; or the engine protects one, and so would not let it become text.
    """
    now = datetime.now(UTC)
    ended = {
        generation: root
        for generation, root in last.certificates.items()
        if generation in known and root.not_valid_after_utc - now <= _A_RUN
    }
    if args.signer in ended:
        end = last.certificates[args.signer].not_valid_after_utc
        msg = (
            f'meshtrust:signer is "{args.signer}", whose root ends at {end:%Y-%m-%d %H:%M} UTC: nothing that it '
            "signs is accepted from then on, and the engine would make another root under its name. "
            "Sign with another generation; if all have ended, replace them (docs/runbook.md, An expired anchor).\n"
            "Nothing was changed."
        )
        raise pulumi.RunError(msg)
    protected = [name for name in ended if name in last.protected or (last.trust and name == last.trust.signer)]
    if protected and args.protected:
        listed, stack = ", ".join(protected), pulumi.get_stack()
        msg = (
            f"The root of generation {listed} has ended, or does within the hour, and the engine protects it, so that "
            "this run would fail half-way. Lift the protection first, until it is retired: pulumi state unprotect "
            f"--all --yes --stack {stack} && pulumi config set --stack {stack} --path anchor.protect false\n"
            "Nothing was changed."
        )
        raise pulumi.RunError(msg)
    for name, root in ended.items():
        # Whether the state still protects it, no program can see: only the engine knows, and says it at the end.
        pulumi.log.warn(
            f"The root of generation {name} ends at {root.not_valid_after_utc:%Y-%m-%d %H:%M} UTC. It stays in the "
            "bundle as it is, and is never made again; rotate to another generation (docs/runbook.md). If the engine "
            "refuses to delete its resource because it is protected, run the same again after: pulumi state unprotect "
            f"--all --yes --stack {pulumi.get_stack()}"
        )
    return {name: to_pem(root) for name, root in ended.items()}
