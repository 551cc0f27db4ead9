package redis

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Cluster is a Redis Cluster of masters, which share the slots evenly and have no replicas.
type Cluster struct {
	Servers []*Server
}

// StartCluster starts a cluster that ends with the test.
func StartCluster(t tb, n int, o Options) *Cluster {
	t.Helper()
	Skip(t)
	c, err := NewCluster(n, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// NewCluster starts n servers, makes them a cluster, and waits until all of them say so, for
// 30 s at most.
func NewCluster(n int, o Options) (*Cluster, error) {
	c := &Cluster{}
	for i := range n {
		s, err := start("redis-server", o, func(s *Server, port int) ([]string, error) {
			args, err := s.serverArgs(port)
			if err != nil {
				return nil, err
			}
			bus, err := freePort()
			if err != nil {
				return nil, err
			}
			args = append(args, "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(bus), "--cluster-node-timeout", "2000")
			if s.TLS {
				args = append(args, "--tls-cluster", "yes")
			}
			return args, nil
		})
		if err != nil {
			c.Close()
			return nil, err
		}
		c.Servers = append(c.Servers, s)
		o.trust = c.Servers[0]
		const slots = 16384
		if err := s.Do("CLUSTER", "ADDSLOTSRANGE", i*slots/n, (i+1)*slots/n-1); err != nil {
			c.Close()
			return nil, fmt.Errorf("redis: %w", err)
		}
	}
	if err := c.meet(); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Cluster) meet() error {
	first := c.Servers[0]
	for i, s := range c.Servers[1:] {
		// Epochs must differ, else two masters quarrel about a slot one day.
		if err := s.Do("CLUSTER", "SET-CONFIG-EPOCH", i+2); err != nil {
			return fmt.Errorf("redis: %w", err)
		}
		host, port, err := net.SplitHostPort(first.Addr)
		if err != nil {
			return fmt.Errorf("redis: %w", err)
		}
		if err := s.Do("CLUSTER", "MEET", host, port, first.busPort()); err != nil {
			return fmt.Errorf("redis: %w", err)
		}
	}
	return c.Wait()
}

func (s *Server) busPort() string {
	for i, arg := range s.args {
		if arg == "--cluster-port" {
			return s.args[i+1]
		}
	}
	return "0"
}

// Wait waits until every server sees all slots served by as many nodes as there are, for 30 s
// at most.
func (c *Cluster) Wait() error {
	until := time.Now().Add(30 * time.Second)
	for _, s := range c.Servers {
		for {
			info, err := s.Ask("CLUSTER", "INFO")
			text := fmt.Sprint(info)
			if err == nil && strings.Contains(text, "cluster_state:ok") &&
				strings.Contains(text, fmt.Sprintf("cluster_size:%d\r", len(c.Servers))) {
				break
			}
			if time.Now().After(until) {
				return fmt.Errorf("redis: no cluster within 30 s: %v\n%s\n%s", err, text, s.Log())
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return nil
}

// URL names one server of the cluster, as users do.
func (c *Cluster) URL() string { return c.Servers[0].URL() }

// Close kills the servers.
func (c *Cluster) Close() {
	for _, s := range c.Servers {
		s.Close()
	}
}

// Sentinel watches one master, alone.
type Sentinel struct {
	*Server
	master *Server
}

// StartSentinel starts a sentinel that ends with the test. Where redis-sentinel is missing, it
// skips the test.
func StartSentinel(t tb, master *Server) *Sentinel {
	t.Helper()
	s, err := NewSentinel(master)
	if err == ErrMissing {
		t.Skip("redis: redis-sentinel is not installed (Debian: apt-get install redis-sentinel)")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// NewSentinel starts a sentinel over master, under the name "openclaw".
func NewSentinel(master *Server) (*Sentinel, error) {
	s, err := start("redis-sentinel", Options{Dir: master.Options.Dir}, func(s *Server, port int) ([]string, error) {
		host, masterPort, err := net.SplitHostPort(master.Addr)
		if err != nil {
			return nil, fmt.Errorf("redis: %w", err)
		}
		conf := fmt.Sprintf("port %d\nbind 127.0.0.1\ndir %s\nlogfile %s\nsentinel monitor openclaw %s %s 1\nsentinel down-after-milliseconds openclaw 1000\n",
			port, s.dir, filepath.Join(s.dir, "log"), host, masterPort)
		if master.Password != "" {
			conf += "sentinel auth-pass openclaw " + master.Password + "\n"
		}
		file := filepath.Join(s.dir, "sentinel.conf")
		return []string{file}, os.WriteFile(file, []byte(conf), 0o600)
	})
	if err != nil {
		return nil, err
	}
	return &Sentinel{s, master}, nil
}

// URL is what a client of the master is given.
func (s *Sentinel) URL() string {
	url := s.Server.URL() + "?master_name=openclaw"
	if s.master.Password != "" {
		url += "&password=" + s.master.Password
	}
	return url
}
