package identity

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	identitypb "github.com/linkerd/linkerd2-proxy-api/go/identity"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"

	"meshtrust/rehearsal/mesh/certify"
)

// Reasons of the events that operators and tools wait for.
const (
	issuerUpdated          = "IssuerUpdated"
	issuerUpdateSkipped    = "IssuerUpdateSkipped"
	issuerValidationFailed = "IssuerValidationFailed"
	issuedLeafCertificate  = "IssuedLeafCertificate"
)

// service signs leaves with the issuer that it has last accepted (linkerd2 pkg/identity/service.go).
type service struct {
	settings settings
	// anchors are what was mounted when the container started. The real service never reads them again either.
	anchors *x509.CertPool
	tokens  tokens
	events  record.EventRecorder
	log     *slog.Logger

	lock sync.RWMutex
	// issuer is what signs; nil before the first is accepted.
	issuer *issuer
	// issuerNotAfter is that of the last issuer that verified.
	issuerNotAfter time.Time
}

// load accepts an issuer from the files of its Secret, or returns why not and keeps the one it has.
func (serving *service) load(files map[string][]byte) error {
	loaded, err := serving.readIssuer(files)
	if err != nil {
		return fmt.Errorf("failed to read CA from disk: %w", err)
	}
	if err := loaded.verify(serving.anchors); err != nil {
		mesh := serving.settings.mesh
		return fmt.Errorf("failed to verify issuer credentials for 'identity.%s.%s' with trust anchors: %w",
			mesh.ControlNamespace, mesh.TrustDomain, err)
	}
	if !loaded.certificate.IsCA {
		return errors.New("failed to verify issuer certificate: it must be an intermediate-CA, but it is not")
	}
	serving.lock.Lock()
	defer serving.lock.Unlock()
	serving.issuer, serving.issuerNotAfter = loaded, loaded.certificate.NotAfter
	serving.log.Info("Issuer cert loaded", "invalid_after", loaded.certificate.NotAfter.Unix(),
		"process_clock_time", time.Now().Unix(), "ttl_seconds", int64(serving.remaining()))
	return nil
}

func (serving *service) readIssuer(files map[string][]byte) (*issuer, error) {
	for _, name := range []string{serving.settings.key, serving.settings.certificate} {
		if _, mounted := files[name]; !mounted {
			return nil, fmt.Errorf("open %s/%s: no such file or directory", issuerMount, name)
		}
	}
	return parseIssuer(files[serving.settings.certificate], files[serving.settings.key])
}

// reload loads a changed issuer, and says in an event of the Deployment how that went.
func (serving *service) reload(files map[string][]byte) {
	if err := serving.load(files); err != nil {
		message := fmt.Sprintf("Skipping issuer update as certs could not be read from disk: %s", err)
		serving.log.Warn(message)
		serving.events.Event(serving.deployment(), corev1.EventTypeWarning, issuerUpdateSkipped, message)
		return
	}
	const message = "Updated identity issuer"
	serving.log.Info(message)
	serving.events.Event(serving.deployment(), corev1.EventTypeNormal, issuerUpdated, message)
}

// deployment is what events are about that concern no workload.
func (serving *service) deployment() *corev1.ObjectReference {
	return &corev1.ObjectReference{
		APIVersion: "apps/v1",
		Kind:       "Deployment",
		Namespace:  serving.settings.mesh.ControlNamespace,
		Name:       certify.ServiceName,
	}
}

// issuerSeconds is the gauge: seconds that the last accepted issuer has left, 0 before there was one.
func (serving *service) issuerSeconds() float64 {
	serving.lock.RLock()
	defer serving.lock.RUnlock()
	return serving.remaining()
}

func (serving *service) remaining() float64 {
	if serving.issuerNotAfter.IsZero() {
		return 0
	}
	return time.Until(serving.issuerNotAfter).Seconds()
}

// Certify signs a leaf for who proves to be the workload that it is for.
func (serving *service) Certify(
	ctx context.Context, request *identitypb.CertifyRequest,
) (*identitypb.CertifyResponse, error) {
	serving.lock.RLock()
	defer serving.lock.RUnlock()
	if serving.issuer == nil {
		return nil, status.Error(codes.Unavailable, "cert issuer not ready yet")
	}
	signingRequest, err := parseRequest(request)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	name := request.GetIdentity()
	if err := serving.issuer.verify(serving.anchors); err != nil {
		serving.reportInvalidIssuer(err, name)
		return nil, err
	}
	if err := checkRequest(signingRequest, name); err != nil {
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	proven, err := serving.tokens.identify(ctx, request.GetToken(), name)
	if err != nil {
		serving.log.Info("token refused", "identity", name, "error", err)
		return nil, err
	}
	if proven != name {
		return nil, status.Errorf(codes.FailedPrecondition,
			"requested identity did not match provided token: requested=%s; found=%s", name, proven)
	}
	chain, err := serving.issuer.sign(signingRequest, serving.settings.lifetime, serving.settings.clockSkew)
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	serving.reportLeaf(chain[0], name)
	response := &identitypb.CertifyResponse{
		LeafCertificate: chain[0].Raw,
		ValidUntil:      timestamppb.New(chain[0].NotAfter),
	}
	for _, link := range chain[1:] {
		response.IntermediateCertificates = append(response.IntermediateCertificates, link.Raw)
	}
	return response, nil
}

func (serving *service) reportInvalidIssuer(err error, name string) {
	message := fmt.Sprintf("%s - CSR Identity : %s", err, name)
	serving.log.Error("could not process CSR because of CA cert validation failure: " + message)
	serving.events.Event(serving.deployment(), corev1.EventTypeWarning, issuerValidationFailed, message)
}

func (serving *service) reportLeaf(leaf *x509.Certificate, name string) {
	message := fmt.Sprintf("issued certificate for %s until %s: %x", name, leaf.NotAfter, sha256.Sum256(leaf.Raw))
	serving.log.Info(message)
	parts := strings.Split(name, ".")
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: parts[0], Namespace: parts[1]}}
	serving.events.Event(account, corev1.EventTypeNormal, issuedLeafCertificate, message)
}

func parseRequest(request *identitypb.CertifyRequest) (*x509.CertificateRequest, error) {
	switch {
	case request.GetIdentity() == "":
		return nil, errors.New("missing identity")
	case len(request.GetToken()) == 0:
		return nil, errors.New("missing token")
	case len(request.GetCertificateSigningRequest()) == 0:
		return nil, errors.New("missing certificate signing request")
	}
	return x509.ParseCertificateRequest(request.GetCertificateSigningRequest())
}

// checkRequest refuses a signing request for anything but the one name of the workload.
func checkRequest(request *x509.CertificateRequest, name string) error {
	switch {
	case len(request.DNSNames) != 1:
		return errors.New("CSR must have exactly one DNSName")
	case request.DNSNames[0] != name:
		return fmt.Errorf("CSR name does not match requested identity: csr=%s; req=%s", request.DNSNames[0], name)
	case request.Subject.CommonName != "" && request.Subject.CommonName != name:
		return fmt.Errorf("invalid CommonName: %s", request.Subject.CommonName)
	case len(request.EmailAddresses) > 0:
		return errors.New("cannot validate email addresses")
	case len(request.IPAddresses) > 0:
		return errors.New("cannot validate IP addresses")
	case len(request.URIs) > 0:
		return errors.New("cannot validate URIs")
	}
	return nil
}
