"""The kubernetes plugin without a cluster that answers, compared with the real plugin."""

import json

import pytest

from rehearsal.providers.values import UNKNOWN, Secret
from tests.kubeconfigs import write_kubeconfig
from tests.providers.workbench import CallError, kinds_of

CONFIG_MAP = "kubernetes:core/v1:ConfigMap"
SECRET = "kubernetes:core/v1:Secret"
RELEASE = "kubernetes:helm.sh/v3:Release"
CERTIFICATE = "kubernetes:cert-manager.io/v1:Certificate"
MAP: dict = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "it", "namespace": "shop"},
    "data": {"a": "1"},
}
LIVE: dict = {**MAP, "metadata": {**MAP["metadata"], "uid": "11111111-1111-1111-1111-111111111111"}}
STATE: dict = {**LIVE, "__inputs": MAP, "__initialApiVersion": "v1", "__fieldManager": "pulumi-kubernetes-01234567"}


@pytest.fixture(params=kinds_of("kubernetes"))
def start(request, compared, masks, tmp_path):
    """Run a plugin that is configured for a cluster at which nobody answers."""
    kubeconfig = write_kubeconfig(tmp_path / "config", {}, namespace="default")
    masks.name(kubeconfig, "kubeconfig")

    def run(environment=None, **config):
        return compared("kubernetes", request.param, {"PULUMI_K8S_DELETE_UNREACHABLE": "", **(environment or {})}), {
            "kubeconfig": kubeconfig,
            "context": "dev",
            **config,
        }

    return run


def test_a_preview_goes_on_without_a_cluster(start):
    plugin, config = start()
    with plugin as kubernetes:
        kubernetes.configure(**config)
        inputs = kubernetes.check(CONFIG_MAP, MAP)
        assert kubernetes.create(CONFIG_MAP, inputs, preview=True)[0] == ""
        assert kubernetes.diff(CONFIG_MAP, STATE, MAP, MAP)["changes"] == "DIFF_NONE"
        changed = {**MAP, "data": {"a": "2", "b": "3"}}
        assert kubernetes.diff(CONFIG_MAP, STATE, MAP, changed)["deleteBeforeReplace"]
        kubernetes.update(CONFIG_MAP, "shop/it", STATE, MAP, changed, preview=True)


def test_everything_but_a_preview_needs_the_cluster(start):
    plugin, config = start()
    with plugin as kubernetes:
        kubernetes.configure(**config)
        with pytest.raises(CallError, match="cluster is unreachable"):
            kubernetes.create(CONFIG_MAP, MAP)
        with pytest.raises(CallError, match="cluster is unreachable"):
            kubernetes.update(CONFIG_MAP, "shop/it", STATE, MAP, {**MAP, "data": {"a": "2"}})
        with pytest.raises(CallError, match="PULUMI_K8S_DELETE_UNREACHABLE"):
            kubernetes.delete(CONFIG_MAP, "shop/it", STATE, MAP)
        with pytest.raises(CallError, match="PULUMI_K8S_DELETE_UNREACHABLE"):
            kubernetes.read(CONFIG_MAP, "shop/it", STATE, MAP)


def test_what_was_on_a_cluster_that_is_gone_can_be_taken_out_of_the_state(start):
    plugin, config = start({"PULUMI_K8S_DELETE_UNREACHABLE": "true"})
    with plugin as kubernetes:
        kubernetes.configure(**config)
        kubernetes.delete(CONFIG_MAP, "shop/it", STATE, MAP)
        assert kubernetes.read(CONFIG_MAP, "shop/it", STATE, MAP) is None


def test_releases_need_the_cluster_too(start, masks, tmp_path):
    masks.name(str(tmp_path), "directory")
    (tmp_path / "chart").mkdir()
    (tmp_path / "chart/Chart.yaml").write_text("{apiVersion: v2, name: small, version: 1.0.0}")
    plugin, config = start()
    with plugin as kubernetes:
        kubernetes.configure(**config)
        given = {"chart": str(tmp_path / "chart"), "name": "small", "namespace": "shop", "values": {"a": Secret("b")}}
        inputs = kubernetes.check(RELEASE, given)
        kubernetes.create(RELEASE, inputs, preview=True)
        for call in (
            lambda: kubernetes.create(RELEASE, inputs),
            lambda: kubernetes.update(RELEASE, "shop/small", inputs, inputs, inputs),
            lambda: kubernetes.read(RELEASE, "shop/small", inputs, inputs),
            lambda: kubernetes.delete(RELEASE, "shop/small", inputs, inputs),
        ):
            with pytest.raises(CallError, match="unreachable"):
                call()


def test_a_release_on_a_cluster_that_is_gone_is_not_taken_out_of_the_state_by_a_destroy(start):
    plugin, config = start({"PULUMI_K8S_DELETE_UNREACHABLE": "true"})
    with plugin as kubernetes:
        kubernetes.configure(**config)
        state = {"name": "small", "namespace": "shop", "chart": "small"}
        with pytest.raises(CallError, match="unreachable"):
            kubernetes.delete(RELEASE, "shop/small", state, state)
        assert kubernetes.read(RELEASE, "shop/small", state, state) is None


def test_a_secret_is_brought_into_the_form_of_the_api_server_and_stays_secret(start):
    plugin, config = start()
    with plugin as kubernetes:
        kubernetes.configure(**config)
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "it"}, "type": "Opaque"}
        kubernetes.check(SECRET, {**secret, "stringData": {"a": "b"}})
        kubernetes.check(SECRET, {**secret, "stringData": Secret({"a": "b"}), "data": {"c": "ZA=="}})
        kubernetes.check(SECRET, {**secret, "data": {"c": Secret("ZA==\n")}})
        kubernetes.check(SECRET, {**secret, "stringData": {"a": UNKNOWN}})
        kubernetes.check(SECRET, {**secret, "stringData": Secret(UNKNOWN)})
        checked = kubernetes.check(CONFIG_MAP, {**MAP, "data": {"a": Secret("b"), "c": "d"}})
        assert checked["data"] == {"a": Secret("b"), "c": "d"}


def test_what_has_no_name_gets_one_and_keeps_it(start):
    plugin, config = start()
    with plugin as kubernetes:
        kubernetes.configure(**config)
        unnamed = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"labels": {"a": "b"}}}
        first = kubernetes.check(CONFIG_MAP, unnamed)
        assert kubernetes.check(CONFIG_MAP, unnamed, first)["metadata"]["name"] == first["metadata"]["name"]
        kubernetes.check(CONFIG_MAP, {"apiVersion": "v1", "kind": "ConfigMap"})
        kubernetes.check(CONFIG_MAP, {**unnamed, "metadata": {"name": "given"}}, first)
        kubernetes.check(CONFIG_MAP, {**unnamed, "metadata": {"name": UNKNOWN}})
        kubernetes.check(CERTIFICATE, {"apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": {}})


def test_what_the_api_cannot_take_is_refused(start):
    plugin, config = start()
    with plugin as kubernetes:
        kubernetes.configure(**config)
        for type_, kind, metadata in (
            ("kubernetes:core/v1:ConfigMapList", "ConfigMapList", {}),
            (CONFIG_MAP, "ConfigMap", {"generateName": "it-"}),
            ("kubernetes:core/v1:ConfigMapPatch", "ConfigMap", {}),
        ):
            with pytest.raises(CallError):
                kubernetes.check(type_, {"apiVersion": "v1", "kind": kind, "metadata": metadata})


def test_another_cluster_replaces_the_provider_and_another_path_to_it_does_not(start, tmp_path):
    plugin, config = start()
    path = config["kubeconfig"]
    content = (tmp_path / "config").read_text()
    other = json.dumps(
        {**json.loads(content), "clusters": [{"name": "dev", "cluster": {"server": "https://127.0.0.2"}}]}
    )
    with plugin as kubernetes:
        kubernetes.check_config({}, config)
        for old, new in (
            (config, config),
            (config, {**config, "kubeconfig": content}),
            (config, {**config, "kubeconfig": other}),
            ({**config, "kubeconfig": content}, {**config, "kubeconfig": other}),
            (config, {**config, "context": "none"}),
            (config, {"kubeconfig": path}),
            (config, {**config, "kubeconfig": UNKNOWN}),
            (config, {**config, "enableSecretMutable": True}),
            (config, {**config, "namespace": "shop"}),
            ({**config, "clusterIdentifier": "a"}, {**config, "clusterIdentifier": "b"}),
            ({**config, "clusterIdentifier": "a"}, {**config, "kubeconfig": other, "clusterIdentifier": "a"}),
            (config, {**config, "clusterIdentifier": "a"}),
            ({**config, "version": "4.0.0"}, {**config, "version": "4.34.2"}),
        ):
            kubernetes.diff_config(old, new)
        for old, new in ((config, {**config, "kubeconfig": "{nonsense"}),):
            with pytest.raises(CallError):
                kubernetes.diff_config(old, new)
