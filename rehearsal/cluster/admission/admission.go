// Package admission stands in for cert-manager's webhook, which cannot be built from cert-manager's public packages.
//
// It follows the real one where the cluster sees it: the authority in Secret cert-manager-webhook-ca, from which the CA
// injector fills in the webhook configurations, and its serving certificate are made by cert-manager's own code. It
// differs in the one thing that needs internal packages: it admits every object as it is.
package admission

import (
	"context"
	"log/slog"

	"github.com/cert-manager/cert-manager/pkg/server"
	"github.com/cert-manager/cert-manager/pkg/server/tls"
	"github.com/cert-manager/cert-manager/pkg/server/tls/authority"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"

	"meshtrust/rehearsal/cluster/daemon"
	"meshtrust/rehearsal/cluster/pods"
	"meshtrust/rehearsal/cluster/services"
)

// Names and port of cert-manager's chart (templates/webhook-service.yaml, templates/webhook-deployment.yaml).
const (
	labels      = "app.kubernetes.io/name=webhook,app.kubernetes.io/component=webhook"
	serviceName = "cert-manager-webhook"
	servicePort = 443
	authorityCA = serviceName + "-ca"
)

// NewCommand returns the program of the chart's webhook pod.
func NewCommand() *cobra.Command {
	return daemon.Serving("cert-manager-webhook", func(ctx context.Context, cluster *rest.Config, directory string) error {
		slog.Info("stand-in for cert-manager's webhook: it admits every object")
		return pods.Run(ctx, cluster, labels, func(ctx context.Context, pod *corev1.Pod) error {
			return serve(ctx, pods.As(cluster, pod), pod.Namespace, directory)
		})
	})
}

func serve(ctx context.Context, config *rest.Config, namespace, directory string) error {
	source := &tls.DynamicSource{
		DNSNames: []string{serviceName, serviceName + "." + namespace, serviceName + "." + namespace + ".svc"},
		Authority: &authority.DynamicAuthority{
			SecretNamespace: namespace,
			SecretName:      authorityCA,
			RESTConfig:      config,
		},
	}
	listener, err := server.Listen(ctx, "tcp", "127.0.0.1:0", server.WithCertificateSource(source))
	if err != nil {
		return err
	}
	withdraw, err := services.Publish(directory, namespace, serviceName, servicePort, listener.Addr().String())
	if err != nil {
		return err
	}
	defer withdraw()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return source.Start(ctx) })
	group.Go(func() error { return Serve(ctx, listener, Admit) })
	return group.Wait()
}
