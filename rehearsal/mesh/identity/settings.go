package identity

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

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
	// arguments are all of them, as they stand.
	arguments   []string
	scheme      string
	mesh        certify.Mesh
	certificate string
	key         string
	lifetime    time.Duration
	clockSkew   time.Duration
}

// parseSettings reads the arguments of a pod's identity container (linkerd2 controller/cmd/identity/main.go).
func parseSettings(pod *corev1.Pod, log *slog.Logger) (settings, error) {
	given, found := containerArguments(pod)
	if !found {
		return settings{}, fmt.Errorf("pod %s has no container named %s", pod.Name, containerName)
	}
	arguments := map[string]string{}
	for _, argument := range given {
		name, value, _ := strings.Cut(strings.TrimLeft(argument, "-"), "=")
		arguments[name] = value
	}
	parsed := settings{
		arguments: given,
		scheme:    arguments["identity-scheme"],
		mesh: certify.Mesh{
			ControlNamespace: arguments["controller-namespace"],
			TrustDomain:      arguments["identity-trust-domain"],
		},
		certificate: corev1.TLSCertKey,
		key:         corev1.TLSPrivateKeyKey,
		lifetime:    duration(arguments["identity-issuance-lifetime"], defaultLifetime, "issuance lifetime", log),
		clockSkew:   duration(arguments["identity-clock-skew-allowance"], defaultClockSkew, "clock skew allowance", log),
	}
	if parsed.scheme == "linkerd.io/tls" {
		parsed.certificate, parsed.key = "crt.pem", "key.pem"
	}
	return parsed, nil
}

func containerArguments(pod *corev1.Pod) ([]string, bool) {
	for _, container := range pod.Spec.Containers {
		if container.Name == containerName {
			return container.Args, true
		}
	}
	return nil, false
}

// check refuses what the real program does not start with (linkerd2 controller/cmd/identity/main.go, domain.go).
func (chosen settings) check() error {
	if chosen.scheme == "" || chosen.mesh.TrustDomain == "" {
		return errors.New("Identity disabled in control plane configuration.") //nolint:staticcheck // the real message
	}
	for _, invalid := range validation.IsDNS1123Label(chosen.mesh.ControlNamespace) {
		return fmt.Errorf("Invalid trust domain: invalid label '%s': %s", chosen.mesh.ControlNamespace, invalid) //nolint:staticcheck // the real message
	}
	for _, invalid := range validation.IsDNS1123Subdomain(chosen.mesh.TrustDomain) {
		return fmt.Errorf("Invalid trust domain: invalid domain '%s': %s", chosen.mesh.TrustDomain, invalid) //nolint:staticcheck // the real message
	}
	return nil
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
