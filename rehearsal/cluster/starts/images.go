package starts

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"sync"
	"time"
)

// errMissing is what a registry answers for an image that it does not have.
var errMissing = errors.New("manifest unknown")

// images are those that each node has pulled.
type images struct {
	path string

	lock  sync.Mutex
	nodes map[string]*node
}

// node pulls one image at a time: the slot is taken by who pulls.
type node struct {
	slot   chan struct{}
	pulled map[string]bool
}

func newImages(path string) *images {
	return &images{path: path, nodes: map[string]*node{}}
}

// pull returns once a node has an image.
func (images *images) pull(ctx context.Context, name, image string) error {
	on := images.node(name)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case on.slot <- struct{}{}:
	}
	defer func() { <-on.slot }()
	if on.pulled[image] {
		return nil
	}
	times, err := read(images.path)
	if err != nil {
		return err
	}
	path := withoutRegistry(image)
	if slices.Contains(times.Missing, path) {
		return fmt.Errorf("%w: %s", errMissing, image)
	}
	seconds, listed := times.Pulls[path]
	if !listed {
		seconds = times.OtherPulls
	}
	if err := sleep(ctx, time.Duration(seconds*float64(time.Second))); err != nil {
		return err
	}
	on.pulled[image] = true
	return nil
}

// startTime returns how long a container takes to start: by its name, so that it is the same in every run.
func (images *images) startTime(container string) (time.Duration, error) {
	times, err := read(images.path)
	if err != nil {
		return 0, err
	}
	const steps = 1000
	digest := fnv.New32a()
	_, _ = digest.Write([]byte(container))
	share := float64(digest.Sum32()%steps) / steps
	seconds := times.ShortestStart + share*(times.LongestStart-times.ShortestStart)
	return time.Duration(seconds * float64(time.Second)), nil
}

func (images *images) node(name string) *node {
	images.lock.Lock()
	defer images.lock.Unlock()
	if images.nodes[name] == nil {
		images.nodes[name] = &node{slot: make(chan struct{}, 1), pulled: map[string]bool{}}
	}
	return images.nodes[name]
}

// withoutRegistry returns the path of an image: "jetstack/cert-manager-webhook" of
// "quay.io/jetstack/cert-manager-webhook:v1.16.1@sha256:...".
func withoutRegistry(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if registry, path, found := strings.Cut(image, "/"); found && strings.ContainsAny(registry, ".:") {
		image = path
	}
	image, _, _ = strings.Cut(image, ":")
	return image
}
