// Package kubelet stands in for the kubelets' own server, as far as port forwarding needs it: what the API server takes
// from a client goes to the process that answers for the pod's port.
//
// The protocols are Kubernetes' own code. Logs, exec and the rest of a kubelet's server are not there, because no
// container runs that they could be about.
package kubelet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/cri-streaming/pkg/streaming/portforward"

	"meshtrust/rehearsal/cluster/services"
)

// Where the API server finds it. The nodes say this port in their status, and all of them mean this process.
const (
	Namespace = "rehearsal"
	Name      = "kubelet"
	Port      = 10250
)

// The defaults of a kubelet (k8s.io/cri-streaming/pkg/streaming, DefaultConfig).
const (
	idleTimeout     = 4 * time.Hour
	creationTimeout = 30 * time.Second
)

// NewCommand returns the program: the server of every node's kubelet, until it is stopped.
func NewCommand() *cobra.Command {
	var directory, certificate, key, clients string
	command := &cobra.Command{
		Use:           "kubelet",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(command *cobra.Command, _ []string) error {
			config, err := tlsConfig(certificate, key, clients)
			if err != nil {
				return err
			}
			fmt.Println("stand-in for the kubelets' server: it forwards ports")
			return serve(command.Context(), config, directory)
		},
	}
	flags := command.Flags()
	flags.StringVar(&directory, "services", "", "directory in which Services are published")
	flags.StringVar(&certificate, "tls-cert-file", "", "certificate for the names of all nodes")
	flags.StringVar(&key, "tls-private-key-file", "", "its key")
	flags.StringVar(&clients, "client-ca-file", "", "CA of those who may ask")
	return command
}

func tlsConfig(certificate, key, clients string) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(clients)
	if err != nil {
		return nil, err
	}
	authority := x509.NewCertPool()
	if !authority.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate", clients)
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{pair},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    authority,
		// A connection is taken over, which HTTP/2 does not allow.
		NextProtos: []string{"http/1.1"},
	}, nil
}

func serve(ctx context.Context, config *tls.Config, directory string) error {
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		return err
	}
	withdraw, err := services.Publish(directory, Namespace, Name, Port, listener.Addr().String())
	if err != nil {
		return err
	}
	defer withdraw()
	forwarding := forwarder{directory}
	routes := http.NewServeMux()
	routes.HandleFunc("/portForward/{namespace}/{pod}", forwarding.handle)
	routes.HandleFunc("/portForward/{namespace}/{pod}/{uid}", forwarding.handle)
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

// forwarder connects a client's streams to the ports of pods.
type forwarder struct {
	directory string
}

func (forwarding forwarder) handle(response http.ResponseWriter, request *http.Request) {
	options, err := portforward.NewV4Options(request)
	if err != nil {
		http.Error(response, err.Error(), http.StatusBadRequest)
		return
	}
	pod := types.NamespacedName{Namespace: request.PathValue("namespace"), Name: request.PathValue("pod")}
	portforward.ServePortForward(response, request, forwarding, pod.String(), request.PathValue("uid"), options,
		idleTimeout, creationTimeout, portforward.SupportedProtocols)
}

// PortForward copies between a stream and a port of a pod, given as NAMESPACE/NAME, until one of them ends.
func (forwarding forwarder) PortForward(
	ctx context.Context, pod, _ string, port int32, stream io.ReadWriteCloser,
) error {
	defer stream.Close()
	namespace, name, _ := strings.Cut(pod, string(types.Separator))
	address, err := services.Lookup(forwarding.directory, namespace, name, int(port))
	if err != nil {
		return err
	}
	connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer connection.Close()
	ended := make(chan error, 2)
	go func() {
		_, err := io.Copy(connection, stream)
		ended <- err
	}()
	go func() {
		_, err := io.Copy(stream, connection)
		ended <- err
	}()
	return <-ended
}
