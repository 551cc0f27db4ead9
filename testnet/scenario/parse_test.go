package scenario

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openclaw/edge/testnet/scenarios"
)

// good is a scenario without a mistake, for tests to put one in.
const good = `# Something is played. If this breaks, something is broken.
lasts 30s
limit burst capacity 100 rate 100/s policy quorum backup 10 1/s
load burst 600/s keys 20 zipf 1.2 in eu,us-1 from 5s to 20s
at 5s cut eu from *
at 9s,12s heal all
within 4s of cut eu expect refill eu burst < 20%
expect converged within 15s of heal
expect laws
`

func mustParse(t testing.TB, text string) *Scenario {
	t.Helper()
	s, err := Parse("test.txt", text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A mistake is answered with file, line, column, and what to write instead.
func TestMistakesSayWhatToWrite(t *testing.T) {
	for _, m := range []struct{ old, new, want string }{
		{"cut eu", "kut eu", `test.txt:5:7: "kut" is unknown here; write one of cut, heal,`},
		{"cut eu from *", "cut eu of *", `test.txt:5:14: "of" is unknown here; write one of from, ->`},
		{"cut eu from *", "cut eu-7 from *", `test.txt:5:11: no node or region "eu-7"; write some of eu, us, ap, eu-1`},
		{"cut eu from *", "cut eu,eu-2 from *", `eu-2 twice`},
		{"cut eu from *", "cut * from *", `nobody here`},
		{"at 5s cut", "at 5 cut", `test.txt:5:4: "5"; write a time, such as 5s or 250ms`},
		{"at 5s cut", "at 35s cut", `test.txt:5:4: 35s is after the load, which lasts 30s`},
		{"at 5s cut eu from *", "at 5s cut eu", `test.txt:5:13: the line ends too soon; write one of from, ->`},
		{"at 5s cut eu from *", "at 5s cut eu from * please", `"please" is one word too many`},
		{"of cut eu expect", "of crash expect", `test.txt:7:14: no step begins with "crash"; write how one of the steps begins: cut eu from *, heal all`},
		{"< 20%", "< 20", `"20"; write a percentage, such as 20%`},
		{"< 20%", "under 20%", `"under" is unknown here; write one of <, <=, =, >, >=, between`},
		{"< 20%", "between 20% and 10%", `the lower number comes first; write between 10 % and 20 %`},
		{"refill eu", "refil eu", `"refil" is unknown here; write one of refill,`},
		{"expect laws", "expect lawsuits", `test.txt:9:8: "lawsuits" is unknown here; write one of admitted/ideal,`},
		{"of heal", "of", `the line ends too soon; write "heal"`},
		{"of heal", "of cut", `"cut"; write "heal"`},
		{"of heal", "of heal eu", `no step begins with "heal eu"`},
		{"rate 100/s", "rate 100/w", `write tokens per second`},
		{"capacity 100", "capacity 0", `write the capacity in tokens: a whole number from 1 to 1000000000`},
		{"load burst 600/s", "load burts 600/s", `no limit "burts" above`},
		{"zipf 1.2", "zipf 0.5", `write an exponent over 1`},
		{"to 20s", "to 2s", `it ends before it begins`},
		{"load burst 600/s", "load burst 1000000/s", `at most 20000/s`},
		{"lasts 30s", "nodes 2\nnodes 200", `a whole number from 1 to 12`},
		{"expect laws", "regions a b", `write it further up`},
		{"lasts 30s", "lasts 30s\nregions eu us-2 ap", `"us-2"; write a region's name`},
		{"lasts 30s", "", `write, say, lasts 30s`},
		{"# Something is played. If this breaks, something is broken.", "", `no comment on top`},
		{"expect laws", "from 20s to 10s expect ready * yes", `time goes forward`},
		{"expect laws", "from 20s to 40s expect ready * yes", `time goes forward`},
		{"expect laws", "at 3s reload eu burst capacity 1 rate 1/s", `no node "eu"; write one of eu-1`},
		{"expect laws", "at 3s reload eu-1 other capacity 1 rate 1/s", `no limit "other"`},
		{"expect laws", "at 3s kv broken", `"broken" is unknown here; write one of ok, down, 429`},
		{"expect laws", "at 3s link eu -> us loss 110%", `at most 100%`},
	} {
		if !strings.Contains(good, m.old) {
			t.Fatalf("%q is not in the good scenario", m.old)
		}
		_, err := Parse("test.txt", strings.Replace(good, m.old, m.new, 1))
		if err == nil || !strings.Contains(err.Error(), m.want) {
			t.Errorf("%q for %q:\n got %v\nwant %s", m.new, m.old, err, m.want)
		}
	}
	mustParse(t, good)
}

// All mistakes are told at once, in the order of the file.
func TestAllMistakesAreTold(t *testing.T) {
	_, err := Parse("dir/x.txt", "# About.\nlasts x\nfoo\nlimit burst\n")
	want := []string{`dir/x.txt:2:7: "x"`, `dir/x.txt:3:1: "foo"`, `dir/x.txt:4:12: the line ends too soon; write "capacity"`}
	lines := strings.Split(err.Error(), "\n")
	for i, w := range want {
		if len(lines) != len(want) || !strings.HasPrefix(lines[i], w) {
			t.Fatalf("got\n%v\nwant lines that begin with %q", err, want)
		}
	}
}

// What a file says is what is played.
func TestAScenarioIsReadAsWritten(t *testing.T) {
	s := mustParse(t, good)
	if s.Name != "test" || s.Title() != "Something is played." {
		t.Errorf("name %q, title %q", s.Name, s.Title())
	}
	if got := strings.Join(s.Names(), " "); got != "eu-1 eu-2 us-1 us-2 ap-1 ap-2" {
		t.Errorf("nodes %s", got)
	}
	if len(s.Steps) != 3 || s.Steps[0].Text != "cut eu from *" || s.Steps[2].At.Seconds() != 12 {
		t.Errorf("steps %+v", s.Steps)
	}
	f := s.Loads[0].Flow
	if strings.Join(f.Nodes, " ") != "eu-1 eu-2 us-1" || f.PerSecond != 600 || f.Keys.N != 20 || f.Keys.Zipf != 1.2 {
		t.Errorf("load %+v", s.Loads[0])
	}
	if got := s.Expects[1].when.steps; len(got) != 2 || got[0] != 1 || got[1] != 2 {
		t.Errorf("convergence is expected of steps %v, want both heals", got)
	}
	if len(s.Delays) != 3 || s.Delays[1] != (Delay{"eu", "ap", 110_000_000}) {
		t.Errorf("delays %v", s.Delays)
	}
}

func FuzzParse(f *testing.F) {
	files, err := scenarios.Files.ReadDir(".")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := scenarios.Files.ReadFile(file.Name())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse("f.txt", text)
		if err != nil {
			for l := range strings.SplitSeq(err.Error(), "\n") {
				if !strings.HasPrefix(l, "f.txt:") {
					t.Errorf("without a place: %q", l)
				}
			}
			return
		}
		again, err := Parse("f.txt", text)
		if err != nil || len(again.Steps) != len(s.Steps) || len(again.Expects) != len(s.Expects) {
			t.Errorf("read a second time it is another: %v", err)
		}
		for _, e := range s.Expects {
			if (e.moment == nil) == (e.run == nil) {
				t.Errorf("%q: judged by both or by nothing", e.Text)
			}
		}
		for _, step := range s.Steps {
			if step.do == nil || step.At >= s.Lasts {
				t.Errorf("%q does nothing, or too late", step.Text)
			}
		}
	})
}

// Every file of the scenarios is one, and says on top what it is for.
func TestScenarioFiles(t *testing.T) {
	names, err := filepath.Glob("../scenarios/*.txt")
	if err != nil || len(names) < 15 {
		t.Fatalf("%d files, %v", len(names), err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Parse(name, string(text))
		if err != nil {
			t.Error(err)
			continue
		}
		if !strings.Contains(s.About, "If this breaks, ") {
			t.Errorf("%s does not say what is broken if this breaks", name)
		}
		if s.Lasts.Seconds() < 20 || s.Lasts.Seconds() > 60 {
			t.Errorf("%s lasts %v, want 20 s to 60 s", name, s.Lasts)
		}
	}
}
