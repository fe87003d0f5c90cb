"""Meshes in every carrier, with placeholders anywhere and PEM in every shape: no error about a sound one, no crash."""

import copy
import json
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from meshtrust.lint.reading.files import read_files
from meshtrust.lint.report import as_json, as_sarif
from meshtrust.lint.rule_sets import RULES
from meshtrust.lint.runner import lint_material
from tests.unit.lint.meshes import (
    CARRIERS,
    GUIDE,
    ISSUER,
    OTHER_ROOT,
    PLACEHOLDERS,
    ROOT,
    SOUND_VALUES,
    bundle,
    dump,
    issuer_secret,
    source,
    thing,
    trust_roots,
)
from tests.unit.lint.test_pem_shapes import SHAPES

# Shapes that Linkerd reads as they are, of the mesh's own root.
SOUND_SHAPES = [
    ROOT.pem.rstrip(),
    ROOT.pem,
    ROOT.pem.replace("\n", "\r\n"),
    f"# the root\n{ROOT.pem}",
    ROOT.pem + OTHER_ROOT.pem,
    f"{OTHER_ROOT.pem}# the next\n{ROOT.pem}".rstrip(),
]
ANY_SHAPE = [text for text, _, _ in SHAPES.values()]
SECRETS = [pair.key_pem.splitlines()[1][:40] for pair in (ROOT, ISSUER, OTHER_ROOT)]
WEBHOOK = {"externalSecret": True, "injectCaFrom": "linkerd/linkerd-proxy-injector"}
VALUES = {**SOUND_VALUES, "identityTrustDomain": "cluster.local", "proxyInjector": WEBHOOK}
NAMESPACE_METADATA = {
    "name": "linkerd",
    "labels": {
        "linkerd.io/is-control-plane": "true",
        "linkerd.io/control-plane-ns": "linkerd",
        "config.linkerd.io/admission-webhooks": "disabled",
    },
    "annotations": {"linkerd.io/inject": "disabled"},
}
OBJECTS = [
    *GUIDE[:-1],
    bundle(source("linkerd-trust-anchor"), {"inLine": ROOT.pem}, namespaceSelector={"matchLabels": {}}),
    issuer_secret(),
    trust_roots(),
    {**thing("Namespace", "linkerd"), "metadata": NAMESPACE_METADATA},
]


def scalars(value, path=()):
    """Yield the paths of all texts, numbers and truths below a value, but for what says what an object is."""
    if isinstance(value, dict):
        for key, member in value.items():
            if key not in ("apiVersion", "kind"):
                yield from scalars(member, (*path, key))
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield from scalars(member, (*path, index))
    else:
        yield path


def with_placeholders(draw, value, at_most):
    """Return a value with some of its parts, whole or in their middle, left to be filled in."""
    changed = copy.deepcopy(value)
    for whole in draw(st.lists(st.sampled_from(list(scalars(changed))), max_size=at_most, unique=True)):
        # A map or a list may be left out together with all that is below it.
        path = whole[: draw(st.integers(2, len(whole)))] if len(whole) > 2 else whole
        node = changed
        try:
            for part in path[:-1]:
                node = node[part]
            old = node[path[-1]]
            placeholder = draw(st.sampled_from(PLACEHOLDERS))
            embeds = isinstance(old, str) and placeholder.startswith(("{{", "${", "$(", "@")) and draw(st.booleans())
            node[path[-1]] = f"{old[: len(old) // 2]}{placeholder}" if embeds else placeholder
        except (KeyError, IndexError, TypeError):
            # What led there is left out already.
            continue
    return changed


@st.composite
def meshes(draw):
    """Return the files of a sound mesh, some of which is yet to be filled in."""
    values = with_placeholders(draw, {**VALUES, "identityTrustAnchorsPEM": draw(st.sampled_from(SOUND_SHAPES))}, 3)
    carrier = draw(st.sampled_from(sorted(CARRIERS)))
    files = CARRIERS[carrier](values)
    objects = [with_placeholders(draw, one, 2) for one in draw(st.lists(st.sampled_from(OBJECTS), max_size=8))]
    form = draw(st.sampled_from(["documents", "list", "json", "quoted"]))
    if form == "documents":
        files["objects.yaml"] = dump(*objects)
    elif form == "list":
        files["objects.yaml"] = dump(thing("List", "x", items=objects))
    elif form == "json":
        files["objects.json"] = "\n".join(json.dumps(one, indent=draw(st.sampled_from([None, 2]))) for one in objects)
    else:
        files["objects.yaml"] = yaml.safe_dump_all(objects, default_style='"')
    if draw(st.booleans()):
        files |= {"ca.crt": ROOT.pem, "issuer.crt": ISSUER.pem, "issuer.key": ISSUER.key_pem}
    return files


@st.composite
def broken_meshes(draw):
    """Return the files of a mesh whose credentials are in any shape."""
    shapes = st.sampled_from(ANY_SHAPE)
    values = {**VALUES, "identityTrustAnchorsPEM": draw(shapes)}
    values["identity"] = {"issuer": {"tls": {"crtPEM": draw(shapes), "keyPEM": draw(shapes)}}}
    files = CARRIERS[draw(st.sampled_from(sorted(CARRIERS)))](with_placeholders(draw, values, 2))
    held = thing("Secret", "linkerd-identity-issuer", stringData={"tls.crt": draw(shapes), "tls.key": ISSUER.key_pem})
    files["objects.yaml"] = dump(held, trust_roots(draw(shapes)), bundle({"inLine": draw(shapes)}))
    files["ca.crt"] = draw(shapes).encode(draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"])))
    return files


def result_of(files):
    with tempfile.TemporaryDirectory() as directory:
        for name, content in files.items():
            path = Path(directory, name)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return lint_material(read_files([Path(directory)]), datetime.now(UTC))


def check_sound(files):
    errors = [str(one) for one in result_of(files).findings if one.severity == "error"]
    assert errors == [], files


def check_broken(files):
    result = result_of(files)
    written = as_json(result) + as_sarif(result.findings, RULES)
    assert not any(secret in written for secret in SECRETS)
    assert not any(word in written for word in ("Traceback", "ParseError", "Exception", "ValueError"))


few = settings(max_examples=int(os.environ.get("MESHTRUST_EXAMPLES", "60")))
many = settings(max_examples=int(os.environ.get("MESHTRUST_EXAMPLES", "3000")))


@given(meshes())
@few
def test_a_sound_mesh_has_no_error_in_any_carrier_and_with_any_placeholder(files):
    check_sound(files)


@given(broken_meshes())
@few
def test_credentials_in_any_shape_are_judged_and_not_repeated(files):
    check_broken(files)


@pytest.mark.soak
@given(meshes())
@many
def test_no_sound_mesh_of_thousands_has_an_error(files):
    check_sound(files)


@pytest.mark.soak
@given(broken_meshes())
@many
def test_no_mesh_of_thousands_makes_the_linter_fall_over(files):
    check_broken(files)
