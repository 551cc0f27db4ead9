package relay_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"go.uber.org/goleak"

	"github.com/openclaw/edge/testnet/relay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// run starts a relay that ends with the test.
func run(t *testing.T, cfg relay.Config) *relay.Relay {
	t.Helper()
	r, err := relay.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := r.Run(ctx); err != nil {
			t.Errorf("relay: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })
	<-r.Started()
	return r
}

// target is a node's UDP and TCP address that nobody serves yet.
func target(t *testing.T) (*net.UDPConn, *net.TCPListener) {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	u, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: l.Addr().(*net.TCPAddr).Port})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	return u, l
}

// member runs a memberlist on a free port, behind a relay that delays packets
// and streams.
func member(t *testing.T, name string, delay time.Duration) (*memberlist.Memberlist, *relay.Relay) {
	t.Helper()
	cfg := memberlist.DefaultWANConfig()
	cfg.Name, cfg.LogOutput, cfg.EnableCompression = name, io.Discard, false
	transport, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{BindAddrs: []string{"127.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Transport = transport
	r := run(t, relay.Config{
		Listen:   "127.0.0.1:0",
		Target:   fmt.Sprintf("127.0.0.1:%d", transport.GetAutoBindPort()),
		Delay:    func(netip.AddrPort) time.Duration { return delay },
		TCPDelay: delay,
	})
	host, port, _ := net.SplitHostPort(r.Addr())
	cfg.AdvertiseAddr = host
	cfg.AdvertisePort, _ = strconv.Atoi(port)
	m, err := memberlist.Create(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Shutdown() })
	return m, r
}

func TestTwoNodes80MillisecondsApart(t *testing.T) {
	const delay = 80 * time.Millisecond
	a, _ := member(t, "a", delay)
	b, front := member(t, "b", delay)
	began := time.Now()
	if _, err := a.Join([]string{front.Addr()}); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 2*delay { // state there, state back
		t.Errorf("joined after %v", took)
	}
	if a.NumMembers() != 2 {
		t.Fatalf("%d members", a.NumMembers())
	}
	to, _ := net.ResolveUDPAddr("udp", b.LocalNode().Address())
	for range 3 {
		rtt, err := a.Ping("b", to)
		if err != nil || rtt < 2*delay {
			t.Errorf("ping: %v, %v", rtt, err)
		}
		t.Logf("round trip %v", rtt)
	}
	if s := front.Stats(); s.Forwarded == 0 || s.Streams == 0 {
		t.Errorf("the relay was passed by: %+v", s)
	}
}

func TestTheDelayDependsOnWhoSends(t *testing.T) {
	u, _ := target(t)
	near, _ := target(t)
	far, _ := target(t)
	gone, _ := target(t)
	r := run(t, relay.Config{Listen: "127.0.0.1:0", Target: u.LocalAddr().String(), Delay: func(from netip.AddrPort) time.Duration {
		switch from.String() {
		case far.LocalAddr().String():
			return 100 * time.Millisecond
		case gone.LocalAddr().String():
			return -1
		}
		return 0
	}})
	to := netip.MustParseAddrPort(r.Addr())
	began := time.Now()
	for _, from := range []struct {
		conn *net.UDPConn
		say  string
	}{{gone, "gone"}, {far, "far 1"}, {far, "far 2"}, {near, "near"}} {
		from.conn.WriteToUDPAddrPort([]byte(from.say), to)
	}
	buf := make([]byte, 100)
	for _, want := range []string{"near", "far 1", "far 2"} {
		got, _, err := u.ReadFromUDP(buf)
		if string(buf[:got]) != want || err != nil {
			t.Errorf("got %q, %v; want %q", buf[:got], err, want)
		}
	}
	if took := time.Since(began); took < 100*time.Millisecond {
		t.Errorf("far packets came after %v", took)
	}
	if s := r.Stats(); s.Cut != 1 {
		t.Errorf("%+v", s)
	}
}

func TestAPacketMayArriveTwice(t *testing.T) {
	u, _ := target(t)
	one, _ := target(t)
	two, _ := target(t)
	r := run(t, relay.Config{Listen: "127.0.0.1:0", Target: u.LocalAddr().String(), Again: func(from netip.AddrPort) time.Duration {
		if from.String() == two.LocalAddr().String() {
			return 20 * time.Millisecond
		}
		return -1
	}})
	to := netip.MustParseAddrPort(r.Addr())
	two.WriteToUDPAddrPort([]byte("two"), to)
	one.WriteToUDPAddrPort([]byte("one"), to)
	buf := make([]byte, 100)
	for _, want := range []string{"two", "one", "two"} {
		u.SetReadDeadline(time.Now().Add(5 * time.Second))
		got, _, err := u.ReadFromUDP(buf)
		if string(buf[:got]) != want || err != nil {
			t.Errorf("got %q, %v; want %q", buf[:got], err, want)
		}
	}
	for end := time.Now().Add(5 * time.Second); r.Stats().Forwarded < 3 && time.Now().Before(end); { // counted once they are sent
		time.Sleep(time.Millisecond)
	}
	if s := r.Stats(); s.Forwarded != 3 || s.Doubled != 1 {
		t.Errorf("counted %+v", s)
	}
}

func TestEveryPacketIsForwardedOrCounted(t *testing.T) {
	const total = 400
	u, _ := target(t)
	r := run(t, relay.Config{Listen: "127.0.0.1:0", Target: u.LocalAddr().String(), Loss: 0.25, Seed: 3})
	from, err := net.Dial("udp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	var s relay.Stats
	for sent := uint64(1); sent <= total; sent++ {
		from.Write([]byte("x"))
		for sent%100 == 0 && s.Forwarded+s.Lost < sent { // more would overflow a small socket buffer
			time.Sleep(time.Millisecond) // real sockets: nothing to wait on but the counters
			s = r.Stats()
		}
	}
	if s.Lost < total/8 || s.Lost > total*3/8 {
		t.Errorf("lost %d of %d, want about a quarter", s.Lost, total)
	}
}

func TestAStreamKeepsItsBytesAndItsHalfClose(t *testing.T) {
	const delay = 30 * time.Millisecond
	_, l := target(t)
	go func() { // answers with what it got, once it has all
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		all, _ := io.ReadAll(c)
		c.Write(all)
	}()
	r := run(t, relay.Config{Listen: "127.0.0.1:0", Target: l.Addr().String(), TCPDelay: delay})
	c, err := net.Dial("tcp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	want := bytes.Repeat([]byte("every region at once. "), 200_000) // 4.4 MB
	began := time.Now()
	go func() {
		c.Write(want)
		c.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d of %d bytes, %v", len(got), len(want), err)
	}
	if took := time.Since(began); took < 2*delay {
		t.Errorf("there and back in %v", took)
	}
}

// Loopback has many addresses: who dials from which is told, and each direction has its delay.
func TestAStreamsDelayDependsOnWhoDialsAndOnTheDirection(t *testing.T) {
	_, l := target(t)
	arrived := make(chan time.Time, 2)
	go func() { // ends with l
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Read(make([]byte, 1))
			arrived <- time.Now()
			c.Write([]byte("!"))
			c.Close()
		}
	}()
	const back = 500 * time.Millisecond
	far := netip.MustParseAddr("127.0.0.2")
	r := run(t, relay.Config{Listen: "127.0.0.1:0", Target: l.Addr().String(), StreamDelay: func(dialer netip.Addr, isBack bool) time.Duration {
		if dialer == far && isBack {
			return back
		}
		return 0
	}})
	for _, from := range []string{"127.0.0.2", "127.0.0.3"} {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		c, err := d.Dial("tcp", r.Addr())
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		c.Write([]byte("?"))
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Error(err)
		}
		took, there := time.Since(began), (<-arrived).Sub(began)
		if (took >= back) != (from == far.String()) || there >= back {
			t.Errorf("from %s: there in %v, and back in %v altogether", from, there, took)
		}
		c.Close()
	}
}

func TestADeadTargetClosesTheStream(t *testing.T) {
	_, l := target(t)
	l.Close()
	r := run(t, relay.Config{Listen: "127.0.0.1:0", Target: l.Addr().String()})
	c, err := net.Dial("tcp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("read something")
	}
	if s := r.Stats(); s.Failed != 1 {
		t.Errorf("%+v", s)
	}
}

func TestRunEndsOpenStreams(t *testing.T) {
	_, l := target(t)
	r, err := relay.New(relay.Config{Listen: "127.0.0.1:0", Target: l.Addr().String(), TCPDelay: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- r.Run(ctx) }()
	<-r.Started()
	c, err := net.Dial("tcp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := far.Read(make([]byte, 1)); err == nil {
		t.Error("the stream outlived Run")
	}
}

func TestNewRefuses(t *testing.T) {
	for name, cfg := range map[string]relay.Config{
		"no target":    {Listen: "127.0.0.1:0"},
		"named target": {Listen: "127.0.0.1:0", Target: "node:7946"},
		"no port":      {Listen: "127.0.0.1", Target: "127.0.0.1:7946"},
		"loss over 1":  {Listen: "127.0.0.1:0", Target: "127.0.0.1:7946", Loss: 2},
	} {
		if _, err := relay.New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
