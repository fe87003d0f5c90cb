// Package services lets processes of the rehearsal answer for the Services and the pods of its cluster.
//
// There is no cluster network: a pod's program is a process on a port of 127.0.0.1. It publishes that port under the
// name of its Service or its pod, as a file in a directory, and whoever would have connected there looks it up.
package services

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Publish makes an address answer for a port of a Service or a pod until it is withdrawn.
func Publish(directory, namespace, name string, port int, address string) (withdraw func(), err error) {
	path := entry(directory, namespace, name, port)
	// Written aside and renamed, so that nobody reads half an address.
	draft, err := os.CreateTemp(directory, ".draft-")
	if err != nil {
		return nil, err
	}
	_, err = draft.WriteString(address)
	if closing := draft.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return nil, err
	}
	withdraw = func() {
		// A pod may have a successor of the same name, which has published its own address by now.
		if current, err := os.ReadFile(path); err == nil && string(current) == address {
			_ = os.Remove(path)
		}
	}
	return withdraw, os.Rename(draft.Name(), path)
}

// Lookup returns the address that answers for a port of a Service or a pod.
func Lookup(directory, namespace, name string, port int) (string, error) {
	address, err := os.ReadFile(entry(directory, namespace, name, port))
	if err != nil {
		return "", fmt.Errorf("nothing answers for %s/%s port %d", namespace, name, port)
	}
	return strings.TrimSpace(string(address)), nil
}

func entry(directory, namespace, name string, port int) string {
	return filepath.Join(directory, fmt.Sprintf("%s.%s.%d", namespace, name, port))
}
