"""A Pulumi stack as the commands see it: its configuration file, its outputs, and the CLI that deploys it."""

import io
import json
import stat
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, LiteralScalarString

from meshtrust.files import ENCODING, parse_yaml, read_text, replace_text
from meshtrust.rotation.steps import PLEDGE_ONLY, Trust

if TYPE_CHECKING:
    from pulumi.automation import CommandResult, PulumiCommand

_PROJECT = "meshtrust"
# A message shows so many lines of the engine's errors; the log has all of them.
_MOST_ERROR_LINES = 20
_NO_PROJECT = "Run this in the project's directory, or name it by --cwd."

Write = Callable[[str], None]


class StackError(Exception):
    """A stack that cannot be read or deployed; the message says why, and what to do."""


class EngineError(StackError):
    """A deployment that the engine could not finish.

    Attributes:
        errors: The engine's own errors, line by line, as it lists them at the end of a run.
    """

    def __init__(self, message: str, errors: Sequence[str]) -> None:
        super().__init__(message)
        self.errors = tuple(errors)


class MissingStackError(StackError):
    """A stack that has a file, and that the backend does not know."""


@dataclass(frozen=True)
class Stack:
    """One stack of this project.

    Attributes:
        name: Its name, as the Pulumi CLI takes it: ``stack``, ``organization/stack`` or ``organization/project/stack``.
        directory: The project's directory, where Pulumi.yaml is.
    """

    name: str
    directory: Path

    @property
    def _path(self) -> Path:
        """Path of its configuration file, whether that exists or not.

        Raises:
            StackError: It is a stack of another project, or the directory is no project's.
        """
        *place, name = self.name.split("/")
        project = _read_yaml(self.directory / "Pulumi.yaml", _NO_PROJECT)
        if len(place) > 1 and place[1] != project.get("name"):
            msg = (
                f'"{self.name}" is a stack of project {place[1]}, and {self.directory} is that of '
                f"{project.get('name')}. Name one of its stacks, or its directory by --cwd."
            )
            raise StackError(msg)
        return _config_directory(self.directory) / f"Pulumi.{name}.yaml"

    @cached_property
    def file(self) -> Path:
        """The stack's configuration file.

        Raises:
            StackError: The directory holds no such stack; the message lists those it holds.
        """
        path = self._path
        directory = path.parent
        if not path.is_file():
            there = ", ".join(stack.name for stack in list_stacks(self.directory)) or "none"
            msg = f'There is no stack "{self.name}" in {directory} (there are: {there}).'
            raise StackError(msg)
        return path

    def check(self) -> None:
        """Make sure that the stack exists.

        Raises:
            StackError: It does not.
        """
        _ = self.file

    def create(self, settings: Mapping[str, Any]) -> Path:
        """Write the configuration file of a stack that has none yet, and return its path.

        Args:
            settings: Its configuration, by key without the project's name.

        Raises:
            StackError: There is one already, or it cannot be written.
        """
        path = self._path
        editor = YAML()
        editor.width = 4096
        config = {f"{_PROJECT}:{key}": _as_written(value) for key, value in settings.items()}
        try:
            with path.open("x", encoding=ENCODING) as file:
                editor.dump({"config": config}, file)
        except FileExistsError:
            msg = f"{path} is there already. Name another stack, or move the file away."
            raise StackError(msg) from None
        except OSError as error:
            msg = f"{path} cannot be written: {error.strerror}."
            raise StackError(msg) from error
        return path

    def setting(self, key: str) -> Any:
        """Return a configured value, or the default that Pulumi.yaml has for it.

        Args:
            key: The key without its namespace; with a dot it is a path.

        Raises:
            StackError: The files cannot be read.
        """
        name, _, member = key.partition(".")
        value = _read_config(self.file, "Correct it.").get(f"{_PROJECT}:{name}")
        if member:
            value = value.get(member) if isinstance(value, Mapping) else None
        if value is not None:
            return value
        declared = _read_config(self.directory / "Pulumi.yaml", "Restore it.").get(key)
        return declared.get("default") if isinstance(declared, Mapping) else declared

    @property
    def environment(self) -> Any:
        """The Pulumi ESC environments in its file: a list of names, or a definition; None if there are none.

        Raises:
            StackError: The file cannot be read.
        """
        return _read_yaml(self.file, "Correct it.").get("environment")

    @property
    def reconciles(self) -> bool:
        """Whether its runs take the configured anchors and signer for a goal, which may be more than one step away."""
        return str(self.setting("rotation.mode")) == "reconcile"

    @property
    def configured(self) -> Trust:
        """The trusted and the signing generations that are configured.

        Raises:
            StackError: It names no anchors.
        """
        anchors = self.setting("anchors")
        if not isinstance(anchors, list) or not anchors:
            msg = f"{self.file} has no meshtrust:anchors. Name the generations of the trust anchor there."
            raise StackError(msg)
        names = tuple(map(str, anchors))
        return Trust(anchors=names, signer=str(self.setting("signer") or names[0]))

    def configure(self, trust: Trust) -> None:
        """Write a state into the configuration file, whole or not at all, and leave all else in it as it is.

        Raises:
            StackError: The file cannot be understood or written.
        """
        self._edit(trust.anchors, trust.signer)

    def set_goal(self, goal: Trust | Sequence[str]) -> None:
        """Write a goal into the configuration file, as `configure` writes a state.

        What belongs to generations that the goal no longer lists stays: they are trusted until a run retires them.

        Args:
            goal: The anchors and the signer; of an anchor stack, the anchors alone.
        """
        if isinstance(goal, Trust):
            self._edit(goal.anchors, goal.signer, forgets=False)
        else:
            self._edit(goal, None, forgets=False)

    def configure_anchors(self, anchors: Sequence[str]) -> None:
        """Write the generations of a stack that has no signer; otherwise as `configure`."""
        self._edit(anchors, None)

    def _edit(self, anchors: Sequence[str], signer: str | None, *, forgets: bool = True) -> None:
        editor = YAML()
        editor.preserve_quotes = True
        editor.width = 4096
        try:
            # In the words of a reader that quotes nothing, if it cannot be read.
            parse_yaml(text := read_text(self.file))
            document = editor.load(text)
            # In place, so that comments and the style of the list stay; quoted, because names may look like numbers.
            document["config"][f"{_PROJECT}:anchors"][:] = [DoubleQuotedScalarString(name) for name in anchors]
            if signer is not None:
                document["config"][f"{_PROJECT}:signer"] = DoubleQuotedScalarString(signer)
            if forgets:
                _forget_all_others(document["config"], anchors)
            draft = io.StringIO()
            editor.dump(document, draft)
            replace_text(self.file, draft.getvalue(), stat.S_IMODE(self.file.stat().st_mode))
        except (YAMLError, OSError, ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
            wanted = f"anchors {', '.join(anchors)}" + (f", signer {signer}" if signer else "")
            msg = (
                f"{self.file} cannot be edited: {error}. Set meshtrust:anchors and meshtrust:signer by hand: {wanted}."
            )
            raise StackError(msg) from error

    def outputs(self) -> dict[str, Any]:
        """Return the outputs of the last successful deployment, secrets masked; empty before the first.

        Raises:
            MissingStackError: The backend has no such stack.
            StackError: The CLI is not there, or cannot read the stack.
        """
        doing = f'The outputs of stack "{self.name}" cannot be read'
        outputs: dict[str, Any] = json.loads(self._run("stack", "output", "--json", doing=doing).stdout or "{}")
        return outputs

    def decrypted(self, key: str) -> str:
        """Return a configured value that is encrypted in the stack's file.

        Raises:
            StackError: The CLI is not there, or cannot decrypt it.
        """
        doing = f"meshtrust:{key} is encrypted in {self.file}, and cannot be decrypted"
        path = ["--path"] if "." in key else []
        return str(self._run("config", "get", key, *path, doing=doing).stdout).strip()

    def reveal(self, output: str, doing: str) -> Any:
        """Return one output of the last successful deployment, decrypted: it must reach no log, and no file.

        Args:
            output: Its name.
            doing: The thing that fails if it cannot be read, for the message.

        Raises:
            MissingStackError: The backend has no such stack.
            StackError: There is no such output; or the CLI is not there, or cannot read the stack.
        """
        return json.loads(self._run("stack", "output", output, "--json", "--show-secrets", doing=doing).stdout)

    def open_environment(self, environment: str, section: str) -> Mapping[str, Any]:
        """Return a part of a Pulumi ESC environment, secrets revealed: they must reach no log, and no file.

        Opened as a whole, the CLI would write the environment's files, and leave them there.

        Args:
            environment: Its name, as the CLI takes it: in the stack's organization unless it names one.
            section: Name of a map in it, such as ``files``; it may be missing.

        Raises:
            StackError: The CLI is not there, or cannot open it.
        """
        place = self.name.split("/")
        name = f"{place[0]}/{environment}" if len(place) > 1 and environment.count("/") == 1 else environment
        doing = f"Environment {name}, which {self.file} lists, cannot be opened"
        opened = json.loads(self._cli("env", "open", name, section, doing=doing).stdout)
        return opened if isinstance(opened, dict) else {}

    def init(self, secrets_provider: str = "") -> None:
        """Make the stack in the backend, without selecting it.

        Args:
            secrets_provider: What encrypts its secrets, as ``pulumi stack init`` takes it; empty for the backend's own.

        Raises:
            StackError: The CLI is not there, or cannot make it.
        """
        provider = ["--secrets-provider", secrets_provider] if secrets_provider else []
        self._run("stack", "init", "--no-select", *provider, doing=f'Stack "{self.name}" cannot be made')

    def up(self, write: Write = print, *, refresh: bool = False, only_pledges: bool = False) -> None:
        """Deploy the stack.

        Args:
            write: Takes what the CLI writes, line by line.
            refresh: Whether to look at the cluster first, instead of taking the state's word for what is there.
            only_pledges: Whether to pledge what the cluster is ready for, and to take no step.

        Raises:
            MissingStackError: The backend has no such stack.
            EngineError: It failed; the error has the engine's own errors.
            StackError: The CLI is not there, another run is at work, or what the CLI wrote could not be passed on.
        """
        doing = f'`pulumi up` of stack "{self.name}" failed'
        looking = ["--refresh"] if refresh else []
        # The Kubernetes provider leaves a copy of each kubeconfig there (provider/pkg/provider/util.go of it,
        # writeKubeconfigToFile).
        with tempfile.TemporaryDirectory(prefix="meshtrust-", ignore_cleanup_errors=True) as temporary:
            self._run(
                *("up", "--yes", "--skip-preview", "--color", "never", *looking),
                doing=doing,
                write=write,
                environment={
                    "TMPDIR": temporary,
                    # Said in every run, because the shell of whoever runs this may have it too.
                    PLEDGE_ONLY: "1" if only_pledges else "0",
                },
            )

    def _run(
        self,
        *arguments: str,
        doing: str,
        write: Write | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> "CommandResult":
        return self._cli(*arguments, "--stack", self.name, doing=doing, write=write, environment=environment)

    def _cli(
        self,
        *arguments: str,
        doing: str,
        write: Write | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> "CommandResult":
        from pulumi import automation  # noqa: PLC0415 - it is heavy to import, and few commands deploy

        written: list[str] = []
        failed: list[Exception] = []

        def keep(line: str) -> None:
            written.append(line)
            # What raises here ends the thread that reads, and the CLI waits for ever for one who takes what it writes.
            try:
                if write and not failed:
                    write(line)
            except Exception as error:  # noqa: BLE001 whoever writes decides what fails
                failed.append(error)

        try:
            result = cli().run(
                list(arguments),
                cwd=str(self.directory),
                additional_env={"PULUMI_SKIP_UPDATE_CHECK": "true", **(environment or {})},
                on_output=keep if write else None,
                on_error=keep,
            )
        except automation.StackNotFoundError as error:
            msg = f'{doing}: the backend has no stack "{self.name}". Run: pulumi stack init {self.name}'
            raise MissingStackError(msg) from error
        except automation.ConcurrentUpdateError as error:
            msg = (
                f"{doing}: another run is at work on it. Run again when that has ended; if it was killed, take its "
                f"lock away: pulumi cancel --stack {self.name}"
            )
            raise StackError(msg) from error
        except automation.CommandError as error:
            msg = f"{doing}: {_reason(written)}"
            raise EngineError(msg, find_engine_errors(written)) from error
        if failed:
            msg = (
                f'The CLI has done its work on stack "{self.name}", and what it wrote could not be passed on: '
                f"{failed[0]}. Put that right, and run again."
            )
            raise StackError(msg) from failed[0]
        return result


def list_stacks(directory: Path) -> list[Stack]:
    """Return the stacks that a project's directory has files of, by name.

    Raises:
        StackError: It is no project's directory.
    """
    files = _config_directory(directory).glob("Pulumi.*.yaml")
    names = sorted(path.name.removeprefix("Pulumi.").removesuffix(".yaml") for path in files)
    # Beside them may be settings of Pulumi Deployments.
    return [Stack(name, directory) for name in names if not name.endswith(".deploy")]


@cache
def cli() -> "PulumiCommand":
    """Return what runs the CLI: the layer of the Automation API below its Stack.

    It distinguishes a lock and a missing stack from other failures. Its Stack would select each stack, for the user
    too; read the outputs with their secrets, which no command needs; and run four more commands for every deployment.

    Raises:
        StackError: There is no CLI, or it does not fit the SDK.
    """
    from pulumi import automation  # noqa: PLC0415 - as above

    try:
        return automation.PulumiCommand()
    except FileNotFoundError:
        msg = "There is no pulumi on PATH, and only it knows what a stack has deployed. Install the Pulumi CLI."
        raise StackError(msg) from None
    except (OSError, subprocess.CalledProcessError, automation.InvalidVersionError) as error:
        msg = (
            f"The pulumi on PATH cannot be used: {error}. Install the Pulumi CLI of this project's SDK, or a later one."
        )
        raise StackError(msg) from error


def _reason(written: Sequence[str]) -> str:
    """Return the CLI's own error in one line."""
    lines = [line.strip() for line in written if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (errors or lines[-1:] or ["the CLI gives no reason"])[0]


def find_engine_errors(written: Sequence[str]) -> list[str]:
    """Return the last errors that the engine lists after a run, and the resources that they are about.

    Args:
        written: What the engine wrote, line by line. At the end of a run it lists messages under "Diagnostics:", by
            resource: the resource with 2 spaces before it, its messages with 4 or more.

    Returns:
        At most `_MOST_ERROR_LINES` lines, without the 2 spaces; none if it lists none.
    """
    start = max((number for number, line in enumerate(written) if line.strip() == "Diagnostics:"), default=None)
    if start is None:
        return []
    resources: list[list[str]] = []
    for line in written[start + 1 :]:
        if line.strip() and not line.startswith("  "):
            break
        if line.startswith("  ") and not line.startswith("   "):
            resources.append([])
        if resources and line.strip():
            resources[-1].append(line[2:].rstrip())
    failed = [lines for lines in resources if any(line.lstrip().startswith("error:") for line in lines)]
    return [line for lines in failed for line in lines][-_MOST_ERROR_LINES:]


def _forget_all_others(config: dict[str, Any], anchors: Sequence[str]) -> None:
    for key in ("anchorCertificates", "anchorKeys"):
        _forget_others(config, f"{_PROJECT}:{key}", anchors)
    issuer = config.get(f"{_PROJECT}:issuer")
    if isinstance(issuer, dict):
        _forget_others(issuer, "refs", anchors)


def _forget_others(config: dict[str, Any], key: str, anchors: Sequence[str]) -> None:
    """Take out of a map by generation what is about none of the anchors: the program refuses it."""
    given = config.get(key)
    if not isinstance(given, dict):
        return
    for name in [name for name in given if str(name) not in anchors]:
        del given[name]
    if not given:
        del config[key]


def _as_written(value: Any) -> Any:
    """Return a value as a person would write it: PEM line by line, and no name that could be taken for a number."""
    if isinstance(value, Mapping):
        return {
            DoubleQuotedScalarString(key) if key.isdigit() else key: _as_written(entry) for key, entry in value.items()
        }
    if isinstance(value, list):
        return [_as_written(entry) for entry in value]
    if isinstance(value, str):
        return LiteralScalarString(value) if "\n" in value else DoubleQuotedScalarString(value)
    return value


def _config_directory(directory: Path) -> Path:
    project = _read_yaml(directory / "Pulumi.yaml", _NO_PROJECT)
    return directory / str(project.get("stackConfigDir") or ".")


def _read_config(path: Path, fix: str) -> Mapping[str, Any]:
    config = _read_yaml(path, fix).get("config") or {}
    if not isinstance(config, Mapping):
        msg = f"{path} has a config that is no map of keys. {fix}"
        raise StackError(msg)
    return config


def _read_yaml(path: Path, fix: str) -> dict[str, Any]:
    try:
        content = parse_yaml(read_text(path))
    except FileNotFoundError:
        msg = f"There is no {path}. {fix}"
        raise StackError(msg) from None
    except (OSError, ValueError) as error:
        msg = f"{path} cannot be read: {error}. {fix}"
        raise StackError(msg) from error
    if not isinstance(content, dict):
        msg = f"{path} is no map of keys. {fix}"
        raise StackError(msg)
    return content
