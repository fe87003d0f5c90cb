"""A generation is one root for good: where its root is known from, and what counts as another one."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from meshtrust.pki.pem import fingerprint
from meshtrust.rotation.known_roots import (
    ChangedRootError,
    Held,
    KnownRoot,
    check_root,
    find_known,
    generation_of,
    name_root,
)
from meshtrust.rotation.steps import Root
from tests.certificates import make_certificate

BUNDLE = "ConfigMap linkerd/linkerd-identity-trust-roots"


def held(*roots):
    return Held(bundle_name=BUNDLE, roots=tuple(root.certificate for root in roots))


def root_of(pair):
    return Root(fingerprint=fingerprint(pair.certificate))


def test_a_root_is_known_from_the_last_deployment_else_from_the_bundle_else_from_another_stack():
    first, second, third = (make_certificate(generation=name) for name in ("2026", "2027", "2028"))
    known = find_known(
        ["2026", "2027", "2028", "2029"],
        deployed={"2026": root_of(first)},
        held=held(first, second),
        elsewhere=[("east", "2028", root_of(third))],
    )
    assert known == {
        "2026": KnownRoot(fingerprint=fingerprint(first.certificate), known_from="the last deployment"),
        "2027": KnownRoot(fingerprint=fingerprint(second.certificate), known_from=BUNDLE),
        "2028": KnownRoot(fingerprint=fingerprint(third.certificate), known_from="stack east"),
    }


@pytest.mark.parametrize("place", ["bundle", "stack"])
def test_two_roots_of_one_name_are_refused(place):
    one, other = make_certificate(generation="2026"), make_certificate(generation="2026")
    elsewhere = [("west", "2026", root_of(other))] if place == "stack" else []
    there = held() if place == "stack" else held(other)
    with pytest.raises(ChangedRootError) as caught:
        find_known(["2026"], deployed={"2026": root_of(one)}, held=there, elsewhere=elsewhere)
    assert fingerprint(one.certificate)[:16] in str(caught.value)
    assert fingerprint(other.certificate)[:16] in str(caught.value)
    assert "restore the stack's state" in str(caught.value)


def test_a_root_that_the_cluster_trusts_beside_another_of_its_name_is_no_contradiction():
    one, other = make_certificate(generation="2026"), make_certificate(generation="2026")
    known = find_known(["2026"], deployed={"2026": root_of(one)}, held=held(one, other))
    assert known["2026"].fingerprint == fingerprint(one.certificate)


def test_only_roots_of_this_programs_making_have_the_name_of_a_generation():
    assert generation_of(make_certificate(generation="2026-2").certificate) == "2026-2"
    other = make_certificate("external root", generation="2026").certificate
    assert generation_of(other) == ""
    assert name_root(other) == fingerprint(other)[:8]
    assert generation_of(make_certificate().certificate) == ""


def test_what_a_run_declares_is_the_known_root_with_its_own_key():
    root, other = make_certificate(generation="2026"), make_certificate(generation="2026")
    known = KnownRoot(fingerprint=fingerprint(root.certificate), known_from="the last deployment")
    check_root("2026", known, root.pem, root.key_pem)
    check_root("2026", known, root.pem, None)
    for certificate, key, reason in (
        (None, None, "this run would make another one in its place"),
        (other.pem, other.key_pem, "the stack's state holds the root"),
        (root.pem, other.key_pem, 'a key of generation "2026" that does not belong to its root'),
        ("no PEM", root.key_pem, "cannot be read"),
    ):
        with pytest.raises(ChangedRootError, match=reason):
            check_root("2026", known, certificate, key)


def test_a_renewed_certificate_of_the_same_key_is_another_root():
    key = ec.generate_private_key(ec.SECP256R1())
    root, renewed = make_certificate(key=key), make_certificate(key=key)
    known = KnownRoot(fingerprint=fingerprint(root.certificate), known_from="the last deployment")
    with pytest.raises(ChangedRootError):
        check_root("2026", known, renewed.pem, renewed.key_pem)
