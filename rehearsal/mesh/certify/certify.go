// Package certify is a proxy's side of Linkerd's identity protocol: the name of a workload, the token that proves it, and
// the leaf certificate that the identity service gives for both.
//
// It stands in for linkerd2-proxy. Rules: linkerd2 pkg/inject, charts/partials/templates/_proxy.tpl (names, audience) and
// linkerd2-proxy linkerd/proxy/identity-client, linkerd/meshtls (keys, own check of the leaf).
package certify

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	identitypb "github.com/linkerd/linkerd2-proxy-api/go/identity"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// Facts that charts, proxies and the identity service share.
const (
	Audience         = "identity.l5d.io"
	ServiceName      = "linkerd-identity"
	ServicePort      = 8080
	AnchorsConfigMap = "linkerd-identity-trust-roots"
	AnchorsKey       = "ca-bundle.crt"
	ProxyContainer   = "linkerd-proxy"
	AnchorsVariable  = "LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS"
)

// The projected token of a proxy lives for a day (charts/partials/templates/_volumes.tpl).
const tokenSeconds = 24 * 60 * 60

// forever is the end of validity that a certificate has that never expires (RFC 5280, 4.1.2.5).
var forever = time.Date(9999, time.December, 31, 23, 59, 59, 0, time.UTC)

// Mesh is what the names of a mesh's workloads have in common.
type Mesh struct {
	ControlNamespace string
	TrustDomain      string
}

// Name returns the identity of a service account's workloads, which is the one DNS name in their certificates.
func (mesh Mesh) Name(serviceAccount, namespace string) string {
	return fmt.Sprintf("%s.%s.serviceaccount.identity.%s.%s",
		serviceAccount, namespace, mesh.ControlNamespace, mesh.TrustDomain)
}

// IdentityService returns the identity of the identity service itself, which proxies expect to meet.
func (mesh Mesh) IdentityService() string {
	return mesh.Name(ServiceName, mesh.ControlNamespace)
}

// Credential is a leaf certificate with its key, which has never been anywhere but in this process.
type Credential struct {
	// Chain is the leaf, its issuer, and the intermediates above it; the root is not part of it.
	Chain []*x509.Certificate
	// Obtained is when the identity service gave it.
	Obtained time.Time
	key      *ecdsa.PrivateKey
}

// Leaf returns the workload's own certificate.
func (credential *Credential) Leaf() *x509.Certificate {
	return credential.Chain[0]
}

// TLS returns the credential as a TLS connection presents it.
func (credential *Credential) TLS() *tls.Certificate {
	certificate := &tls.Certificate{PrivateKey: credential.key, Leaf: credential.Leaf()}
	for _, link := range credential.Chain {
		certificate.Certificate = append(certificate.Certificate, link.Raw)
	}
	return certificate
}

// PEM returns the chain, leaf first.
func (credential *Credential) PEM() string {
	var text []byte
	for _, link := range credential.Chain {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: link.Raw})...)
	}
	return string(text)
}

// Verify checks the chain as a proxy with these trust anchors does: its own new leaf before it uses it, and a peer's.
func (credential *Credential) Verify(anchors *x509.CertPool, name string) error {
	intermediates := x509.NewCertPool()
	for _, link := range credential.Chain[1:] {
		intermediates.AddCert(link)
	}
	_, err := credential.Leaf().Verify(x509.VerifyOptions{
		Roots:         anchors,
		Intermediates: intermediates,
		DNSName:       name,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	return err
}

// Client is the service that signs; over the network it is a proxy's connection to the identity service.
type Client interface {
	Certify(ctx context.Context, request *identitypb.CertifyRequest) (*identitypb.CertifyResponse, error)
}

// Connection is a Client over the network.
type Connection struct {
	connection *grpc.ClientConn
}

// Dial returns a connection to the identity service. Its pod's proxy shows a leaf of its own, which must be that of the
// identity service under the caller's trust anchors; the caller has no certificate yet and shows none.
func Dial(address string, anchors *x509.CertPool, mesh Mesh) (*Connection, error) {
	transport := credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13,
		RootCAs:    anchors,
		ServerName: mesh.IdentityService(),
	})
	connection, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(transport))
	if err != nil {
		return nil, err
	}
	return &Connection{connection}, nil
}

// Certify asks for a leaf.
func (dialled *Connection) Certify(
	ctx context.Context, request *identitypb.CertifyRequest,
) (*identitypb.CertifyResponse, error) {
	return identitypb.NewIdentityClient(dialled.connection).Certify(ctx, request)
}

// Close ends the connection.
func (dialled *Connection) Close() {
	_ = dialled.connection.Close()
}

// Token returns a token of a service account for the identity service. With a pod it is bound to it, as the one that the
// kubelet projects into the pod's volume is.
func Token(
	ctx context.Context, client kubernetes.Interface, serviceAccount, namespace string, pod *corev1.Pod,
) (string, error) {
	seconds := int64(tokenSeconds)
	request := &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{Audiences: []string{Audience}, ExpirationSeconds: &seconds},
	}
	if pod != nil {
		request.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{
			APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID,
		}
	}
	response, err := client.CoreV1().ServiceAccounts(namespace).
		CreateToken(ctx, serviceAccount, request, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("service account %s/%s gets no token: %w", namespace, serviceAccount, err)
	}
	return response.Status.Token, nil
}

// Request makes a key and has a leaf for it signed.
func Request(ctx context.Context, client Client, name, token string) (*Credential, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.CertificateRequest{DNSNames: []string{name}}
	signingRequest, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return nil, err
	}
	response, err := client.Certify(ctx, &identitypb.CertifyRequest{
		Identity:                  name,
		Token:                     []byte(token),
		CertificateSigningRequest: signingRequest,
	})
	if err != nil {
		return nil, err
	}
	credential := &Credential{Obtained: time.Now(), key: key}
	for _, raw := range append([][]byte{response.GetLeafCertificate()}, response.GetIntermediateCertificates()...) {
		link, err := x509.ParseCertificate(raw)
		if err != nil {
			return nil, fmt.Errorf("the identity service answered with what is no certificate: %w", err)
		}
		credential.Chain = append(credential.Chain, link)
	}
	return credential, nil
}

// ParseAnchors reads a bundle of trust anchors as a proxy does. To its verifier (rustls-webpki, TrustAnchor) an anchor is
// a name and a key, so that one that has expired is trusted like any other. What is no certificate is passed over, as long
// as there is one (linkerd2-proxy linkerd/meshtls/src/creds.rs).
func ParseAnchors(text string) (*x509.CertPool, error) {
	anchors := x509.NewCertPool()
	count := 0
	for block, rest := pem.Decode([]byte(text)); block != nil; block, rest = pem.Decode(rest) {
		anchor, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			continue
		}
		anchor.NotBefore, anchor.NotAfter = time.Time{}, forever
		anchors.AddCert(anchor)
		count++
	}
	if count == 0 {
		return nil, errors.New("the bundle of trust anchors holds no certificate")
	}
	return anchors, nil
}
