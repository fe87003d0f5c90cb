package identity

import (
	"math/rand/v2"
	"net"
	"slices"
	"sync"

	"meshtrust/rehearsal/cluster/services"
	"meshtrust/rehearsal/mesh/certify"
)

// network is what a cluster's network does for the Service: it takes every new connection to one of the pods that are
// ready, at random. The Service is published while there is one.
type network struct {
	directory string
	namespace string

	lock     sync.Mutex
	ready    []*mailbox
	listener net.Listener
	withdraw func()
}

// mailbox is the listener of one pod; the network puts connections into it.
type mailbox struct {
	network     *network
	connections chan net.Conn
	closed      chan struct{}
	once        sync.Once
}

func (between *network) mailbox() *mailbox {
	return &mailbox{network: between, connections: make(chan net.Conn), closed: make(chan struct{})}
}

// open makes the pod one that connections are taken to.
func (box *mailbox) open() error {
	between := box.network
	between.lock.Lock()
	defer between.lock.Unlock()
	between.ready = append(between.ready, box)
	if len(between.ready) > 1 {
		return nil
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	between.listener = listener
	go between.distribute(listener)
	between.withdraw, err = services.Publish(
		between.directory, between.namespace, certify.ServiceName, certify.ServicePort, listener.Addr().String())
	return err
}

func (between *network) remove(box *mailbox) {
	between.lock.Lock()
	defer between.lock.Unlock()
	at := slices.Index(between.ready, box)
	if at < 0 {
		return
	}
	between.ready = slices.Delete(between.ready, at, at+1)
	if len(between.ready) == 0 {
		between.withdraw()
		_ = between.listener.Close()
	}
}

func (between *network) distribute(listener net.Listener) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		if box := between.any(); box != nil {
			go box.deliver(connection)
		} else {
			_ = connection.Close()
		}
	}
}

func (between *network) any() *mailbox {
	between.lock.Lock()
	defer between.lock.Unlock()
	if len(between.ready) == 0 {
		return nil
	}
	return between.ready[rand.IntN(len(between.ready))]
}

func (box *mailbox) deliver(connection net.Conn) {
	select {
	case box.connections <- connection:
	case <-box.closed:
		_ = connection.Close()
	}
}

// Accept returns the next connection, until the pod's server closes its listener.
func (box *mailbox) Accept() (net.Conn, error) {
	select {
	case connection := <-box.connections:
		return connection, nil
	case <-box.closed:
		return nil, net.ErrClosed
	}
}

// Close takes the pod off the Service.
func (box *mailbox) Close() error {
	box.once.Do(func() {
		box.network.remove(box)
		close(box.closed)
	})
	return nil
}

// Addr is the address of the Service.
func (box *mailbox) Addr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: certify.ServicePort}
}
