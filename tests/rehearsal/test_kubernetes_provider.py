"""The kubernetes plugin on a cluster, call by call, compared with what the real plugin answers."""

import base64
import contextlib
import gzip
import json
import secrets

import pytest

from rehearsal.providers.values import UNKNOWN, Secret
from tests.providers.conftest import compared, masks  # noqa: F401 - fixtures
from tests.providers.workbench import CallError, kinds_of
from tests.rehearsal.control_plane import wait_until

CONFIG_MAP = "kubernetes:core/v1:ConfigMap"
SECRET = "kubernetes:core/v1:Secret"
NAMESPACE = "kubernetes:core/v1:Namespace"
RELEASE = "kubernetes:helm.sh/v3:Release"
WIDGET = "kubernetes:bench.example/v1:Widget"
DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.bench.example"},
    "spec": {
        "group": "bench.example",
        "names": {"kind": "Widget", "plural": "widgets", "singular": "widget", "listKind": "WidgetList"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                },
            }
        ],
    },
}
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
APPLY = {"Content-Type": "application/apply-patch+yaml"}


@pytest.fixture(params=kinds_of("kubernetes"))
def start(request, compared, cluster):  # noqa: F811
    """Run a plugin on the cluster."""

    @contextlib.contextmanager
    def run(**config):
        with compared("kubernetes", request.param) as plugin:
            plugin.configure(kubeconfig=str(cluster.kubeconfig), context=cluster.context, **config)
            yield plugin

    return run


@pytest.fixture
def api(cluster):
    with cluster.client() as client:
        yield client


@pytest.fixture
def namespace(api, masks):  # noqa: F811
    """A namespace of the test's own."""
    name = f"bench-{secrets.token_hex(4)}"
    masks.name(name, "namespace")
    api.post("/api/v1/namespaces", json={"metadata": {"name": name}}).raise_for_status()
    yield name
    api.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture
def widgets(api):
    """A custom resource that nobody takes care of."""
    api.post(DEFINITIONS, json=DEFINITION).raise_for_status()
    wait_until(lambda: api.get("/apis/bench.example/v1/widgets").is_success, 30)
    yield
    api.delete(f"{DEFINITIONS}/widgets.bench.example").raise_for_status()
    wait_until(lambda: api.get(f"{DEFINITIONS}/widgets.bench.example").status_code == 404, 30)


def config_map(namespace, data, **metadata):
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "it", "namespace": namespace, **metadata},
        "data": data,
    }


def make(plugin, type_, inputs):
    checked = plugin.check(type_, inputs)
    assert isinstance(checked, dict), checked
    return *plugin.create(type_, checked), checked


def test_an_object_is_made_read_and_deleted(start, namespace, api):
    with start() as kubernetes:
        inputs = kubernetes.check(CONFIG_MAP, config_map(namespace, {"a": "1"}, labels={"app.example/name": "x"}))
        assert kubernetes.create(CONFIG_MAP, inputs, preview=True)[0] == ""
        assert api.get(f"/api/v1/namespaces/{namespace}/configmaps/it").status_code == 404
        identity, outputs = kubernetes.create(CONFIG_MAP, inputs)
        assert identity == f"{namespace}/it"
        assert kubernetes.diff(CONFIG_MAP, outputs, inputs, inputs)["changes"] == "DIFF_NONE"
        kubernetes.read(CONFIG_MAP, identity, outputs, inputs)
        kubernetes.delete(CONFIG_MAP, identity, outputs, inputs)
        assert kubernetes.read(CONFIG_MAP, identity, outputs, inputs) is None
        kubernetes.delete(CONFIG_MAP, identity, outputs, inputs)


def test_what_changes_in_place_and_what_replaces(start, namespace):
    with start() as kubernetes:
        _, outputs, inputs = make(kubernetes, CONFIG_MAP, config_map(namespace, {"a": "1"}, labels={"a.b/c": "x"}))
        for new in (
            config_map(namespace, {"a": "2"}, labels={"a.b/c": "x"}),
            config_map(namespace, {"a": "1", "b": "2"}, labels={"a.b/c": "x"}),
            config_map(namespace, {}, labels={"a.b/c": "x"}),
            config_map(namespace, {"a": "1"}, labels={"a.b/c": "y", "d": "z"}),
            config_map(namespace, {"a": "1"}),
            config_map(namespace, {"a": UNKNOWN, "b": UNKNOWN}, labels={"a.b/c": "x"}),
            config_map("default", {"a": "1"}, labels={"a.b/c": "x"}),
            {**config_map(namespace, {"a": "1"}, labels={"a.b/c": "x"}), "immutable": True},
        ):
            kubernetes.diff(CONFIG_MAP, outputs, inputs, new)
        changed = config_map(namespace, {"a": "2"}, labels={"a.b/c": "y"})
        kubernetes.diff(CONFIG_MAP, outputs, inputs, changed, ignore=["data"])
        kubernetes.diff(CONFIG_MAP, outputs, inputs, changed, ignore=["data", 'metadata.labels["a.b/c"]'])


def test_data_changes_in_place_where_the_provider_says_so(start, namespace):
    with start(enableConfigMapMutable="true") as kubernetes:
        identity, outputs, inputs = make(kubernetes, CONFIG_MAP, config_map(namespace, {"a": "1", "b": "2"}))
        new = config_map(namespace, {"a": "3"})
        assert kubernetes.diff(CONFIG_MAP, outputs, inputs, new)["replaces"] == []
        kubernetes.update(CONFIG_MAP, identity, outputs, inputs, new, preview=True)
        updated = kubernetes.update(CONFIG_MAP, identity, outputs, inputs, new)
        assert updated["data"] == {"a": "3"}, "what is left out goes"
        assert kubernetes.diff(CONFIG_MAP, updated, new, new)["changes"] == "DIFF_NONE"


def test_a_secret_is_secret_in_inputs_and_outputs(start, namespace):
    with start() as kubernetes:
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "it", "namespace": namespace},
            "type": "Opaque",
            "stringData": {"a": Secret("b")},
        }
        identity, outputs, inputs = make(kubernetes, SECRET, secret)
        assert outputs["data"] == Secret({"a": "Yg=="})
        kubernetes.diff(SECRET, outputs, inputs, inputs)
        kubernetes.diff(SECRET, outputs, inputs, {**inputs, "data": Secret({"a": "Yw=="})})
        kubernetes.diff(SECRET, outputs, inputs, {**secret, "stringData": {"a": Secret("c")}})
        kubernetes.diff(SECRET, outputs, inputs, {**inputs, "type": "kubernetes.io/tls"})
        kubernetes.read(SECRET, identity, outputs, inputs)


def test_a_namespace_belongs_to_none(start, api, masks):  # noqa: F811
    name = f"bench-{secrets.token_hex(4)}"
    masks.name(name, "namespace")
    with start() as kubernetes:
        given = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"a": "b"}}}
        identity, outputs, inputs = make(kubernetes, NAMESPACE, given)
        assert identity == name
        new = {**given, "metadata": {"name": name, "labels": {"a": "c"}}}
        assert kubernetes.diff(NAMESPACE, outputs, inputs, new)["replaces"] == []
        updated = kubernetes.update(NAMESPACE, identity, outputs, inputs, new)
        kubernetes.delete(NAMESPACE, identity, updated, new)
        assert api.get(f"/api/v1/namespaces/{name}").status_code == 404


def test_what_is_there_already_is_not_taken_over_unasked(start, namespace, api):
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    api.post(path, json={"metadata": {"name": "it"}, "data": {"a": "1"}}).raise_for_status()
    with start() as kubernetes:
        inputs = kubernetes.check(CONFIG_MAP, config_map(namespace, {"a": "2"}))
        kubernetes.create(CONFIG_MAP, inputs, preview=True)
        with pytest.raises(CallError, match="already exists"):
            kubernetes.create(CONFIG_MAP, inputs)
        assert api.get(f"{path}/it").json()["data"] == {"a": "1"}


def test_what_is_there_already_is_taken_over_where_the_provider_says_so(start, namespace, api):
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    with start(upsertExistingObjects="true") as kubernetes:
        make(kubernetes, CONFIG_MAP, config_map(namespace, {"a": "1"}))
        patch = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "9"}}
        taken = {"fieldManager": "another", "force": "true"}
        api.patch(f"{path}/it", params=taken, headers=APPLY, json=patch).raise_for_status()
        inputs = kubernetes.check(CONFIG_MAP, config_map(namespace, {"a": "2"}))
        kubernetes.create(CONFIG_MAP, inputs, preview=True)
        with pytest.raises(CallError, match="conflict"):
            kubernetes.create(CONFIG_MAP, inputs)
        forced = config_map(namespace, {"a": "2"}, annotations={"pulumi.com/patchForce": "true"})
        kubernetes.create(CONFIG_MAP, kubernetes.check(CONFIG_MAP, forced))
        assert api.get(f"{path}/it").json()["data"] == {"a": "2"}


def test_a_field_of_another_manager_is_a_conflict_unless_it_is_forced_or_ignored(start, namespace, api):
    path = f"/api/v1/namespaces/{namespace}/configmaps/it"
    with start(enableConfigMapMutable="true") as kubernetes:
        identity, outputs, inputs = make(kubernetes, CONFIG_MAP, config_map(namespace, {"a": "1", "b": "1"}))
        patch = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "9"}}
        api.patch(
            path, params={"fieldManager": "another", "force": "true"}, headers=APPLY, json=patch
        ).raise_for_status()
        new = config_map(namespace, {"a": "2", "b": "2"})
        with pytest.raises(CallError, match="conflict") as failed:
            kubernetes.update(CONFIG_MAP, identity, outputs, inputs, new)
        assert failed.value.resource["properties"]["data"] == {"a": "9", "b": "1"}
        kubernetes.update(CONFIG_MAP, identity, outputs, inputs, new, ignore=["data.a"])
        assert api.get(path).json()["data"] == {"a": "9", "b": "2"}
        forced = config_map(namespace, {"a": "2", "b": "2"}, annotations={"pulumi.com/patchForce": "true"})
        kubernetes.update(CONFIG_MAP, identity, outputs, inputs, forced)
        assert api.get(path).json()["data"] == {"a": "2", "b": "2"}


def test_what_kubectl_made_is_taken_over_without_a_conflict(start, namespace, api):
    """As after an import."""
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    made = {"metadata": {"name": "it"}, "data": {"a": "1", "b": "1"}}
    api.post(path, params={"fieldManager": "kubectl-create"}, json=made).raise_for_status()
    with start(enableConfigMapMutable="true") as kubernetes:
        found = kubernetes.read(CONFIG_MAP, f"{namespace}/it")
        new = config_map(namespace, {"a": "2"})
        kubernetes.diff(CONFIG_MAP, found["properties"], found["inputs"], new)
        kubernetes.update(CONFIG_MAP, f"{namespace}/it", found["properties"], found["inputs"], new)
        assert api.get(f"{path}/it").json()["data"] == {"a": "2"}


def test_an_update_of_what_is_gone_fails(start, namespace):
    with start(enableConfigMapMutable="true") as kubernetes:
        identity, outputs, inputs = make(kubernetes, CONFIG_MAP, config_map(namespace, {"a": "1"}))
        kubernetes.delete(CONFIG_MAP, identity, outputs, inputs)
        for preview in (True, False):
            with pytest.raises(CallError, match="not found"):
                kubernetes.update(
                    CONFIG_MAP, identity, outputs, inputs, config_map(namespace, {"a": "2"}), preview=preview
                )


def test_what_the_api_server_refuses_is_said_in_its_words(start, namespace):
    with start() as kubernetes:
        inputs = kubernetes.check(CONFIG_MAP, config_map(namespace, {"a/b": "1"}))
        for preview in (True, False):
            with pytest.raises(CallError, match="a valid config key"):
                kubernetes.create(CONFIG_MAP, inputs, preview=preview)


def test_a_preview_in_a_namespace_that_is_not_there_yet_goes_on(start):
    with start() as kubernetes:
        inputs = kubernetes.check(CONFIG_MAP, config_map("not-there-yet", {"a": "1"}))
        assert kubernetes.create(CONFIG_MAP, inputs, preview=True)[1]["data"] == {"a": "1"}
        unknown = config_map("not-there-yet", {"a": UNKNOWN})
        assert (
            kubernetes.create(CONFIG_MAP, kubernetes.check(CONFIG_MAP, unknown), preview=True)[1]["data"]["a"]
            is UNKNOWN
        )


@pytest.mark.soak
def test_a_namespace_that_does_not_come_is_told_after_half_a_minute(start):
    with start() as kubernetes, pytest.raises(CallError, match="not found"):
        kubernetes.create(CONFIG_MAP, kubernetes.check(CONFIG_MAP, config_map("never-there", {"a": "1"})))


def test_a_patch_gives_back_what_it_has_changed(start, namespace, api):
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    api.post(path, json={"metadata": {"name": "it"}, "data": {"a": "1"}}).raise_for_status()
    type_ = "kubernetes:core/v1:ConfigMapPatch"
    given = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "it", "namespace": namespace}}
    with start() as kubernetes:
        inputs = kubernetes.check(type_, {**given, "data": {"b": "2"}})
        kubernetes.create(type_, inputs, preview=True)
        identity, outputs = kubernetes.create(type_, inputs)
        assert api.get(f"{path}/it").json()["data"] == {"a": "1", "b": "2"}
        assert kubernetes.diff(type_, outputs, inputs, {**given, "data": {"b": "3"}})["replaces"] == []
        kubernetes.read(type_, identity, outputs, inputs)
        kubernetes.delete(type_, identity, outputs, inputs)
        assert api.get(f"{path}/it").json()["data"] == {"a": "1"}


def widget(namespace, *, ready="True", **spec):
    metadata = {"name": "it", "namespace": namespace, "annotations": {"pulumi.com/waitFor": f"condition=Ready={ready}"}}
    return {"apiVersion": "bench.example/v1", "kind": "Widget", "metadata": metadata, "spec": spec}


def test_a_kind_that_is_not_there_yet_can_be_planned(start, namespace):
    with start() as kubernetes:
        inputs = kubernetes.check(WIDGET, widget(namespace, size=1))
        assert kubernetes.create(WIDGET, inputs, preview=True)[1]["spec"] == {"size": 1}
        state = {**inputs, "__inputs": inputs, "__initialApiVersion": "bench.example/v1"}
        kubernetes.diff(WIDGET, state, inputs, widget(namespace, size=2))
        assert kubernetes.read(WIDGET, f"{namespace}/it", state, inputs) is None
        kubernetes.delete(WIDGET, f"{namespace}/it", state, inputs)


@pytest.mark.usefixtures("widgets")
def test_an_object_that_does_not_get_ready_is_kept_with_what_is_known(start, namespace, api):
    path = f"/apis/bench.example/v1/namespaces/{namespace}/widgets/it"
    with start() as kubernetes:
        inputs = kubernetes.check(WIDGET, widget(namespace, size=1))
        with pytest.raises(CallError, match="failed to fully initialize or become live") as failed:
            kubernetes.create(WIDGET, inputs, timeout=2)
        kept = failed.value.resource
        assert kept["id"] == f"{namespace}/it"
        assert kept["properties"]["spec"] == {"size": 1}
        kubernetes.read(WIDGET, kept["id"], kept["properties"], inputs)
        status = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
        headers = {"Content-Type": "application/merge-patch+json"}
        api.patch(f"{path}/status", json=status, headers=headers).raise_for_status()
        new = widget(namespace, size=2)
        kubernetes.diff(WIDGET, kept["properties"], inputs, new)
        updated = kubernetes.update(WIDGET, kept["id"], kept["properties"], inputs, new, timeout=30)
        assert updated["spec"] == {"size": 2}
        with pytest.raises(CallError, match="failed to fully initialize or become live"):
            kubernetes.update(WIDGET, kept["id"], updated, new, widget(namespace, ready="False", size=3), timeout=2)
        kubernetes.delete(WIDGET, kept["id"], updated, new)


@pytest.mark.usefixtures("widgets")
def test_objects_are_imported_by_their_ids(start, namespace, api):
    api.post(
        f"/apis/bench.example/v1/namespaces/{namespace}/widgets",
        json={**widget(namespace, size=1), "status": {"conditions": []}},
    ).raise_for_status()
    api.post(
        f"/api/v1/namespaces/{namespace}/secrets", json={"metadata": {"name": "it"}, "data": {"a": "Yg=="}}
    ).raise_for_status()
    with start() as kubernetes:
        kubernetes.read(WIDGET, f"{namespace}/it")
        kubernetes.read(SECRET, f"{namespace}/it")
        kubernetes.read(NAMESPACE, namespace)
        assert kubernetes.read(WIDGET, f"{namespace}/none") is None
        assert kubernetes.read(NAMESPACE, "none") is None


@pytest.fixture
def chart(tmp_path, masks):  # noqa: F811
    """A chart that makes one ConfigMap, or as its values say one that no API server takes."""
    directory = tmp_path / "small"
    masks.name(str(directory), "chart")
    (directory / "templates").mkdir(parents=True)
    (directory / "Chart.yaml").write_text("{apiVersion: v2, name: small, version: 1.0.0, appVersion: '7'}")
    (directory / "values.yaml").write_text("{key: a, value: '1'}")
    made = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "{{ .Release.Name }}"},
        "data": {"{{ .Values.key }}": "{{ .Values.value }}"},
    }
    (directory / "templates" / "made.yaml").write_text(json.dumps(made))
    return directory


def test_a_release_is_installed_upgraded_and_uninstalled(start, namespace, chart, api):
    path = f"/api/v1/namespaces/{namespace}/configmaps/small"
    given = {"name": "small", "namespace": namespace, "chart": str(chart), "values": {"value": Secret("2")}}
    with start() as kubernetes:
        inputs = kubernetes.check(RELEASE, given)
        kubernetes.create(RELEASE, inputs, preview=True)
        identity, outputs = kubernetes.create(RELEASE, inputs)
        assert api.get(path).json()["data"] == {"a": "2"}
        assert kubernetes.diff(RELEASE, outputs, inputs, inputs)["changes"] == "DIFF_NONE"
        found = kubernetes.read(RELEASE, identity, outputs, inputs)
        kubernetes.diff(RELEASE, found["properties"], found["inputs"], inputs)
        change: dict
        for change in (
            {"values": {"value": "3"}},
            {"values": {}},
            {"values": {"value": UNKNOWN}},
            {"version": "2.0.0"},
            {"timeout": 10},
            {"name": "other"},
            {"namespace": "other"},
            {"skipAwait": True},
        ):
            kubernetes.diff(RELEASE, outputs, inputs, {**inputs, **change})
        kubernetes.diff(RELEASE, outputs, inputs, {**inputs, "version": "2.0.0"}, ignore=["version"])
        new = kubernetes.check(RELEASE, {**given, "values": {"value": "3"}, "timeout": 60}, inputs)
        kubernetes.update(RELEASE, identity, outputs, inputs, new, preview=True)
        updated = kubernetes.update(RELEASE, identity, outputs, inputs, new)
        assert api.get(path).json()["data"] == {"a": "3"}
        kubernetes.diff(RELEASE, updated, new, new)
        kubernetes.read(RELEASE, identity)
        kubernetes.delete(RELEASE, identity, updated, new)
        assert api.get(path).status_code == 404
        assert kubernetes.read(RELEASE, identity, updated, new) is None


def test_a_release_gets_a_name_and_what_its_chart_has(start, namespace, chart):
    with start() as kubernetes:
        first = kubernetes.check(RELEASE, {"chart": str(chart), "namespace": namespace})
        assert kubernetes.check(RELEASE, {"chart": str(chart)}, first)["name"] == first["name"]
        kubernetes.check(RELEASE, {"chart": str(chart), "values": {"value": UNKNOWN}, "skipAwait": True})
        kubernetes.check(RELEASE, {"chart": str(chart), "name": "small", "atomic": False, "version": "1.0.0"})


def test_a_release_that_fails_is_kept_and_the_next_update_goes_on(start, namespace, chart):
    given = {"name": "small", "namespace": namespace, "chart": str(chart), "timeout": 30}
    with start() as kubernetes:
        inputs = kubernetes.check(RELEASE, {**given, "values": {"key": "a/b"}})
        with pytest.raises(CallError, match="was created, but failed to initialize completely") as failed:
            kubernetes.create(RELEASE, inputs)
        kept = failed.value.resource
        kubernetes.read(RELEASE, kept["id"], kept["properties"], inputs)
        new = kubernetes.check(RELEASE, {**given, "values": {"key": "b"}}, inputs)
        kubernetes.diff(RELEASE, kept["properties"], inputs, new)
        updated = kubernetes.update(RELEASE, kept["id"], kept["properties"], inputs, new)
        assert updated["status"]["status"] == "deployed"
        with pytest.raises(CallError, match="failed to initialize completely"):
            kubernetes.update(RELEASE, kept["id"], updated, new, inputs)


def test_a_release_that_is_there_already_is_not_taken_over(start, namespace, chart):
    given = {"name": "small", "namespace": namespace, "chart": str(chart), "timeout": 30}
    with start() as kubernetes:
        make(kubernetes, RELEASE, given)
        with pytest.raises(CallError, match="name that is still in use"):
            kubernetes.create(RELEASE, kubernetes.check(RELEASE, given))


def test_a_release_that_is_pending_is_left_alone(start, namespace, chart, api):
    given = {"name": "small", "namespace": namespace, "chart": str(chart), "timeout": 30}
    with start() as kubernetes:
        identity, outputs, inputs = make(kubernetes, RELEASE, given)
        _mark_pending(api, namespace)
        found = kubernetes.read(RELEASE, identity, outputs, inputs)
        assert found["properties"]["status"]["status"] == "pending-upgrade"
        new = kubernetes.check(RELEASE, {**given, "values": {"value": "3"}}, inputs)
        with pytest.raises(CallError, match="another operation") as failed:
            kubernetes.update(RELEASE, identity, outputs, inputs, new)
        assert failed.value.resource is None


def test_a_release_that_is_gone_cannot_be_uninstalled(start, namespace, chart):
    given = {"name": "small", "namespace": namespace, "chart": str(chart), "timeout": 30}
    with start() as kubernetes:
        identity, outputs, inputs = make(kubernetes, RELEASE, given)
        kubernetes.delete(RELEASE, identity, outputs, inputs)
        with contextlib.suppress(CallError):
            kubernetes.delete(RELEASE, identity, outputs, inputs)


def _mark_pending(api, namespace):
    """Leave the release as an upgrade does that is killed: Helm keeps its status in the record and in a label."""
    path = f"/api/v1/namespaces/{namespace}/secrets/sh.helm.release.v1.small.v1"
    secret = api.get(path).json()
    release = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(secret["data"]["release"]))))
    release["info"]["status"] = "pending-upgrade"
    secret["metadata"]["labels"]["status"] = "pending-upgrade"
    packed = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(release).encode()))).decode()
    secret["data"]["release"] = packed
    api.put(path, json=secret).raise_for_status()
