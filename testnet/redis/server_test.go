package redis

import (
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"
)

func TestWhatWasAcknowledgedSurvivesAKillUnlessEmptied(t *testing.T) {
	s := Start(t, Options{Password: "p"})
	if err := s.Do("SET", "k", "v"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		empty bool
		want  string
	}{{false, "v"}, {true, ""}} {
		if err := s.Restart(c.empty); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Ask("GET", "k"); c.want != "" && (err != nil || got != c.want) || c.want == "" && err == nil {
			t.Errorf("restarted, empty %v: %v, %v", c.empty, got, err)
		}
	}
}

func TestAStoppedServerHangsUntilItGoesOn(t *testing.T) {
	s := Start(t, Options{})
	s.Stop()
	answer := make(chan error, 1)
	go func() { answer <- s.Do("PING") }()
	select {
	case err := <-answer:
		t.Errorf("answered while stopped: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	s.Cont()
	if err := <-answer; err != nil {
		t.Error(err)
	}
}

func TestNothingIsLeft(t *testing.T) {
	Skip(t)
	c, err := NewCluster(3, Options{TLS: true, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	c.Servers[1].Stop()
	c.Close()
	for _, s := range c.Servers {
		if err := syscall.Kill(s.cmd.Process.Pid, 0); err == nil {
			t.Errorf("process %d lives", s.cmd.Process.Pid)
		}
		if _, err := os.Stat(s.dir); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", s.dir, err)
		}
	}
}

func TestAServerThatCannotStartSaysWhy(t *testing.T) {
	Skip(t)
	s, err := New(Options{MaxMemory: "a lot", Dir: t.TempDir()})
	if err == nil {
		s.Close()
		t.Fatal("it started")
	}
	if text := fmt.Sprint(err); len(text) < 40 {
		t.Error(text)
	}
}
