"""Rotation of the trust anchor as declared state: generations, the steps between two states, and which are legal.

A mesh trusts a list of generations and has the identity issuer signed by one of them. A rotation from ``a`` to ``b``
goes through four states, and each run may move by one:

| state   | steady | introduce | switch | retire |
| ------- | ------ | --------- | ------ | ------ |
| anchors | a      | a, b      | a, b   | b      |
| signer  | a      | a         | b      | b      |

All of it follows from what proxies do: their anchors are fixed for the life of the process, and they refuse a leaf,
their own included, that chains to none of them (linkerd2-proxy ``linkerd/meshtls``).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

# Environment variable that is "1" for a run that pledges what its cluster is ready for, and takes no step.
PLEDGE_ONLY = "MESHTRUST_PLEDGE_ONLY"

Phase = Literal["steady", "introduce", "switch"]
Kind = Literal["deploy", "introduce", "switch", "retire", "replace"]


@dataclass(frozen=True, kw_only=True)
class Trust:
    """Roots that a mesh trusts, and the one that signs in it.

    Attributes:
        anchors: Trusted generations, oldest first.
        signer: The generation that signs the identity issuer; one of the anchors.
    """

    anchors: tuple[str, ...]
    signer: str

    @property
    def phase(self) -> Phase:
        """Phase of the rotation.

        With one anchor it is steady. With more, the oldest still signs (introduce) or a newer one does (switch).
        """
        if len(self.anchors) == 1:
            return "steady"
        return "introduce" if self.signer == self.anchors[0] else "switch"

    def __str__(self) -> str:
        """Return it as a person writes it."""
        return f"anchors {', '.join(self.anchors)}, signer {self.signer}"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One legal move from a state to the next.

    Attributes:
        kind: What it does: trust generations too, have another one sign, trust some no longer, or begin again if all
            that was trusted has ended.
        generations: The generations it is about: those introduced or retired, those that come in the place of all
            others, or the one that is to sign.
        before: The state it leaves; None before the first deployment.
        after: The state it leads to.
    """

    kind: Kind
    generations: tuple[str, ...]
    before: Trust | None
    after: Trust

    @property
    def name(self) -> str:
        """Its name, such as ``switch-2027``, by which an override names it."""
        return f"{self.kind}-{'-'.join(self.generations)}"

    def is_taken_in(self, trust: Trust) -> bool:
        """Return whether a state has what the step leads to, also if later steps have followed."""
        if self.kind == "introduce":
            return set(self.generations) <= set(trust.anchors)
        if self.kind == "switch":
            return trust.signer in self.generations
        if self.kind == "retire":
            return not set(self.generations) & set(trust.anchors)
        return trust == self.after

    def __str__(self) -> str:
        """Return it as a clause."""
        listed = ", ".join(self.generations)
        return {
            "deploy": f"deploy with {listed}",
            "introduce": f"introduce {listed}",
            "switch": f"switch the signer to {listed}",
            "retire": f"retire {listed}",
            "replace": f"replace what has ended by {listed}",
        }[self.kind]


@dataclass(frozen=True, kw_only=True)
class Root:
    """One generation's root as a deployment left it.

    Attributes:
        fingerprint: SHA-256 of its DER, in hex.
        external: Whether the configuration gave it (`anchorCertificates`).
    """

    fingerprint: str
    external: bool = False


class IllegalStepError(Exception):
    """A move that would break handshakes, or that cannot be judged; the message says which step comes first."""


def find_step(
    last: Trust | None,
    wanted: Trust,
    *,
    roots: Mapping[str, Root] | None = None,
    retired: Mapping[str, Root] | None = None,
    external: Mapping[str, str] | None = None,
    ended: Collection[str] = (),
) -> Step | None:
    """Return the step that leads from the last deployment to the wanted state; None if there is none.

    Args:
        last: State of the last successful deployment; None before the first.
        wanted: State that the configuration asks for.
        roots: The last deployment's roots, by generation.
        retired: Roots that this stack has trusted and retired, by generation.
        external: Fingerprints of the roots that the configuration brings along, by generation.
        ended: Generations of the last deployment whose roots have ended.

    Where all that is trusted has ended no step can be taken one by one: the identity service verifies its issuer at its
    start, roots included (linkerd2 ``controller/cmd/identity/main.go``), so that it would never be ready. There is no
    handshake left to break either, and the anchors may be replaced in one run.

    Raises:
        IllegalStepError: The wanted state is more than one step away, or gives a generation another root.
    """
    check_roots(wanted.anchors, roots=roots or {}, retired=retired or {}, external=external or {})
    if last is None:
        return first_step(wanted)
    if set(last.anchors) <= set(ended) and not set(wanted.anchors) & set(last.anchors):
        return Step(kind="replace", generations=wanted.anchors, before=last, after=wanted)
    added = tuple(name for name in wanted.anchors if name not in last.anchors)
    dropped = tuple(name for name in last.anchors if name not in wanted.anchors)
    if wanted.signer != last.signer:
        _refuse_early_switch(last, wanted, added, dropped)
        _refuse_another_order(last, wanted)
        return Step(kind="switch", generations=(wanted.signer,), before=last, after=wanted)
    if added and dropped:
        first = Trust(anchors=(*last.anchors, *added), signer=last.signer)
        _refuse(
            f"anchors {_names(added)} would come and {_names(dropped)} go in one run, and proxies that trust only "
            f"{_names(dropped)} would meet others that trust only {_names(added)}",
            first,
        )
    _refuse_another_order(last, wanted)
    if added:
        return Step(kind="introduce", generations=added, before=last, after=wanted)
    if dropped:
        return Step(kind="retire", generations=dropped, before=last, after=wanted)
    return None


def first_step(wanted: Trust) -> Step:
    """Return the step of a first deployment."""
    return Step(kind="deploy", generations=wanted.anchors, before=None, after=wanted)


def check_roots(
    anchors: Sequence[str], *, roots: Mapping[str, Root], retired: Mapping[str, Root], external: Mapping[str, str]
) -> None:
    """Make sure that every name means the root that it has always meant.

    Args:
        anchors: The wanted generations.
        roots: The last deployment's roots, by generation.
        retired: Roots that were trusted before that and are retired, by generation.
        external: Fingerprints of the roots that the configuration brings along, by generation.

    Raises:
        IllegalStepError: A generation would get another root.
    """
    _refuse_another_root(anchors, roots, external)
    _refuse_used_names(anchors, retired, external)


def plan_rotation(current: Trust, to: str) -> list[Step]:
    """Return the steps that are left until one generation is the only anchor.

    Args:
        current: The state now, at any point of the rotation.
        to: The generation to rotate to; it may be trusted already.
    """
    return plan_steps(current, Trust(anchors=(to,), signer=to))


def plan_steps(current: Trust, goal: Trust) -> list[Step]:
    """Return the steps that are left until a goal is reached: introduce, switch, retire, as far as each is needed.

    Args:
        current: The state now.
        goal: The goal; its anchors are in the order in which they came.
    """
    steps = []
    added = tuple(name for name in goal.anchors if name not in current.anchors)
    if added:
        after = Trust(anchors=(*current.anchors, *added), signer=current.signer)
        steps.append(Step(kind="introduce", generations=added, before=current, after=after))
        current = after
    if current.signer != goal.signer:
        after = Trust(anchors=current.anchors, signer=goal.signer)
        steps.append(Step(kind="switch", generations=(goal.signer,), before=current, after=after))
        current = after
    dropped = tuple(name for name in current.anchors if name not in goal.anchors)
    if dropped:
        steps.append(Step(kind="retire", generations=dropped, before=current, after=goal))
    return steps


def plan_abort(current: Trust) -> Step:
    """Return the step back: the signer to the older anchor, or the newer anchor out of the bundle.

    Raises:
        IllegalStepError: No rotation is under way, so that there is nothing to go back to.
    """
    oldest = current.anchors[0]
    if current.phase == "steady":
        msg = (
            f"No rotation is under way ({current}), so there is nothing to go back to. A retired anchor's key is gone; "
            "to leave this anchor, rotate to a new generation"
        )
        raise IllegalStepError(msg)
    if current.phase == "switch":
        after = Trust(anchors=current.anchors, signer=oldest)
        return Step(kind="switch", generations=(oldest,), before=current, after=after)
    after = Trust(anchors=(oldest,), signer=oldest)
    return Step(kind="retire", generations=current.anchors[1:], before=current, after=after)


def _refuse_early_switch(last: Trust, wanted: Trust, added: Sequence[str], dropped: Sequence[str]) -> None:
    if wanted.signer in added:
        _refuse(
            f"signer {wanted.signer} is trusted by no proxy yet, and would sign certificates that all of them refuse",
            Trust(anchors=(*last.anchors, *added), signer=last.signer),
        )
    if dropped:
        _refuse(
            f"anchor {_names(dropped)} would go in the same run in which {wanted.signer} begins to sign, and "
            f"certificates under {_names(dropped)} are in use for a day after that",
            Trust(anchors=last.anchors, signer=wanted.signer),
        )
    if added:
        _refuse(
            f"anchor {_names(added)} would come in the same run in which the signer changes; one run takes one step",
            Trust(anchors=(*last.anchors, *added), signer=last.signer),
        )


def _refuse_another_order(last: Trust, wanted: Trust) -> None:
    """Refuse anchors that are not in the order in which they came: by that it is known what a rotation leads away from.

    The phase follows from it, and with it where an abort goes back to.
    """
    kept = [name for name in last.anchors if name in wanted.anchors]
    ordered = (*kept, *(name for name in wanted.anchors if name not in kept))
    if wanted.anchors != ordered:
        _refuse(
            f"anchors {_names(wanted.anchors)} are not in the order in which they came, oldest first",
            Trust(anchors=ordered, signer=wanted.signer),
        )


def _refuse_another_root(anchors: Sequence[str], roots: Mapping[str, Root], external: Mapping[str, str]) -> None:
    for name in anchors:
        root = roots.get(name)
        if root is None or (external.get(name) == root.fingerprint):
            continue
        if name in external or root.external:
            msg = (
                f'generation "{name}" has the root {root.fingerprint[:16]}, and would get another one. A generation is '
                "one root for good: leave it as it is, and bring the other root along under a new name"
            )
            raise IllegalStepError(msg)


def _refuse_used_names(anchors: Sequence[str], retired: Mapping[str, Root], external: Mapping[str, str]) -> None:
    for name in anchors:
        root = retired.get(name)
        if root is not None and external.get(name) != root.fingerprint:
            msg = (
                f'generation "{name}" has been retired, and proxies may still know its root {root.fingerprint[:16]} by '
                "that name. Use a name that was never used"
            )
            raise IllegalStepError(msg)


def _refuse(reason: str, first: Trust) -> None:
    anchors = ", ".join(f'"{name}"' for name in first.anchors)
    msg = f'{reason}. First deploy meshtrust:anchors [{anchors}] with meshtrust:signer "{first.signer}"'
    raise IllegalStepError(msg)


def _names(generations: Sequence[str]) -> str:
    return ", ".join(generations)
