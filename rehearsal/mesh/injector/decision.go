package injector

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"meshtrust/rehearsal/mesh/certify"
)

// What a pod or its namespace says about injection (linkerd2 pkg/k8s/labels.go).
const (
	injectAnnotation = "linkerd.io/inject"
	enabled          = "enabled"
	ingress          = "ingress"
	disabled         = "disabled"
)

// mountsAnnotation names, on a pod of the injector, the ConfigMap that its file of trusted roots is made from: a copy of
// the bundle's, as long as a kubelet has not brought a change of the bundle into the pod.
const mountsAnnotation = "rehearsal.meshtrust.io/mounts-bundle"

const (
	valuesConfigMap = "linkerd-config"
	valuesKey       = "values"
)

// decision decides what becomes of a new pod.
type decision struct {
	// current returns a pod of the injector.
	current func() *corev1.Pod
	// kubelet has the rights of the kubelet that mounts the injector's volumes, workload those of its service account.
	kubelet  kubernetes.Interface
	workload kubernetes.Interface
}

// values are those of the chart that the injector reads, from the ConfigMap in which the chart leaves them.
type values struct {
	LinkerdVersion      string `json:"linkerdVersion"`
	ClusterDomain       string `json:"clusterDomain"`
	IdentityTrustDomain string `json:"identityTrustDomain"`
	Proxy               struct {
		Image struct {
			Name    string `json:"name"`
			Version string `json:"version"`
		} `json:"image"`
		NativeSidecar bool `json:"nativeSidecar"`
		Await         bool `json:"await"`
	} `json:"proxy"`
}

// decide injects a pod that asks for it and admits everything else as it is.
func (deciding *decision) decide(
	ctx context.Context, request *admissionv1.AdmissionRequest,
) (*admissionv1.AdmissionResponse, error) {
	admitted := &admissionv1.AdmissionResponse{Allowed: true}
	if request.Kind.Kind != "Pod" {
		// The real one may annotate a Service with its opaque ports.
		return admitted, nil
	}
	var pod corev1.Pod
	if err := json.Unmarshal(request.Object.Raw, &pod); err != nil {
		return nil, err
	}
	pod.Namespace = request.Namespace
	namespace, err := deciding.workload.CoreV1().Namespaces().Get(ctx, request.Namespace, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	if reasons := skipped(&pod, namespace); len(reasons) > 0 {
		slog.Info("skipped", "namespace", pod.Namespace, "pod", pod.Name+pod.GenerateName, "reason", reasons)
		return admitted, nil
	}
	patch, err := deciding.patch(ctx, &pod)
	if err != nil {
		return nil, err
	}
	slog.Info("injected", "namespace", pod.Namespace, "pod", pod.Name+pod.GenerateName)
	jsonPatch := admissionv1.PatchTypeJSONPatch
	admitted.PatchType, admitted.Patch = &jsonPatch, patch
	return admitted, nil
}

// skipped returns why a pod gets no proxy (linkerd2 pkg/inject/report.go, pkg/healthcheck/sidecar.go).
func skipped(pod *corev1.Pod, namespace *corev1.Namespace) []string {
	var reasons []string
	if pod.Spec.HostNetwork {
		reasons = append(reasons, "hostNetwork is enabled")
	}
	if slices.ContainsFunc(slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers), isSidecar) {
		reasons = append(reasons, "pod has a sidecar injected already")
	}
	if reason := notAsked(pod.Annotations[injectAnnotation], namespace.Annotations[injectAnnotation]); reason != "" {
		reasons = append(reasons, reason)
	}
	return reasons
}

func isSidecar(container corev1.Container) bool {
	return slices.Contains([]string{certify.ProxyContainer, "linkerd-init", "istio-proxy", "istio-init"}, container.Name)
}

// notAsked returns why nobody asks for a proxy. The pod decides, and the namespace where the pod says nothing.
func notAsked(pod, namespace string) string {
	valid := []string{"", enabled, ingress, disabled}
	asks := func(annotation string) bool { return annotation == enabled || annotation == ingress }
	switch {
	case !slices.Contains(valid, namespace):
		return fmt.Sprintf("invalid value for annotation %q at namespace", injectAnnotation)
	case !slices.Contains(valid, pod):
		return fmt.Sprintf("invalid value for annotation %q at workload", injectAnnotation)
	case asks(namespace) && pod == disabled:
		return fmt.Sprintf("pod has the annotation \"%s:%s\"", injectAnnotation, disabled)
	case !asks(namespace) && !asks(pod):
		return fmt.Sprintf("neither the namespace nor the pod have the annotation \"%s:%s\"", injectAnnotation, enabled)
	}
	return ""
}

// patch returns the JSON patch that gives a pod its proxy (linkerd2 charts/patch/templates/patch.json).
func (deciding *decision) patch(ctx context.Context, pod *corev1.Pod) ([]byte, error) {
	source := certify.AnchorsConfigMap
	if other := deciding.current().Annotations[mountsAnnotation]; other != "" {
		source = other
	}
	anchors, err := deciding.mounted(ctx, source, certify.AnchorsKey)
	if err != nil {
		return nil, err
	}
	if strings.TrimSpace(anchors) == "" {
		return nil, errors.New("Please provide the identity trust anchors") //nolint:staticcheck // the real message
	}
	chosen, err := deciding.values(ctx)
	if err != nil {
		return nil, err
	}
	version := chosen.Proxy.Image.Version
	if version == "" {
		version = chosen.LinkerdVersion
	}
	controlNamespace := deciding.current().Namespace
	labels := map[string]string{
		"linkerd.io/control-plane-ns": controlNamespace,
		"linkerd.io/workload-ns":      pod.Namespace,
	}
	if kind, name := deciding.owner(ctx, pod); slices.Contains(labelled, kind) {
		labels["linkerd.io/proxy-"+kind] = name
	}
	changes := changes{}
	changes.merge("/metadata/annotations", pod.Annotations, map[string]string{
		"linkerd.io/created-by":        "linkerd/proxy-injector " + version,
		"linkerd.io/proxy-version":     version,
		"linkerd.io/trust-root-sha256": fmt.Sprintf("%x", sha256.Sum256([]byte(anchors))),
	})
	changes.merge("/metadata/labels", pod.Labels, labels)
	changes.insert("/spec/volumes", len(pod.Spec.Volumes), "-", volumes()...)
	container := proxy(chosen, controlNamespace, anchors, version)
	switch {
	case chosen.Proxy.NativeSidecar:
		changes.insert("/spec/initContainers", len(pod.Spec.InitContainers), "0", container)
	case chosen.Proxy.Await:
		changes.insert("/spec/containers", len(pod.Spec.Containers), "0", container)
	default:
		changes.insert("/spec/containers", len(pod.Spec.Containers), "-", container)
	}
	return json.Marshal(changes)
}

// mounted returns what a file of the injector's pod holds. The real one reads the file at every injection, too.
func (deciding *decision) mounted(ctx context.Context, configMap, key string) (string, error) {
	found, err := deciding.kubelet.CoreV1().ConfigMaps(deciding.current().Namespace).
		Get(ctx, configMap, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	return found.Data[key], nil
}

func (deciding *decision) values(ctx context.Context) (values, error) {
	text, err := deciding.mounted(ctx, valuesConfigMap, valuesKey)
	if err != nil {
		return values{}, err
	}
	var chosen values
	if err := yaml.Unmarshal([]byte(text), &chosen); err != nil {
		return values{}, fmt.Errorf("ConfigMap %s cannot be read: %w", valuesConfigMap, err)
	}
	if chosen.IdentityTrustDomain == "" {
		chosen.IdentityTrustDomain = chosen.ClusterDomain
	}
	return chosen, nil
}

// labelled are the kinds of owner that a pod gets a label for (linkerd2 pkg/inject/inject.go, populateMeta).
var labelled = []string{"daemonset", "deployment", "job", "replicaset", "replicationcontroller", "statefulset"}

// owner returns the kind and the name of the workload that a pod belongs to (linkerd2 controller/k8s/metadata_api.go).
func (deciding *decision) owner(ctx context.Context, pod *corev1.Pod) (kind, name string) {
	if len(pod.OwnerReferences) != 1 {
		return "pod", pod.Name
	}
	parent := pod.OwnerReferences[0]
	var above []metav1.OwnerReference
	switch parent.Kind {
	case "ReplicaSet":
		if set, err := deciding.workload.AppsV1().ReplicaSets(pod.Namespace).
			Get(ctx, parent.Name, metav1.GetOptions{}); err == nil {
			above = set.OwnerReferences
		}
	case "Job":
		if job, err := deciding.workload.BatchV1().Jobs(pod.Namespace).
			Get(ctx, parent.Name, metav1.GetOptions{}); err == nil {
			above = job.OwnerReferences
		}
	}
	if len(above) == 1 {
		parent = above[0]
	}
	return strings.ToLower(parent.Kind), parent.Name
}
