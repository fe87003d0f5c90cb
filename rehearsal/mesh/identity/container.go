package identity

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"path/filepath"
	"slices"

	identitypb "github.com/linkerd/linkerd2-proxy-api/go/identity"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

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
	workload *rest.Config
	status   pods.Reporter
	node     node
	log      *slog.Logger
}

// node is what the machine gives to containers.
type node struct {
	// services is the directory in which Services are published.
	services string
	// controller is the real identity controller's binary; without one, the stand-in runs.
	controller string
	// volumes is the directory in which the controller's volumes are.
	volumes string
}

func newContainer(config *rest.Config, pod *corev1.Pod, on node) (*container, error) {
	kubelet, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return &container{
		pod:      pod,
		kubelet:  kubelet,
		workload: pods.As(config, pod),
		status:   pods.Reporter{Client: kubelet, Pod: pod, Containers: []string{containerName, certify.ProxyContainer}},
		node:     on,
		log:      slog.With("pod", pod.Name),
	}, nil
}

// program is what runs in the container: the stand-in, or the real controller where the rehearsal was given one.
type program interface {
	certify.Client
	// adminAddress answers for the admin port.
	adminAddress() string
	// remounted tells it that the files of its issuer have changed.
	remounted(issuer map[string][]byte) error
	// run keeps it running until the context ends. An error is what it ended with.
	run(ctx context.Context) error
}

// mounted are the container's volumes: the text of the trust anchors, and the files of the issuer.
type mounted struct {
	anchors string
	issuer  map[string][]byte
}

// start starts the program, and returns once it is ready.
func (running *container) start(ctx context.Context, chosen settings, mounts mounted) (program, error) {
	if running.node.controller != "" {
		directory := filepath.Join(running.node.volumes, string(running.pod.UID))
		return startController(
			ctx, running.node.controller, directory, chosen.arguments, mounts, running.workload, running.log)
	}
	client, err := kubernetes.NewForConfig(running.workload)
	if err != nil {
		return nil, err
	}
	return startStandIn(ctx, chosen, mounts, client, running.log)
}

// run starts the container and runs it until its pod is gone. An error is what a container ends with.
func (running *container) run(ctx context.Context, connections *mailbox) error {
	mounts, err := running.mount(ctx)
	if err != nil {
		return err
	}
	chosen, err := parseSettings(running.pod, running.log)
	if err != nil {
		return err
	}
	serving, err := running.start(ctx, chosen, mounts)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return serving.run(ctx) })
	group.Go(func() error { return running.watchIssuer(ctx, mounts.issuer, serving.remounted) })
	group.Go(func() error { return running.mesh(ctx, group, serving, chosen.mesh, mounts.anchors, connections) })
	return group.Wait()
}

// mesh makes the program one that others reach: behind its proxy, and by its admin ports.
func (running *container) mesh(
	ctx context.Context, group *errgroup.Group, serving program, names certify.Mesh, anchors string, connections *mailbox,
) error {
	withdraw, err := services.Publish(
		running.node.services, running.pod.Namespace, running.pod.Name, adminPort, serving.adminAddress())
	if err != nil {
		return err
	}
	defer withdraw()
	proxy, err := running.proxy(ctx, serving, names, anchors)
	if err != nil {
		return err
	}
	group.Go(func() error {
		return adminport.Serve(ctx, running.node.services, running.pod.Namespace, running.pod.Name, proxy,
			map[string]string{certify.AnchorsVariable: anchors})
	})
	group.Go(func() error { return serve(ctx, serving, proxy, connections) })
	if err := running.status.Ready(ctx); err != nil {
		return err
	}
	if err := connections.open(); err != nil {
		return err
	}
	proxy.Run(ctx, func(err error) {
		if err != nil {
			running.log.Error("Failed to obtain identity", "error", err)
		}
	})
	return nil
}

// proxy returns the pod's own proxy, which other proxies meet before the program: it shows them a leaf that this very
// program has signed.
func (running *container) proxy(
	ctx context.Context, serving program, names certify.Mesh, anchorsText string,
) (*certify.Keeper, error) {
	anchors, err := certify.ParseAnchors(anchorsText)
	if err != nil {
		return nil, err
	}
	name := names.Name(running.pod.Spec.ServiceAccountName, running.pod.Namespace)
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

// mount reads what the container's volumes are made from. All of it has to be there before a container can start.
func (running *container) mount(ctx context.Context) (mounted, error) {
	core := running.kubelet.CoreV1()
	bundle, err := core.ConfigMaps(running.pod.Namespace).Get(ctx, certify.AnchorsConfigMap, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return mounted{}, fmt.Errorf(`%w: configmap "%s" not found`, errNotMounted, certify.AnchorsConfigMap)
	}
	if err != nil {
		return mounted{}, err
	}
	secret, err := core.Secrets(running.pod.Namespace).Get(ctx, issuerSecret, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return mounted{}, fmt.Errorf(`%w: secret "%s" not found`, errNotMounted, issuerSecret)
	}
	if err != nil {
		return mounted{}, err
	}
	return mounted{anchors: bundle.Data[certify.AnchorsKey], issuer: secret.Data}, nil
}

// watchIssuer calls back whenever the mounted files change. As a kubelet does, it leaves them alone when the Secret is
// deleted and when it changes in anything but its data. The real service has been seen to miss a change, and all that
// came after it (linkerd2 issue 15109); so does this one from the first change on at which its pod has the annotation.
func (running *container) watchIssuer(
	ctx context.Context, mounted map[string][]byte, changed func(map[string][]byte) error,
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
		if err := changed(mounted); err != nil {
			running.log.Error("the issuer's volume cannot be written", "error", err)
		}
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

// serve answers on the connections that the pod gets, behind TLS by its proxy.
func serve(ctx context.Context, serving program, proxy *certify.Keeper, connections net.Listener) error {
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		MinVersion:     tls.VersionTLS13,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return proxy.Certificate() },
	})))
	identitypb.RegisterIdentityServer(server, behindProxy{program: serving})
	go func() {
		<-ctx.Done()
		server.Stop()
	}()
	return server.Serve(connections)
}

// behindProxy is the program as its proxy passes requests on to it.
type behindProxy struct {
	identitypb.UnimplementedIdentityServer
	program program
}

// Certify passes a request on.
func (serving behindProxy) Certify(
	ctx context.Context, request *identitypb.CertifyRequest,
) (*identitypb.CertifyResponse, error) {
	return serving.program.Certify(ctx, request)
}
