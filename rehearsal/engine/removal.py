"""Deleting what the program no longer registers, and bringing the deployment in line with what really exists."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from rehearsal.engine import steps, urns, values
from rehearsal.engine.deployment import STACK_REFERENCE, Deployment, ShutdownError
from rehearsal.engine.errors import ProviderError
from rehearsal.engine.providers import Diff
from rehearsal.engine.state import ResourceState
from rehearsal.engine.steps import Step


def delete_unregistered(deployment: Deployment) -> None:
    """Delete what is left of the last deployment, dependents first, independent resources side by side.

    Raises:
        ShutdownError: a deletion failed; those that it blocks were not tried.
    """
    left = deployment.journal.remaining
    doomed = {item.urn for item in left}

    def remove(resource: ResourceState) -> None:
        if resource.pending_replacement:
            deployment.delete(resource, steps.REMOVE_PENDING_REPLACE)
        elif resource.external:
            deployment.delete(resource, steps.DISCARD)
        elif resource.deleted_with in doomed:
            # Another deletion takes it along, so its provider need not delete it.
            deployment.delete(deployment.journal.mark(resource, retain_on_delete=True), steps.DELETE)
        else:
            deployment.delete(resource, steps.DELETE_REPLACED if resource.delete else steps.DELETE)

    for wave in reversed(list(_waves(left))):
        _in_parallel(deployment, remove, wave)


def refresh(deployment: Deployment) -> None:
    """Read every resource anew; what is gone leaves the deployment.

    A resource counts as changed when its inputs, as the provider reads them, differ from those that were deployed;
    a StackReference when the outputs it reads do.

    Raises:
        ShutdownError: a resource could not be read.
    """
    deployment.journal.forget_pending()
    current = deployment.journal.remaining
    found: dict[int, ResourceState | None] = {}

    def read(resource: ResourceState) -> None:
        found[id(resource)] = _read(deployment, resource)

    for wave in _waves(current):
        _in_parallel(deployment, read, wave)
    gone = {item.urn for item in current if found[id(item)] is None}
    for item in current:
        state = found[id(item)]
        if state is not None and gone & state.references():
            state = replace(
                state,
                dependencies=[urn for urn in state.dependencies if urn not in gone],
                property_dependencies={
                    key: [urn for urn in sources if urn not in gone]
                    for key, sources in state.property_dependencies.items()
                },
            )
        deployment.journal.commit(add=state, drop=item, persist=False)
    if not deployment.preview:
        deployment.journal.save()


def _read(deployment: Deployment, resource: ResourceState) -> ResourceState | None:
    step = Step(steps.REFRESH, resource.urn, resource, resource)
    if urns.is_provider(resource.type) or resource.pending_replacement:
        deployment.count(Step(steps.SAME, resource.urn, resource, resource))
        return resource
    deployment.sink.started(step)
    if not resource.custom:
        unchanged = Step(steps.SAME, resource.urn, resource, resource)
        deployment.count(unchanged)
        deployment.sink.finished(unchanged)
        return resource
    try:
        answer = deployment.read_again(resource)
    except ProviderError as error:
        deployment.error(str(error), resource.urn)
        deployment.sink.failed(step)
        raise ShutdownError from error
    if answer is None:
        outcome = Step(steps.DELETE, resource.urn, resource)
    else:
        inputs, outputs = answer
        marked = values.mark_secrets(outputs, inputs, resource.additional_secret_outputs)
        state = replace(resource, inputs=inputs, outputs=marked, init_errors=[])
        reference = resource.type == STACK_REFERENCE
        changes = values.diff(resource.outputs, outputs) if reference else values.diff(resource.inputs, inputs)
        if changes:
            state.touch()
        outcome = Step(steps.UPDATE if changes else steps.SAME, resource.urn, resource, state, Diff(changes))
    deployment.count(outcome)
    deployment.sink.finished(outcome)
    return outcome.new


def _waves(resources: Iterable[ResourceState]) -> Iterable[list[ResourceState]]:
    """Groups of resources, each of which refers only to resources of earlier groups."""
    depth: dict[str, int] = {}
    waves: dict[int, list[ResourceState]] = {}
    for item in resources:
        level = 1 + max((depth.get(urn, -1) for urn in item.references()), default=-1)
        depth[item.urn] = max(level, depth.get(item.urn, 0))
        waves.setdefault(level, []).append(item)
    return [waves[level] for level in sorted(waves)]


def _in_parallel(deployment: Deployment, work: Callable[[ResourceState], None], resources: list[ResourceState]) -> None:
    if deployment.cancelled.is_set():
        raise ShutdownError
    with ThreadPoolExecutor(max_workers=max(len(resources), 1)) as pool:
        futures = [pool.submit(work, resource) for resource in resources]
    failures = [error for future in futures if (error := future.exception()) is not None]
    for error in failures:
        if not isinstance(error, ShutdownError):
            raise error
    if failures or deployment.failed:
        raise ShutdownError
