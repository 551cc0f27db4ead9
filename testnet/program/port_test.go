//go:build unix

package program

import (
	"net"
	"os/exec"
	"strconv"
	"sync"
	"testing"
)

func TestAPortInUseIsNotUnused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, addr := range []net.Addr{l.Addr(), p.LocalAddr()} {
		if _, port, _ := net.SplitHostPort(addr.String()); Unused(number(t, port)) {
			t.Errorf("%s %s is in use", addr.Network(), addr)
		}
	}
}

// Whoever is told that a port is unused can listen on it at once, while children are started.
func TestAnUnusedPortIsFreeAtOnce(t *testing.T) {
	stop := make(chan struct{})
	var starting sync.WaitGroup
	for range 3 {
		starting.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					exec.Command("true").Run()
				}
			}
		})
	}
	defer starting.Wait()
	defer close(stop)
	told := 0
	for i := range 10_000 {
		port := 31_000 + i%1000 // nobody is given these: see testnet/process and testnet/redis
		if !Unused(port) {
			continue
		}
		told++
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		p, err := net.ListenPacket("udp", addr)
		if err != nil {
			t.Fatal(err)
		}
		l.Close() // children may hold these a while: then the port is in use
		p.Close()
	}
	if told < 1000 {
		t.Errorf("%d of 10000 ports unused", told)
	}
}

func number(t *testing.T, s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
