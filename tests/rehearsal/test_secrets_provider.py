"""Another secrets provider for a stack that is deployed."""

import re
import subprocess

import pytest

from rehearsal.workspace import workspace

pytestmark = pytest.mark.soak
KEY = re.compile(r"-----BEGIN EC PRIVATE KEY-----.*?-----END EC PRIVATE KEY-----", re.DOTALL)


def test_another_secrets_provider_keeps_every_key_and_leaves_old_states_under_the_old_one():
    with workspace("anchor", settings={"clusters": [], "anchor": {"protect": False}}) as project:
        up = ("up", "--yes", "--skip-preview", "--non-interactive")
        assert project.capture(*up).returncode == 0
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
        unchanged = project.capture(*up, "--expect-no-changes")
        assert unchanged.returncode == 0, unchanged.stdout + unchanged.stderr

        # docs/fleet.md tells to delete these: who has the old passphrase can read the same keys in them.
        salt = _salt(before)
        assert salt != _salt(after)
        states = (project.directory / "state").rglob("*.json")
        assert [path for path in states if salt in path.read_text()], "history and backups"


def _salt(exported):
    [salt] = set(re.findall(r'"salt": ?"([^"]+)"', exported))
    return salt
