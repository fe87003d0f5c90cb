"""What goes wrong: in the program, in a step, in the command line, and by a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import pytest

from tests.engine.workbench import Workbench


def test_a_run_error_is_shown_as_one_message_without_a_traceback(bench: Workbench) -> None:
    bench.program('raise pulumi.RunError("meshtrust:anchors is not set. Set it.")')
    result = bench.run("up", "--yes")
    assert result.code == 1
    assert "error: meshtrust:anchors is not set. Set it." in result.out
    assert "Traceback" not in result.text
    assert "Updating (dev):" not in result.out, "a failed preview is not followed by an update"


def test_an_exception_is_shown_from_the_programs_own_line_on(bench: Workbench) -> None:
    bench.program("{}['missing']")
    result = bench.run("preview")
    assert result.code == 1
    assert "Program failed with an unhandled exception" in result.out
    assert "KeyError: 'missing'" in result.out
    assert "program_host" not in result.out


def test_a_program_that_fails_keeps_what_it_made_and_the_former_outputs(bench: Workbench) -> None:
    bench.program('random.RandomId("id", byte_length=3)\npulumi.export("kept", 1)\npulumi.export("new", 1)')
    bench.up()
    bench.program('random.RandomId("id", byte_length=3)\npulumi.export("new", 2)\nraise pulumi.RunError("stop")')
    assert bench.run("up", "--yes", "--skip-preview").code == 1
    assert bench.outputs() == {"kept": 1, "new": 2}
    assert "id" in bench.resources()


def test_a_failing_step_fails_the_deployment_and_keeps_the_others(bench: Workbench) -> None:
    bench.program(
        """
        good = random.RandomId("good", byte_length=3)
        bad = tls.SelfSignedCert("bad", private_key_pem="no key", allowed_uses=[], validity_period_hours=1,
            opts=options(depends_on=[good]))
        random.RandomId("after", byte_length=3, opts=options(depends_on=[bad]))
        """
    )
    result = bench.run("up", "--yes", "--skip-preview")
    assert result.code == 1
    assert "tls:index:SelfSignedCert (bad):\n    error: Failed to parse private key PEM" in result.out
    assert "pulumi:pulumi:Stack (bench-dev):\n    error: update failed" in result.out
    assert set(bench.resources()) & {"good", "bad", "after"} == {"good"}
    assert "pending_operations" not in json.loads(bench.state_file.read_text())["checkpoint"]["latest"]


def test_inputs_that_a_provider_refuses_name_the_resource_and_the_argument(bench: Workbench) -> None:
    bench.program('tls.PrivateKey("key", algorithm="NOPE")')
    result = bench.run("preview")
    assert result.code == 1
    assert "tls:index/privateKey:PrivateKey resource 'key' has a problem" in result.out
    assert "Examine values at 'key.algorithm'." in result.out


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ('random.RandomPet("pet")', "does not serve resources of type random:index/randomPet:RandomPet"),
        ('random.RandomId("id", byte_length=3, opts=options(import_="x"))', "is to be imported"),
        (
            'pulumi.CustomResource("aws:s3/bucket:Bucket", "b")',
            "the embedded engine serves the providers kubernetes, random and tls, not 'aws'",
        ),
        ('pulumi.runtime.invoke("tls:index/getPublicKey:getPublicKey", {})', "does not serve the function"),
        (
            'random.RandomId("id", byte_length=3, opts=options(hooks=pulumi.ResourceHookBinding('
            'after_create=[pulumi.ResourceHook("h", lambda args: None)])))',
            "has hooks that the embedded engine does not serve (after_create)",
        ),
    ],
)
def test_what_the_engine_does_not_serve_is_refused_in_a_sentence(bench: Workbench, program: str, message: str) -> None:
    bench.program(program)
    result = bench.run("preview")
    assert result.code == 1
    assert message in result.out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["watch"], 2, "invalid choice: 'watch'"),
        (["up", "--target", "x"], 2, "unrecognized arguments: --target x"),
        (["up"], 2, "--yes or --skip-preview or --preview-only must be passed in"),
        (["preview", "-s", "nowhere"], 6, "no stack named 'nowhere' found"),
        (["stack", "init", "dev"], 1, "stack 'organization/bench/dev' already exists"),
        (["config", "get", "nothing"], 1, "configuration key 'nothing' not found for stack 'dev'"),
        (["stack", "output", "nothing"], 1, "current stack does not have output property 'nothing'"),
        (["-C", "/nowhere", "preview"], 2, "unable to change to directory /nowhere"),
    ],
)
def test_a_command_that_cannot_be_served_gives_one_error(
    bench: Workbench, arguments: list[str], code: int, message: str
) -> None:
    result = bench.run(*arguments)
    assert result.code == code
    assert result.err.count("error: ") == 1
    assert message in result.err


def test_a_backend_that_is_no_directory_is_refused(bench: Workbench) -> None:
    assert "is not a directory" in bench.run("preview", PULUMI_BACKEND_URL=f"file://{bench.directory}/none").err
    assert "serves file:// backends only" in bench.run("preview", PULUMI_BACKEND_URL="s3://bucket").err


def test_expect_no_changes_fails_with_its_own_code(bench: Workbench) -> None:
    bench.program('random.RandomId("id", byte_length=3)')
    result = bench.run("preview", "--expect-no-changes")
    assert result.code == 7
    assert "no changes were expected for preview but changes were proposed" in result.err


def test_messages_of_the_program_reach_the_user(bench: Workbench) -> None:
    bench.program(
        'import sys\npulumi.warn("careful")\npulumi.info("by the way")\n'
        'print("printed")\nprint("oops", file=sys.stderr)'
    )
    result = bench.ok("preview")
    assert "    warning: careful\n    by the way\n\n    printed\n\n    oops\n" in result.out


SLOW = """
import os, time
made = [random.RandomId(f"id{number}", byte_length=3) for number in range(3)]

def wait(ids):
    open("reached", "w").close()
    time.sleep(60)

pulumi.Output.all(*[item.hex for item in made]).apply(wait)
"""


def _start(bench: Workbench) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [*bench.pulumi, "up", "--yes", "--skip-preview"],
        cwd=bench.directory,
        env=bench.variables({}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 30
    while not (bench.directory / "reached").exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


def test_a_killed_run_is_resumed_without_making_anything_twice(bench: Workbench) -> None:
    bench.program(SLOW)
    process = _start(bench)
    process.kill()
    process.wait()
    made = {name: item["id"] for name, item in bench.resources().items() if name.startswith("id")}
    assert len(made) == 3
    locked = bench.run("up", "--yes", "--skip-preview")
    assert locked.code == 1
    assert "the stack is currently locked by 1 lock(s)" in locked.err
    assert f"(pid {process.pid})" in locked.err
    bench.ok("cancel", "--yes")
    bench.program(SLOW.replace("time.sleep(60)", "pass"))
    bench.up()
    assert {name: bench.resources()[name]["id"] for name in made} == made
    bench.ok("up", "--yes", "--expect-no-changes")


def test_the_program_of_a_killed_engine_ends_with_it(bench: Workbench) -> None:
    bench.program(SLOW.replace("def wait(ids):", 'def wait(ids):\n    open("pid", "w").write(str(os.getpid()))'))
    with _start(bench) as process:
        pid = int((bench.directory / "pid").read_text())
        process.kill()
    deadline = time.monotonic() + 10
    while _runs(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_an_interrupt_ends_the_run_keeps_the_state_and_frees_the_lock(bench: Workbench) -> None:
    bench.program(SLOW)
    process = _start(bench)
    os.kill(process.pid, signal.SIGINT)
    out = process.communicate(timeout=20)[0]
    assert process.returncode == 8, out
    assert "error: update cancelled" in out
    assert "id0" in bench.resources()
    bench.program("")
    bench.up()


def test_an_operation_in_doubt_is_reported_until_it_is_settled(bench: Workbench) -> None:
    bench.program('random.RandomId("id", byte_length=3)')
    bench.up()
    data = json.loads(bench.state_file.read_text())
    latest = data["checkpoint"]["latest"]
    latest["pending_operations"] = [{"resource": latest["resources"].pop(), "type": "creating"}]
    bench.state_file.write_text(json.dumps(data))
    assert "RandomId::id, interrupted while creating" in bench.ok("preview").out
    bench.up()
    assert "interrupted" not in bench.ok("preview").out
    assert "id" in bench.resources()


def test_a_damaged_checkpoint_is_refused_and_the_one_before_is_beside_it(bench: Workbench) -> None:
    bench.program('random.RandomId("id", byte_length=3)')
    bench.up()
    bench.up()
    whole = bench.state_file.read_text()
    for damaged, reason in (
        (whole[:300], "failed to load checkpoint"),
        (whole.replace('"magic": "', '"magic": "x'), "magic"),
    ):
        bench.state_file.write_text(damaged)
        refused = bench.run("preview")
        assert refused.code == 1
        assert reason in refused.err
        assert f"The checkpoint before it is {bench.state_file}.bak" in refused.err
    bench.state_file.write_text(bench.state_file.with_suffix(".json.bak").read_text())
    bench.ok("up", "--yes", "--skip-preview", "--expect-no-changes")
