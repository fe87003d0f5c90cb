package identity

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"meshtrust/rehearsal/mesh/certify"
)

// containerName is the chart's name for the container that this program stands in for.
const containerName = "identity"

// The defaults of the real program (linkerd2 pkg/identity/service.go, pkg/tls/ca.go); the chart sets both.
const (
	defaultLifetime  = 24 * time.Hour
	defaultClockSkew = 10 * time.Second
)

// settings are the arguments of the container, read from its pod, so that the values of the chart count.
type settings struct {
	mesh        certify.Mesh
	certificate string
	key         string
	lifetime    time.Duration
	clockSkew   time.Duration
}

// parseSettings reads the arguments of a pod's identity container (linkerd2 controller/cmd/identity/main.go).
func parseSettings(pod *corev1.Pod, log *slog.Logger) (settings, error) {
	arguments, found := containerArguments(pod)
	if !found {
		return settings{}, fmt.Errorf("pod %s has no container named %s", pod.Name, containerName)
	}
	parsed := settings{
		mesh: certify.Mesh{
			ControlNamespace: arguments["controller-namespace"],
			TrustDomain:      arguments["identity-trust-domain"],
		},
		certificate: corev1.TLSCertKey,
		key:         corev1.TLSPrivateKeyKey,
		lifetime:    duration(arguments["identity-issuance-lifetime"], defaultLifetime, "issuance lifetime", log),
		clockSkew:   duration(arguments["identity-clock-skew-allowance"], defaultClockSkew, "clock skew allowance", log),
	}
	if arguments["identity-scheme"] == "linkerd.io/tls" {
		parsed.certificate, parsed.key = "crt.pem", "key.pem"
	}
	return parsed, nil
}

func containerArguments(pod *corev1.Pod) (map[string]string, bool) {
	for _, container := range pod.Spec.Containers {
		if container.Name != containerName {
			continue
		}
		arguments := map[string]string{}
		for _, argument := range container.Args {
			name, value, _ := strings.Cut(strings.TrimLeft(argument, "-"), "=")
			arguments[name] = value
		}
		return arguments, true
	}
	return nil, false
}

// duration reads one, and takes the default for what is none: the real program warns and goes on too.
func duration(text string, standard time.Duration, what string, log *slog.Logger) time.Duration {
	if text == "" {
		return standard
	}
	parsed, err := time.ParseDuration(text)
	if err != nil {
		log.Warn(fmt.Sprintf("Invalid %s: %s", what, err))
		return standard
	}
	return parsed
}
