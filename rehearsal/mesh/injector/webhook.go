package injector

import (
	"context"
	"crypto/tls"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"meshtrust/rehearsal/cluster/admission"
	"meshtrust/rehearsal/cluster/pods"
	"meshtrust/rehearsal/cluster/services"
)

const servicePort = 443

// webhook is one of the chart's: its Service has its name, and its certificate is in the Secret NAME-k8s-tls. Every ready
// pod with the labels answers on the port.
type webhook struct {
	name   string
	labels string
	port   int
	decide admission.Decide
}

// serve answers for the webhook until the context ends.
func (served webhook) serve(ctx context.Context, config *rest.Config, namespace, directory string) error {
	kubelet, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	var current atomic.Pointer[tls.Certificate]
	loaded := make(chan struct{}, 1)
	go served.watch(ctx, kubelet, namespace, func(certificate *tls.Certificate) {
		current.Store(certificate)
		select {
		case loaded <- struct{}{}:
		default:
		}
	})
	// The real container is not started before its Secret is there, and ends where it cannot be used.
	select {
	case <-ctx.Done():
		return nil
	case <-loaded:
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		MinVersion:     tls.VersionTLS13,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return current.Load(), nil },
		NextProtos:     []string{"http/1.1"},
	})
	if err != nil {
		return err
	}
	withdraw, err := services.Publish(directory, namespace, served.name, servicePort, listener.Addr().String())
	if err != nil {
		return err
	}
	defer withdraw()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return served.publishPods(ctx, kubelet, namespace, directory, listener.Addr().String()) })
	slog.Info("serving", "webhook", served.name, "namespace", namespace)
	group.Go(func() error { return admission.Serve(ctx, listener, served.decide) })
	return group.Wait()
}

// publishPods has the address answer for each pod's own port too, where a port forwarding asks for it.
func (served webhook) publishPods(
	ctx context.Context, kubelet kubernetes.Interface, namespace, directory, address string,
) error {
	published := map[string]func(){}
	defer func() {
		for _, withdraw := range published {
			withdraw()
		}
	}()
	publish := func(pod *corev1.Pod) {
		if pod.Namespace != namespace || published[pod.Name] != nil {
			return
		}
		withdraw, err := services.Publish(directory, namespace, pod.Name, served.port, address)
		if err != nil {
			slog.Error("a pod's port cannot be published", "pod", pod.Name, "error", err)
			return
		}
		published[pod.Name] = withdraw
	}
	return pods.Watch(ctx, kubelet, pods.Labelled(served.labels), publish, func(pod *corev1.Pod) {
		if withdraw := published[pod.Name]; withdraw != nil && pod.Namespace == namespace {
			withdraw()
			delete(published, pod.Name)
		}
	})
}

// watch hands over the certificate whenever it changes; one that cannot be used is passed over, with a warning (linkerd2
// pkg/tls/creds_watcher.go).
func (served webhook) watch(
	ctx context.Context, kubelet kubernetes.Interface, namespace string, use func(*tls.Certificate),
) {
	named := fields.OneTermEqualSelector("metadata.name", served.name+"-k8s-tls")
	load := func(object any) {
		secret, isSecret := object.(*corev1.Secret)
		if !isSecret {
			return
		}
		certificate, err := tls.X509KeyPair(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
		if err != nil {
			slog.Warn("Skipping update as cert could not be read from disk", "webhook", served.name, "error", err)
			return
		}
		slog.Info("Updated certificate", "webhook", served.name, "until", certificate.Leaf.NotAfter.Format(time.RFC3339))
		use(&certificate)
	}
	_, controller := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.NewListWatchFromClient(kubelet.CoreV1().RESTClient(), "secrets", namespace, named),
		ObjectType:    &corev1.Secret{},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    load,
			UpdateFunc: func(_, object any) { load(object) },
		},
	})
	controller.RunWithContext(ctx)
}
