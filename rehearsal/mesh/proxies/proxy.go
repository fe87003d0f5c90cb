package proxies

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"

	"meshtrust/rehearsal/cluster/pods"
	"meshtrust/rehearsal/cluster/services"
	"meshtrust/rehearsal/mesh/adminport"
	"meshtrust/rehearsal/mesh/certify"
)

// inboundPort is that of the chart (value proxy.ports.inbound).
const inboundPort = 4143

// A proxy that gets no certificate tries again after a while, twice as long each time, and so does the kubelet with a
// container that cannot be started. Real ones wait for longer.
const (
	firstRetry = 200 * time.Millisecond
	lastRetry  = 2 * time.Second
)

// How long a peer may take for its part of a connection.
const connectionTimeout = 10 * time.Second

// proxy is the proxy of one pod, for as long as the pod exists.
type proxy struct {
	pod    *corev1.Pod
	status pods.Reporter
	// gone is over when the pod is.
	gone context.Context
	log  *slog.Logger

	keeper *certify.Keeper
	// inbound is where it listens for the proxies of other pods.
	inbound string
	server  *tls.Config
}

// key is what a pod is called in reports.
func key(pod *corev1.Pod) string {
	return pod.Namespace + "/" + pod.Name
}

// run keeps the proxy running until its pod is gone. One that ends is started anew, and reads its environment again.
func (running *proxy) run(shared *process) {
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		err := running.runOnce(shared)
		if running.gone.Err() != nil {
			return
		}
		running.log.Error("the proxy ended", "error", err)
		running.report(running.status.Crashed(running.gone, err))
		running.sleep(wait)
	}
}

func (running *proxy) runOnce(shared *process) error {
	told, err := running.start(shared)
	if err != nil {
		return err
	}
	anchors, err := certify.ParseAnchors(told.anchors)
	if err != nil {
		return err
	}
	running.keeper = &certify.Keeper{
		Name:    told.name,
		Anchors: anchors,
		Obtain: func(ctx context.Context) (*certify.Credential, error) {
			return running.obtain(ctx, shared, told, anchors)
		},
	}
	running.server = running.serverConfig()
	group, ctx := errgroup.WithContext(running.gone)
	group.Go(func() error {
		return adminport.Serve(ctx, shared.services, running.pod.Namespace, running.pod.Name, running.keeper,
			map[string]string{certify.AnchorsVariable: told.anchors})
	})
	group.Go(func() error { return running.work(ctx, shared) })
	return group.Wait()
}

// start waits until the container can be started, and returns what it is told.
func (running *proxy) start(shared *process) (identity, error) {
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		told, err := shared.kubelet.start(running.gone, running.pod)
		if err == nil || running.gone.Err() != nil {
			return told, errors.Join(err, running.gone.Err())
		}
		reason := "CreateContainerConfigError"
		if errors.Is(err, errNotMounted) {
			reason = "ContainerCreating"
		}
		running.report(running.status.Waiting(running.gone, reason, err))
		running.sleep(wait)
	}
}

// work gets the first certificate, and then takes part in the mesh until the pod is gone.
func (running *proxy) work(ctx context.Context, shared *process) error {
	renewed := func(err error) {
		if err != nil {
			running.log.Error("Failed to obtain identity", "error", err)
		}
		shared.traffic.renewed(key(running.pod), err)
	}
	for wait := firstRetry; running.keeper.Current() == nil; wait = min(2*wait, lastRetry) {
		err := running.keeper.Renew(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		renewed(err)
		if err != nil {
			running.report(running.status.NotReady(ctx))
			running.sleep(wait)
		}
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer listener.Close()
	running.inbound = listener.Addr().String()
	withdraw, err := services.Publish(
		shared.services, running.pod.Namespace, running.pod.Name, inboundPort, running.inbound)
	if err != nil {
		return err
	}
	defer withdraw()
	go running.accept(listener)
	for err := running.status.Ready(ctx); err != nil && ctx.Err() == nil; err = running.status.Ready(ctx) {
		running.report(err)
		running.sleep(firstRetry)
	}
	shared.traffic.join(running)
	defer shared.traffic.leave(running)
	running.keeper.Run(ctx, renewed)
	return ctx.Err()
}

// obtain asks the identity service for a leaf, with the pod's own token.
func (running *proxy) obtain(
	ctx context.Context, shared *process, told identity, anchors *x509.CertPool,
) (*certify.Credential, error) {
	ctx, stop := context.WithTimeout(ctx, connectionTimeout)
	defer stop()
	token, err := certify.Token(
		ctx, shared.kubelet.client, running.pod.Spec.ServiceAccountName, running.pod.Namespace, running.pod)
	if err != nil {
		return nil, err
	}
	address, err := services.Lookup(
		shared.services, told.mesh.ControlNamespace, certify.ServiceName, certify.ServicePort)
	if err != nil {
		return nil, err
	}
	connection, err := certify.Dial(address, anchors, told.mesh)
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	return certify.Request(ctx, connection, told.name, token)
}

// serverConfig is TLS as a proxy meets another: each shows a leaf, and checks the other's under its own anchors. There
// are no tickets: every connection is a handshake of its own.
func (running *proxy) serverConfig() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		CurvePreferences:       curves,
		ClientAuth:             tls.RequireAndVerifyClientCert,
		ClientCAs:              running.keeper.Anchors,
		SessionTicketsDisabled: true,
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return running.keeper.Certificate() },
		VerifyConnection: func(state tls.ConnectionState) error {
			if len(state.PeerCertificates[0].DNSNames) != 1 {
				return errors.New("the client's certificate has no identity")
			}
			return nil
		},
	}
}

func (running *proxy) clientConfig(target string) *tls.Config {
	return &tls.Config{
		MinVersion:       tls.VersionTLS13,
		CurvePreferences: curves,
		RootCAs:          running.keeper.Anchors,
		ServerName:       target,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return running.keeper.Certificate()
		},
	}
}

// The exchange of keys is not what a rehearsal is about, and this one costs least.
var curves = []tls.CurveID{tls.X25519}

func (running *proxy) accept(listener net.Listener) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		go running.echo(connection)
	}
}

// echo answers a peer with the byte that it sends.
func (running *proxy) echo(connection net.Conn) {
	defer connection.Close()
	_ = connection.SetDeadline(time.Now().Add(connectionTimeout))
	stream := tls.Server(connection, running.server)
	defer stream.Close()
	_, _ = io.CopyN(stream, stream, 1)
}

// connect opens a connection to another proxy and has a byte echoed.
func (running *proxy) connect(target *proxy) error {
	connection, err := net.DialTimeout("tcp", target.inbound, connectionTimeout)
	if err != nil {
		return err
	}
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(connectionTimeout)); err != nil {
		return err
	}
	stream := tls.Client(connection, running.clientConfig(target.keeper.Name))
	defer stream.Close()
	sent, received := []byte{'?'}, make([]byte, 1)
	if _, err := stream.Write(sent); err != nil {
		return err
	}
	_, err = io.ReadFull(stream, received)
	return err
}

func (running *proxy) report(err error) {
	if err != nil && running.gone.Err() == nil {
		running.log.Error("the pod's status cannot be written", "error", err)
	}
}

func (running *proxy) sleep(wait time.Duration) {
	select {
	case <-running.gone.Done():
	case <-time.After(wait):
	}
}
