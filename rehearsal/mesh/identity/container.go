package identity

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"time"

	identitypb "github.com/linkerd/linkerd2-proxy-api/go/identity"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"meshtrust/rehearsal/cluster/pods"
	"meshtrust/rehearsal/cluster/services"
	"meshtrust/rehearsal/mesh/adminport"
	"meshtrust/rehearsal/mesh/certify"
)

// What the chart mounts into the container.
const (
	issuerSecret = "linkerd-identity-issuer"
	issuerMount  = "/var/run/linkerd/identity/issuer"
	adminPort    = 9990
)

// missesReload is the annotation of a pod whose identity service is to miss changes of its issuer.
const missesReload = "rehearsal.meshtrust.io/misses-reload"

// errNotMounted is what keeps a container from being created: its volumes need objects that are not there.
var errNotMounted = errors.New("not mounted")

// container is the identity container of one pod, and the kubelet below it: it mounts, runs and reports.
type container struct {
	pod *corev1.Pod
	// kubelet has the rights of a kubelet, workload those of the pod's service account.
	kubelet  kubernetes.Interface
	workload kubernetes.Interface
	status   pods.Reporter
	services string
	log      *slog.Logger
}

func newContainer(config *rest.Config, pod *corev1.Pod, directory string) (*container, error) {
	kubelet, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	workload, err := kubernetes.NewForConfig(pods.As(config, pod))
	if err != nil {
		return nil, err
	}
	return &container{
		pod:      pod,
		kubelet:  kubelet,
		workload: workload,
		status:   pods.Reporter{Client: kubelet, Pod: pod, Containers: []string{containerName, certify.ProxyContainer}},
		services: directory,
		log:      slog.With("pod", pod.Name),
	}, nil
}

// start mounts the container's volumes and starts the service, as far as it has to be before it is ready.
func (running *container) start(
	ctx context.Context, anchorsText string, events record.EventRecorder,
) (*service, map[string][]byte, error) {
	files, err := running.mountIssuer(ctx)
	if err != nil {
		return nil, nil, err
	}
	parsed, err := parseSettings(running.pod, running.log)
	if err != nil {
		return nil, nil, err
	}
	anchors, err := parseAnchors(anchorsText)
	if err != nil {
		return nil, nil, fmt.Errorf("Failed to read trust anchors: %w", err) //nolint:staticcheck // the real message
	}
	serving := &service{
		settings: parsed,
		anchors:  anchors,
		tokens:   tokens{running.workload, parsed.mesh},
		events:   events,
		log:      running.log,
	}
	err = serving.tokens.checkAccess(ctx)
	if err == nil {
		err = serving.load(files)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("Failed to initialize identity service: %w", err) //nolint:staticcheck // the real message
	}
	return serving, files, nil
}

// run starts the container and runs it until its pod is gone. An error is what a container ends with.
func (running *container) run(ctx context.Context, connections *mailbox) error {
	broadcaster := record.NewBroadcaster()
	defer broadcaster.Shutdown()
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: running.workload.CoreV1().Events("")})
	events := broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: certify.ServiceName})
	anchorsText, err := running.mountAnchors(ctx)
	if err != nil {
		return err
	}
	serving, files, err := running.start(ctx, anchorsText, events)
	if err != nil {
		return err
	}
	proxy, err := running.proxy(ctx, serving, anchorsText)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return running.watchIssuer(ctx, files, serving.reload) })
	group.Go(func() error { return running.serveAdmin(ctx, serving) })
	group.Go(func() error {
		return adminport.Serve(ctx, running.services, running.pod.Namespace, running.pod.Name, proxy)
	})
	group.Go(func() error { return serve(ctx, serving, proxy, connections) })
	group.Go(func() error {
		proxy.Run(ctx, func(err error) {
			if err != nil {
				running.log.Error("Failed to obtain identity", "error", err)
			}
		})
		return nil
	})
	if err := running.status.Ready(ctx); err != nil {
		return err
	}
	if err := connections.open(); err != nil {
		return err
	}
	return group.Wait()
}

// proxy returns the pod's own proxy, which other proxies meet before the service: it shows them a leaf that this very
// service has signed.
func (running *container) proxy(ctx context.Context, serving *service, anchorsText string) (*certify.Keeper, error) {
	anchors, err := certify.ParseAnchors(anchorsText)
	if err != nil {
		return nil, err
	}
	name := serving.settings.mesh.Name(running.pod.Spec.ServiceAccountName, running.pod.Namespace)
	keeper := &certify.Keeper{
		Name:    name,
		Anchors: anchors,
		Obtain: func(ctx context.Context) (*certify.Credential, error) {
			token, err := certify.Token(ctx, running.kubelet, running.pod.Spec.ServiceAccountName, running.pod.Namespace, running.pod)
			if err != nil {
				return nil, err
			}
			return certify.Request(ctx, serving, name, token)
		},
	}
	return keeper, keeper.Renew(ctx)
}

func (running *container) mountAnchors(ctx context.Context) (string, error) {
	bundle, err := running.kubelet.CoreV1().ConfigMaps(running.pod.Namespace).
		Get(ctx, certify.AnchorsConfigMap, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "", fmt.Errorf(`%w: configmap "%s" not found`, errNotMounted, certify.AnchorsConfigMap)
	}
	if err != nil {
		return "", err
	}
	return bundle.Data[certify.AnchorsKey], nil
}

func (running *container) mountIssuer(ctx context.Context) (map[string][]byte, error) {
	secret, err := running.kubelet.CoreV1().Secrets(running.pod.Namespace).Get(ctx, issuerSecret, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf(`%w: secret "%s" not found`, errNotMounted, issuerSecret)
	}
	if err != nil {
		return nil, err
	}
	return secret.Data, nil
}

// watchIssuer calls back whenever the mounted files change. As a kubelet does, it leaves them alone when the Secret is
// deleted and when it changes in anything but its data. The real service has been seen to miss a change, and all that
// came after it (linkerd2 issue 15109); so does this one from the first change on at which its pod has the annotation.
func (running *container) watchIssuer(
	ctx context.Context, mounted map[string][]byte, changed func(map[string][]byte),
) error {
	named := fields.OneTermEqualSelector("metadata.name", issuerSecret)
	secrets := cache.NewListWatchFromClient(
		running.kubelet.CoreV1().RESTClient(), "secrets", running.pod.Namespace, named)
	missing := false
	project := func(object any) {
		secret, isSecret := object.(*corev1.Secret)
		if !isSecret || maps.EqualFunc(mounted, secret.Data, slices.Equal) {
			return
		}
		mounted = secret.Data
		missing = missing || running.missesReload(ctx)
		if missing {
			running.log.Warn("rehearsed: this change of the issuer is missed", "annotation", missesReload)
			return
		}
		changed(mounted)
	}
	_, controller := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: secrets,
		ObjectType:    &corev1.Secret{},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    project,
			UpdateFunc: func(_, object any) { project(object) },
		},
	})
	controller.RunWithContext(ctx)
	return nil
}

// missesReload tells what the pod's annotation says at this moment.
func (running *container) missesReload(ctx context.Context) bool {
	pod, err := running.kubelet.CoreV1().Pods(running.pod.Namespace).Get(ctx, running.pod.Name, metav1.GetOptions{})
	return err == nil && pod.Annotations[missesReload] == "true"
}

// serveAdmin answers for the container's admin port, under the name of its pod.
func (running *container) serveAdmin(ctx context.Context, serving *service) error {
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "issuer_cert_ttl_seconds",
		Help: "Seconds until the identity issuer that was accepted last expires.",
	}, serving.issuerSeconds))
	routes := http.NewServeMux()
	routes.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	for path, answer := range map[string]string{"/ping": "pong\n", "/ready": "ok\n"} {
		routes.HandleFunc(path, func(response http.ResponseWriter, _ *http.Request) { fmt.Fprint(response, answer) })
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	withdraw, err := services.Publish(
		running.services, running.pod.Namespace, running.pod.Name, adminPort, listener.Addr().String())
	if err != nil {
		return err
	}
	defer withdraw()
	server := &http.Server{Handler: routes, ReadHeaderTimeout: time.Minute}
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// serve answers on the connections that the pod gets, behind TLS by its proxy.
func serve(ctx context.Context, serving *service, proxy *certify.Keeper, connections net.Listener) error {
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		MinVersion:     tls.VersionTLS13,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return proxy.Certificate() },
	})))
	identitypb.RegisterIdentityServer(server, serving)
	go func() {
		<-ctx.Done()
		server.Stop()
	}()
	return server.Serve(connections)
}
