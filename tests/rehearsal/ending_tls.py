"""The stand-in for the tls provider, whose roots for a mesh end ENDING_SECONDS after they are made, where that is set.

No configuration has such a root made: they live for years, and a root that ends within weeks may not sign.
"""

import os
import shlex
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock

if __name__ == "__main__":
    # Started by the engine as a script, and so with its own directory in the place of the repository's.
    sys.path[0] = str(Path(__file__).parents[2])

from rehearsal.providers import server, tls
from rehearsal.pulumi.home import plugin_directory


def install(home):
    """Put it in the place of a PULUMI_HOME's own plugin."""
    directory = home / "plugins" / plugin_directory("tls")
    shutil.rmtree(directory)
    directory.mkdir()
    script = directory / "pulumi-resource-tls"
    script.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, __file__])} "$@"\n')
    script.chmod(0o755)


def _ending(inputs, subject, *others, issuer, signer, really=tls._certificate):
    if issuer is not None or "OU=generation" not in subject.rfc4514_string() or "ENDING_SECONDS" not in os.environ:
        return really(inputs, subject, *others, issuer=issuer, signer=signer)
    end = datetime.now(UTC) + timedelta(seconds=float(os.environ["ENDING_SECONDS"]))
    begin = end - timedelta(hours=inputs["validityPeriodHours"])
    with mock.patch.object(tls, "_now", return_value=begin):
        return really(inputs, subject, *others, issuer=issuer, signer=signer)


if __name__ == "__main__":
    with mock.patch.object(tls, "_certificate", _ending):
        server.serve("tls", version="5.6.2", engine=sys.argv[-1])
