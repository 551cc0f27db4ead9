package page

import (
	"strings"
	"testing"
	"time"
)

// A story of cuts and crashes, and what the page says of it.
func TestThePageSaysWhy(t *testing.T) {
	for _, x := range []struct {
		name   string
		do     []command
		after  time.Duration
		says   []string // each in some line
		status string
	}{
		{"nothing", nil, time.Second, []string{"Every node hears every other"}, "all 6 nodes hear each other"},
		{"cut, not noticed yet", []command{{Do: "region", Name: "eu", Mode: both}}, time.Second, []string{"eu has just been cut off. Its nodes notice when nobody has answered for the lease, 3s"}, ""},
		{"cut", []command{{Do: "region", Name: "eu", Mode: both}}, 5 * time.Second, []string{
			"eu hears 2 of 6 members: no majority. Refill stopped under quorum (q); the backup bucket stands by. Under share (s) it goes on at 2/6. Under open (o)",
			"us and ap each hear 4 of 6 members: still a majority. Quorum limits refill in full",
		}, "no majority in eu"},
		{"three ways", []command{{Do: "region", Name: "eu", Mode: both}, {Do: "link", From: "us", To: "ap", Mode: there}}, 5 * time.Second,
			[]string{"eu, us and ap each hear 2 of 6 members: no majority"}, "no majority in eu, us and ap"},
		{"one link", []command{{Do: "link", From: "eu", To: "us", Mode: both}}, 5 * time.Second, []string{"eu and us each hear 4 of 6 members: still a majority"}, "eu: hears 4 of 6"},
		{"crash", []command{{Do: "node", Name: "us-2", Act: "crash"}}, 5 * time.Second, []string{"us-2 is down. Its part of the refill goes to the others after 4.5s"}, "eu: hears 5 of 6"},
		{"a region down", []command{{Do: "node", Name: "us-1", Act: "crash"}, {Do: "node", Name: "us-2", Act: "crash"}}, 5 * time.Second, []string{"us: no node runs"}, "no node runs in us"},
		{"paused", []command{{Do: "node", Name: "ap-1", Act: "pause"}}, time.Second, []string{"ap-1's refill daemon is paused"}, "ap-1: paused"},
		{"KV", []command{{Do: "store", Name: "kv", Fault: "429"}}, time.Second, nil, "KV fails: snapshots go to Redis"},
	} {
		t.Run(x.name, func(t *testing.T) {
			toy := newToy()
			h := newTestHub(toy)
			turnOnce(t, h, x.do...)
			toy.now += x.after
			s := look(toy, toy.machines)
			for i := range s.regions {
				s.regions[i].cut = h.faults.regions[s.regions[i].name]
			}
			lines := why(s)
			for _, want := range x.says {
				found := false
				for _, l := range lines {
					found = found || strings.Contains(l.Text, want)
				}
				if !found {
					t.Errorf("no line says %q: %+v", want, lines)
				}
			}
			if got := h.state(s).Status.Text; x.status != "" && got != x.status {
				t.Errorf("status %q, want %q", got, x.status)
			}
		})
	}
}

// What changes is said once, in few lines.
func TestTheLogSaysWhatChanges(t *testing.T) {
	toy := newToy()
	h := newTestHub(toy)
	run := func(d time.Duration, cs ...command) {
		for end := toy.now + d; toy.now < end; cs = nil {
			turnOnce(t, h, cs...)
		}
	}
	run(time.Second)
	run(5*time.Second, command{Do: "region", Name: "eu", Mode: both})
	for _, want := range []string{"eu is cut off", "eu does not reach us and ap", "us does not reach eu", "refill in eu fell below 20 %: q", "eu-1 is not ready: no refill authority"} {
		if !logged(h, want) {
			t.Errorf("not in the log: %q", want)
		}
	}
	if n := len(h.log.newest()); n != 7 { // and eu-2 is not ready, ap does not reach eu
		t.Errorf("%d lines, want 7: %+v", n, h.log.newest())
	}
	run(3*time.Second, command{Do: "heal"}, command{Do: "store", Name: "kv", Fault: "hang"})
	run(3*time.Second, command{Do: "node", Name: "us-1", Act: "crash"}, command{Do: "store", Name: "kv"})
	for _, want := range []string{"eu reaches us and ap again", "refill in eu is back: q", "eu-1 is ready for traffic",
		"fallback began: snapshots go to Redis on ap-1, ap-2", "fallback ended", "us-1 is down", "converged"} {
		if !logged(h, want) {
			t.Errorf("not in the log: %q", want)
		}
	}
}

// Leases end one after the other: those who are lost within a moment are one line all the same.
func TestThoseLostTogetherAreOneLine(t *testing.T) {
	toy := newToy()
	w := newWatch()
	var said []string
	for step := range 40 { // four seconds, of which the three of the lease count
		toy.now = time.Duration(step) * 100 * time.Millisecond
		if step < 4 && step < len(toy.machines)-2 {
			if err := toy.Cut([]string{"eu-1", "eu-2"}, []string{toy.machines[2+step].Name}); err != nil {
				t.Fatal(err)
			}
		}
		w.see(look(toy, toy.machines), func(text, _ string) {
			if strings.HasPrefix(text, "eu does not reach") {
				said = append(said, text)
			}
		})
	}
	if len(said) != 1 || said[0] != "eu does not reach us and ap" {
		t.Errorf("it says %q", said)
	}
}

func TestBackupBucketsAreSeenToServe(t *testing.T) {
	toy := newToy()
	w := newWatch()
	s := look(toy, toy.machines)
	w.see(s, func(string, string) {})
	if s.regions[0].backup {
		t.Error("a backup bucket serves that nobody took from")
	}
	s = look(toy, toy.machines)
	c := s.regions[0].nodes[0].Takes["q"]
	c.Backup = 3
	s.regions[0].nodes[0].Takes["q"] = c
	w.see(s, func(string, string) {})
	if !s.regions[0].backup || s.regions[1].backup {
		t.Errorf("serve: eu %v, us %v; want eu alone", s.regions[0].backup, s.regions[1].backup)
	}
}
