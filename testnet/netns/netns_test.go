package netns_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openclaw/edge/testnet/netns"
)

// The test binary is also the process that runs on the nodes: an echo server,
// and a client that tries to reach the others' when it is asked to by HTTP.
func TestMain(m *testing.M) {
	if addr := os.Getenv("ECHO_ON"); addr != "" {
		e := echo{heard: make(map[string]int), held: make(map[string]net.Conn)}
		panic(e.run(addr))
	}
	os.Exit(m.Run())
}

const patience = 400 * time.Millisecond // of a client; the bridge takes microseconds

type echo struct {
	mu    sync.Mutex
	heard map[string]int      // datagrams, by the sender's IP address
	held  map[string]net.Conn // connections kept open, by address
}

// echoes answers on port 9000 until it is closed.
func (e *echo) echoes(addr string) ([]io.Closer, error) {
	udp, err := net.ListenPacket("udp", addr+":9000")
	if err != nil {
		return nil, err
	}
	tcp, err := net.Listen("tcp", addr+":9000")
	if err != nil {
		return nil, err
	}
	go func() {
		buf := make([]byte, 100)
		for {
			got, from, err := udp.ReadFrom(buf)
			if err != nil {
				return
			}
			e.mu.Lock()
			e.heard[from.(*net.UDPAddr).IP.String()]++
			e.mu.Unlock()
			udp.WriteTo(buf[:got], from)
		}
	}()
	go func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			go io.Copy(c, c)
		}
	}()
	return []io.Closer{udp, tcp}, nil
}

func (e *echo) run(addr string) error {
	if _, err := e.echoes(addr); err != nil {
		return err
	}
	http.HandleFunc("/{how}/{peer}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, e.ask(r.PathValue("how"), r.PathValue("peer")))
	})
	control, err := net.Listen("tcp", addr+":8000")
	if err != nil {
		return err
	}
	fmt.Println("ready")
	return http.Serve(control, nil)
}

// ask tries to reach peer by "udp", by a new "tcp" connection, or by the one
// "held" since the last time; or says how often peer was "heard".
func (e *echo) ask(how, peer string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	network, c := how, net.Conn(nil)
	switch how {
	case "heard":
		return fmt.Sprint(e.heard[peer])
	case "held":
		network, c = "tcp", e.held[peer]
		delete(e.held, peer)
	}
	e.mu.Unlock()
	var err error
	if c == nil {
		c, err = net.DialTimeout(network, peer+":9000", patience)
	}
	if err == nil {
		err = roundTrip(c)
	}
	e.mu.Lock()
	switch {
	case c == nil:
	case how == "held" && err == nil:
		e.held[peer] = c
	default:
		c.Close()
	}
	return answer(err)
}

// roundTrip sends a byte and waits for its echo.
func roundTrip(c net.Conn) error {
	c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write([]byte{1}); err != nil {
		return err
	}
	_, err := c.Read(make([]byte, 1))
	return err
}

// answer is a word for what a client met. Anything but silence would tell the
// peer that there is a firewall.
func answer(err error) string {
	var timeout net.Error
	switch {
	case err == nil:
		return "yes"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "silence"
	}
	return err.Error()
}

// start runs the echo process on node i until the test ends.
func start(t *testing.T, network *netns.InTest, i int) {
	t.Helper()
	cmd := network.Command(i, os.Args[0])
	cmd.Env = append(os.Environ(), "ECHO_ON="+network.Addr(i))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("node %d said %q", i, line)
	}
}

// ask has a node ask about another, over the test's own link.
func ask(t *testing.T, network *netns.InTest, node int, how string, peer int) string {
	t.Helper()
	return askFor(t, network, node, how, network.Addr(peer))
}

func askFor(t *testing.T, network *netns.InTest, node int, how, addr string) string {
	t.Helper()
	resp, err := http.Get(fmt.Sprintf("http://%s:8000/%s/%s", network.Addr(node), how, addr))
	if err != nil {
		t.Error(err)
		return ""
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return string(body)
}

func TestCutsAreSilentForNewAndOpenConnectionsAndHealRepairsThem(t *testing.T) {
	network := netns.Start(t, 3)
	for i := range 3 {
		start(t, network, i)
	}
	// An echo needs both directions, so a one-way cut silences both nodes'
	// requests; TestAOneWayCutIsOneWay tells the directions apart.
	for _, step := range []struct {
		name string
		do   func()
		cut  [][2]int // links that must be silent
	}{
		{"whole", func() {}, nil},
		{"one link cut", func() { network.Cut(0, 1) }, [][2]int{{0, 1}}},
		{"node 0 cut off", func() { network.Cut(0, 2) }, [][2]int{{0, 1}, {0, 2}}},
		{"healed", network.Heal, nil},
		{"one way", func() { network.CutOneWay(2, 1) }, [][2]int{{1, 2}}},
		{"healed again", network.Heal, nil},
	} {
		step.do()
		var asking sync.WaitGroup
		for _, way := range [][2]int{{0, 1}, {1, 0}, {0, 2}, {2, 0}, {1, 2}, {2, 1}} {
			link := [2]int{min(way[0], way[1]), max(way[0], way[1])}
			want := "yes"
			if slices.Contains(step.cut, link) {
				want = "silence"
			}
			for _, how := range []string{"udp", "tcp", "held"} {
				asking.Go(func() {
					if got := ask(t, network, way[0], how, way[1]); got != want {
						t.Errorf("%s: node %d to %d by %s: %s, want %s", step.name, way[0], way[1], how, got, want)
					}
				})
			}
		}
		asking.Wait()
	}
}

func TestAOneWayCutIsOneWay(t *testing.T) {
	network := netns.Start(t, 2)
	start(t, network, 0)
	start(t, network, 1)
	for _, step := range []struct {
		name  string
		do    func()
		heard string // packets so far: at node 0, at node 1
	}{
		{"whole", func() {}, "1 1"}, // questions; the answers go to the asking socket
		{"from 0 to 1", func() { network.CutOneWay(0, 1) }, "2 1"},
		{"both ways", func() { network.Heal(); network.Cut(0, 1) }, "2 1"},
		{"the other way", func() { network.Heal(); network.CutOneWay(1, 0) }, "2 2"},
	} {
		step.do()
		ask(t, network, 0, "udp", 1)
		ask(t, network, 1, "udp", 0)
		if got := ask(t, network, 0, "heard", 1) + " " + ask(t, network, 1, "heard", 0); got != step.heard {
			t.Errorf("%s: heard %s packets, want %s", step.name, got, step.heard)
		}
	}
}

// What stands on the host in front of a node is cut with that node's links, and with no others;
// answers on connections that are open count as the node's.
func TestAFrontIsCutWithItsNode(t *testing.T) {
	network := netns.Start(t, 3)
	for i := range 3 {
		start(t, network, i)
	}
	front := echo{heard: make(map[string]int), held: make(map[string]net.Conn)}
	closers, err := front.echoes(network.Host())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, c := range closers {
			c.Close()
		}
	})
	network.Front(1, 9000)
	for _, step := range []struct {
		name     string
		do       func()
		silentTo int // node to which the front does not answer; -1: none
	}{
		{"whole", func() {}, -1},
		{"from 0 to 1", func() { network.CutOneWay(0, 1) }, 0},
		{"from 2 to 1", func() { network.Heal(); network.CutOneWay(2, 1) }, 2},
		{"from 1 to 2", func() { network.Heal(); network.CutOneWay(1, 2) }, 2},
		{"between the others", func() { network.Heal(); network.Cut(0, 2) }, -1},
		{"from 1 to 0, mended", func() { network.CutOneWay(1, 0); repair(t, network, netns.Way{From: 1, To: 0}) }, -1},
		{"never cut, and mended", func() { repair(t, network, netns.Way{From: 0, To: 1}) }, -1},
	} {
		step.do()
		for _, node := range []int{0, 2} {
			want := "yes"
			if node == step.silentTo {
				want = "silence"
			}
			for _, how := range []string{"udp", "tcp", "held"} {
				if got := askFor(t, network, node, how, network.Host()); got != want {
					t.Errorf("%s: node %d to the front by %s: %s, want %s", step.name, node, how, got, want)
				}
			}
		}
	}
}

func repair(t *testing.T, network *netns.InTest, ways ...netns.Way) {
	t.Helper()
	if err := network.Repair(ways...); err != nil {
		t.Error(err)
	}
}

// A killed test run leaves processes in its namespaces; the next run ends them.
func TestLeftoversOfAKilledRunAreRemoved(t *testing.T) {
	if os.Getenv("ABANDON") != "" {
		network := netns.Start(t, 1)
		start(t, network, 0)
		dir, err := network.Dir()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("abandon", network.Name(0), dir)
		select {} // until killed
	}
	first := netns.Start(t, 1) // skips the test where there is nothing to test
	run := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	run.Env = append(os.Environ(), "ABANDON=1")
	out, err := run.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	var name, dir string
	for lines := bufio.NewScanner(out); name == "" && lines.Scan(); {
		if said, ok := strings.CutPrefix(lines.Text(), "abandon "); ok {
			name, dir, _ = strings.Cut(said, " ")
		}
	}
	run.Process.Kill()
	run.Wait()
	pids, err := exec.Command("ip", "netns", "pids", name).Output()
	if err != nil || len(pids) == 0 {
		t.Fatalf("nothing was left behind in %q: %v", name, err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Fatal(err)
	}
	second := netns.Start(t, 1)
	list, err := exec.Command("ip", "netns", "list").Output()
	if err != nil || strings.Contains(string(list), name) {
		t.Errorf("still there, %v:\n%s", err, list)
	}
	for _, pid := range strings.Fields(string(pids)) {
		if stat, err := os.ReadFile("/proc/" + pid + "/stat"); err == nil && !strings.Contains(string(stat), ") Z ") {
			t.Errorf("process %s still runs: %s", pid, stat)
		}
	}
	if _, err := os.Stat(dir); err == nil {
		t.Errorf("%s is still there", dir)
	}
	for _, living := range []*netns.InTest{first, second} {
		if !strings.Contains(string(list), living.Name(0)) {
			t.Errorf("%s was removed too", living.Name(0))
		}
	}
}
