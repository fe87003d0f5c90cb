package certify

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// A proxy renews its leaf at this share of its life (linkerd2-proxy linkerd/proxy/identity-client/src/certify.rs).
const refreshAt = 0.7

// Real proxies wait for ten seconds at least, and after a failure too (linkerd/app/src/env.rs); a rehearsal's leaves may
// live for seconds.
const minimumRefresh = 500 * time.Millisecond

// ErrRefused is what a proxy says of a leaf that its own trust anchors do not verify.
var ErrRefused = errors.New("the proxy's own trust anchors refuse the leaf")

// Keeper holds the leaf of one proxy and renews it, as long as the proxy lives.
type Keeper struct {
	// Name is the workload's identity.
	Name string
	// Anchors are the proxy's trust anchors, fixed for its life.
	Anchors *x509.CertPool
	// Obtain requests a new leaf.
	Obtain func(ctx context.Context) (*Credential, error)

	current   atomic.Pointer[Credential]
	refreshes atomic.Int64
	refusals  atomic.Int64
}

// Current returns the leaf that is in use, or nil before there is one.
func (keeper *Keeper) Current() *Credential {
	return keeper.current.Load()
}

// Certificate returns the leaf as a TLS connection presents it.
func (keeper *Keeper) Certificate() (*tls.Certificate, error) {
	credential := keeper.Current()
	if credential == nil {
		return nil, errors.New("this proxy has no certificate yet")
	}
	return credential.TLS(), nil
}

// Renew obtains a new leaf and uses it from now on. One that the proxy's own anchors do not verify is refused, and the
// proxy goes on with the one it has.
func (keeper *Keeper) Renew(ctx context.Context) error {
	credential, err := keeper.Obtain(ctx)
	if err != nil {
		return err
	}
	if err := credential.Verify(keeper.Anchors, keeper.Name); err != nil {
		keeper.refusals.Add(1)
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	keeper.current.Store(credential)
	keeper.refreshes.Add(1)
	return nil
}

// Count returns how many leaves were taken into use, and how many were refused.
func (keeper *Keeper) Count() (refreshes, refusals int64) {
	return keeper.refreshes.Load(), keeper.refusals.Load()
}

// Run renews the leaf whenever it is due, until the context ends, and reports how that went.
func (keeper *Keeper) Run(ctx context.Context, report func(error)) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(keeper.untilRefresh()):
		}
		if err := keeper.Renew(ctx); ctx.Err() == nil {
			report(err)
		}
	}
}

func (keeper *Keeper) untilRefresh() time.Duration {
	credential := keeper.Current()
	if credential == nil {
		return minimumRefresh
	}
	remaining := time.Until(credential.Leaf().NotAfter)
	return max(minimumRefresh, time.Duration(float64(remaining)*refreshAt))
}
