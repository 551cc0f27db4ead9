package memnet_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/openclaw/edge/testnet/memnet"
)

// dialed returns both ends of a stream between fresh transports on a and b.
func dialed(t *testing.T, network *memnet.Network) (near, far net.Conn, ta, tb memberlist.Transport) {
	t.Helper()
	ta, tb = listen(t, network, a), listen(t, network, b)
	near, err := ta.DialTimeout(b, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return near, <-tb.StreamCh(), ta, tb
}

func TestAStreamIsLateInOrderAndEndsWithEOF(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New(5)
		network.Default(memnet.Link{Delay: 80 * time.Millisecond})
		began := time.Now()
		near, far, _, _ := dialed(t, network)
		if took := time.Since(began); took != 160*time.Millisecond {
			t.Errorf("the handshake took %v, want a round trip", took)
		}
		began = time.Now()
		near.Write([]byte("ping"))
		buf := make([]byte, 10)
		if got, err := far.Read(buf); string(buf[:got]) != "ping" || err != nil || time.Since(began) != 80*time.Millisecond {
			t.Errorf("read %q, %v after %v", buf[:got], err, time.Since(began))
		}
		network.Default(memnet.Link{Delay: 80 * time.Millisecond, Jitter: 300 * time.Millisecond, Loss: 0.3, Reorder: 0.3})
		want := make([]byte, 3<<20) // three windows
		for i := range want {
			want[i] = byte(i * i >> 7)
		}
		go func() {
			near.Write(want)
			near.Close()
		}()
		if got, err := io.ReadAll(far); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes, %v; equal: %v", len(got), err, bytes.Equal(got, want))
		}
		if err := far.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestDeadlinesHoldInVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far, _, _ := dialed(t, memnet.New(1))
		began := time.Now()
		far.SetReadDeadline(time.Now().Add(3 * time.Second))
		_, err := far.Read(make([]byte, 1))
		if !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != 3*time.Second {
			t.Errorf("read: %v after %v", err, time.Since(began))
		}
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("%v is no timeout", err)
		}
		near.SetWriteDeadline(time.Now().Add(time.Second))
		if _, err := near.Write(make([]byte, 2<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a write into a full window: %v", err)
		}
		go func() { // a deadline set later wakes who waits
			time.Sleep(time.Second)
			near.SetDeadline(time.Now())
		}()
		near.SetDeadline(time.Time{})
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read: %v", err)
		}
	})
}

func TestADialAcrossACutTimesOutAndAHealLetsItThrough(t *testing.T) {
	for name, cut := range map[string]func(*memnet.Network){
		"both ways": func(n *memnet.Network) { n.Cut(a, b) },
		"there":     func(n *memnet.Network) { n.CutOneWay(a, b) },
		"back":      func(n *memnet.Network) { n.CutOneWay(b, a) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				network := memnet.New(1)
				ta, _ := listen(t, network, a), listen(t, network, b)
				cut(network)
				began := time.Now()
				if c, err := ta.DialTimeout(b, 4*time.Second); c != nil || !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("dialed: %v, %v", c, err)
				}
				if took := time.Since(began); took != 4*time.Second {
					t.Errorf("gave up after %v", took)
				}
				time.AfterFunc(2500*time.Millisecond, network.HealAll)
				if _, err := ta.DialTimeout(b, 4*time.Second); err != nil {
					t.Errorf("after the heal: %v", err)
				}
			})
		})
	}
}

func TestNobodyThereRefusesADial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ta := listen(t, memnet.New(1), a)
		if _, err := ta.DialTimeout(c, time.Second); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Error(err)
		}
	})
}

func TestWhoDoesNotAcceptHasABacklogOf128(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New(1)
		ta, tb := listen(t, network, a), listen(t, network, b)
		for range 128 {
			if _, err := ta.DialTimeout(b, time.Second); err != nil {
				t.Fatal(err)
			}
		}
		time.AfterFunc(3500*time.Millisecond, func() { <-tb.StreamCh() })
		if _, err := ta.DialTimeout(b, 3*time.Second); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("over the backlog: %v", err)
		}
		if _, err := ta.DialTimeout(b, 3*time.Second); err != nil {
			t.Errorf("after an accept: %v", err)
		}
	})
}

func TestACutHoldsAStreamBackAndBreaksItAfterTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New(1)
		near, far, _, _ := dialed(t, network)
		buf := make([]byte, 10)

		network.CutOneWay(a, b)
		near.Write([]byte("late"))
		far.Write([]byte("back")) // the other way is whole
		if got, err := near.Read(buf); string(buf[:got]) != "back" || err != nil {
			t.Errorf("against the cut: %q, %v", buf[:got], err)
		}
		time.AfterFunc(5*time.Second, network.HealAll)
		began := time.Now()
		if got, err := far.Read(buf); string(buf[:got]) != "late" || err != nil {
			t.Errorf("after the heal: %q, %v", buf[:got], err)
		}
		if took := time.Since(began); took < 5*time.Second || took > 6*time.Second {
			t.Errorf("arrived after %v, healed after 5 s", took)
		}

		network.Cut(a, b)
		near.Write([]byte("lost"))
		began = time.Now()
		for _, end := range []net.Conn{near, far} {
			if _, err := end.Read(buf); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("read: %v", err)
			}
		}
		if took := time.Since(began); took != 10*time.Second+time.Nanosecond || network.Stats().Resets != 1 {
			t.Errorf("reset after %v, %+v", took, network.Stats())
		}
	})
}

func TestClosingWakesBothEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far, _, tb := dialed(t, memnet.New(1))
		go func() {
			time.Sleep(time.Second)
			near.Close()
		}()
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("own end: %v", err)
		}
		if _, err := far.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("other end: %v", err)
		}
		far.Write([]byte("nobody reads this"))
		time.Sleep(time.Second)
		if _, err := far.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("writing to a closed end: %v", err)
		}
		tb.Shutdown()
		if _, err := far.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("after shutdown: %v", err)
		}
	})
}

// As when a process ends: the kernel still delivers what was written.
func TestShutdownDeliversWhatWasWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New(1)
		network.Default(memnet.Link{Delay: 100 * time.Millisecond})
		near, far, ta, _ := dialed(t, network)
		near.Write([]byte("last words"))
		ta.Shutdown()
		if got, err := io.ReadAll(far); string(got) != "last words" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		waiting := make(chan error)
		tc := listen(t, network, c)
		network.Cut(b, c)
		go func() {
			_, err := tc.DialTimeout(b, time.Hour)
			waiting <- err
		}()
		synctest.Wait()
		tc.Shutdown()
		if err := <-waiting; !errors.Is(err, net.ErrClosed) {
			t.Errorf("a dial under way: %v", err)
		}
	})
}
