"""The verdict on chains, against an independent verifier: openssl.

Compared is the common ground of the verifiers. Beyond it they differ, and `meshtrust.pki.chain` sides with Linkerd's:

- openssl asks the first certificate for a key usage that fits TLS; Go and rustls-webpki do not, and an identity issuer
  may have certificate signing alone. (Go crypto/x509 verify.go, isValid: "KeyUsage status flags are ignored".)
- openssl takes a key usage with certificate signing for a CA flag where there are no basic constraints
  (crypto/x509/v3_purp.c, check_ca); Go and rustls-webpki do not.
- openssl does not count a CA that is named as its own issuer against a path length (RFC 5280 §6.1.4 (l)); Go and
  rustls-webpki count every CA.
- openssl trusts only self-signed roots without -partial_chain, and takes the first certificate itself as an
  anchor only where it finds no issuer of it; Go and rustls-webpki take any certificate.
- openssl tries one issuer of a name, the likeliest; Go and rustls-webpki try all of them.
- openssl finds a certificate expired in the second that its validity ends; Go and rustls-webpki in the next.
- Go takes the extended key usage "any" for server auth; openssl and rustls-webpki do not.
- rustls-webpki does not look at the validity, the path length or the usages of a root; Go and openssl do.
"""

import random
import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from meshtrust.pki.chain import ChainError, verify_chain
from tests.chains import FAULTS, NOW, random_chain

COUNT, BATCH, SEED = 4000, 200, 20260824


def verdict(chain):
    try:
        verify_chain(chain.certificates, chain.roots, NOW)
    except ChainError:
        return False
    return True


def openssl_verdicts(chains, directory):
    """Judge many chains in one process: their names are their own, so that none can help another."""
    directory.mkdir()

    def write(name, certificates):
        path = directory / name
        path.write_bytes(b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates))
        return str(path)

    firsts = [write(f"{number}.pem", chain.certificates[:1]) for number, chain in enumerate(chains)]
    shown = subprocess.run(
        [
            *("openssl", "verify", "-purpose", "sslserver", "-partial_chain", "-attime", str(int(NOW.timestamp()))),
            *("-no-CApath", "-no-CAstore", "-CAfile", write("roots", [one for chain in chains for one in chain.roots])),
            *("-untrusted", write("untrusted", [one for chain in chains for one in chain.certificates[1:]])),
            *firsts,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    verified = {line.removesuffix(": OK") for line in shown.stdout.splitlines() if line.endswith(": OK")}
    failed = {line.split()[1].rstrip(":") for line in shown.stderr.splitlines() if line.endswith("verification failed")}
    assert verified | failed == set(firsts), "openssl gave a verdict on each"
    return [path in verified for path in firsts]


@pytest.fixture(scope="module")
def chains():
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(8)]
    rng = random.Random(SEED)  # noqa: S311 no secret is made with it
    return [random_chain(rng, number, keys) for number in range(COUNT)]


def test_the_verdict_on_random_chains_is_that_of_openssl(chains, tmp_path):
    batches = [chains[start : start + BATCH] for start in range(0, COUNT, BATCH)]
    with ThreadPoolExecutor(2) as pool:
        judged = pool.map(openssl_verdicts, batches, [tmp_path / str(number) for number in range(len(batches))])
        theirs = [one for batch in judged for one in batch]
    ours = [verdict(chain) for chain in chains]
    differing = [
        f"{chain.certificates[0].subject.rfc4514_string()}: we {our}, openssl {their}, {chain.faults}"
        for chain, our, their in zip(chains, ours, theirs, strict=True)
        if our != their
    ]
    assert not differing
    assert COUNT / 4 < sum(ours) < COUNT * 3 / 4, "both verdicts are given often"


def test_the_random_chains_have_every_fault(chains):
    counted = Counter(fault for chain in chains for fault in chain.faults)
    assert len(counted) == len(FAULTS)
    assert min(counted.values()) >= COUNT / 40
    assert {len(chain.certificates) for chain in chains if not chain.faults} == {1, 2, 3, 4}
