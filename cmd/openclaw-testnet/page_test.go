package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// Without an argument: a page, load, all that runs named, and nothing left when it stops.
func TestThePageIsUpAndLeavesNothing(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	before := goleak.IgnoreCurrent()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	c := pageCmd{Listen: taken.Addr().String(), Nodes: 1, Seed: 1}
	ctx, stop := context.WithCancel(t.Context())
	said, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		defer out.Close()
		ended <- c.play(ctx, out)
	}()

	lines := bufio.NewReader(said)
	first, err := lines.ReadString('\n')
	if err != nil {
		t.Fatal(err, <-ended)
	}
	url, found := strings.CutPrefix(strings.Fields(first)[5], "http://")
	if !found || !strings.HasSuffix(first, "("+taken.Addr().String()+" is taken)\n") || url == taken.Addr().String() {
		t.Fatalf("first it says %q; want where the page is, and that the port asked for is taken", first)
	}
	rest := make(chan string, 1)
	go func() {
		all, _ := io.ReadAll(lines)
		rest <- string(all)
	}()
	admits(t, "http://"+url)
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	all := <-rest
	for _, want := range []string{"eu-1   API http://127.0.0.1:", "us-1   API http://127.0.0.1:", "ap-1   API http://127.0.0.1:", "stores KV: ", "Redis: "} {
		if !strings.Contains(all, want) {
			t.Errorf("it never says %q: %s", want, all)
		}
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	if err := goleak.Find(before); err != nil {
		t.Error(err)
	}
	left, err := os.ReadDir(os.Getenv("TMPDIR"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// admits waits until the page shows that takes are admitted.
func admits(t *testing.T, url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "GET", url+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	for events := bufio.NewReader(res.Body); ; {
		line, err := events.ReadString('\n')
		if err != nil {
			t.Fatal("no load runs: ", err)
		}
		if _, admitted, ok := strings.Cut(line, `"admitted":`); ok && admitted[0] != '0' {
			return
		}
	}
}

func TestTheWrongAddressIsAnsweredWithWhatToDo(t *testing.T) {
	for listen, want := range map[string]string{
		"8088":           "write HOST:PORT",
		"0.0.0.0:8088":   "listens on loopback only",
		"example.org:80": "listens on loopback only",
		"127.0.0.1:http": "is no port",
		":8088":          "listens on loopback only",
	} {
		l, _, err := listenOn(listen)
		if err == nil {
			l.Close()
			t.Errorf("%s: it listens", listen)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", listen, err, want)
		}
	}
	if err := (&pageCmd{Listen: "127.0.0.1:0", Nodes: 99}).play(t.Context(), io.Discard); err == nil || !strings.Contains(err.Error(), "choose 1 to 10") {
		t.Errorf("99 nodes a region: %v", err)
	}
}
