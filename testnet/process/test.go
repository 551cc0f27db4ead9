package process

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/openclaw/edge/testnet/program"
)

// Binary builds openclaw-edge once for the test process and returns its path.
func Binary(t testing.TB) string {
	t.Helper()
	build.Do(func() {
		if build.dir, build.err = os.MkdirTemp("", "openclaw-edge-*"); build.err == nil {
			build.path, build.err = Build(context.Background(), build.dir, "openclaw-edge")
		}
	})
	if build.err != nil {
		t.Fatal(build.err)
	}
	return build.path
}

// Command builds another of this module's commands, and returns its path.
func Command(t testing.TB, name string) string {
	t.Helper()
	path, err := Build(t.Context(), t.TempDir(), name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var build struct {
	sync.Once
	dir, path string
	err       error
}

// Cleanup removes the binary; to be called from TestMain after m.Run.
func Cleanup() {
	if build.dir != "" {
		os.RemoveAll(build.dir)
	}
}

// Node is a Process of a test. It fails the test when something that it is told to do fails.
type Node struct {
	*Process
	t testing.TB
}

// Start starts a node that ends with the test, and waits until it listens.
func Start(t testing.TB, o Options) *Node {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	if o.Binary == "" {
		o.Binary = Binary(t)
	}
	n := &Node{New(o), t}
	t.Cleanup(func() {
		n.Kill()
		if t.Failed() {
			t.Logf("log of %s:\n%s", o.Node, n.Logs())
		}
	})
	n.Restart()
	return n
}

// Restart starts it again with the same options and data directory.
func (n *Node) Restart() {
	n.t.Helper()
	n.must(n.Process.Start())
	n.must(n.Listening(20 * time.Second))
}

// Eventually polls until ok, or fails the test.
func (n *Node) Eventually(within time.Duration, what string, ok func() bool) time.Duration {
	n.t.Helper()
	start := time.Now()
	n.must(n.poll(within, what, ok))
	return time.Since(start)
}

// Ready waits until /readyz says so.
func (n *Node) Ready(within time.Duration) time.Duration {
	n.t.Helper()
	return n.Eventually(within, "is ready", func() bool { return n.Status("/readyz") == 200 })
}

// Stop stops with SIGTERM, waits, and returns how the process ended.
func (n *Node) Stop() error {
	n.t.Helper()
	err := n.Process.Stop()
	if errors.Is(err, ErrAlive) {
		n.t.Error(err)
	}
	return err
}

// Wipe empties the data directory of a node that does not run; its log stays.
func (n *Node) Wipe() { n.t.Helper(); n.must(n.Process.Wipe()) }

func (n *Node) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

// Ports below those that the kernel hands to connections and to listeners on port 0, in blocks. A
// test process claims a block by listening on its first port until it ends: so no other one is
// given a port that a test means to come back to.
const (
	firstPort = 20000
	blockSize = 500
	blocks    = 20
)

var ports struct {
	mu     sync.Mutex // guards the rest
	next   int
	end    int            // of the block; 0: none is claimed yet
	claims []net.Listener // held for the life of the process
}

// FreeAddr returns a loopback address, free for UDP and TCP, that stays so.
func FreeAddr(t testing.TB) string {
	t.Helper()
	ports.mu.Lock()
	defer ports.mu.Unlock()
	for range blocks * blockSize {
		if ports.next == ports.end && !claimPorts() {
			break
		}
		port := ports.next
		ports.next++
		if program.Unused(port) {
			return fmt.Sprintf("127.0.0.1:%d", port)
		}
	}
	t.Fatal("no port is free for both UDP and TCP")
	return ""
}

func claimPorts() bool {
	for _, i := range rand.Perm(blocks) {
		first := firstPort + i*blockSize
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first)); err == nil {
			ports.claims = append(ports.claims, l)
			ports.next, ports.end = first+1, first+blockSize
			return true
		}
	}
	return false
}
