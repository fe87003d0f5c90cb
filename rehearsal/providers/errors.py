"""What can go wrong, and the exit code it gives (the taxonomy of the real CLI: pkg/cmd/pulumi/cmd/exit_codes.go)."""

from __future__ import annotations

EXIT_ERROR = 1
EXIT_CONFIGURATION = 2
EXIT_STACK_NOT_FOUND = 6
EXIT_NO_CHANGES = 7
EXIT_CANCELLED = 8


class CliError(Exception):
    """An error with a message for the user. `exit_code` is what the process ends with."""

    exit_code = EXIT_ERROR


class UsageError(CliError):
    """The command line cannot be served."""

    exit_code = EXIT_CONFIGURATION


class StackNotFoundError(CliError):
    """No such stack, or none selected."""

    exit_code = EXIT_STACK_NOT_FOUND


class ChangesFoundError(CliError):
    """`--expect-no-changes` was given and there were changes."""

    exit_code = EXIT_NO_CHANGES


class CancelledError(CliError):
    """The user interrupted the operation."""

    exit_code = EXIT_CANCELLED


class BailError(CliError):
    """The operation failed and its errors are already displayed."""


class ProviderError(Exception):
    """A provider could not do what a step asked of it."""


class InitError(ProviderError):
    """A resource exists but did not become ready; its state must be kept.

    `reasons` are the failures one by one, `id` and `outputs` what is known of the resource.
    """

    def __init__(self, message: str, *, resource_id: str, outputs: dict[str, object], reasons: list[str]) -> None:
        super().__init__(message)
        self.resource_id = resource_id
        self.outputs = outputs
        self.reasons = reasons
