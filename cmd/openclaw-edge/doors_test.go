package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/openclaw/edge/testnet/process"
)

const doorsHeading = "The other doors"

// doors is the reader of the sixty seconds, who goes on with the same nodes.
type doors struct {
	*reader
	proxy *served // that listens now
	more  []*served
}

// What a reader needs besides.
var doorTools = []string{"caddy", "haproxy", "openssl", "systemd-analyze"}

// Programs that stay: what is written below them they say in the end, or not at all.
var staying = regexp.MustCompile(`^(go run ./cmd/openclaw-edge|caddy|haproxy) `)

// open plays the commands of the section; the files that it shows are written first.
func (d *doors) open() {
	for _, tool := range doorTools {
		if _, err := exec.LookPath(tool); err != nil {
			d.t.Skip(err)
		}
	}
	text := section(d.t, doorsHeading)
	d.files(text)
	d.pause = 200 * time.Millisecond                                                    // looks through a proxy take a token each: the next finds the bucket full again
	d.env = append(d.env[:len(d.env):len(d.env)], "CADDY_ADMIN="+process.FreeAddr(d.t)) // the default may be another Caddy's
	for _, block := range blocks(text, "console") {
		for _, c := range commands(block) {
			if staying.MatchString(c.text) {
				d.begin(c)
			} else {
				d.run(c)
			}
		}
	}
	d.end(d.proxy)
	for _, p := range d.more {
		d.end(p)
	}
}

// files writes what the reader has: the configs of the section, each named in its first line, the
// shipped ones, and what stands in for grpcurl.
func (d *doors) files(text string) {
	d.t.Helper()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(d.dir, name), []byte(d.moved(text)), 0o600); err != nil {
			d.t.Fatal(err)
		}
	}
	named := regexp.MustCompile(`^# ([\w-]+\.yaml)\n`)
	for _, config := range blocks(text, "yaml") {
		if m := named.FindStringSubmatch(config); m != nil {
			write(m[1], config)
		}
	}
	const shipped = "cmd/openclaw-edge/deploy"
	if err := os.MkdirAll(filepath.Join(d.dir, shipped), 0o755); err != nil {
		d.t.Fatal(err)
	}
	for _, name := range []string{"Caddyfile", "haproxy.cfg", "openclaw.lua", "openclaw-edge.service"} {
		write(filepath.Join(shipped, name), deployed(d.t, name))
	}
	self, err := os.Executable()
	if err == nil {
		err = os.Symlink(self, filepath.Join(d.dir, "grpcurl"))
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

// begin starts what stays. The proxies listen at one address: one ends before the next begins.
func (d *doors) begin(c command) {
	d.t.Helper()
	before := len(d.nodes)
	proxy := strings.Contains(c.text, "deploy")
	if proxy {
		d.end(d.proxy)
	}
	d.start(c)
	p := d.nodes[before]
	d.nodes = d.nodes[:before]
	if proxy {
		d.proxy = p
	} else {
		d.more = append(d.more, p)
	}
}

// end ends what stayed, however it takes that.
func (d *doors) end(p *served) {
	if p != nil {
		p.cmd.Process.Signal(os.Interrupt)
		<-p.done
	}
}

// grpcurl is the command of that name as far as the page calls it: grpcurl -plaintext -d JSON HOST:PORT
// METHOD. To build the real one takes minutes; it says the same.
func grpcurl() {
	if err := envoyCall(os.Args[3], os.Args[4], os.Args[5]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func envoyCall(request, addr, method string) error {
	var q ratelimitv3.RateLimitRequest
	if err := protojson.Unmarshal([]byte(request), &q); err != nil {
		return err
	}
	if full := ratelimitv3.RateLimitService_ShouldRateLimit_FullMethodName; method != full[1:] {
		return fmt.Errorf("%s is not %s", method, full)
	}
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	answer, err := ratelimitv3.NewRateLimitServiceClient(conn).ShouldRateLimit(ctx, &q)
	if err != nil {
		return err
	}
	text, err := protojson.Marshal(answer)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, text, "", "  "); err != nil { // protojson's own spaces differ from build to build
		return err
	}
	_, err = fmt.Println(out.String())
	return err
}
