package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"sync/atomic"
	"time"
)

// issuer is the identity issuer as it signs leaves: one certificate, what stands between it and a trust anchor, its key.
type issuer struct {
	certificate   *x509.Certificate
	intermediates []*x509.Certificate
	key           crypto.Signer
	serial        atomic.Int64
}

// parseIssuer reads an issuer from PEM. The rules are those of linkerd2 pkg/tls/codec.go and pkg/tls/cred.go: keys may be
// SEC 1, PKCS #1 or PKCS #8, ECDSA or RSA, and the key must be that of the first certificate.
func parseIssuer(certificates, key []byte) (*issuer, error) {
	signer, err := parseKey(key)
	if err != nil {
		return nil, err
	}
	chain, err := parseCertificates(certificates)
	if err != nil {
		return nil, err
	}
	if len(chain) == 0 {
		return nil, errors.New("No certificates found") //nolint:staticcheck // the real message
	}
	public, comparable := signer.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !comparable || !public.Equal(chain[0].PublicKey) {
		return nil, errors.New("tls: Public and private key do not match")
	}
	return &issuer{certificate: chain[0], intermediates: chain[1:], key: signer}, nil
}

func parseKey(text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("not PEM-encoded")
	}
	switch block.Type {
	case "EC PRIVATE KEY":
		return x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		return x509.ParsePKCS1PrivateKey(block.Bytes)
	case "PRIVATE KEY":
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		switch key := key.(type) {
		case *ecdsa.PrivateKey:
			return key, nil
		case *rsa.PrivateKey:
			return key, nil
		}
		return nil, fmt.Errorf(
			"unsupported PKCS#8 encoded private key type: '%T', linkerd2 only supports ECDSA and RSA private keys", key)
	default:
		return nil, fmt.Errorf("unsupported block type: '%s'", block.Type)
	}
}

// parseCertificates reads certificates up to the end, or up to the first block that is none. Whatever else stands behind
// the last certificate, and be it an empty line, makes all of it unreadable.
func parseCertificates(text []byte) ([]*x509.Certificate, error) {
	var certificates []*x509.Certificate
	for len(text) > 0 {
		block, rest := pem.Decode(text)
		if block == nil {
			return nil, errors.New("not a PEM certificate")
		}
		if block.Type != "CERTIFICATE" {
			break
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		certificates = append(certificates, certificate)
		text = rest
	}
	return certificates, nil
}

// parseAnchors reads the bundle of trust anchors that the identity service starts with.
func parseAnchors(text string) (*x509.CertPool, error) {
	certificates, err := parseCertificates([]byte(text))
	if err != nil {
		return nil, err
	}
	if len(certificates) == 0 {
		return nil, errors.New("no certificates found")
	}
	anchors := x509.NewCertPool()
	for _, certificate := range certificates {
		anchors.AddCert(certificate)
	}
	return anchors, nil
}

// verify checks the issuer now, under the given trust anchors, as a server's certificate without a name: an extended key
// usage anywhere in the chain has to allow that.
func (issuing *issuer) verify(anchors *x509.CertPool) error {
	intermediates := x509.NewCertPool()
	for _, certificate := range issuing.intermediates {
		intermediates.AddCert(certificate)
	}
	_, err := issuing.certificate.Verify(x509.VerifyOptions{Roots: anchors, Intermediates: intermediates})
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		return fmt.Errorf("%w - Current Time : %s - Invalid before %s - Invalid After %s",
			err, time.Now(), issuing.certificate.NotBefore, issuing.certificate.NotAfter)
	}
	return err
}

// sign issues a leaf, which lives for the given time and the clock's tolerance at both ends, but never longer than the
// issuer and what stands above it (linkerd2 pkg/tls/ca.go). It returns the chain, leaf first.
func (issuing *issuer) sign(
	request *x509.CertificateRequest, lifetime, clockSkew time.Duration,
) ([]*x509.Certificate, error) {
	if _, usable := request.PublicKey.(*ecdsa.PublicKey); !usable {
		return nil, fmt.Errorf("CSR must contain an ECDSA public key: %T", request.PublicKey)
	}
	now := time.Now()
	notAfter := now.Add(lifetime).Add(clockSkew)
	above := append([]*x509.Certificate{issuing.certificate}, issuing.intermediates...)
	for _, certificate := range above {
		if certificate.NotAfter.Before(notAfter) {
			notAfter = certificate.NotAfter
		}
	}
	template := &x509.Certificate{
		SerialNumber:       big.NewInt(issuing.serial.Add(1)),
		SignatureAlgorithm: x509.ECDSAWithSHA256,
		Subject:            request.Subject,
		DNSNames:           request.DNSNames,
		NotBefore:          now.Add(-clockSkew),
		NotAfter:           notAfter,
		KeyUsage:           x509.KeyUsageKeyEncipherment | x509.KeyUsageDigitalSignature,
		ExtKeyUsage:        []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, issuing.certificate, request.PublicKey, issuing.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(raw)
	if err != nil {
		return nil, err
	}
	return append([]*x509.Certificate{leaf}, above...), nil
}
