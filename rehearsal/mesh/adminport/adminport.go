// Package adminport answers for the admin port of a proxy: metrics, probes and named variables of its environment over
// HTTP, and the proxy's leaf for whoever opens the same port with TLS, which is how `linkerd identity` reads it.
//
// Rules: linkerd2-proxy linkerd/app/admin (TLS is detected; it is terminated for the proxy's own name only, and asks for
// no client certificate), linkerd/identity/src/metrics.rs, and linkerd/app/src/{lib,identity}.rs for its metrics' prefix.
package adminport

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"meshtrust/rehearsal/cluster/services"
	"meshtrust/rehearsal/mesh/certify"
)

// Port is that of the chart (value proxy.ports.admin).
const Port = 4191

// recordTypeHandshake is the first byte of a TLS client hello (RFC 8446, 5.1).
const recordTypeHandshake = 0x16

// Serve answers for the admin port of a pod's proxy until the context ends. The environment is what the process of the
// proxy was started with.
func Serve(
	ctx context.Context, directory, namespace, pod string, keeper *certify.Keeper, environment map[string]string,
) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	withdraw, err := services.Publish(directory, namespace, pod, Port, listener.Addr().String())
	if err != nil {
		return err
	}
	defer withdraw()
	server := &http.Server{Handler: routes(keeper, environment), ReadHeaderTimeout: time.Minute}
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	if err := server.Serve(&detecting{listener, tlsConfig(keeper)}); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func routes(keeper *certify.Keeper, environment map[string]string) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector{keeper})
	routes := http.NewServeMux()
	routes.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	routes.HandleFunc("/live", func(response http.ResponseWriter, _ *http.Request) { fmt.Fprintln(response, "live") })
	routes.HandleFunc("/ready", func(response http.ResponseWriter, _ *http.Request) {
		if keeper.Current() == nil {
			http.Error(response, "not ready", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(response, "ready")
	})
	routes.HandleFunc("/env.json", func(response http.ResponseWriter, request *http.Request) {
		answer := map[string]*string{}
		for _, name := range strings.Split(request.URL.RawQuery, "&") {
			answer[name] = nil
			if value, isSet := environment[name]; isSet {
				answer[name] = &value
			}
		}
		response.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(response).Encode(answer)
	})
	return routes
}

func tlsConfig(keeper *certify.Keeper) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if hello.ServerName != keeper.Name {
				return nil, fmt.Errorf("this proxy is %s, not %q", keeper.Name, hello.ServerName)
			}
			return keeper.Certificate()
		},
	}
}

var (
	expiryMetric = prometheus.NewDesc("control_identity_cert_expiration_timestamp_seconds",
		"When the certificate of this proxy expires, in seconds since 1970.", nil, nil)
	refreshMetric = prometheus.NewDesc("control_identity_cert_refresh_timestamp_seconds",
		"When the certificate of this proxy was last renewed, in seconds since 1970.", nil, nil)
	refreshesMetric = prometheus.NewDesc("control_identity_cert_refreshes_total",
		"How many certificates of the identity service this proxy has taken, or refused.", []string{"result"}, nil)
)

type collector struct{ keeper *certify.Keeper }

// Describe names the metrics.
func (collector) Describe(descriptions chan<- *prometheus.Desc) {
	descriptions <- expiryMetric
	descriptions <- refreshMetric
	descriptions <- refreshesMetric
}

// Collect reads the metrics.
func (of collector) Collect(metrics chan<- prometheus.Metric) {
	expiry, refresh := 0.0, 0.0
	if credential := of.keeper.Current(); credential != nil {
		expiry = float64(credential.Leaf().NotAfter.Unix())
		refresh = float64(credential.Obtained.UnixMilli()) / 1000
	}
	refreshes, refusals := of.keeper.Count()
	metrics <- prometheus.MustNewConstMetric(expiryMetric, prometheus.GaugeValue, expiry)
	metrics <- prometheus.MustNewConstMetric(refreshMetric, prometheus.GaugeValue, refresh)
	metrics <- prometheus.MustNewConstMetric(refreshesMetric, prometheus.CounterValue, float64(refreshes), "ok")
	metrics <- prometheus.MustNewConstMetric(refreshesMetric, prometheus.CounterValue, float64(refusals), "error")
}

// detecting is a listener whose connections are TLS if their first byte says so.
type detecting struct {
	net.Listener
	config *tls.Config
}

// Accept returns the next connection, which has not been read from yet: a slow one would keep the others waiting.
func (listener *detecting) Accept() (net.Conn, error) {
	connection, err := listener.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &detected{Conn: connection, config: listener.config}, nil
}

type detected struct {
	net.Conn
	config *tls.Config

	once   sync.Once
	lock   sync.Mutex
	stream net.Conn
}

// Read finds out, the first time, what kind of connection it is.
func (connection *detected) Read(buffer []byte) (int, error) {
	connection.once.Do(func() {
		peeking := &peeked{Conn: connection.Conn, reader: bufio.NewReader(connection.Conn)}
		var stream net.Conn = peeking
		if first, err := peeking.reader.Peek(1); err == nil && first[0] == recordTypeHandshake {
			stream = tls.Server(peeking, connection.config)
		}
		connection.lock.Lock()
		defer connection.lock.Unlock()
		connection.stream = stream
	})
	return connection.current().Read(buffer)
}

// Write answers in kind.
func (connection *detected) Write(buffer []byte) (int, error) {
	return connection.current().Write(buffer)
}

// Close ends the connection, as TLS where it is that.
func (connection *detected) Close() error {
	return connection.current().Close()
}

func (connection *detected) current() net.Conn {
	connection.lock.Lock()
	defer connection.lock.Unlock()
	if connection.stream == nil {
		return connection.Conn
	}
	return connection.stream
}

type peeked struct {
	net.Conn
	reader *bufio.Reader
}

// Read returns what was peeked at, and what follows.
func (connection *peeked) Read(buffer []byte) (int, error) {
	return connection.reader.Read(buffer)
}
