package proxies

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/kubernetes/third_party/forked/golang/expansion"

	"meshtrust/rehearsal/mesh/certify"
)

// What a proxy reads from its environment (linkerd2-proxy linkerd/app/src/env.rs).
const (
	nameVariable        = "LINKERD2_PROXY_IDENTITY_LOCAL_NAME"
	serviceNameVariable = "LINKERD2_PROXY_IDENTITY_SVC_NAME"
)

// errNotMounted is what keeps a container from being created: the pod's volumes need objects that are not there.
var errNotMounted = errors.New("not mounted")

// identity is what a proxy is told when it starts, and keeps for life: who it is, and whom it trusts.
type identity struct {
	name    string
	anchors string
	mesh    certify.Mesh
}

// kubelet starts containers: it reads the objects that they refer to, once.
type kubelet struct {
	client kubernetes.Interface
}

// container returns the proxy of a pod: a native sidecar or, where the chart or a person says so, an ordinary one.
func container(pod *corev1.Pod) (corev1.Container, bool) {
	for _, candidate := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		if candidate.Name == certify.ProxyContainer {
			return candidate, true
		}
	}
	return corev1.Container{}, false
}

// start returns what the environment of a pod's proxy says at this moment.
func (starting kubelet) start(ctx context.Context, pod *corev1.Pod) (identity, error) {
	if err := starting.checkMounts(ctx, pod); err != nil {
		return identity{}, err
	}
	proxy, _ := container(pod)
	environment, err := starting.environment(ctx, pod, proxy.Env)
	if err != nil {
		return identity{}, err
	}
	for _, name := range []string{certify.AnchorsVariable, nameVariable, serviceNameVariable} {
		if environment[name] == "" {
			return identity{}, fmt.Errorf("%s is not set", name)
		}
	}
	mesh, err := meshOf(environment[serviceNameVariable])
	return identity{environment[nameVariable], environment[certify.AnchorsVariable], mesh}, err
}

// environment resolves variables as a kubelet does, as far as the charts use them.
func (starting kubelet) environment(
	ctx context.Context, pod *corev1.Pod, variables []corev1.EnvVar,
) (map[string]string, error) {
	resolved := map[string]string{}
	for _, variable := range variables {
		switch source := variable.ValueFrom; {
		case source == nil:
			resolved[variable.Name] = expansion.Expand(variable.Value, expansion.MappingFuncFor(resolved))
		case source.FieldRef != nil:
			resolved[variable.Name] = field(pod, source.FieldRef.FieldPath)
		case source.ConfigMapKeyRef != nil:
			value, err := starting.configMapKey(ctx, pod.Namespace, source.ConfigMapKeyRef)
			if err != nil {
				return nil, err
			}
			resolved[variable.Name] = value
		}
	}
	return resolved, nil
}

func field(pod *corev1.Pod, path string) string {
	switch path {
	case "metadata.name":
		return pod.Name
	case "metadata.namespace":
		return pod.Namespace
	case "spec.serviceAccountName":
		return pod.Spec.ServiceAccountName
	}
	// No variable that a proxy is known by depends on any other.
	return ""
}

func (starting kubelet) configMapKey(
	ctx context.Context, namespace string, key *corev1.ConfigMapKeySelector,
) (string, error) {
	found, err := starting.client.CoreV1().ConfigMaps(namespace).Get(ctx, key.Name, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	value, has := found.Data[key.Key]
	if !has {
		return "", fmt.Errorf("couldn't find key %s in ConfigMap %s/%s", key.Key, namespace, key.Name)
	}
	return value, nil
}

// checkMounts fails where a volume needs a Secret or a ConfigMap that is not there.
func (starting kubelet) checkMounts(ctx context.Context, pod *corev1.Pod) error {
	core := starting.client.CoreV1()
	for _, volume := range pod.Spec.Volumes {
		var err error
		switch {
		case volume.Secret != nil && !isTrue(volume.Secret.Optional):
			_, err = core.Secrets(pod.Namespace).Get(ctx, volume.Secret.SecretName, metav1.GetOptions{})
		case volume.ConfigMap != nil && !isTrue(volume.ConfigMap.Optional):
			_, err = core.ConfigMaps(pod.Namespace).Get(ctx, volume.ConfigMap.Name, metav1.GetOptions{})
		}
		if apierrors.IsNotFound(err) {
			return fmt.Errorf("%w: volume %s: %w", errNotMounted, volume.Name, err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func isTrue(value *bool) bool {
	return value != nil && *value
}

// meshOf reads the control plane's namespace and the trust domain from the name of the identity service, which is
// linkerd-identity.NAMESPACE.serviceaccount.identity.NAMESPACE.DOMAIN (charts/partials/templates/_proxy.tpl).
func meshOf(identityService string) (certify.Mesh, error) {
	parts := strings.SplitN(identityService, ".", 6)
	if len(parts) != 6 {
		return certify.Mesh{}, fmt.Errorf("%s is %q, which is no identity", serviceNameVariable, identityService)
	}
	return certify.Mesh{ControlNamespace: parts[4], TrustDomain: parts[5]}, nil
}
