"""Runs a Pulumi program in the project's own interpreter; not part of the `rehearsal` package at run time.

The language host starts this file as a script: it may import nothing but the standard library and the Pulumi SDK of the
project. It does what Pulumi's own `pulumi-language-python-exec` does: it sets up the SDK with the addresses of the
engine and the configuration, runs the program inside its stack resource, and reports how that ended.

Exit codes: 0 the program ended well, 1 it failed, 32 it failed and its error is already displayed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import runpy
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SHOWN = 32


def main() -> int:
    """Run the program that standard input describes."""
    # The program must not import from the directory of this file.
    sys.path.pop(0)
    options = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_engine, daemon=True).start()
    try:
        import pulumi  # noqa: PLC0415 - the project's own SDK, which may be missing
        from pulumi import runtime  # noqa: PLC0415
    except ImportError as error:
        print(
            f"It looks like the Pulumi SDK has not been installed ({error}). "
            "If the project has a virtualenv, install its requirements.txt into it.",
            file=sys.stderr,
        )
        return 1
    runtime.set_all_config(runtime.get_config_env(), runtime.get_config_secret_keys_env())
    runtime.configure(
        runtime.Settings(
            monitor=options["address"],
            engine=options["engine"],
            project=options["project"],
            stack=options["stack"],
            organization=options["organization"],
            parallel=options["parallel"],
            dry_run=options["preview"],
            root_directory=options["root_directory"],
        )
    )
    program = options["program"]
    sys.argv = [program]
    # Futures that a failed deployment leaves behind are expected; asyncio would report each.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    with ThreadPoolExecutor(max_workers=options["parallel"] * 4) as executor:
        loop.set_default_executor(executor)
        try:
            loop.run_until_complete(runtime.run_in_stack(lambda: _run(program)))
        except pulumi.RunError as error:
            pulumi.log.error(str(error))
            return 1
        except Exception:  # noqa: BLE001 - whatever the program raises is reported
            pulumi.log.error(f"Program failed with an unhandled exception:\n{_traceback(Path(program))}")
            return SHOWN
        finally:
            loop.close()
    return 0


def _end_with_the_engine() -> None:
    """Wait until the engine closes standard input, which it does by ending, however that ends."""
    # Not by the file's own methods: Python could not end while a thread waits inside of one.
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


def _run(program: str) -> None:
    runpy.run_path(program, run_name="__main__")


def _traceback(program: Path) -> str:
    """The traceback from the program's first own line on."""
    error_type, error, trace = sys.exc_info()
    frames = traceback.extract_tb(trace)
    own = [index for index, frame in enumerate(frames) if program in Path(frame.filename).parents]
    if own:
        return traceback.format_exc(limit=own[0] - len(frames))
    return "".join(traceback.format_exception(error_type, error, trace))


if __name__ == "__main__":
    sys.exit(main())
