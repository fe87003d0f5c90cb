package proxies

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"meshtrust/rehearsal/mesh/certify"
)

// How many connections are under way at most, and how many failures are kept of each kind.
const (
	overlapping  = 4
	failuresKept = 200
)

// rate is how many connections are made per second: by each proxy, and by all together at most.
type rate struct {
	perProxy float64
	limit    float64
}

// traffic makes proxies connect to each other all the time, and counts what comes of it.
type traffic struct {
	rate    rate
	started time.Time

	lock sync.Mutex
	// proxies are those with a leaf whose pods are not being deleted: the ones that a destination service would name.
	proxies []*proxy
	next    int
	counts  map[*proxy]*counts
	report  report
}

// report is what came of all connections since the process started, as it is served.
type report struct {
	Since time.Time `json:"since"`
	// Proxies is how many take part at this moment.
	Proxies   int   `json:"proxies"`
	Attempted int64 `json:"attempted"`
	Succeeded int64 `json:"succeeded"`
	Failed    int64 `json:"failed"`
	// Failures are the newest, oldest first.
	Failures []failure `json:"failures"`
	// Renewals is how often proxies asked for a leaf. A refused one was issued, but not under the proxy's own anchors.
	Renewals renewals `json:"renewals"`
	// Pods are those of the proxies that take part, by namespace and name.
	Pods map[string]counts `json:"pods"`
}

type failure struct {
	Time   time.Time `json:"time"`
	Source string    `json:"source"`
	Target string    `json:"target"`
	Reason string    `json:"reason"`
}

type renewals struct {
	Succeeded int64            `json:"succeeded"`
	Failed    int64            `json:"failed"`
	Refused   int64            `json:"refused"`
	Failures  []renewalFailure `json:"failures"`
}

type renewalFailure struct {
	Time   time.Time `json:"time"`
	Pod    string    `json:"pod"`
	Reason string    `json:"reason"`
}

// counts are the connections that one proxy has begun.
type counts struct {
	Attempted int64 `json:"attempted"`
	Failed    int64 `json:"failed"`
}

func newTraffic(chosen rate) *traffic {
	return &traffic{rate: chosen, started: time.Now(), counts: map[*proxy]*counts{}}
}

func (between *traffic) join(joining *proxy) {
	between.lock.Lock()
	defer between.lock.Unlock()
	between.proxies = append(between.proxies, joining)
	between.counts[joining] = &counts{}
}

func (between *traffic) leave(leaving *proxy) {
	between.lock.Lock()
	defer between.lock.Unlock()
	between.proxies = slices.DeleteFunc(between.proxies, func(other *proxy) bool { return other == leaving })
	delete(between.counts, leaving)
}

// run makes connections until the context ends. One that had to wait does not put off those after it, but nobody makes up
// for what a busy machine had no time for.
func (between *traffic) run(ctx context.Context) {
	slots := make(chan struct{}, overlapping)
	for due := time.Now(); ; {
		interval := between.interval()
		due = due.Add(interval)
		if late := time.Now().Add(-10 * interval); due.Before(late) {
			due = late
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(due)):
		}
		source, target := between.pair()
		if source == nil {
			continue
		}
		slots <- struct{}{}
		go func() {
			defer func() { <-slots }()
			between.count(source, target, source.connect(target))
		}()
	}
}

// interval is how long to wait before the next connection.
func (between *traffic) interval() time.Duration {
	between.lock.Lock()
	defer between.lock.Unlock()
	perSecond := min(between.rate.limit, between.rate.perProxy*float64(max(1, len(between.proxies))))
	return time.Duration(float64(time.Second) / perSecond)
}

// pair returns the proxy whose turn it is, and another at random.
func (between *traffic) pair() (source, target *proxy) {
	between.lock.Lock()
	defer between.lock.Unlock()
	present := len(between.proxies)
	if present < 2 {
		return nil, nil
	}
	between.next = (between.next + 1) % present
	// Any but the source, all of them with the same chance.
	other := (between.next + 1 + rand.IntN(present-1)) % present
	return between.proxies[between.next], between.proxies[other]
}

// count notes what came of a connection. One whose pod was deleted meanwhile does not count: nobody is to connect to it.
func (between *traffic) count(source, target *proxy, err error) {
	if err != nil && (source.gone.Err() != nil || target.gone.Err() != nil) {
		return
	}
	between.lock.Lock()
	defer between.lock.Unlock()
	between.report.Attempted++
	own, isPresent := between.counts[source]
	if isPresent {
		own.Attempted++
	}
	if err == nil {
		between.report.Succeeded++
		return
	}
	between.report.Failed++
	if isPresent {
		own.Failed++
	}
	between.report.Failures = keep(between.report.Failures,
		failure{time.Now().UTC(), key(source.pod), key(target.pod), err.Error()})
}

// renewed notes what came of a proxy's request for a leaf.
func (between *traffic) renewed(pod string, err error) {
	between.lock.Lock()
	defer between.lock.Unlock()
	counted := &between.report.Renewals
	if err == nil {
		counted.Succeeded++
		return
	}
	counted.Failed++
	if errors.Is(err, certify.ErrRefused) {
		counted.Refused++
	}
	counted.Failures = keep(counted.Failures, renewalFailure{time.Now().UTC(), pod, err.Error()})
}

func keep[T any](kept []T, newest T) []T {
	if len(kept) == failuresKept {
		kept = kept[1:]
	}
	return append(kept, newest)
}

// snapshot returns the report as it is at this moment.
func (between *traffic) snapshot() report {
	between.lock.Lock()
	defer between.lock.Unlock()
	copied := between.report
	copied.Since = between.started.UTC()
	copied.Proxies = len(between.proxies)
	// Lists, and not null, where there is nothing.
	copied.Failures = append([]failure{}, copied.Failures...)
	copied.Renewals.Failures = append([]renewalFailure{}, copied.Renewals.Failures...)
	copied.Pods = map[string]counts{}
	for present, own := range between.counts {
		copied.Pods[key(present.pod)] = *own
	}
	return copied
}
