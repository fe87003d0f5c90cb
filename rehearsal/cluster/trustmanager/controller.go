// Package trustmanager runs trust-manager's own controller and webhook for the pod of its chart.
//
// What runs is the released code of trust-manager. Left out of it are the package of public CAs, which is an image of its
// own, leader election and the ports for probes and metrics: there is one process, and nobody asks it.
package trustmanager

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"time"

	trustapi "github.com/cert-manager/trust-manager/pkg/apis/trust/v1alpha1"
	"github.com/cert-manager/trust-manager/pkg/bundle"
	bundlecontroller "github.com/cert-manager/trust-manager/pkg/bundle/controller"
	trustwebhook "github.com/cert-manager/trust-manager/pkg/webhook"
	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	ctrlmanager "sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"meshtrust/rehearsal/cluster/daemon"
	"meshtrust/rehearsal/cluster/pods"
	"meshtrust/rehearsal/cluster/services"
)

// Names and port of trust-manager's chart (templates/deployment.yaml, templates/webhook.yaml).
const (
	labels        = "app.kubernetes.io/name=trust-manager"
	containerName = "trust-manager"
	serviceName   = "trust-manager"
	servicePort   = 443
	servingTLS    = "trust-manager-tls"
)

// How often a pod looks whether what it waits for is there.
const interval = 100 * time.Millisecond

// NewCommand returns the program of the chart's pod.
func NewCommand() *cobra.Command {
	return daemon.Serving("trust-manager", func(ctx context.Context, cluster *rest.Config, directory string) error {
		ctrl.SetLogger(logr.FromSlogHandler(slog.Default().Handler()))
		return pods.Run(ctx, cluster, labels, func(ctx context.Context, pod *corev1.Pod) error {
			return run(ctx, cluster, pod, directory)
		})
	})
}

func run(ctx context.Context, config *rest.Config, pod *corev1.Pod, directory string) error {
	known := runtime.NewScheme()
	if err := scheme.AddToScheme(known); err != nil {
		return err
	}
	if err := trustapi.AddToScheme(known); err != nil {
		return err
	}
	// A pod's program knows its sources' namespace by its arguments; this one's chart takes that of the pod.
	options := bundlecontroller.Options{Namespace: pod.Namespace}
	host, port, err := freeAddress()
	if err != nil {
		return err
	}
	kubelet, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	status := pods.Reporter{Client: kubelet, Pod: pod, Containers: []string{containerName}}
	if err := waitMounted(ctx, kubelet, status); err != nil {
		return err
	}
	manager, err := ctrl.NewManager(pods.As(config, pod), ctrl.Options{
		Scheme:                 known,
		HealthProbeBindAddress: "0",
		Metrics:                server.Options{BindAddress: "0"},
		Cache:                  bundle.CacheOpts(options),
		WebhookServer: webhook.NewServer(webhook.Options{
			Host: host, Port: port, TLSOpts: []func(*tls.Config){mounted(ctx, kubelet, pod.Namespace)},
		}),
	})
	if err != nil {
		return err
	}
	if err := bundle.SetupWithManager(ctx, manager, options); err != nil {
		return err
	}
	if err := trustwebhook.SetupWebhookWithManager(manager); err != nil {
		return err
	}
	address := (&net.TCPAddr{IP: net.ParseIP(host), Port: port}).String()
	withdraw, err := services.Publish(directory, pod.Namespace, serviceName, servicePort, address)
	if err != nil {
		return err
	}
	defer withdraw()
	err = manager.Add(ctrlmanager.RunnableFunc(func(ctx context.Context) error {
		return reportReady(ctx, manager.GetWebhookServer().StartedChecker(), status)
	}))
	if err != nil {
		return err
	}
	return manager.Start(ctx)
}

// waitMounted waits until there is the Secret that the pod mounts, as a kubelet does before it starts the container.
func waitMounted(ctx context.Context, kubelet kubernetes.Interface, status pods.Reporter) error {
	for told := false; ; told = true {
		_, err := kubelet.CoreV1().Secrets(status.Pod.Namespace).Get(ctx, servingTLS, metav1.GetOptions{})
		if err == nil || !apierrors.IsNotFound(err) {
			return err
		}
		if !told {
			if err := status.Waiting(ctx, "ContainerCreating", err); err != nil {
				return err
			}
		}
		if err := sleep(ctx); err != nil {
			return err
		}
	}
}

// reportReady says that the pod is ready once its webhook answers.
func reportReady(ctx context.Context, answers healthz.Checker, status pods.Reporter) error {
	for answers(nil) != nil {
		if err := sleep(ctx); err != nil {
			return err
		}
	}
	return status.Ready(ctx)
}

func sleep(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(interval):
		return nil
	}
}

// mounted has the webhook serve the certificate of the Secret that the pod mounts, as it is at the moment of a call.
func mounted(ctx context.Context, kubelet kubernetes.Interface, namespace string) func(*tls.Config) {
	return func(config *tls.Config) {
		config.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			secret, err := kubelet.CoreV1().Secrets(namespace).Get(ctx, servingTLS, metav1.GetOptions{})
			if err != nil {
				return nil, err
			}
			pair, err := tls.X509KeyPair(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
			return &pair, err
		}
	}
}

func freeAddress() (host string, port int, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", 0, err
	}
	address := listener.Addr().(*net.TCPAddr)
	return address.IP.String(), address.Port, listener.Close()
}
