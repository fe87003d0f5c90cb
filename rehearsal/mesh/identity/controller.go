package identity

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	identitypb "github.com/linkerd/linkerd2-proxy-api/go/identity"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/kubernetes/pkg/volume/util"

	"meshtrust/rehearsal/cluster/confine"
	"meshtrust/rehearsal/mesh/certify"
)

// Where the chart mounts the container's volumes, below /var/run.
const (
	issuerVolume  = "linkerd/identity/issuer"
	anchorsVolume = "linkerd/identity/trust-roots"
)

// How often a controller that starts is asked whether it is ready.
const readyInterval = 50 * time.Millisecond

// controller is the real identity controller, a process with the container's arguments that sees the container's volumes
// where the chart mounts them.
type controller struct {
	client     identitypb.IdentityClient
	connection *grpc.ClientConn
	admin      string
	issuer     *util.AtomicWriter
	directory  string
	stop       context.CancelFunc
	ended      chan struct{}
	// err is what it ended with, once it has.
	err error
}

// startController mounts the volumes into a directory of the pod's own, starts the controller, and returns once it is
// ready. An error says why it ended.
func startController(
	ctx context.Context, binary, directory string, arguments []string, mounts mounted, config *rest.Config,
	log *slog.Logger,
) (_ *controller, err error) {
	running := &controller{directory: directory, ended: make(chan struct{})}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(directory)
		}
	}()
	if err := running.mount(mounts); err != nil {
		return nil, err
	}
	kubeconfig := filepath.Join(directory, "kubeconfig")
	if err := writeKubeconfig(config, kubeconfig); err != nil {
		return nil, err
	}
	addresses, err := freeAddresses(2)
	if err != nil {
		return nil, err
	}
	running.admin = addresses[1]
	running.connection, err = grpc.NewClient(
		"passthrough:///"+addresses[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	running.client = identitypb.NewIdentityClient(running.connection)
	// All pods share the machine's ports, and none has the API server's address in its environment.
	arguments = slices.Concat(arguments, []string{"-addr=" + addresses[0], "-admin-addr=" + running.admin, "-kubeconfig=/var/run/kubeconfig"})
	// It outlives the call that starts it, and ends with the container.
	ctx, running.stop = context.WithCancel(ctx)
	go running.execute(confine.Command(ctx, directory, binary, arguments...), log)
	if err := running.waitUntilReady(ctx); err != nil {
		running.close()
		return nil, err
	}
	return running, nil
}

// mount writes the volumes as a kubelet does, by its own code: the controller watches for the link that it moves.
func (running *controller) mount(mounts mounted) error {
	for volume, files := range map[string]map[string][]byte{
		issuerVolume:  mounts.issuer,
		anchorsVolume: {certify.AnchorsKey: []byte(mounts.anchors)},
	} {
		path := filepath.Join(running.directory, volume)
		if err := os.MkdirAll(path, 0o700); err != nil {
			return err
		}
		writer, err := util.NewAtomicWriter(path, volume)
		if err != nil {
			return err
		}
		if err := write(writer, files); err != nil {
			return err
		}
		if volume == issuerVolume {
			running.issuer = writer
		}
	}
	return nil
}

func write(volume *util.AtomicWriter, files map[string][]byte) error {
	payload := map[string]util.FileProjection{}
	for name, content := range files {
		payload[name] = util.FileProjection{Data: content, Mode: 0o600}
	}
	return volume.Write(payload, nil)
}

// writeKubeconfig writes what a client needs that may do what the pod's service account may.
func writeKubeconfig(config *rest.Config, path string) error {
	const name = "pod"
	return clientcmd.WriteToFile(clientcmdapi.Config{
		CurrentContext: name,
		Contexts:       map[string]*clientcmdapi.Context{name: {Cluster: name, AuthInfo: name}},
		Clusters:       map[string]*clientcmdapi.Cluster{name: {Server: config.Host, CertificateAuthorityData: config.CAData}},
		AuthInfos: map[string]*clientcmdapi.AuthInfo{name: {
			ClientCertificateData: config.CertData,
			ClientKeyData:         config.KeyData,
			Impersonate:           config.Impersonate.UserName,
			ImpersonateGroups:     config.Impersonate.Groups,
		}},
	}, path)
}

func freeAddresses(count int) ([]string, error) {
	addresses := make([]string, count)
	for index := range addresses {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer listener.Close()
		addresses[index] = listener.Addr().String()
	}
	return addresses, nil
}

// execute runs the process until it ends. The thread that starts it waits for it, because the kernel ends a process with
// the thread that started it.
func (running *controller) execute(command *exec.Cmd, log *slog.Logger) {
	runtime.LockOSThread()
	defer close(running.ended)
	said := &lastLine{}
	command.Stdout, command.Stderr = io.MultiWriter(os.Stdout, said), io.MultiWriter(os.Stdout, said)
	err := command.Run()
	log.Info("the identity controller ended", "error", err)
	if err == nil {
		err = errors.New("it ended without an error")
	}
	running.err = fmt.Errorf("%w: %s", err, said.text())
}

func (running *controller) waitUntilReady(ctx context.Context) error {
	for !running.isReady(ctx) {
		select {
		case <-running.ended:
			return running.err
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(readyInterval):
		}
	}
	return nil
}

func (running *controller) isReady(ctx context.Context) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+running.admin+"/ready", nil)
	if err != nil {
		return false
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// Certify passes a request on.
func (running *controller) Certify(
	ctx context.Context, request *identitypb.CertifyRequest,
) (*identitypb.CertifyResponse, error) {
	return running.client.Certify(ctx, request)
}

func (running *controller) adminAddress() string {
	return running.admin
}

func (running *controller) remounted(issuer map[string][]byte) error {
	return write(running.issuer, issuer)
}

func (running *controller) run(ctx context.Context) error {
	defer running.close()
	select {
	case <-ctx.Done():
		return nil
	case <-running.ended:
		return running.err
	}
}

// close ends the process and takes its volumes away, which hold a key.
func (running *controller) close() {
	running.stop()
	<-running.ended
	_ = running.connection.Close()
	_ = os.RemoveAll(running.directory)
}

// lastLine keeps the last line that was written to it: the reason why a program ended.
type lastLine struct {
	lock sync.Mutex
	line []byte
}

// Write takes what a program writes.
func (kept *lastLine) Write(written []byte) (int, error) {
	kept.lock.Lock()
	defer kept.lock.Unlock()
	lines := bytes.Split(bytes.TrimRight(written, "\n"), []byte("\n"))
	kept.line = bytes.Clone(lines[len(lines)-1])
	return len(written), nil
}

func (kept *lastLine) text() string {
	kept.lock.Lock()
	defer kept.lock.Unlock()
	return string(kept.line)
}
