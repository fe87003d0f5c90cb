"""The embedded engine, whose roots for a mesh end soon (ENDING_SECONDS after they are made): run in the engine's place.

No configuration has such a root made: they live for years, and a root that ends within weeks may not sign.
"""

import os
import sys
from datetime import UTC, datetime, timedelta
from unittest import mock

from rehearsal.engine.cli import main
from rehearsal.engine.providers import tls


def _ending(inputs, subject, *others, issuer, signer, really=tls._certificate):
    if issuer is not None or "OU=generation" not in subject.rfc4514_string():
        return really(inputs, subject, *others, issuer=issuer, signer=signer)
    end = datetime.now(UTC) + timedelta(seconds=float(os.environ["ENDING_SECONDS"]))
    begin = end - timedelta(hours=inputs["validityPeriodHours"])
    with mock.patch.object(tls, "_now", return_value=begin):
        return really(inputs, subject, *others, issuer=issuer, signer=signer)


if __name__ == "__main__":
    with mock.patch.object(tls, "_certificate", _ending):
        sys.exit(main(sys.argv[1:]))
