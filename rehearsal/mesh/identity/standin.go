package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"

	"meshtrust/rehearsal/mesh/certify"
)

// standIn is the stand-in for the program of the container.
type standIn struct {
	*service
	broadcaster record.EventBroadcaster
	listener    net.Listener
}

// startStandIn starts the stand-in, as far as it has to be before it is ready. Nothing of it is left behind by an error.
func startStandIn(
	ctx context.Context, chosen settings, mounts mounted, client kubernetes.Interface, log *slog.Logger,
) (*standIn, error) {
	// What is wrong is told in the order of the real program.
	if err := chosen.check(); err != nil {
		return nil, err
	}
	anchors, err := parseAnchors(mounts.anchors)
	if err != nil {
		return nil, fmt.Errorf("Failed to read trust anchors: %w", err) //nolint:staticcheck // the real message
	}
	broadcaster := record.NewBroadcaster()
	serving := &service{
		settings: chosen,
		anchors:  anchors,
		tokens:   tokens{client, chosen.mesh},
		events:   broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: certify.ServiceName}),
		log:      log,
	}
	err = serving.tokens.checkAccess(ctx)
	if err == nil {
		err = serving.load(mounts.issuer)
	}
	if err != nil {
		broadcaster.Shutdown()
		return nil, fmt.Errorf("Failed to initialize identity service: %w", err) //nolint:staticcheck // the real message
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		broadcaster.Shutdown()
		return nil, err
	}
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: client.CoreV1().Events("")})
	return &standIn{service: serving, broadcaster: broadcaster, listener: listener}, nil
}

func (standing *standIn) adminAddress() string {
	return standing.listener.Addr().String()
}

func (standing *standIn) remounted(issuer map[string][]byte) error {
	standing.reload(issuer)
	return nil
}

// run answers for the admin port until the context ends.
func (standing *standIn) run(ctx context.Context) error {
	defer standing.broadcaster.Shutdown()
	server := &http.Server{Handler: standing.routes(), ReadHeaderTimeout: time.Minute}
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	if err := server.Serve(standing.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// routes are those of linkerd2 pkg/admin/admin.go.
func (standing *standIn) routes() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "issuer_cert_ttl_seconds",
			Help: "The remaining seconds until the issuer certificate expires",
		}, standing.issuerSeconds),
	)
	routes := http.NewServeMux()
	routes.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	for path, answer := range map[string]string{"/ping": "pong\n", "/ready": "ok\n"} {
		routes.HandleFunc(path, func(response http.ResponseWriter, _ *http.Request) { fmt.Fprint(response, answer) })
	}
	return routes
}
