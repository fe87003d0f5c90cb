// Package certmanager runs cert-manager's own controllers, and its CA injector, for the pods of its chart.
//
// What runs is the released code of cert-manager. Left out of it are the ACME and Venafi issuers and the shims for
// Ingress and Gateway, which no rehearsal needs, and leader election: there is one process.
package certmanager

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/cert-manager/cert-manager/pkg/controller"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"meshtrust/rehearsal/cluster/daemon"
	"meshtrust/rehearsal/cluster/pods"

	// Controllers and issuers register themselves.
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/approver"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/ca"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/selfsigned"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/vault"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/issuing"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/keymanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/metrics"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/readiness"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/requestmanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/revisionmanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/trigger"
	_ "github.com/cert-manager/cert-manager/pkg/controller/clusterissuers"
	_ "github.com/cert-manager/cert-manager/pkg/controller/issuers"
	_ "github.com/cert-manager/cert-manager/pkg/issuer/ca"
	_ "github.com/cert-manager/cert-manager/pkg/issuer/selfsigned"
	_ "github.com/cert-manager/cert-manager/pkg/issuer/vault"
)

// The defaults of cert-manager's command line (internal/apis/config/controller/v1alpha1/defaults.go).
const (
	workers        = 5
	minimumBackoff = time.Hour
	maximumBackoff = 32 * time.Hour
)

// NewControllerCommand returns the program of the chart's controller pod.
func NewControllerCommand() *cobra.Command {
	return podCommand("cert-manager", "app.kubernetes.io/name=cert-manager,app.kubernetes.io/component=controller", runControllers)
}

// podCommand returns a command that waits for a ready pod with the labels, runs its container and ends with the pod.
func podCommand(name, labels string, run func(context.Context, *rest.Config, *corev1.Pod) error) *cobra.Command {
	return daemon.New(name, func(ctx context.Context, cluster *rest.Config) error {
		return pods.Run(ctx, cluster, labels, func(ctx context.Context, pod *corev1.Pod) error {
			return run(ctx, pods.As(cluster, pod), pod)
		})
	})
}

func runControllers(ctx context.Context, config *rest.Config, pod *corev1.Pod) error {
	// The controllers take no client configuration, only the path of a kubeconfig.
	kubeconfig, err := writeKubeconfig(config)
	if err != nil {
		return err
	}
	defer os.RemoveAll(filepath.Dir(kubeconfig))
	factory, err := controller.NewContextFactory(ctx, controller.ContextOptions{
		Kubeconfig: kubeconfig,
		IssuerOptions: controller.IssuerOptions{
			ClusterResourceNamespace: pod.Namespace,
		},
		CertificateOptions: controller.CertificateOptions{
			CopiedAnnotationPrefixes:                 []string{"*", "-kubectl.kubernetes.io/", "-fluxcd.io/", "-argocd.argoproj.io/"},
			CertificateRequestMinimumBackoffDuration: minimumBackoff,
			CertificateRequestMaximumBackoffDuration: maximumBackoff,
		},
	})
	if err != nil {
		return err
	}
	shared, err := factory.Build()
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for name, construct := range controller.Known() {
		loop, err := construct(factory)
		if err != nil {
			return fmt.Errorf("controller %s cannot start: %w", name, err)
		}
		group.Go(func() error { return loop.Run(workers, ctx) })
	}
	// cert-manager's ACME controllers, which are left out here, follow these from the beginning. Where nobody does, the
	// first request for one may come as its definition is deleted, and the API server then never gets done with that.
	acme := shared.SharedInformerFactory.Acme().V1()
	acme.Orders().Informer()
	acme.Challenges().Informer()
	shared.SharedInformerFactory.Start(ctx.Done())
	shared.KubeSharedInformerFactory.Start(ctx.Done())
	shared.HTTP01ResourceMetadataInformersFactory.Start(ctx.Done())
	return group.Wait()
}

func writeKubeconfig(config *rest.Config) (string, error) {
	const name = "rehearsal"
	directory, err := os.MkdirTemp("", "cert-manager-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(directory, "kubeconfig")
	return path, clientcmd.WriteToFile(clientcmdapi.Config{
		CurrentContext: name,
		Contexts:       map[string]*clientcmdapi.Context{name: {Cluster: name, AuthInfo: name}},
		Clusters: map[string]*clientcmdapi.Cluster{name: {
			Server:                   config.Host,
			CertificateAuthority:     config.CAFile,
			CertificateAuthorityData: config.CAData,
		}},
		AuthInfos: map[string]*clientcmdapi.AuthInfo{name: {
			ClientCertificate:     config.CertFile,
			ClientCertificateData: config.CertData,
			ClientKey:             config.KeyFile,
			ClientKeyData:         config.KeyData,
			Impersonate:           config.Impersonate.UserName,
			ImpersonateGroups:     config.Impersonate.Groups,
		}},
	}, path)
}
