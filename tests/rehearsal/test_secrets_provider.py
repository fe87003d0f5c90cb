"""Another secrets provider for a stack that is deployed."""

import re
import subprocess

import pytest

from rehearsal.workspace import workspace
from tests.key_material import KeySearch
from tests.kms import PROVIDER, kms
from tests.rehearsal.stack import NO_CHANGES, UP, run

pytestmark = pytest.mark.soak
ANCHOR = {"clusters": [], "anchor": {"protect": False}}
KEY = re.compile(r"-----BEGIN EC PRIVATE KEY-----.*?-----END EC PRIVATE KEY-----", re.DOTALL)


def test_another_secrets_provider_keeps_every_key_and_leaves_old_states_under_the_old_one():
    with workspace("anchor", settings=ANCHOR) as project:
        assert project.capture(*UP).returncode == 0
        before = project.capture("stack", "export", "--show-secrets").stdout
        changed = subprocess.run(
            project.command("stack", "change-secrets-provider", "passphrase"),
            env=project.full_environment,
            cwd=project.directory,
            input="another passphrase\nanother passphrase\n",
            capture_output=True,
            text=True,
            check=False,
        )
        assert changed.returncode == 0, changed.stderr
        assert "incorrect passphrase" in project.capture("stack", "export", "--show-secrets").stderr

        (project.directory / "passphrase").write_text("another passphrase")
        after = project.capture("stack", "export", "--show-secrets").stdout
        assert KEY.findall(before)
        assert KEY.findall(after) == KEY.findall(before)
        unchanged = project.capture(*UP, *NO_CHANGES)
        assert unchanged.returncode == 0, unchanged.stdout + unchanged.stderr

        # docs/fleet.md tells to delete these: who has the old passphrase can read the same keys in them.
        salt = _salt(before)
        assert salt != _salt(after)
        states = (project.directory / "state").rglob("*.json")
        assert [path for path in states if salt in path.read_text()], "history and backups"


def test_a_kms_takes_over_a_live_stack_with_every_key_and_a_right_that_is_lost_is_told():
    """The real CLI on a stand-in for AWS KMS: the state has the data key only as the KMS has encrypted it."""
    with kms() as service, workspace("anchor", settings=ANCHOR, environment=service.environment) as project:
        run(project, *UP)
        before = KEY.findall(project.capture("stack", "export", "--show-secrets").stdout)
        assert before
        assert service.calls == []
        changed = project.capture("stack", "change-secrets-provider", PROVIDER)
        assert changed.returncode == 0, changed.stderr
        assert service.calls[0] == "Encrypt"
        # Nothing is left that needs the passphrase.
        (project.directory / "passphrase").unlink()
        exported = project.capture("stack", "export", "--show-secrets").stdout
        assert PROVIDER in exported
        assert KEY.findall(exported) == before
        run(project, *UP, *NO_CHANGES)
        run(project, "config", "set", "--path", "anchors[1]", "2027", "--type", "string")
        run(project, *UP)
        pems = {re.sub(r"\\+n", "\n", pem) for pem in KEY.findall(exported)}

        service.is_denied = True
        refused = project.capture(*UP)
        said = refused.stdout + refused.stderr
        assert refused.returncode != 0
        assert "AccessDeniedException: not authorized to perform: kms:Decrypt" in said, said
        assert "Traceback" not in said
        service.is_denied = False
        run(project, *UP, *NO_CHANGES)
        states = {str(path): path.read_text() for path in (project.directory / "state").rglob("*.json")}
        KeySearch(pems).check({"what a refused run wrote": said, **states})


def _salt(exported):
    [salt] = set(re.findall(r'"salt": ?"([^"]+)"', exported))
    return salt
