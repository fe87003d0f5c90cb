from datetime import UTC, datetime, timedelta

import pytest

from meshtrust.pki.chain import ChainError, find_chain, verify_chain
from tests.certificates import make_certificate

NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def pki():
    root = make_certificate("root")
    intermediate = make_certificate("intermediate", issuer=root, path_length=1)
    issuer = make_certificate("issuer", issuer=intermediate)
    leaf = make_certificate("leaf", issuer=issuer, ca=False, key_cert_sign=False, days=1)
    return [pair.certificate for pair in (leaf, issuer, intermediate, root)]


def test_a_leaf_chains_to_its_root_through_what_it_was_served_with(pki):
    leaf, issuer, intermediate, root = pki
    assert verify_chain([leaf, intermediate, issuer], [make_certificate("other").certificate, root], NOW) == pki


def test_an_issuer_chains_although_it_is_a_ca(pki):
    _, issuer, intermediate, root = pki
    assert verify_chain([issuer, intermediate], [root], NOW) == [issuer, intermediate, root]


def test_a_chain_to_no_trusted_root_is_refused_by_name(pki):
    leaf, issuer, intermediate, _ = pki
    with pytest.raises(ChainError, match="CN=leaf chains to none of the 1 trusted roots"):
        verify_chain([leaf, issuer, intermediate], [make_certificate("root").certificate], NOW)


def test_a_chain_is_looked_for_and_none_is_found_without_certificates_roots_or_a_trusted_root(pki):
    leaf, issuer, intermediate, root = pki
    served = [leaf, issuer, intermediate]
    assert find_chain(served, [root], NOW) == pki
    assert find_chain([], [root], NOW) == []
    assert find_chain(served, [], NOW) == []
    assert find_chain(served, [make_certificate("root").certificate], NOW) == []


def test_a_missing_intermediate_is_refused(pki):
    leaf, issuer, _, root = pki
    with pytest.raises(ChainError):
        verify_chain([leaf, issuer], [root], NOW)


def test_an_expired_leaf_is_refused(pki):
    leaf, issuer, intermediate, root = pki
    with pytest.raises(ChainError):
        verify_chain([leaf, issuer, intermediate], [root], NOW + timedelta(days=2))


def test_a_path_longer_than_allowed_is_refused(pki):
    _, _, _, root = pki
    root_pair = make_certificate("root")
    short = make_certificate("short", issuer=root_pair, path_length=0)
    issuer = make_certificate("issuer", issuer=short)
    leaf = make_certificate("leaf", issuer=issuer, ca=False, key_cert_sign=False)
    chain = [leaf.certificate, issuer.certificate, short.certificate]
    with pytest.raises(ChainError):
        verify_chain(chain, [root_pair.certificate, root], NOW)


@pytest.mark.parametrize(("between", "accepted"), [(6, True), (7, False)])
def test_a_chain_has_as_many_intermediates_as_a_proxy_takes(between, accepted):
    pairs = [make_certificate("root")]
    for number in range(between):
        pairs.append(make_certificate(f"ca {number}", issuer=pairs[-1]))
    leaf = make_certificate("leaf", issuer=pairs[-1], ca=False, key_cert_sign=False)
    served = [pair.certificate for pair in (leaf, *pairs[:0:-1])]
    if accepted:
        assert len(verify_chain(served, [pairs[0].certificate], datetime.now(UTC))) == between + 2
    else:
        with pytest.raises(ChainError):
            verify_chain(served, [pairs[0].certificate], datetime.now(UTC))
