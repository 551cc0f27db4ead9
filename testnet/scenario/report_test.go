package scenario

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// The report's JSON is all that the page shows, and the page loads nothing.
func TestTheReportIsWhole(t *testing.T) {
	r := playFake(t, story+"within 4s of cut expect refill eu < 20%\nat 9s expect ready eu yes\nexpect converged within 15s of heal\n", nil)
	out := r.Report("a <fake>")
	dir := t.TempDir()
	html, err := out.Write(dir)
	if err != nil {
		t.Fatal(err)
	}
	if out.Warning() != "" {
		t.Errorf("warns of %q", out.Warning())
	}
	if w := (&Report{Late: 1.25}).Warning(); !strings.Contains(w, "1.2 s late") {
		t.Errorf("warns of %q", w)
	}
	data, err := os.ReadFile(filepath.Join(dir, "test.json"))
	if err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(data, &back); err != nil || !reflect.DeepEqual(&back, out) {
		t.Errorf("JSON says %+v, %v\nwant %+v", back, err, out)
	}
	if out.Passed || len(out.Checks) != 3 || !out.Checks[0].OK || out.Checks[1].OK || len(out.Events) != 2 || out.Events[0].Text != "cut eu from *" {
		t.Errorf("report %+v", out)
	}
	text, err := os.ReadFile(html)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"✗ failed", "at 9s expect ready eu yes", "no on eu-1: no refill authority", "a &lt;fake&gt;", "9,000", "uPlot"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if load := regexp.MustCompile(`(?i)<(link|img|iframe)|src\s*=|@import|url\(|fetch\(`).Find(text); load != nil {
		t.Errorf("the page loads something: %q", load)
	}
}

// Curves are of every sample, and say what the fake does: eu's refill stops with the lease and
// is back with the heal, and what is admitted is what an ideal bucket admits.
func TestSeries(t *testing.T) {
	s := playFake(t, story+"expect laws\n", nil).Report("").Series
	c := s.Limits[0]
	for i, at := range s.At {
		if want := 100.0; (at < 8 || at >= 15.25) && c.Refill["eu"][i] != want || at >= 8 && at < 15 && c.Refill["eu"][i] != 0 || c.Refill["us"][i] != want || c.Configured[i] != want {
			t.Errorf("at %v s: refill %v in eu, %v in us", at, c.Refill["eu"][i], c.Refill["us"][i])
		}
		if at >= 8 && at < 15 && s.Reachable["eu"][i] != 2 || s.Fallback["eu"][i] != 0 {
			t.Errorf("at %v s: eu reaches %d, fallback %d", at, s.Reachable["eu"][i], s.Fallback["eu"][i])
		}
		if c.Admitted[i] != c.Ideal[i] || i > 0 && c.Admitted[i] < c.Admitted[i-1] {
			t.Errorf("at %v s: admitted %d, ideal %d", at, c.Admitted[i], c.Ideal[i])
		}
	}
	if n := len(s.At); n < 120 || len(c.Admitted) != n || c.Admitted[n-1] < 3000 {
		t.Errorf("%d samples, %d admitted", n, c.Admitted[n-1])
	}
}

// A row of the table, and what stands where something was not seen.
func TestRows(t *testing.T) {
	r := playFake(t, story+"expect laws\n", nil).Report("")
	if got, want := r.Row(), "| test | 1.000 | +0 −0 | – | not seen | 1.10 s |\n"; got != want {
		t.Errorf("row %q, want %q", got, want)
	}
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -1234567: "-1,234,567"} {
		if got := thousands(n); got != want {
			t.Errorf("%d is written %q, want %q", n, got, want)
		}
	}
}
