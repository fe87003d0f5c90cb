"""The suffix of every identity stays the same; parts that the last deployment did not record are not checked."""

import pulumi
import pytest

from meshtrust.pki.identity_suffix import IdentitySuffix, IllegalRenameError, check_rename
from tests.recorder import run_program

LAST = IdentitySuffix(namespace="linkerd", trust_domain="cluster.local")
UNKNOWN = IdentitySuffix(namespace="", trust_domain="")
OTHER = IdentitySuffix(namespace="mesh", trust_domain="example.com")


@pytest.mark.parametrize(("last", "wanted"), [(LAST, LAST), (UNKNOWN, OTHER)])
def test_what_stays_and_what_is_not_known_is_let_pass(last, wanted):
    check_rename(last, wanted)


@pytest.mark.parametrize(
    ("wanted", "told", "back"),
    [
        (
            IdentitySuffix(namespace="linkerd", trust_domain="example.com"),
            'meshtrust:trustDomain is "example.com", and was "cluster.local"',
            "Set it back: pulumi config set trustDomain cluster.local. To change it, uninstall Linkerd",
        ),
        (
            IdentitySuffix(namespace="mesh", trust_domain="cluster.local"),
            'meshtrust:linkerd.namespace is "mesh", and was "linkerd"',
            "Set it back: pulumi config set --path linkerd.namespace linkerd. To change it, uninstall Linkerd",
        ),
        (OTHER, 'meshtrust:linkerd.namespace is "mesh", and was "linkerd"', "trustDomain cluster.local; pulumi config"),
    ],
)
def test_a_change_is_told_with_key_values_and_fix(wanted, told, back):
    with pytest.raises(IllegalRenameError) as caught:
        check_rename(LAST, wanted)
    assert told in str(caught.value)
    assert back in str(caught.value)


def test_one_that_is_not_known_does_not_hide_the_other():
    with pytest.raises(IllegalRenameError) as caught:
        check_rename(IdentitySuffix(namespace="linkerd", trust_domain=""), OTHER)
    assert "trustDomain" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"meshtrust:trustDomain": "example.com"}, 'meshtrust:trustDomain is "example.com", and was "cluster.local"'),
        ({"meshtrust:linkerd.namespace": "mesh"}, 'meshtrust:linkerd.namespace is "mesh", and was "linkerd"'),
    ],
)
def test_the_program_refuses_it_by_what_it_deployed_last_in_a_preview_without_a_cluster(config, changes, told):
    last = run_program(config).outputs
    with pytest.raises(pulumi.RunError) as caught:
        run_program({**config, **changes}, last_outputs=last)
    assert told in str(caught.value)
    assert str(caught.value).endswith("Nothing was changed.")


def test_the_program_lets_it_pass_where_nothing_was_deployed_or_nothing_is_known_of_it(config):
    renamed = {**config, "meshtrust:trustDomain": "example.com"}
    last = run_program(config).outputs
    of_before = {key: value for key, value in last.items() if key != "trustDomain"}
    assert run_program(renamed, last_outputs=of_before).outputs["trustDomain"] == "example.com"
    assert run_program({**renamed, "meshtrust:linkerd.namespace": "mesh"}).outputs["namespace"] == "mesh"
