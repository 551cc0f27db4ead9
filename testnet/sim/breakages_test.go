package sim_test

import (
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var allBreakages = flag.Bool("breakages", false, "run all breakages of TestBreakagesAreCondemned, not one: some minutes")

// breakage is our own code with one line made wrong.
type breakage struct {
	name     string
	file     string // of the module
	from, to string // from stands in the file once
	story    string // the test that it shows in, as -run takes it; it passes on the code as it is
	law      string // that condemns it
	always   bool   // run without -breakages, too
}

var breakages = []breakage{
	{name: "wrong merge: what arrives last wins", law: "converged", story: "TestAllHoldTheSame",
		file: "crdt/pncounter.go", from: "if theirs.N > mine.N {", to: "if theirs.N != mine.N {"},
	{name: "one slot for all writers", law: "conserved", story: "TestAllHoldTheSame",
		file: "crdt/bucket.go", from: "return b.slot(SlotID{id.Writer, b.own})", to: "return b.slot(SlotID{1, 1})"},
	{name: "a stale slot is written to after a restart", law: "conserved", story: "TestRestartUnderLoad/kill",
		file: "node/node.go", from: "binary.BigEndian.Uint32(random[:])", to: "binary.BigEndian.Uint32(random[:])>>32"},
	{name: "what was lost is not sent again", law: "converged", story: "TestWhatWasLostIsSentAgain", always: true,
		file: "gossip/replicate.go", from: "f.sent, f.progress = has, l.now\n", to: "f.progress = l.now\n"},
	{name: "what was taken before the cluster's limits were known is forgotten", law: "conserved", story: "TestWhatANewcomerTookBehindACutCounts",
		file: "crdt/bucket.go", from: "if b.Epoch.Draft() {", to: "if false {"},
	{name: "a newcomer's own limits become the cluster's", law: "conserved", story: "TestWhatANewcomerTookBehindACutCounts",
		file: "node/limits_agree.go", from: "!v.Fetched || n.refill.state.Load().reachable < len(v.Members)", to: "false"},
	{name: "every node refills", law: "authorised", story: "TestAllHoldTheSame",
		file: "node/authority.go", from: "all := grant{h + lost, int64(n) * h}", to: "all := grant{h, h}"},
	{name: "refill on both sides of a cut", law: "authorised", story: "TestOneOfThreeIsCutOff/20s,_both_ways",
		file: "node/authority.go", from: "case !a.majority:\n", to: "case false:\n"},
	{name: "a dead member's part is taken over by each of the others", law: "authorised", story: "TestACrashIsTakenOver",
		file: "node/authority.go", from: "h := int64(union.len())", to: "h := int64(1)"},
	{name: "a newcomer has a vote at once", law: "authorised", story: "TestANewcomerMakesNoSecondMajority",
		file: "node/authority.go", from: "if e.confirmed[m.Node] {", to: "if true {"},
	{name: "a restart forgets who the members are", law: "authorised", story: "TestARestartInsideAMinority",
		file: "gossip/run.go", from: "l.merge(known)\n", to: "l.hadFile = false\n"},
	{name: "who is heard counts as reachable, whether or not it hears us", law: "bounded", story: "TestOneOfThreeIsCutOff/20s,_nobody_hears_it",
		file: "node/authority.go", from: "e.now.Sub(m.ProvenAt) < e.lease", to: "e.now.Sub(m.HeardAt) < e.lease"},
	{name: "the time of members that are not reachable is spent", law: "bounded", story: "TestOneOfThreeIsCutOff/1m30s,_nobody_hears_it",
		file: "node/refill.go", from: "if !r.near[from] {", to: "if false {"},
	{name: "debt is forgiven at once", law: "bounded", story: "TestOneLimitOnManyNodes/capacity_of_one",
		file: "node/limits.go", from: "t.MaxDebt = crdt.Milli(members-1) * (t.Capacity + t.Fill(0, crdt.Instant(n.cfg.Lease)))", to: "t.MaxDebt = crdt.Milli(members - members)"},
	{name: "the refill clock is the largest component, not the sum", law: "lawful", story: "TestLawfulTrafficIsServed/one_region",
		file: "node/refill.go", from: "sum[p] += c[p]", to: "sum[p] = max(sum[p], c[p])"},
	{name: "nobody is ever introduced to the share clock", law: "awake", story: "TestAllHoldTheSame",
		file: "node/authority.go", from: "a.introduced = e.introduced || a.met.len() == n", to: "a.introduced = e.introduced"},
}

// Each breakage is built into the simulation, which must then be condemned by the law that the
// breakage breaks: a judge that acquits our code has to be one that could have done otherwise.
func TestBreakagesAreCondemned(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range breakages {
		if !b.always && !*allBreakages {
			continue
		}
		t.Run(b.name, func(t *testing.T) {
			laws := broken(t, root, b)
			if _, ok := laws[b.law]; !ok {
				t.Fatalf("not condemned by the law %q, but by %v", b.law, laws)
			}
			t.Logf("%s: %s", b.law, laws[b.law])
		})
	}
}

// broken runs the story on the broken code, and returns the first breach of each law.
func broken(t *testing.T, root string, b breakage) map[string]string {
	t.Helper()
	cmd := exec.Command("go", "test", "-overlay", overlay(t, root, b), "-count=1", "-timeout=5m", "-run", b.story, "./testnet/sim")
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Fatalf("%s passes with %s broken", b.story, b.file)
	}
	laws := make(map[string]string)
	for _, m := range breach.FindAllStringSubmatch(string(out), -1) {
		if _, known := laws[m[1]]; !known {
			laws[m[1]] = m[2]
		}
	}
	if len(laws) == 0 {
		t.Fatalf("no law says anything: %v\n%s", err, out)
	}
	return laws
}

// breach is how obey reports one.
var breach = regexp.MustCompile(`(?m)^\s+\w+_test\.go:\d+: (bounded|authorised|awake|conserved|converged|lawful): (.*)$`)

// overlay writes the broken file, and tells the go command to take it for the real one.
func overlay(t *testing.T, root string, b breakage) string {
	t.Helper()
	path := filepath.Join(root, filepath.FromSlash(b.file))
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(source), b.from); n != 1 {
		t.Fatalf("%s: %q stands there %d times, not once: mend this breakage", b.file, b.from, n)
	}
	dir := t.TempDir()
	changed := filepath.Join(dir, filepath.Base(b.file))
	list := filepath.Join(dir, "overlay.json")
	text, err := json.Marshal(map[string]map[string]string{"Replace": {path: changed}})
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{changed: []byte(strings.Replace(string(source), b.from, b.to, 1)), list: text} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return list
}

// Every law condemns some breakage, and ten are there at least; what each of them replaces is in
// the source.
func TestBreakagesAreUpToDate(t *testing.T) {
	var laws []string
	for _, b := range breakages {
		overlay(t, "../..", b)
		laws = append(laws, b.law)
	}
	slices.Sort(laws)
	if laws = slices.Compact(laws); len(breakages) < 10 || len(laws) < 6 {
		t.Errorf("%d breakages, condemned by %v", len(breakages), laws)
	}
}
