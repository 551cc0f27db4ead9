package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"github.com/openclaw/edge/node"
	"github.com/openclaw/edge/testnet/certs"
	"github.com/openclaw/edge/testnet/process"
)

// README.md is prose that runs: the sixty seconds are played by sixty_test.go; here is what
// can be checked without a node.

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// section is what stands under a heading.
func section(t *testing.T, heading string) string {
	t.Helper()
	_, rest, found := strings.Cut(readme(t), "\n## "+heading+"\n")
	if !found {
		t.Fatalf("no section %q", heading)
	}
	text, _, _ := strings.Cut(rest, "\n## ")
	return text
}

// blocks are the fenced blocks of a language.
func blocks(text, language string) (all []string) {
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(text, -1) {
		all = append(all, m[1])
	}
	return all
}

// The sections come in the order of the house's style.
func TestReadmeHasItsOrder(t *testing.T) {
	var got []string
	for _, m := range regexp.MustCompile(`(?m)^##? (.*)$`).FindAllStringSubmatch(withoutBlocks(readme(t)), -1) {
		got = append(got, m[1])
	}
	want := "OpenClaw Edge; Sixty seconds; What it promises, and what not; Run it in many regions; The other doors; Map of the code; A request's walk; Words; Work on it"
	if strings.Join(got, "; ") != want {
		t.Errorf("sections: %s", strings.Join(got, "; "))
	}
}

func withoutBlocks(text string) string {
	return regexp.MustCompile("(?ms)^```.*?^```$").ReplaceAllString(text, "")
}

var reference = regexp.MustCompile(`([\w/-]+\.go):((?:\w+\.)?\w+)`)

// Every file.go:Name that the page refers to is there.
func TestNamesInTheReadmeExist(t *testing.T) {
	refs := reference.FindAllStringSubmatch(readme(t), -1)
	if len(refs) < 20 {
		t.Errorf("only %d references found", len(refs))
	}
	for _, ref := range refs {
		if lines(t, ref[1], ref[2]) == 0 {
			t.Errorf("%s is not there", ref[0])
		}
	}
	for _, file := range regexp.MustCompile("`([\\w/-]+\\.(?:go|sh))`").FindAllStringSubmatch(readme(t), -1) {
		if _, err := os.Stat(filepath.Join(root, file[1])); err != nil {
			t.Error(err)
		}
	}
}

// The walk is eight stops of about 250 lines: what a stranger reads in five minutes.
func TestTheWalkIsShort(t *testing.T) {
	sum, stops := 0, 0
	for i, stop := range regexp.MustCompile(`(?m)^\d\. .*$`).FindAllString(section(t, "A request's walk"), -1) {
		ref := reference.FindStringSubmatch(stop)
		if ref == nil || stop[0] != byte('1'+i) {
			t.Errorf("stop %d: %s", i+1, stop)
			continue
		}
		stops++
		sum += lines(t, ref[1], ref[2])
	}
	t.Logf("%d stops, %d lines", stops, sum)
	if stops != 8 || sum < 150 || sum > 350 {
		t.Errorf("%d stops of %d lines, want 8 of about 250", stops, sum)
	}
}

// lines is how long a function, method ("Type.Name"), type or value of a file is; 0: absent.
func lines(t *testing.T, file, name string) int {
	t.Helper()
	fset := token.NewFileSet()
	parsed, err := parser.ParseFile(fset, filepath.Join(root, file), nil, 0)
	if err != nil {
		t.Error(err)
		return 0
	}
	for _, decl := range parsed.Decls {
		if fn, ok := decl.(*ast.FuncDecl); ok && receiver(fn)+fn.Name.Name == name {
			return fset.Position(fn.End()).Line - fset.Position(fn.Pos()).Line + 1
		}
	}
	return 0
}

// receiver is "Type." of a method, "" of a function.
func receiver(fn *ast.FuncDecl) string {
	if fn.Recv == nil {
		return ""
	}
	at := fn.Recv.List[0].Type
	if star, ok := at.(*ast.StarExpr); ok {
		at = star.X
	}
	if id, ok := at.(*ast.Ident); ok {
		return id.Name + "."
	}
	return "?."
}

// Every --flag and OPENCLAW_VARIABLE on the page is the command's or the testnet's, and the command
// lines of "Run it in many regions" parse.
func TestFlagsInTheReadmeExist(t *testing.T) {
	var f flags
	k, err := kong.New(&f, kong.DefaultEnvars("OPENCLAW"),
		kong.Vars{"http": "", "grpc": "", "gossip": "", "data": "", "metrics": "0"})
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{"OPENCLAW_ADMIN_TOKEN": true, // named by the file, not a flag
		"--cacert": true, "--cert": true, "--key": true, // curl's
		"--config": true, "--listen": true, "--offline": true, // caddy's, systemd-analyze's
		"--system": true, "--home-dir": true, "--shell": true, "--now": true} // useradd's, systemctl's
	for _, flag := range k.Model.Flags {
		known["--"+flag.Name] = true
		for _, env := range flag.Envs {
			known[env] = true
		}
	}
	for _, args := range [][2]string{{"openclaw-testnet", "run"}, {"openclaw-testnet", "scale"}, {"openclawctl", "take"}, {"openclawctl", "ratings"}} {
		help, err := exec.CommandContext(t.Context(), process.Command(t, args[0]), args[1], "--help").Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, flag := range regexp.MustCompile(`--[a-z][a-z-]*|OPENCLAW_[A-Z_]+`).FindAllString(string(help), -1) {
			known[flag] = true
		}
	}
	found := regexp.MustCompile(`(?:^|[\s`+"`"+`])(--[a-z][a-z-]*|OPENCLAW_[A-Z_]+)`).FindAllStringSubmatch(readme(t), -1)
	if len(found) < 10 {
		t.Errorf("only %d flags found", len(found))
	}
	for _, m := range found {
		if !known[m[1]] {
			t.Errorf("%s is no flag", m[1])
		}
	}
	for _, line := range blocks(section(t, "Run it in many regions"), "sh") {
		words := strings.Fields(strings.ReplaceAll(line, "\\\n", " "))
		if _, err := k.Parse(words[1:]); words[0] != "openclaw-edge" || err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// The config on the page is good, without a warning; a section shown by itself belongs to the
// first.
func TestTheConfigInTheReadmeIsGood(t *testing.T) {
	all := blocks(readme(t), "yaml")
	if len(all) == 0 {
		t.Fatal("no config")
	}
	t.Setenv("CF_API_TOKEN", "token")
	t.Setenv("REDIS_PASSWORD", "password")
	for i, text := range all {
		if i > 0 && !strings.Contains(text, "\nlimits:") {
			text = all[0] + text
		}
		dir := t.TempDir()
		cert, key := certs.New(t, "edge").Issue(1, time.Hour) // what tls names
		for name, pem := range map[string]string{"edge.pem": cert, "edge.key": key} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(pem), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		file := filepath.Join(dir, "edge.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, warnings, err := node.ReadConfig(file); err != nil || len(warnings) > 0 {
			t.Errorf("%v %v", err, warnings)
		}
	}
}

// A piece of Go on the page is a piece of the example, which is run.
func TestTheGoInTheReadmeIsTheExamples(t *testing.T) {
	example, err := os.ReadFile(filepath.Join(root, "node/client/example_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	squeezed := func(text string) string { return strings.Join(strings.Fields(text), " ") }
	all := blocks(readme(t), "go")
	for _, text := range all {
		if !strings.Contains(squeezed(string(example)), squeezed(text)) {
			t.Errorf("node/client/example_test.go does not hold\n%s", text)
		}
	}
	if len(all) == 0 {
		t.Error("no Go")
	}
}

// What "Work on it" tells to run is there: tests, benchmarks, fuzz targets, directories and
// the tests' own flags.
func TestWhatTheReadmeTellsToRunExists(t *testing.T) {
	text := section(t, "Work on it")
	var declared, ownFlags []string
	for name, file := range sources(t) {
		if !strings.HasSuffix(name, "_test.go") {
			continue
		}
		for _, decl := range file.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok {
				declared = append(declared, fn.Name.Name)
			}
		}
		raw, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`flag\.\w+\("([\w-]+)"`).FindAllStringSubmatch(string(raw), -1) {
			ownFlags = append(ownFlags, "-"+m[1])
		}
	}
	all := " " + strings.Join(append(declared, ownFlags...), " ") + " "
	for _, m := range regexp.MustCompile(`\b(?:Test|Fuzz|Benchmark)\w+`).FindAllString(text, -1) {
		if !strings.Contains(all, " "+m+" ") {
			t.Errorf("%s is not there", m)
		}
	}
	builtin := " -run -v -timeout -fuzz -fuzztime -bench -benchmem -benchtime "
	for _, m := range regexp.MustCompile(`(?m) (-[a-z]+)\b`).FindAllStringSubmatch(text, -1) {
		if !strings.Contains(builtin+all, " "+m[1]+" ") {
			t.Errorf("%s is no flag of a test", m[1])
		}
	}
	for _, m := range regexp.MustCompile(`\./([\w/-]+)|cd ([\w/-]+)`).FindAllStringSubmatch(text, -1) {
		if _, err := os.Stat(filepath.Join(root, m[1]+m[2])); err != nil {
			t.Error(err)
		}
	}
}
