"""The state is damaged, its disk is full, or two runs want it at once."""

import os
import re
import shlex
import shutil
import subprocess

import pytest

from rehearsal.workspace import REPOSITORY
from tests.rehearsal.faults.conftest import RELEASE, meet, said
from tests.rehearsal.stack import UP

pytestmark = [pytest.mark.soak, pytest.mark.usefixtures("unhurt")]

# Bytes: of which a small disk gives out its room, and how much of it is left.
PAGE, SPARE = 4096, 4 << 20
SAME = "anchor, keys and resources are unchanged; 0 changes afterwards"


@pytest.fixture
def checkpoint(mesh):
    """The file of the stack's state, which is whole again in the end."""
    path = mesh.project.directory / "state" / ".pulumi" / "stacks" / "meshtrust" / f"{mesh.project.stack}.json"
    kept = path.read_text()
    yield path
    if path.read_text() != kept and not _reads(mesh):
        path.write_text(kept)
        pytest.fail("the test did not bring the state back")


def _reads(mesh):
    return mesh.engine("stack", "export").returncode == 0


def refused(mesh):
    result = mesh.engine(*UP)
    written = result.stdout + result.stderr
    assert result.returncode != 0, written
    assert "Traceback" not in written
    return written


def bring_back_the_last(checkpoint):
    """Follow the refusal: restore the previous checkpoint, which is beside the file."""
    shutil.copyfile(f"{checkpoint}.bak", checkpoint)


def truncated(text):
    """It ends within the first secret's sealed text: what is said of it depends on where it ends."""
    return text[: text.index("v1:", text.index('"ciphertext"')) + 8]


def no_json(text):
    return f"<html>{text}"


def another_mark(text):
    """As where two halves of different states were put together."""
    return re.sub(r'("magic": ?")[0-9a-f]{8}', r"\g<1>00000000", text)


def another_cipher(text):
    """One letter of the first secret's sealed text is another."""
    return re.sub(
        r'("ciphertext": ?"v1:[^:"]*:)(.)', lambda found: f"{found[1]}{'B' if found[2] == 'A' else 'A'}", text, count=1
    )


UNREADABLE = r"error: failed to load checkpoint: .*"
# How each is done, and what the CLI says of it.
DAMAGE = {
    "is truncated": (truncated, UNREADABLE),
    "is not JSON": (no_json, UNREADABLE),
    "has a wrong checksum": (
        another_mark,
        r"error: The Pulumi CLI encountered a snapshot integrity error\. .*?`pulumi state repair` command\.",
    ),
    "has a damaged secret": (another_cipher, r"error: .*"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_state_is_damaged(mesh, checkpoint, row, damage):
    mar, says = DAMAGE[damage]
    text = checkpoint.read_text()
    checkpoint.write_text(mar(text))
    assert checkpoint.read_text() != text
    written = refused(mesh)
    bring_back_the_last(checkpoint)
    row(
        fault=f"the state's file {damage}",
        when="between two runs",
        happens="every run is refused, until you replace the file with the last checkpoint (`.json.bak`)",
        says=said(written, says),
        kept=SAME,
    )


def test_the_attributes_of_the_state_are_empty(mesh, checkpoint, row):
    """The CLI writes them in place, before it replaces the state, so that a kill between the two leaves them so."""
    attributes = checkpoint.with_name(f"{checkpoint.name}.attrs")
    assert attributes.stat().st_size > 0
    attributes.write_text("")
    written = refused(mesh)
    attributes.unlink()
    assert _reads(mesh)
    row(
        fault="the engine is killed (SIGKILL) while it writes the state into a directory",
        when="any run",
        happens="every run is refused, until you remove the empty `.json.attrs` beside the state's file",
        says=said(written, r"error: failed to load checkpoint: EOF"),
        kept=SAME,
    )


@pytest.fixture
def small_disk(mesh):
    """The state's directory is a disk of its own, with room for little more than the state."""
    if os.geteuid() != 0:
        pytest.skip("a disk is mounted, which root alone may do")
    state, aside = mesh.project.directory / "state", mesh.project.directory / "state-aside"
    shutil.copytree(state, aside)
    taken = sum(-(-path.stat().st_size // PAGE) * PAGE for path in state.rglob("*"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={taken + SPARE}", "tmpfs", str(state)], check=True)
    try:
        shutil.copytree(aside, state, dirs_exist_ok=True)
        yield state
        shutil.rmtree(aside)
        shutil.copytree(state, aside)
    finally:
        subprocess.run(["umount", str(state)], check=True)
        shutil.copytree(aside, state, dirs_exist_ok=True)
        shutil.rmtree(aside)


def test_the_disk_of_the_state_is_full(mesh, small_disk, change, row):
    change("linkerd")
    filler = small_disk / "filler"
    fill = f"sh -c 'dd if=/dev/zero of={filler} bs=1k 2>/dev/null; true'"
    code, written = meet(mesh.project, *UP, FAULTS_AT=RELEASE, FAULTS_DO=fill)
    assert code != 0
    assert _reads(mesh), "the last checkpoint that could be written is whole"
    filler.unlink()
    row(
        fault="the disk that holds the state is full",
        when="the start of an upgrade of Linkerd's release in an `up`",
        happens="the run fails; the state is the last checkpoint, and the next `up` continues once there is space",
        says=said(
            written,
            r"error: .*?no space left on device",
        ),
        kept=SAME,
    )


def test_two_runs_at_once(mesh, change, row, tmp_path):
    change("linkerd")
    second = tmp_path / "second"
    command = shlex.join(mesh.project.command(*UP))
    do = f"sh -c 'cd {REPOSITORY}; {command} > {second} 2>&1; echo $? >> {second}'"
    code, written = meet(mesh.project, *UP, FAULTS_AT=RELEASE, FAULTS_DO=do)
    assert code == 0, written
    told = second.read_text()
    assert not told.endswith("\n0\n"), told
    row(
        fault="two `up`s at once",
        when="the second during the first",
        happens="the second is refused, and the first continues unaffected",
        says=said(told, r"error: the stack is currently locked by 1 lock\(s\)\. .*?`pulumi cancel`"),
        kept=SAME,
    )
