"""The way from what is deployed to the goal that a stack's configuration declares, one safe step in each run.

`meshtrust.rotation.steps` says which single move is legal. Here the moves are put in order: first every generation that
the goal adds is introduced, then the signer is switched, then what the goal no longer lists is retired. A goal that is
set back leads back by the same rule, so that an abort is a goal like any other.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from meshtrust.rotation.steps import IllegalStepError, Root, Step, Trust, check_roots, first_step, plan_steps

# How a run treats a goal that is more than one step away: it takes the next step, or it is refused.
RotationMode = Literal["reconcile", "step"]


@dataclass(frozen=True, kw_only=True)
class Way:
    """The steps from the deployed state to the goal.

    Attributes:
        goal: The goal, with its anchors in the order in which they came to the mesh.
        steps: The steps that are left, in order; empty if the deployed state is the goal.
        aborted: Generations that are deployed, are newer than the goal's signer, and are given up by the goal.
    """

    goal: Trust
    steps: tuple[Step, ...] = ()
    aborted: tuple[str, ...] = ()

    @property
    def next(self) -> Step | None:
        """The next step, None if the deployed state is the goal."""
        return self.steps[0] if self.steps else None


def find_way(
    last: Trust | None,
    wanted: Trust,
    *,
    roots: Mapping[str, Root] | None = None,
    retired: Mapping[str, Root] | None = None,
    external: Mapping[str, str] | None = None,
    ended: Collection[str] = (),
) -> Way:
    """Return the way from the last deployment to a goal.

    Args:
        last: State of the last successful deployment; None before the first.
        wanted: The goal, as the configuration has it.
        roots: The last deployment's roots, by generation.
        retired: Roots that this stack has trusted and retired, by generation.
        external: SHA-256 fingerprints (hex) of the roots that the configuration brings along, by generation.
        ended: Generations of the last deployment whose roots have ended.

    Raises:
        IllegalStepError: The goal gives a generation another root, uses the name of a retired one, or keeps a root that
            has ended where all that is deployed has ended.
    """
    check_roots(wanted.anchors, roots=roots or {}, retired=retired or {}, external=external or {})
    if last is None:
        return Way(goal=wanted, steps=(first_step(wanted),))
    goal = Trust(anchors=_in_order(last, wanted), signer=wanted.signer)
    if set(last.anchors) <= set(ended) and goal.signer not in last.anchors:
        kept = [name for name in goal.anchors if name in last.anchors]
        if kept:
            msg = (
                f"every deployed anchor has ended, and meshtrust:anchors still lists {', '.join(kept)}, which would "
                f"stay in no bundle. Remove {', '.join(kept)} from meshtrust:anchors"
            )
            raise IllegalStepError(msg)
        return Way(goal=goal, steps=(Step(kind="replace", generations=goal.anchors, before=last, after=goal),))
    return Way(goal=goal, steps=tuple(plan_steps(last, goal)), aborted=_given_up(last, goal))


def find_way_from_mesh(present: Trust, wanted: Trust) -> Way:
    """Return the way of a first deployment to its goal, in a cluster that has a mesh already.

    The first step deploys what the mesh has, with what the goal adds beside it: the present roots stay, and the present
    signer signs. What follows are the steps of any rotation.

    Args:
        present: What the mesh trusts, and what signs in it.
        wanted: The goal, as the configuration has it.
    """
    goal = Trust(anchors=_in_order(present, wanted), signer=wanted.signer)
    steps = plan_steps(present, goal)
    introduces = bool(steps) and steps[0].kind == "introduce"
    first = first_step(steps[0].after if introduces else present)
    return Way(goal=goal, steps=(first, *steps[introduces:]))


def _in_order(last: Trust, wanted: Trust) -> tuple[str, ...]:
    """Return the goal's anchors in the order in which they came: the deployed ones first."""
    kept = [name for name in last.anchors if name in wanted.anchors]
    return (*kept, *(name for name in wanted.anchors if name not in last.anchors))


def _given_up(last: Trust, goal: Trust) -> tuple[str, ...]:
    if goal.signer not in last.anchors:
        return ()
    signs = last.anchors.index(goal.signer)
    return tuple(name for name in last.anchors[signs + 1 :] if name not in goal.anchors)


@dataclass(frozen=True, kw_only=True)
class AnchorPlan:
    """The generations that a run of an anchor stack deploys on the way to its goal.

    Attributes:
        generations: The generations, in the order in which they came.
        trusted: Stacks that still trust a generation that the goal no longer lists, by generation.
        protected: Generations that the goal no longer lists and the engine still protects from deletion: this run lifts
            that, and the next one retires them.
    """

    generations: tuple[str, ...]
    trusted: Mapping[str, Sequence[str]]
    protected: tuple[str, ...]


def plan_anchor_stack(
    wanted: Sequence[str], last: Sequence[str], clusters: Mapping[str, Collection[str]], protected: Collection[str]
) -> AnchorPlan:
    """Return what a run of an anchor stack deploys: all of the goal, and what must stay for now.

    Args:
        wanted: The generations of the goal.
        last: The generations of the last deployment, oldest first.
        clusters: The generations that each cluster trusts, by its stack.
        protected: The generations that the last deployment had the engine protect.
    """
    dropped = [name for name in last if name not in wanted]
    trusted = {
        name: stacks
        for name in dropped
        if (stacks := [stack for stack, anchors in clusters.items() if name in anchors])
    }
    locked = tuple(name for name in dropped if name in protected and name not in trusted)
    kept = [name for name in last if name in wanted or name in trusted or name in locked]
    added = [name for name in wanted if name not in last]
    return AnchorPlan(generations=(*kept, *added), trusted=trusted, protected=locked)
