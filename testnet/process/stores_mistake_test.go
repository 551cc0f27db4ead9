package process

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/openclaw/edge/testnet/kv"
)

// What is wrong with the settings of a store ends no node and no take; the log says what to do,
// and so does the answer to who asks for a snapshot, unless the other store has it all.
func TestMistakesInTheStoresSettings(t *testing.T) {
	t.Parallel()
	closed := "redis://:${REDIS_PASSWORD}@" + FreeAddr(t)
	wrong := "KV_TOKEN=not-" + kvSecret
	for _, c := range []struct {
		name   string
		site   siteOptions
		says   string
		result string // counted by the metrics
		stored bool
	}{
		{"wrong token", siteOptions{redisURL: noRedis, env: []string{wrong}}, "token_env", `openclaw_store_operations_total{op="list",result="denied",store="kv"}`, false},
		{"wrong token, and a Redis", siteOptions{env: []string{wrong}}, "token_env", `openclaw_store_operations_total{op="list",result="denied",store="kv"}`, true},
		{"wrong account", siteOptions{redisURL: noRedis, kv: kv.Config{Account: "other"}}, "account_id", `openclaw_store_operations_total{op="list",result="misconfigured",store="kv"}`, false},
		{"wrong namespace", siteOptions{redisURL: noRedis, kv: kv.Config{Namespace: "other"}}, "namespace_id", `openclaw_store_operations_total{op="list",result="misconfigured",store="kv"}`, false},
		{"no Redis there", siteOptions{redisURL: closed}, "is Redis running", `openclaw_store_operations_total{op="list",result="failed",store="redis"}`, true},
		{"wrong password for Redis", siteOptions{env: []string{"REDIS_PASSWORD=not-" + redisSecret}}, "check user and password", `openclaw_store_operations_total{op="list",result="denied",store="redis"}`, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.site.log = "debug"
			s := newSite(t, c.site)
			s.offer(60)
			time.Sleep(1500 * time.Millisecond)
			refusals := s.snapshot()
			if c.stored && refusals != nil {
				t.Errorf("refused: %v", refusals)
			}
			if text := strings.Join(refusals, "\n"); !c.stored && !strings.Contains(text, c.says) {
				t.Errorf("the refusals do not say %q: %s", c.says, text)
			}
			for _, n := range s.nodes {
				if !strings.Contains(n.Logs(), c.says) {
					t.Errorf("%s's log does not say %q:\n%s", n.Node, c.says, n.Logs())
				}
				if lines := strings.Count(n.Logs(), c.says); lines > 6 {
					t.Errorf("%s says it %d times in two seconds", n.Node, lines)
				}
			}
			if s.sum(c.result) == 0 {
				t.Errorf("%s is 0", c.result)
			}
			s.load.Stop()
			s.served()
		})
	}
}

// edge runs openclaw-edge to its end, which is to come within seconds.
func edge(t *testing.T, env []string, args ...string) (said string, code int) {
	t.Helper()
	cmd := exec.Command(Binary(t), args...)
	cmd.Env = append(os.Environ(), env...)
	kill := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
	defer kill.Stop()
	out, err := cmd.CombinedOutput()
	if err == nil {
		return string(out), 0
	}
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// What can be told before the node serves ends it, with a message that says what to do and where,
// and has no secret in it.
func TestMistakesThatAStartCanSee(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	good := storesConfig("127.0.0.1:1", "redis://:${REDIS_PASSWORD}@127.0.0.1:1", false, time.Minute)
	env := []string{"KV_TOKEN=" + kvSecret, "REDIS_PASSWORD=" + redisSecret}
	for _, c := range []struct {
		name   string
		config string
		env    []string
		dir    string
		says   []string
	}{
		{"a data directory that is a file", good, env, file, []string{file, "--data-dir"}},
		{"no token", good, []string{"KV_TOKEN=", "REDIS_PASSWORD=" + redisSecret}, "", []string{":8:", "token_env", "KV_TOKEN", "Workers KV Storage"}},
		{"a token with a line end", good, append(env, "KV_TOKEN="+kvSecret+"\n"), "", []string{":8:", "token_env", "spaces or line ends"}},
		{"no password", good, []string{"KV_TOKEN=" + kvSecret, "REDIS_PASSWORD="}, "", []string{":9:", "REDIS_PASSWORD"}},
		{"a URL that is none", strings.Replace(good, "redis://:${REDIS_PASSWORD}@", "redis:/"+redisSecret+"@", 1), env, "", []string{":9:", "redis://[[user]:password@]host"}},
		{"no account", strings.Replace(good, "account_id: account, ", "", 1), env, "", []string{":8:", "account_id", "dashboard"}},
		{"no namespace", strings.Replace(good, "namespace_id: namespace, ", "", 1), env, "", []string{":8:", "namespace_id", "dashboard"}},
		{"a password in the base URL", strings.Replace(good, "http://", "http://user:"+kvSecret+"@", 1), env, "", []string{":8:", "base_url"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.dir == "" {
				c.dir = t.TempDir()
			}
			config := filepath.Join(t.TempDir(), "edge.yaml")
			if err := os.WriteFile(config, []byte(c.config), 0o600); err != nil {
				t.Fatal(err)
			}
			runs := [][]string{{"--config", config, "--data-dir", c.dir, "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--gossip", "127.0.0.1:0", "--metrics-port", "0"}}
			if c.dir != file {
				runs = append(runs, []string{"check", config})
			}
			for _, args := range runs {
				said, code := edge(t, c.env, args...)
				if code != 1 {
					t.Errorf("%v ended with %d", args[0], code)
				}
				for _, want := range c.says {
					if !strings.Contains(said, want) {
						t.Errorf("%v does not say %q: %s", args[0], want, said)
					}
				}
				(&site{t: t}).hush("what it says", said)
			}
		})
	}
}

// A disk that is full while the node runs is told once, and takes go on; snapshots go to the
// shared stores.
func TestAFullDisk(t *testing.T) {
	t.Parallel()
	s := newSite(t, siteOptions{})
	s.offer(60)
	time.Sleep(time.Second)
	s.stored(10 * time.Second)
	n := s.nodes[0]
	n.Kill()
	if err := syscall.Mount("tmpfs", n.Dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("no small file system can be mounted here: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(n.Dir, syscall.MNT_DETACH) })
	n.Restart()
	whole(t, s.nodes)
	ballast := filepath.Join(n.Dir, "ballast")
	os.WriteFile(ballast, make([]byte, 1<<20), 0o600) // as much of it as fits
	for i := range 3000 {
		n.Take("g", fmt.Sprint("filling-", i))
	}
	s.stored(10 * time.Second)
	failed := `openclaw_store_operations_total{op="put",result="failed",store="disk"}`
	n.Eventually(10*time.Second, "counts writes to its disk that failed", func() bool { return s.metrics(n)[failed] > 0 })
	s.load.Stop()
	os.Remove(ballast)
	worked := `openclaw_store_operations_total{op="put",result="ok",store="disk"}`
	before := s.metrics(n)[worked]
	n.Take("g", s.load.KeyName(0))
	n.Eventually(40*time.Second, "writes to its disk again", func() bool { return s.metrics(n)[worked] > before })
}
