import shutil

import pytest


@pytest.fixture(scope="session")
def real_pulumi_or_skip():
    """Skip a test, and say so, where the real Pulumi CLI is not on PATH."""

    def check():
        if shutil.which("pulumi") is None:
            pytest.skip("the real pulumi is not on PATH; the embedded engine is tested instead")

    return check
