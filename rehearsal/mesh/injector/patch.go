package injector

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"meshtrust/rehearsal/mesh/certify"
)

// changes are the operations of a JSON patch (RFC 6902).
type changes []change

type change struct {
	Operation string `json:"op"`
	Path      string `json:"path"`
	Value     any    `json:"value"`
}

// merge adds entries to a map, which there may not be yet.
func (list *changes) merge(path string, present, added map[string]string) {
	if len(present) == 0 {
		*list = append(*list, change{"add", path, map[string]string{}})
	}
	for _, key := range slices.Sorted(maps.Keys(added)) {
		escaped := strings.ReplaceAll(strings.ReplaceAll(key, "~", "~0"), "/", "~1")
		*list = append(*list, change{"add", path + "/" + escaped, added[key]})
	}
}

// insert adds elements at a place of a list, which there may not be yet.
func (list *changes) insert(path string, present int, place string, added ...any) {
	if present == 0 {
		*list = append(*list, change{"add", path, []any{}})
	}
	for _, element := range added {
		*list = append(*list, change{"add", path + "/" + place, element})
	}
}

// proxy returns the container (linkerd2 charts/partials/templates/_proxy.tpl), as far as it tells who the pod is, whom it
// trusts, and where to ask it.
func proxy(chosen values, controlNamespace, anchors, version string) corev1.Container {
	of := func(path string) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}
	}
	mesh := certify.Mesh{ControlNamespace: controlNamespace, TrustDomain: chosen.IdentityTrustDomain}
	container := corev1.Container{
		Name:  certify.ProxyContainer,
		Image: chosen.Proxy.Image.Name + ":" + version,
		Env: []corev1.EnvVar{
			{Name: "_pod_name", ValueFrom: of("metadata.name")},
			{Name: "_pod_ns", ValueFrom: of("metadata.namespace")},
			{Name: "_pod_sa", ValueFrom: of("spec.serviceAccountName")},
			{Name: "_l5d_ns", Value: controlNamespace},
			{Name: "_l5d_trustdomain", Value: chosen.IdentityTrustDomain},
			{Name: "LINKERD2_PROXY_IDENTITY_DIR", Value: "/var/run/linkerd/identity/end-entity"},
			// Trimmed and then written as a block scalar, which ends with a line feed.
			{Name: "LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS", Value: strings.TrimSpace(anchors) + "\n"},
			{Name: "LINKERD2_PROXY_IDENTITY_TOKEN_FILE", Value: "/var/run/secrets/tokens/linkerd-identity-token"},
			{
				Name: "LINKERD2_PROXY_IDENTITY_SVC_ADDR",
				Value: fmt.Sprintf("%s-headless.%s.svc.%s.:%d",
					certify.ServiceName, controlNamespace, chosen.ClusterDomain, certify.ServicePort),
			},
			{Name: "LINKERD2_PROXY_IDENTITY_LOCAL_NAME", Value: mesh.Name("$(_pod_sa)", "$(_pod_ns)")},
			{Name: "LINKERD2_PROXY_IDENTITY_SVC_NAME", Value: mesh.IdentityService()},
		},
		Ports: []corev1.ContainerPort{
			{Name: "linkerd-proxy", ContainerPort: 4143},
			{Name: "linkerd-admin", ContainerPort: 4191},
		},
		VolumeMounts: []corev1.VolumeMount{
			{Name: "linkerd-identity-end-entity", MountPath: "/var/run/linkerd/identity/end-entity"},
			{Name: "linkerd-identity-token", MountPath: "/var/run/secrets/tokens"},
		},
	}
	if chosen.Proxy.NativeSidecar {
		always := corev1.ContainerRestartPolicyAlways
		container.RestartPolicy = &always
	}
	return container
}

// volumes returns what the container mounts (linkerd2 charts/partials/templates/_volumes.tpl).
func volumes() []any {
	lifetime := int64(24 * 60 * 60)
	return []any{
		corev1.Volume{
			Name: "linkerd-identity-end-entity",
			VolumeSource: corev1.VolumeSource{
				EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory},
			},
		},
		corev1.Volume{
			Name: "linkerd-identity-token",
			VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
				Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
					Path: "linkerd-identity-token", Audience: certify.Audience, ExpirationSeconds: &lifetime,
				}}},
			}},
		},
	}
}
