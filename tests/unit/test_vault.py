"""Answers of Vault when it does not sign: a message has each with its place, and with something to do."""

import pytest

from meshtrust.cluster.vault import explain

ISSUER = {
    "kind": "ClusterIssuer",
    "metadata": {"name": "mesh"},
    "spec": {"vault": {"server": "https://vault.example.org:8200", "path": "pki/root/sign-intermediate"}},
}
FAILED = "Vault failed to sign certificate: failed to sign certificate by vault: Error making API request. URL: PUT"
NO_ISSUER = "could not fetch the CA certificate (was one set?)"
# The words of OpenBao 2.7 and of Vault, by its API; tests/rehearsal/test_vault.py has those that cert-manager adds.
ANSWERS = [
    (f"Code: 500. Errors: * {NO_ISSUER}: no default issuer currently configured", "The mount has no such authority"),
    (f"Code: 500. Errors: * {NO_ISSUER}: unable to find PKI issuer for reference: b", "of one that it has"),
    (
        "Code: 400. Errors: * notAfter is beyond the expiration of the CA certificate",
        "The authority of this mount ends",
    ),
    (
        "Code: 404. Errors: * namespace not found",
        "Set spec.vault.namespace to the namespace of Vault that has the mount",
    ),
    ("Code: 429. Errors: * rate limit quota exceeded", "Raise its quota for pki/root/sign-intermediate"),
    ("Code: 405. Errors: * unsupported operation", "This path signs no request for a CA"),
    ('Code: 400. Errors: * claim "aud" is invalid', "Set the audience of Vault's role to vault://mesh"),
    ("Code: 502. Raw Message: Bad Gateway", "is not Vault, but something before it"),
    ("Code: 302. Errors:", "is not Vault, but something before it"),
    ("remote error: tls: certificate required", "Vault asks for a client's certificate"),
    ("tls: first record does not look like a TLS handshake", "begins with https:// if Vault serves TLS there"),
    (
        "dial tcp: lookup vault on 10.96.0.10:53: server misbehaving",
        "cert-manager's pods reach https://vault.example.org",
    ),
    ("Code: 500. Errors: * internal error", "See Vault's own log (https://vault.example.org:8200) for the reason"),
]


@pytest.mark.parametrize(("answer", "fix"), ANSWERS)
def test_a_message_has_the_answer_of_vault_and_the_fix(answer, fix):
    told = explain(ISSUER, f"{FAILED}\n{answer}.\n")
    assert f"{answer} (ClusterIssuer mesh signs by path pki/root/sign-intermediate of Vault). " in told
    assert fix in told
    assert "\n" not in told
    assert not told.endswith(".")


def test_the_words_about_another_issuer_stay_as_they_are():
    other = {"kind": "Issuer", "metadata": {"name": "ca"}, "spec": {"ca": {"secretName": "ca"}}}
    assert explain(other, "secret ca not found.\n") == "secret ca not found"
