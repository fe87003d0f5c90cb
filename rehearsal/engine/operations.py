"""The four commands that run a deployment: preview, up, refresh and destroy."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType

from rehearsal.engine import monitor, program, removal, urns
from rehearsal.engine.deployment import Deployment, ShutdownError, Target
from rehearsal.engine.display import JsonDigest, TextDisplay
from rehearsal.engine.errors import BailError, CancelledError, ChangesFoundError, CliError, ProviderError, UsageError
from rehearsal.engine.journal import Journal
from rehearsal.engine.registry import Registry
from rehearsal.engine.render import Painter
from rehearsal.engine.session import Session
from rehearsal.engine.state import Snapshot
from rehearsal.engine.steps import Diagnostic, Sink, Summary
from rehearsal.engine.values import Properties

OFFLINE_VARIABLE = "MESHTRUST_OFFLINE"


@dataclass(frozen=True)
class Options:
    """The flags that the four commands share."""

    yes: bool = False
    skip_preview: bool = False
    interactive: bool = False
    json: bool = False
    detailed: bool = False
    expect_no_changes: bool = False
    refresh: bool = False
    preview_only: bool = False
    color: bool = False
    parallel: int = 0

    @property
    def slots(self) -> int:
        """How many steps may run side by side; the real CLI's default is four for each processor."""
        return self.parallel if self.parallel > 0 else 4 * (os.cpu_count() or 1)


@dataclass(frozen=True)
class _Phase:
    """The words that one command uses for a phase."""

    kind: str
    title: str
    activity: str


def preview(session: Session, options: Options) -> None:
    """Show what `up` would do."""
    summary = _Run(session, options).deploy(session.snapshot(), preview=True)
    _expect_no_changes(options, summary, "preview")


def up(session: Session, options: Options) -> None:
    """Make the stack as the program describes it."""
    _refuse_offline("up")
    _require_consent(options, "--yes or --skip-preview or --preview-only")
    run = _Run(session, options)
    with session.backend.lock(session.stack):
        if not options.skip_preview or options.preview_only:
            summary = run.deploy(session.snapshot(), preview=True)
            if options.preview_only or not _confirmed(options, "update"):
                return
        summary = run.deploy(session.snapshot(), preview=False)
    _expect_no_changes(options, summary, "update")


def refresh(session: Session, options: Options) -> None:
    """Bring the deployment in line with what exists."""
    _refuse_offline("refresh")
    _require_consent(options, "--yes or --skip-preview or --preview-only")
    run = _Run(session, options)
    with session.backend.lock(session.stack):
        if not options.skip_preview or options.preview_only:
            summary, _ = run.refresh(session.snapshot(), preview=True)
            if options.preview_only:
                _expect_no_changes(options, summary, "refresh")
                return
            if not _confirmed(options, "refresh"):
                return
        summary, _ = run.refresh(session.snapshot(), preview=False)
    _expect_no_changes(options, summary, "refresh")


def destroy(session: Session, options: Options) -> None:
    """Delete every resource of the stack."""
    _refuse_offline("destroy")
    _require_consent(options, "--yes or --skip-preview or --preview-only")
    run = _Run(session, options)
    with session.backend.lock(session.stack):
        if not options.skip_preview or options.preview_only:
            run.destroy(session.snapshot(), preview=True)
            if options.preview_only or not _confirmed(options, "destroy"):
                return
        run.destroy(session.snapshot(), preview=False)
    print(
        "The resources in the stack have been deleted, but the history and configuration associated with the stack "
        "are still maintained. \n"
        f"If you want to remove the stack completely, run `pulumi stack rm {session.stack}`."
    )


class _Run:
    """Runs deployments of one session with one set of options."""

    def __init__(self, session: Session, options: Options) -> None:
        self._session = session
        self._options = options
        self._offline = bool(os.environ.get(OFFLINE_VARIABLE))

    def deploy(self, base: Snapshot, *, preview: bool) -> Summary:
        """Run the program, then delete what it no longer registers."""
        title = "Previewing update" if preview else "Updating"
        phase = _Phase("update", title, title.lower())
        if self._options.refresh:
            base = self._refreshed(base, preview=preview)

        def work(deployment: Deployment) -> None:
            slots = self._options.slots
            with monitor.serve(deployment, slots) as address:
                program.run(self._session.project, deployment, address, slots)
            if not deployment.failed and not deployment.cancelled.is_set():
                removal.delete_unregistered(deployment)

        return self._execute(base, phase, work, preview=preview)[0]

    def refresh(self, base: Snapshot, *, preview: bool) -> tuple[Summary, Snapshot]:
        """Read every resource anew."""
        title = "Previewing refresh" if preview else "Refreshing"
        return self._execute(base, _Phase("refresh", title, title.lower()), removal.refresh, preview=preview)

    def destroy(self, base: Snapshot, *, preview: bool) -> None:
        """Delete everything."""
        title = "Previewing destroy" if preview else "Destroying"
        self._execute(base, _Phase("destroy", title, title.lower()), removal.delete_unregistered, preview=preview)

    def _refreshed(self, base: Snapshot, *, preview: bool) -> Snapshot:
        return self.refresh(base, preview=preview)[1]

    def _execute(
        self, base: Snapshot, phase: _Phase, work: Callable[[Deployment], None], *, preview: bool
    ) -> tuple[Summary, Snapshot]:
        session = self._session
        sink = self._sink(phase, preview=preview)
        config = session.config(validated=phase.kind == "update")
        journal = Journal(base, None if preview else session.save)
        target = Target(session.project.name, session.stack, config, self._read_stack)
        deployment = Deployment(
            target, journal, Registry(offline=self._offline), sink, preview=preview, parallel=self._options.slots
        )
        sink.prelude(config)
        _warn_of_pending(base, sink)
        with _interruptible(deployment):
            try:
                work(deployment)
            except ShutdownError:
                deployment.failed = True
            finally:
                deployment.finish()
                if not preview:
                    journal.save()
        if deployment.step_failed:
            sink.diagnostic(Diagnostic("error", f"{'preview' if preview else phase.kind} failed"))
        summary = deployment.summary()
        sink.summary(summary)
        if deployment.cancelled.is_set():
            raise CancelledError(f"{'preview' if preview else phase.kind} cancelled")
        if deployment.failed:
            raise BailError
        return summary, journal.snapshot()

    def _read_stack(self, reference: str) -> Properties:
        try:
            return self._session.read_stack(reference)
        except CliError as error:
            raise ProviderError(str(error)) from error

    def _sink(self, phase: _Phase, *, preview: bool) -> Sink:
        if self._options.json:
            return JsonDigest()
        session = self._session
        root = urns.make(
            session.stack, session.project.name, "", urns.STACK_TYPE, f"{session.project.name}-{session.stack}"
        )
        return TextDisplay(
            title=f"{phase.title} ({session.stack}):",
            activity=phase.activity,
            root_urn=root,
            preview=preview,
            painter=Painter(enabled=self._options.color),
            detailed=self._options.detailed,
        )


@contextlib.contextmanager
def _interruptible(deployment: Deployment) -> Iterator[None]:
    """On the first interrupt let steps in flight end and begin no more."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        if deployment.cancelled.is_set():
            raise KeyboardInterrupt
        deployment.cancelled.set()
        print("^C received; cancelling. If you would like to terminate immediately, press ^C again.", file=sys.stderr)

    former = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _warn_of_pending(base: Snapshot, sink: Sink) -> None:
    if not base.pending:
        return
    lines = [f"  * {item.resource.urn}, interrupted while {item.kind}" for item in base.pending]
    sink.diagnostic(
        Diagnostic(
            "warning",
            f"Attempting to deploy or update resources with {len(base.pending)} pending operations from previous "
            "deployment.\n" + "\n".join(lines) + "\nThese resources are in an unknown state because the engine was "
            "interrupted while waiting for changes to them to complete. `pulumi refresh` settles it.",
        )
    )


def _refuse_offline(command: str) -> None:
    if os.environ.get(OFFLINE_VARIABLE):
        raise UsageError(
            f"{OFFLINE_VARIABLE} is set, with which only `preview` can run: unset it for `{command}`, "
            "which needs the cluster"
        )


def _require_consent(options: Options, flags: str) -> None:
    if options.yes and options.preview_only:
        raise CliError("--yes and --preview-only cannot be used together")
    if not options.interactive and not (options.yes or options.skip_preview or options.preview_only):
        raise UsageError(f"{flags} must be passed in to proceed when running in non-interactive mode")


def _confirmed(options: Options, kind: str) -> bool:
    if options.yes:
        return True
    answer = input(f"Do you want to perform this {kind}? (yes/no) ")
    if answer.strip().lower() in ("y", "yes"):
        return True
    raise CancelledError(f"confirmation declined, not proceeding with the {kind}")


def _expect_no_changes(options: Options, summary: Summary, kind: str) -> None:
    if options.expect_no_changes and summary.has_changes:
        raise ChangesFoundError(f"no changes were expected for {kind} but changes were proposed")
