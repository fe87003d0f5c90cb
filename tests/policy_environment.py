"""The environment that the policy pack has of its own, made once and kept in the rehearsal's cache."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from rehearsal.programs import cache_directory
from tests.recorder import REPOSITORY


def policy_environment() -> Path:
    """Return the directory of the pack's environment; the test is skipped where it cannot be made."""
    requirements = REPOSITORY / "policy" / "requirements.txt"
    mark = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()[:16]
    kept = cache_directory() / f"policy-{mark}"
    if not (kept / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(kept)], check=True)
        install = [str(kept / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
        result = subprocess.run([*install, "-r", str(requirements)], capture_output=True, text=True, check=False)
        if result.returncode:
            pytest.skip(f"pulumi-policy cannot be installed: {result.stderr.strip()[-300:]}")
        (kept / "ready").touch()
    return kept
