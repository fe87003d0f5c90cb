// Package leaf gets leaf certificates from a mesh's identity service, as a proxy would, to show and check them.
package leaf

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"meshtrust/rehearsal/cluster/services"
	"meshtrust/rehearsal/mesh/certify"
)

// How long one leaf may take.
const timeout = 10 * time.Second

type options struct {
	kubeconfig     string
	services       string
	namespace      string
	serviceAccount string
	mesh           certify.Mesh
	anchors        string
	count          int
}

// result is one leaf as it is printed: certificates, and never a key.
type result struct {
	Identity  string    `json:"identity"`
	Chain     string    `json:"chain"`
	SHA256    string    `json:"sha256"`
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
}

// NewCommand returns the program. It prints a JSON list of leaves, each of which the trust anchors verify.
func NewCommand() *cobra.Command {
	var chosen options
	command := &cobra.Command{
		Use:           "leaf",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(command *cobra.Command, _ []string) error {
			leaves, err := obtain(command.Context(), chosen)
			if err != nil {
				return err
			}
			printer := json.NewEncoder(command.OutOrStdout())
			printer.SetIndent("", "  ")
			return printer.Encode(leaves)
		},
	}
	flags := command.Flags()
	flags.StringVar(&chosen.kubeconfig, "kubeconfig", "", "kubeconfig of the cluster")
	flags.StringVar(&chosen.services, "services", "", "directory in which Services are published")
	flags.StringVar(&chosen.namespace, "namespace", "default", "namespace of the service account")
	flags.StringVar(&chosen.serviceAccount, "service-account", "default", "service account that the leaf is for")
	flags.StringVar(&chosen.mesh.ControlNamespace, "control-namespace", "linkerd", "namespace of the control plane")
	flags.StringVar(&chosen.mesh.TrustDomain, "trust-domain", "cluster.local", "trust domain of the mesh")
	flags.StringVar(&chosen.anchors, "anchors", "", "trust anchors as PEM; those of the cluster unless given")
	flags.IntVar(&chosen.count, "count", 1, "how many leaves, each with a connection of its own")
	return command
}

func obtain(ctx context.Context, chosen options) ([]result, error) {
	config, err := clientcmd.BuildConfigFromFlags("", chosen.kubeconfig)
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	if chosen.anchors == "" {
		bundle, err := client.CoreV1().ConfigMaps(chosen.mesh.ControlNamespace).
			Get(ctx, certify.AnchorsConfigMap, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		chosen.anchors = bundle.Data[certify.AnchorsKey]
	}
	leaves := make([]result, 0, chosen.count)
	for range chosen.count {
		leaf, err := obtainOne(ctx, client, chosen)
		if err != nil {
			return nil, err
		}
		leaves = append(leaves, leaf)
	}
	return leaves, nil
}

func obtainOne(ctx context.Context, client kubernetes.Interface, chosen options) (result, error) {
	ctx, stop := context.WithTimeout(ctx, timeout)
	defer stop()
	anchors, err := certify.ParseAnchors(chosen.anchors)
	if err != nil {
		return result{}, err
	}
	address, err := services.Lookup(
		chosen.services, chosen.mesh.ControlNamespace, certify.ServiceName, certify.ServicePort)
	if err != nil {
		return result{}, err
	}
	connection, err := certify.Dial(address, anchors, chosen.mesh)
	if err != nil {
		return result{}, err
	}
	defer connection.Close()
	token, err := certify.Token(ctx, client, chosen.serviceAccount, chosen.namespace, nil)
	if err != nil {
		return result{}, err
	}
	name := chosen.mesh.Name(chosen.serviceAccount, chosen.namespace)
	credential, err := certify.Request(ctx, connection, name, token)
	if err != nil {
		return result{}, fmt.Errorf("%s gets no certificate: %w", name, err)
	}
	if err := credential.Verify(anchors, name); err != nil {
		return result{}, fmt.Errorf("the leaf of %s does not verify: %w", name, err)
	}
	leaf := credential.Leaf()
	return result{
		Identity:  name,
		Chain:     credential.PEM(),
		SHA256:    fmt.Sprintf("%x", sha256.Sum256(leaf.Raw)),
		NotBefore: leaf.NotBefore,
		NotAfter:  leaf.NotAfter,
	}, nil
}
