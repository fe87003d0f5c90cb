"""One run of the program: every registration becomes a step, and what is no longer registered is deleted.

Steps follow the rules of the real engine (pulumi/pulumi: pkg/resource/deploy). A failed step lets those in flight
end and refuses every later registration; the journal then describes exactly what exists.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rehearsal.engine import aliases, steps, urns, values
from rehearsal.engine.aliases import Alias
from rehearsal.engine.config import ConfigValue
from rehearsal.engine.errors import InitError, ProviderError
from rehearsal.engine.hooks import Hooks
from rehearsal.engine.journal import Journal
from rehearsal.engine.providers import CheckError, Diff, Operation, Provider
from rehearsal.engine.registry import Registry
from rehearsal.engine.state import PendingOperation, ResourceState, dependents, now
from rehearsal.engine.steps import Diagnostic, Sink, Step, Summary
from rehearsal.engine.values import UNKNOWN, UNKNOWN_TEXT, Properties, Value

STACK_REFERENCE = "pulumi:pulumi:StackReference"


class ShutdownError(Exception):
    """The deployment has failed or was cancelled and takes no more registrations."""


@dataclass(frozen=True)
class Goal:
    """What the program wants of one resource."""

    type: str
    name: str
    custom: bool
    parent: str = ""
    inputs: Properties = field(default_factory=dict)
    provider: str = ""
    providers: dict[str, str] = field(default_factory=dict)
    version: str = ""
    dependencies: tuple[str, ...] = ()
    property_dependencies: dict[str, list[str]] = field(default_factory=dict)
    protect: bool = False
    retain_on_delete: bool = False
    deleted_with: str = ""
    delete_before_replace: bool | None = None
    ignore_changes: tuple[str, ...] = ()
    replace_on_changes: tuple[str, ...] = ()
    replacement_trigger: Value = None
    additional_secret_outputs: tuple[str, ...] = ()
    aliases: tuple[Alias, ...] = ()
    custom_timeouts: dict[str, float] = field(default_factory=dict)
    # Names of the hooks to be called before the resource is created.
    before_create: tuple[str, ...] = ()


@dataclass(frozen=True)
class Target:
    """Which stack of which project is deployed, with which configuration."""

    project: str
    stack: str
    config: dict[str, ConfigValue]
    # Gives the outputs of the stack that a StackReference names.
    read_stack: Callable[[str], Properties]


class Deployment:
    """The state of one preview or update. `preview` plans without changing anything."""

    def __init__(
        self,
        target: Target,
        journal: Journal,
        registry: Registry,
        sink: Sink,
        *,
        preview: bool,
        parallel: int,
    ) -> None:
        self.target = target
        self.journal = journal
        self.registry = registry
        self.sink = sink
        self.preview = preview
        self.hooks = Hooks()
        self.cancelled = threading.Event()
        self.failed = False
        # Whether a step, not the program, is why.
        self.step_failed = False
        self.changes: Counter[str] = Counter()
        self.began = time.monotonic()
        self._slots = threading.BoundedSemaphore(parallel)
        self._lock = threading.RLock()
        self._olds = {item.urn: item for item in journal.remaining if not item.delete}
        self._news: dict[str, ResourceState] = {}
        self._registered: set[str] = set()
        self._aliases: dict[str, list[str]] = {}
        self._default_providers: dict[str, str] = {}
        # The stack's state, and the outputs that the program registered for it.
        self._stack: tuple[ResourceState, Properties] | None = None
        self._open_components: dict[str, Step] = {}
        # Resources that a delete-before-replace took with it, and how they were before.
        self._replaced_early: set[str] = set()

    # Registration

    def register(self, goal: Goal) -> ResourceState:
        """Make the resource as the program wants it, or plan that.

        Raises:
            ShutdownError: the deployment has failed, now or before.
        """
        self._refuse_after_failure()
        urn, old = self._claim(goal)
        try:
            if urns.is_provider(goal.type):
                return self._register_provider(goal, urn, old)
            if not goal.custom:
                return self._register_component(goal, urn, old)
            return self._register_custom(goal, urn, old)
        except CheckError as error:
            for name, reason in error.failures:
                about = f"{goal.type} resource '{goal.name}' has a problem: {reason}"
                self._error(f"{about} Examine values at '{goal.name}.{name}'." if name else about, urn)
            # Like the real engine, which takes this for a fault of the program, not of a step.
            self.failed = True
            raise ShutdownError(str(error)) from error
        except ProviderError as error:
            self._error(str(error), urn)
            raise self._fail() from error

    def register_outputs(self, urn: str, outputs: Properties) -> None:
        """Record the outputs of a component or of the stack."""
        self._refuse_after_failure()
        with self._lock:
            state = self._news.get(urn)
            step = self._open_components.pop(urn, None)
        if state is None:
            raise ProviderError(f"outputs were registered for the unknown resource {urn}")
        if state.type == urns.STACK_TYPE:
            self._stack = (state, outputs)
            return
        changed = state.outputs != outputs
        state.outputs = outputs
        if changed and not self.preview:
            self.journal.save()
        if step is not None:
            self.sink.finished(step)

    def finish(self) -> None:
        """Settle the stack's outputs, which only now are known to be those of a run that ended well.

        After a failure the outputs that were not registered keep their last values, as in the real engine.
        """
        if self._stack is None:
            return
        state, outputs = self._stack
        state.outputs = {**state.outputs, **outputs} if self.failed else outputs
        step = self._open_components.pop(state.urn, None)
        if step is not None and not self.failed:
            self.sink.finished(step)

    def read(self, goal: Goal, resource_id: str) -> ResourceState:
        """Read a resource that the program does not manage."""
        self._refuse_after_failure()
        urn, old = self._claim(goal)
        state = self._state(goal, urn, old, goal.inputs)
        state.id, state.external = resource_id, True
        reference = goal.type == STACK_REFERENCE
        step = Step(steps.READ, urn, old, state)
        try:
            package = "pulumi" if reference else urns.package_of(goal.type)
            state.provider = goal.provider or self._default_provider(package, goal.version)
            self.sink.started(step)
            if reference:
                state.outputs = self._read_stack(goal.inputs)
            else:
                with self._running(step):
                    found = self._provider(state.provider).read(
                        self._operation(urn, "read", state), resource_id, goal.inputs, {}
                    )
                if found is None:
                    raise ProviderError(f"resource '{resource_id}' does not exist")
                state.outputs = values.mark_secrets(found[1], goal.inputs, goal.additional_secret_outputs)
        except ProviderError as error:
            self._error(str(error), urn)
            raise self._fail() from error
        state.modified = now()
        self._record(step, drop=old)
        return state

    def _register_component(self, goal: Goal, urn: str, old: ResourceState | None) -> ResourceState:
        state = self._state(goal, urn, old, goal.inputs)
        state.outputs = dict(old.outputs) if old else {}
        changes = values.diff(old.inputs, state.inputs) if old else {}
        op = steps.CREATE if old is None else steps.UPDATE if changes else steps.SAME
        step = Step(op, urn, old, state, Diff(changes))
        if op != steps.SAME:
            state.touch(created=op == steps.CREATE)
        with self._lock:
            self._open_components[urn] = step
        self.sink.started(step)
        self._record(step, drop=old, display=False)
        return state

    def _register_provider(self, goal: Goal, urn: str, old: ResourceState | None) -> ResourceState:
        package = urns.package_of(goal.type)
        provider = self.registry.make(package)
        inputs = dict(goal.inputs)
        if goal.version:
            inputs["version"] = goal.version
        state = self._state(goal, urn, old, inputs)
        state.provider = ""
        state.outputs = inputs
        diff = provider.diff_config(old.inputs, inputs) if old else Diff()
        if old is None or diff.replace:
            state.id = UNKNOWN_TEXT if self.preview else str(uuid.uuid4())
            op = steps.CREATE if old is None else steps.CREATE_REPLACEMENT
        else:
            state.id = old.id
            op = steps.UPDATE if diff else steps.SAME
        step = Step(op, urn, old, state, diff)
        if op != steps.SAME:
            state.touch(created=op != steps.UPDATE)
        self.sink.started(step)
        self.registry.load(f"{urn}::{state.id}", inputs)
        if op == steps.CREATE_REPLACEMENT and old is not None:
            self._keep_replaced(old)
            self._record(step)
            self._note_replacement(step)
        else:
            self._record(step, drop=old)
        return state

    def _register_custom(self, goal: Goal, urn: str, old: ResourceState | None) -> ResourceState:
        reference = goal.provider or self._inherited_provider(goal)
        provider = self._provider(reference)
        if not provider.serves(goal.type):
            raise ProviderError(f"the embedded engine does not serve resources of type {goal.type}")
        inputs = goal.inputs
        if old is not None:
            for path in goal.ignore_changes:
                inputs = values.reset_path(_parsed(path), old.inputs, inputs)
        operation = self._operation(urn, "check", None)
        inputs = provider.check(operation, old.inputs if old else None, inputs)
        state = self._state(goal, urn, old, inputs)
        state.provider = reference
        if old is None:
            return self._create(Step(steps.CREATE, urn, None, state), provider, goal)
        if old.pending_replacement or urn in self._replaced_early:
            step = Step(steps.CREATE_REPLACEMENT, urn, old, state)
            self._note_replacement(step)
            return self._create(step, provider, goal)
        diff = self._diff(goal, old, state, provider)
        if diff.replace:
            return self._replace(Step(steps.CREATE_REPLACEMENT, urn, old, state, diff), provider, goal)
        if diff or old.init_errors:
            return self._update(Step(steps.UPDATE, urn, old, state, diff), provider)
        state.id, state.outputs = old.id, old.outputs
        step = Step(steps.SAME, urn, old, state)
        self.sink.started(step)
        self._record(step, drop=old, persist=old.urn != urn)
        return state

    def _diff(self, goal: Goal, old: ResourceState, new: ResourceState, provider: Provider) -> Diff:
        diff = provider.diff(self._operation(new.urn, "update", new), old.inputs, old.outputs, new.inputs)
        ignored = [_parsed(pattern) for pattern in goal.ignore_changes]
        changes = {
            path: kind for path, kind in diff.changes.items() if not any(_covers(item, path) for item in ignored)
        }
        replaced = diff.replace & changes.keys()
        for pattern in goal.replace_on_changes:
            path = _parsed(pattern)
            replaced |= {changed for changed in changes if _covers(path, changed)}
        trigger, former = new.replacement_trigger, old.replacement_trigger
        if trigger is not None and former is not None and (trigger is UNKNOWN or trigger != former):
            changes[("replacementTrigger",)] = "update"
            replaced |= {("replacementTrigger",)}
        if self._provider_replaced(old.provider, new.provider):
            changes[("provider",)] = "update"
            replaced |= {("provider",)}
        before = diff.delete_before_replace if goal.delete_before_replace is None else goal.delete_before_replace
        return Diff(changes, frozenset(replaced), before)

    def _provider_replaced(self, old: str, new: str) -> bool:
        if not old or old == new:
            return False
        urn = new.rpartition("::")[0]
        before, after = self._olds.get(old.rpartition("::")[0]), self._find(urn)
        if before is None or after is None:
            return True
        return bool(self.registry.make(urns.package_of(after.type)).diff_config(before.inputs, after.inputs).replace)

    # Steps

    def _create(self, step: Step, provider: Provider, goal: Goal) -> ResourceState:
        state = step.new
        assert state is not None  # noqa: S101 - a creation makes something
        self.sink.started(step)
        state.touch(created=True)
        operation = self._operation(step.urn, "create", state)

        def call() -> tuple[str, Properties]:
            self.hooks.before_create(goal.before_create, state, preview=self.preview)
            return provider.create(operation, state.inputs)

        pending = self._run(step, "creating", call)
        self._record(step, drop=step.old if self._is_gone(step.old) else None, pending=pending)
        return state

    def _update(self, step: Step, provider: Provider) -> ResourceState:
        state, old = step.new, step.old
        assert state is not None  # noqa: S101 - an update has both
        assert old is not None  # noqa: S101
        self.sink.started(step)
        state.id = old.id
        state.touch()
        operation = self._operation(step.urn, "update", state)

        def call() -> tuple[str, Properties]:
            return old.id, provider.update(operation, old.id, old.outputs, old.inputs, state.inputs)

        pending = self._run(step, "updating", call)
        self._record(step, drop=old, pending=pending)
        return state

    def _replace(self, step: Step, provider: Provider, goal: Goal) -> ResourceState:
        old = step.old
        assert old is not None  # noqa: S101 - a replacement has both
        if old.protect:
            raise self._refused_replacement(old)
        if not step.diff.delete_before_replace:
            self._keep_replaced(old)
            created = self._create(step, provider, goal)
            self._note_replacement(step)
            return created
        with self._lock:
            taken = self._taken_by(old)
            self._replaced_early.update(item.urn for item in taken)
        for item in [*reversed(taken), old]:
            if item.protect:
                raise self._refused_replacement(item)
            self.delete(item, steps.DELETE_REPLACED, early=True)
        self._note_replacement(step)
        return self._create(step, provider, goal)

    def _taken_by(self, old: ResourceState) -> list[ResourceState]:
        """The dependents that cannot outlive a deleted resource: those that its replacement would replace too.

        A mere `depends_on` does not take a resource along, and neither does an input that changes in place.
        """
        found = []
        reached = {old.urn}
        for item in dependents(old.urn, self.journal.remaining):
            if not item.custom or item.external or item.delete or urns.is_provider(item.type):
                continue
            if item.urn in self._registered:
                continue
            keys = [key for key, sources in item.property_dependencies.items() if reached & set(sources)]
            if item.deleted_with in reached:
                reached.add(item.urn)
                found.append(item)
                continue
            if not keys:
                continue
            unknown = dict(item.inputs) | dict.fromkeys(keys, UNKNOWN)
            diff = self._provider(item.provider).diff(
                self._operation(item.urn, "update", item), item.inputs, item.outputs, unknown
            )
            if diff.replace:
                reached.add(item.urn)
                found.append(item)
        return found

    def delete(self, resource: ResourceState, op: str, *, early: bool = False) -> None:
        """Delete a resource of the last deployment; `early` keeps a note that its replacement is due."""
        step = Step(op, resource.urn, resource)
        self.sink.started(step)
        if resource.protect and op == steps.DELETE:
            self._error(
                f'{"Preview failed: " if self.preview else ""}resource "{resource.urn}" cannot be deleted\n'
                "because it is protected. To unprotect the resource, either remove the `protect` flag from the "
                "resource in your Pulumi program and run `pulumi up`, or use the command:\n"
                f"`pulumi state unprotect '{resource.urn}'`",
                step.urn,
            )
            self.sink.failed(step)
            raise self._fail()
        real = resource.custom and not resource.external and not urns.is_provider(resource.type)
        operation = None
        if real and not resource.retain_on_delete and not resource.pending_replacement and not self.preview:
            operation = self.journal.begin("deleting", resource)
            try:
                with self._slots:
                    self._provider(resource.provider).delete(
                        self._operation(resource.urn, "delete", resource),
                        resource.id,
                        resource.inputs,
                        resource.outputs,
                    )
            except ProviderError as error:
                self.journal.commit(operation)
                self._error(str(error), resource.urn)
                self.sink.failed(step)
                raise self._fail() from error
        if early:
            with self._lock:
                self._olds[resource.urn] = self.journal.mark(resource, pending_replacement=True)
        if operation is not None or not early:
            self.journal.commit(operation, drop=None if early else resource, persist=not self.preview)
        self._count(step)
        self.sink.finished(step)

    def _run(self, step: Step, kind: str, call: Callable[[], tuple[str, Properties]]) -> PendingOperation | None:
        """Let the provider create or update; returns the operation that `_record` is to settle."""
        state = step.new
        assert state is not None  # noqa: S101 - only steps that make something run through here
        with self._running(step):
            pending = None if self.preview else self.journal.begin(kind, state)
            try:
                state.id, outputs = call()
            except InitError as error:
                state.id, state.init_errors = error.resource_id, error.reasons
                state.outputs = self._settled(state, dict(error.outputs))
                drop = step.old if step.op == steps.UPDATE or self._is_gone(step.old) else None
                self._commit(pending, state, drop)
                raise
            except BaseException:
                if pending is not None:
                    self.journal.commit(pending)
                raise
            state.outputs = self._settled(state, outputs)
            return pending

    @staticmethod
    def _settled(state: ResourceState, outputs: Properties) -> Properties:
        return values.mark_secrets(outputs, state.inputs, state.additional_secret_outputs)

    @contextmanager
    def _running(self, step: Step) -> Iterator[None]:
        with self._slots:
            self._refuse_after_failure()
            try:
                yield
            except ProviderError:
                self.sink.failed(step)
                raise

    def _keep_replaced(self, old: ResourceState) -> None:
        """The replaced resource stays until the end of the deployment."""
        with self._lock:
            self._olds[old.urn] = self.journal.mark(old, delete=True)

    def _is_gone(self, old: ResourceState | None) -> bool:
        current = self._olds.get(old.urn) if old else None
        return current is not None and current.pending_replacement

    def _record(
        self,
        step: Step,
        *,
        drop: ResourceState | None = None,
        pending: PendingOperation | None = None,
        persist: bool = True,
        display: bool = True,
    ) -> None:
        """Take note of a step that ended well; `drop` is what it takes the place of."""
        if step.new is not None:
            self._commit(pending, step.new, drop, persist=persist)
            with self._lock:
                self._news[step.urn] = step.new
        self._count(step)
        if display:
            self.sink.finished(step)

    def _note_replacement(self, step: Step) -> None:
        """Show and count a replacement, which consists of a creation and a deletion."""
        logical = Step(steps.REPLACE, step.urn, step.old, step.new, step.diff)
        self.sink.started(logical)
        self._count(logical)
        self.sink.finished(logical)

    def _commit(
        self,
        pending: PendingOperation | None,
        add: ResourceState,
        drop: ResourceState | None,
        *,
        persist: bool = True,
    ) -> None:
        if drop is not None:
            drop = self._olds.get(drop.urn, drop)
        self.journal.commit(pending, add=add, drop=drop, persist=persist and not self.preview)

    def _count(self, step: Step) -> None:
        if step.counted:
            with self._lock:
                self.changes[step.op] += 1

    # Names, providers, failures

    def _claim(self, goal: Goal) -> tuple[str, ResourceState | None]:
        """The URN of a goal, and the resource of the last deployment that it continues."""
        urn = urns.make(self.target.stack, self.target.project, goal.parent, goal.type, goal.name)
        with self._lock:
            if urn in self._registered:
                self._error(f"Duplicate resource URN '{urn}'; try giving it a unique name", urn)
                raise self._fail()
            self._registered.add(urn)
            former = aliases.expand(
                stack=self.target.stack,
                project=self.target.project,
                type_=goal.type,
                name=goal.name,
                parent=goal.parent,
                aliases=goal.aliases,
                parent_aliases=self._aliases.get(goal.parent, []),
            )
            self._aliases[urn] = former
            for candidate in (urn, *former):
                old = self._olds.get(candidate)
                if old is not None and not old.delete:
                    return urn, old
        return urn, None

    def _state(self, goal: Goal, urn: str, old: ResourceState | None, inputs: Properties) -> ResourceState:
        return ResourceState(
            urn=urn,
            type=goal.type,
            custom=goal.custom,
            inputs=inputs,
            parent=goal.parent,
            protect=goal.protect,
            retain_on_delete=goal.retain_on_delete,
            deleted_with=goal.deleted_with,
            dependencies=sorted(set(goal.dependencies)),
            property_dependencies=goal.property_dependencies,
            additional_secret_outputs=list(goal.additional_secret_outputs),
            aliases=self._aliases[urn],
            custom_timeouts=goal.custom_timeouts,
            ignore_changes=list(goal.ignore_changes),
            replace_on_changes=list(goal.replace_on_changes),
            replacement_trigger=goal.replacement_trigger,
            created=old.created if old else "",
            modified=old.modified if old else "",
        )

    def _inherited_provider(self, goal: Goal) -> str:
        package = urns.package_of(goal.type)
        return goal.providers.get(package) or self._default_provider(package, goal.version)

    def _default_provider(self, package: str, version: str) -> str:
        """The reference of the provider that the program did not name, made on first use."""
        type_ = urns.PROVIDER_PREFIX + package
        name = f"default_{version.replace('.', '_')}" if version else "default"
        with self._lock:
            if name_and_package := self._default_providers.get(f"{package}@{version}"):
                return name_and_package
            self._refuse_disabled_default(package)
            inputs: Properties = {
                key.partition(":")[2]: item.text
                for key, item in self.target.config.items()
                if key.startswith(f"{package}:")
            }
            if version:
                inputs["version"] = version
            urn, old = self._claim(Goal(type=type_, name=name, custom=True))
            state = ResourceState(urn=urn, type=type_, custom=True, inputs=inputs, outputs=inputs)
            state.id = old.id if old else UNKNOWN_TEXT if self.preview else str(uuid.uuid4())
            state.created, state.modified = (old.created, old.modified) if old else ("", "")
            if old is None:
                state.touch(created=True)
            reference = f"{urn}::{state.id}"
            if package != "pulumi":
                self.registry.load(reference, inputs)
            self.journal.commit(add=state, drop=old, persist=False)
            self._news[urn] = state
            self._default_providers[f"{package}@{version}"] = reference
            return reference

    def _refuse_disabled_default(self, package: str) -> None:
        disabled = self.target.config.get("pulumi:disable-default-providers")
        if disabled and package != "pulumi" and (f'"{package}"' in disabled.text or '"*"' in disabled.text):
            raise ProviderError(f"Default provider for '{package}' disabled. An explicit provider must be given.")

    def _provider(self, reference: str) -> Provider:
        return self.registry.get(reference, self._find)

    def _find(self, urn: str) -> ResourceState | None:
        with self._lock:
            return self._news.get(urn) or self._olds.get(urn)

    def _read_stack(self, inputs: Properties) -> Properties:
        name = values.plain(inputs.get("name"))
        if name is UNKNOWN:
            return {"name": UNKNOWN, "outputs": UNKNOWN, "secretOutputNames": UNKNOWN}
        outputs = self.target.read_stack(name)
        secret = sorted(key for key, value in outputs.items() if values.has_secrets(value))
        return {"name": name, "outputs": outputs, "secretOutputNames": secret}

    def _operation(self, urn: str, kind: str, state: ResourceState | None) -> Operation:
        timeouts = state.custom_timeouts if state else {}
        return Operation(
            urn=urn,
            type=urns.type_of(urn),
            name=urns.name_of(urn),
            preview=self.preview,
            timeout=timeouts.get(kind),
            ignore_changes=tuple(state.ignore_changes) if state else (),
            cancelled=self.cancelled,
            status=lambda message: self.sink.diagnostic(Diagnostic("info", message, urn, ephemeral=True)),
            warn=lambda message: self.sink.diagnostic(Diagnostic("warning", message, urn)),
        )

    def error(self, message: str, urn: str = "") -> None:
        """Report an error and fail the deployment."""
        self._error(message, urn)
        self._fail()

    def read_again(self, resource: ResourceState) -> tuple[Properties, Properties] | None:
        """The inputs and outputs of a resource of the last deployment as they are now, None if it is gone.

        Raises:
            ProviderError: it cannot be read.
        """
        if resource.type == STACK_REFERENCE:
            return resource.inputs, self._read_stack(resource.inputs)
        with self._slots:
            return self._provider(resource.provider).read(
                self._operation(resource.urn, "read", resource), resource.id, resource.inputs, resource.outputs
            )

    def count(self, step: Step) -> None:
        """Count a step for the summary."""
        self._count(step)

    def summary(self) -> Summary:
        """How the deployment ended."""
        return Summary(dict(self.changes), time.monotonic() - self.began, self.preview)

    def is_registered(self, urn: str) -> bool:
        """Whether the program registered the resource in this run."""
        with self._lock:
            return urn in self._registered

    def program_failed(self, message: str = "") -> None:
        """Fail because the program did; without a message where it has given its own."""
        if message:
            self._error(message, "")
        self.failed = True

    def _error(self, message: str, urn: str) -> None:
        self.sink.diagnostic(Diagnostic("error", message, urn))

    def _refused_replacement(self, resource: ResourceState) -> ShutdownError:
        self._error(
            f'unable to replace resource "{resource.urn}"\n'
            "as it is currently marked for protection. To unprotect the resource, remove the `protect` flag from the "
            "resource in your Pulumi program and run `pulumi up`",
            resource.urn,
        )
        return self._fail()

    def _fail(self) -> ShutdownError:
        self.failed = self.step_failed = True
        return ShutdownError("resource monitor shut down while waiting on step's done channel")

    def _refuse_after_failure(self) -> None:
        if self.failed or self.cancelled.is_set():
            raise ShutdownError("resource monitor shut down while sending resource registration")


def _parsed(path: str) -> values.Path:
    try:
        return values.parse_path(path)
    except ValueError as error:
        raise ProviderError(str(error)) from error


def _covers(pattern: values.Path, path: values.Path) -> bool:
    """Whether a change at `path` is one of the property that `pattern` names, or of a part of it."""
    return len(pattern) <= len(path) and all(p in ("*", part) for p, part in zip(pattern, path, strict=False))
