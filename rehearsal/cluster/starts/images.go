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

// images are those that each node has pulled or pulls.
type images struct {
	path string

	lock  sync.Mutex
	nodes map[string]*node
}

// node is a node's images, each by a slot that whoever pulls it holds, and the slot of the one pull at a time.
type node struct {
	oneAtATime chan struct{}
	images     map[string]*nodeImage
}

type nodeImage struct {
	slot   chan struct{}
	pulled bool
}

func newImages(path string) *images {
	return &images{path: path, nodes: map[string]*node{}}
}

// pull returns once a node has an image. A second pod that needs an image waits for the first one's pull.
func (images *images) pull(ctx context.Context, name, image string) error {
	times, err := read(images.path)
	if err != nil {
		return err
	}
	on, found := images.find(name, image)
	release, err := take(ctx, found.slot)
	if err != nil {
		return err
	}
	defer release()
	if found.pulled {
		return nil
	}
	path := withoutRegistry(image)
	if slices.Contains(times.Missing, path) {
		return fmt.Errorf("%w: %s", errMissing, image)
	}
	if times.SerializeImagePulls {
		release, err := take(ctx, on.oneAtATime)
		if err != nil {
			return err
		}
		defer release()
	}
	seconds, listed := times.Pulls[path]
	if !listed {
		seconds = times.OtherPulls
	}
	if err := sleep(ctx, time.Duration(seconds*float64(time.Second))); err != nil {
		return err
	}
	found.pulled = true
	return nil
}

// take waits for a slot, and returns what gives it back.
func take(ctx context.Context, slot chan struct{}) (func(), error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case slot <- struct{}{}:
		return func() { <-slot }, nil
	}
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

func (images *images) find(name, image string) (*node, *nodeImage) {
	images.lock.Lock()
	defer images.lock.Unlock()
	on := images.nodes[name]
	if on == nil {
		on = &node{oneAtATime: make(chan struct{}, 1), images: map[string]*nodeImage{}}
		images.nodes[name] = on
	}
	if on.images[image] == nil {
		on.images[image] = &nodeImage{slot: make(chan struct{}, 1)}
	}
	return on, on.images[image]
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
