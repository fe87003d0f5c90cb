package supervise

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"meshtrust/rehearsal/cluster/kubelet"
	"meshtrust/rehearsal/cluster/services"
)

// serveEgress is the cluster's network as the API server sees it: the proxy of its EgressSelectorConfiguration, through
// which it calls webhooks and reaches pods and kubelets. It connects the address of a Service, a pod or a node to the
// process that answers for it, and refuses at once where none does, as a Service without endpoints would.
func serveEgress(ctx context.Context, cluster plan) error {
	config, err := clientcmd.BuildConfigFromFlags("", cluster.Kubeconfig)
	if err != nil {
		return err
	}
	// A network has no limit of requests: each call of a webhook and each port forwarding asks for an address here.
	config.QPS = -1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", cluster.Egress)
	if err != nil {
		return err
	}
	proxy := &http.Server{
		ReadHeaderTimeout: time.Minute,
		Handler: http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
			address, err := resolve(request.Context(), client, cluster.Services, request.Host)
			if err == nil {
				err = tunnel(response, address)
			}
			if err != nil {
				http.Error(response, err.Error(), http.StatusServiceUnavailable)
			}
		}),
	}
	go func() {
		<-ctx.Done()
		_ = proxy.Close()
	}()
	if err := proxy.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// resolve returns where the process listens that answers for a Service or a pod, given by its address and port, or for a
// node, which the API server calls by its name.
func resolve(ctx context.Context, client kubernetes.Interface, directory, target string) (string, error) {
	address, portText, err := net.SplitHostPort(target)
	if err != nil {
		return "", err
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return "", err
	}
	if net.ParseIP(address) == nil {
		return services.Lookup(directory, kubelet.Namespace, kubelet.Name, port)
	}
	found, err := client.CoreV1().Services(metav1.NamespaceAll).List(ctx, selecting("spec.clusterIP", address))
	if err != nil {
		return "", err
	}
	for _, service := range found.Items {
		return services.Lookup(directory, service.Namespace, service.Name, port)
	}
	pods, err := client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, selecting("status.podIP", address))
	if err != nil {
		return "", err
	}
	for _, pod := range pods.Items {
		return services.Lookup(directory, pod.Namespace, pod.Name, port)
	}
	return "", fmt.Errorf("no Service and no pod has the address %s", address)
}

func selecting(field, value string) metav1.ListOptions {
	return metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector(field, value).String()}
}

// tunnel connects the two ends; an error means that nothing has been answered yet.
func tunnel(response http.ResponseWriter, address string) error {
	process, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return err
	}
	hijacker, can := response.(http.Hijacker)
	if !can {
		return errors.New("this connection cannot be taken over")
	}
	caller, buffered, err := hijacker.Hijack()
	if err != nil {
		return err
	}
	_, _ = io.WriteString(caller, "HTTP/1.1 200 Connection Established\r\n\r\n")
	go forward(process, buffered.Reader)
	go forward(caller, bufio.NewReader(process))
	return nil
}

func forward(to net.Conn, from io.Reader) {
	_, _ = io.Copy(to, from)
	_ = to.Close()
}
