package node

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A node tells systemd that it serves, that it lives, and that it stops, in this order.
func TestSystemdHearsOfReadyWatchdogAndStop(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "40000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	hear := func() string {
		t.Helper()
		b := make([]byte, 1024)
		socket.SetReadDeadline(time.Now().Add(20 * time.Second))
		n, err := socket.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(b[:n]))
	}
	t.Run("a life", func(t *testing.T) {
		startNode(t, testConfig(t))
		if got := hear(); got != "READY=1" {
			t.Errorf("first %q", got)
		}
		for range 2 {
			if got := hear(); got != "WATCHDOG=1" {
				t.Errorf("then %q", got)
			}
		}
	})
	last := hear()
	for last == "WATCHDOG=1" { // sent before the stop
		last = hear()
	}
	if last != "STOPPING=1" {
		t.Errorf("last %q", last)
	}
}
