package processes

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/openclaw/edge/testnet/leak"
	"github.com/openclaw/edge/testnet/netns"
	"github.com/openclaw/edge/testnet/process"
)

// left is what there is of a testnet: its directory, processes that name it, namespaces that are
// named like it, and its link.
func left(dir, host string) (all []string) {
	if _, err := os.Stat(dir); err == nil {
		all = append(all, dir)
	}
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range lines {
		if text, err := os.ReadFile(path); err == nil && strings.Contains(string(text), dir) {
			all = append(all, "process "+strings.ReplaceAll(string(text), "\x00", " "))
		}
	}
	prefix := strings.TrimSuffix(filepath.Base(dir), "files")
	spaces, _ := filepath.Glob("/run/netns/" + prefix + "*")
	all = append(all, spaces...)
	if links, err := net.InterfaceAddrs(); err == nil {
		for _, l := range links {
			if strings.HasPrefix(l.String(), host+"/") {
				all = append(all, "the link of "+host)
			}
		}
	}
	return all
}

// kinds counts what is left: so that a test does not believe in finding nothing.
func kinds(all []string) (dirs, processes, spaces, links int) {
	for _, what := range all {
		switch {
		case strings.HasPrefix(what, "process"):
			processes++
		case strings.HasPrefix(what, "/run"):
			spaces++
		case strings.HasPrefix(what, "the link"):
			links++
		default:
			dirs++
		}
	}
	return dirs, processes, spaces, links
}

// whole fails the test unless there is a directory, a link, four namespaces and at least the nodes.
func whole(t *testing.T, all []string) {
	t.Helper()
	if dirs, processes, spaces, links := kinds(all); dirs != 1 || processes < 3 || spaces != 4 || links != 1 {
		t.Fatalf("that is not what a testnet of three nodes is made of: %q", all)
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	before := goleak.IgnoreCurrent()
	w := start(t, Config{})
	dir, host := filepath.Dir(w.machines[0].proc.Dir), w.net.Host()
	whole(t, left(dir, host))
	run(t, w, second, hot("g", 50))
	do(t, w.Crash("eu-1"))
	do(t, w.Stop("us-1"))
	do(t, w.Fault("kv", "hang"))
	if w.stores.redis != nil {
		do(t, w.Fault("redis", "hang"))
	}
	do(t, w.Close())
	if all := left(dir, host); len(all) > 0 {
		t.Errorf("still there: %q", all)
	}
	if err := w.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
	leak.None(t, before)
}

// held starts this binary as a program that holds a testnet.
func held(t *testing.T) (cmd *exec.Cmd, dir, host string) {
	t.Helper()
	cmd = exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "HOLD_A_TESTNET="+process.Binary(t))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if _, scanned := fmt.Sscan(line, &dir, &host); err != nil || scanned != nil {
		t.Fatalf("said %q: %v", line, err)
	}
	whole(t, left(dir, host))
	return cmd, dir, host
}

// A program that is interrupted closes its testnet, and leaves nothing.
func TestNothingIsLeftAfterAnInterrupt(t *testing.T) {
	netns.Start(t, 1) // skips the test where there is nothing to test
	cmd, dir, host := held(t)
	cmd.Process.Signal(syscall.SIGINT)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if all := left(dir, host); len(all) > 0 {
		t.Errorf("still there: %q", all)
	}
}

// A program that is killed cannot close anything. Its processes end with it, and the rest goes
// when somebody makes the next network.
func TestNothingIsLeftAfterAKill(t *testing.T) {
	netns.Start(t, 1)
	cmd, dir, host := held(t)
	cmd.Process.Kill()
	cmd.Wait()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		all := left(dir, host)
		dirs, processes, spaces, _ := kinds(all)
		if dirs != 1 || spaces != 4 {
			t.Fatalf("the files and namespaces went by themselves: %q", all)
		}
		if processes == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("still there: %q", all)
		}
	}
	netns.Start(t, 1)
	all := left(dir, host)
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); all = left(dir, host) {
		if _, _, _, links := kinds(all); links != len(all) || links == 0 {
			break
		}
		time.Sleep(20 * time.Millisecond) // the kernel takes a namespace's link down a little later
	}
	if len(all) > 0 {
		t.Errorf("still there: %q", all)
	}
}
