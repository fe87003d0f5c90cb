// Package injector stands in for the webhooks of Linkerd's control plane, as long as there are ready pods of the chart
// that would serve them: the proxy injector, which gives pods their proxies, and the validators of ServiceProfiles and of
// policies, which admit everything here.
//
// Rules: linkerd2 controller/webhook, controller/proxy-injector/webhook.go and pkg/inject, charts/patch. Of what is
// injected, only what tells of the proxy's identity is there; no container runs that would need the rest, such as the
// init container that leads connections to the proxy.
package injector

import (
	"context"
	"log/slog"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"meshtrust/rehearsal/cluster/admission"
	"meshtrust/rehearsal/cluster/daemon"
	"meshtrust/rehearsal/cluster/pods"
)

// Which pods serve which webhooks (charts/linkerd-control-plane/templates).
const (
	injectorPods  = "linkerd.io/control-plane-component=proxy-injector"
	validatorPods = "linkerd.io/control-plane-component=destination"
)

// NewCommand returns the program: it answers for the webhooks of a cluster until it is stopped.
func NewCommand() *cobra.Command {
	return daemon.Serving("linkerd-proxy-injector", func(ctx context.Context, cluster *rest.Config, directory string) error {
		slog.Info("stand-in for Linkerd's proxy injector and validators, for rehearsals and tests only")
		return runAll(ctx, cluster, directory)
	})
}

func runAll(ctx context.Context, config *rest.Config, directory string) error {
	// Enough for the pods of hundreds of workloads that are created at the same time.
	config = rest.CopyConfig(config)
	config.QPS, config.Burst = 200, 400
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return pods.RunService(ctx, config, injectorPods, func(ctx context.Context, current func() *corev1.Pod) error {
			deciding, err := newDecision(config, current)
			if err != nil {
				return err
			}
			served := webhook{"linkerd-proxy-injector", injectorPods, 8443, deciding.decide}
			return served.serve(ctx, config, current().Namespace, directory)
		})
	})
	for _, served := range []webhook{
		{"linkerd-sp-validator", validatorPods, 8443, admission.Admit},
		{"linkerd-policy-validator", validatorPods, 9443, admission.Admit},
	} {
		group.Go(func() error {
			return pods.RunService(ctx, config, validatorPods, func(ctx context.Context, current func() *corev1.Pod) error {
				return served.serve(ctx, config, current().Namespace, directory)
			})
		})
	}
	return group.Wait()
}

// newDecision returns how the pods of an injector decide, with the rights of their service account.
func newDecision(config *rest.Config, current func() *corev1.Pod) (*decision, error) {
	kubelet, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	workload, err := kubernetes.NewForConfig(pods.As(config, current()))
	if err != nil {
		return nil, err
	}
	return &decision{current: current, kubelet: kubelet, workload: workload}, nil
}
