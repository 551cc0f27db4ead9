package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	root   = "../.."
	module = "github.com/openclaw/edge/"
)

// layers is who may import whom, by top-level directory. crdt, gossip and persist are
// leaves. (testnet names limits by crdt's definitions, as node.Config does; its drill plays the rules
// that alerts ships.)
var layers = map[string][]string{
	"crdt":    {},
	"gossip":  {},
	"persist": {},
	"node":    {"crdt", "gossip", "persist"},
	"testnet": {"crdt", "gossip", "persist", "node", "testnet", "alerts"},
	"alerts":  {"node"},
	"cmd":     {"node", "testnet", "alerts", "cmd"},
}

// Imports point down only. A test may look at its own package from outside, and use testnet
// to build its world.
func TestImportsPointDown(t *testing.T) {
	files := sources(t)
	if len(files) < 100 {
		t.Fatalf("only %d source files found", len(files))
	}
	for name, file := range files {
		layer, _, _ := strings.Cut(name, "/")
		allowed, known := layers[layer]
		if !known {
			t.Errorf("%s: %s is no layer", name, layer)
			continue
		}
		test := strings.HasSuffix(name, "_test.go")
		for _, spec := range file.Imports {
			to, ours := strings.CutPrefix(importPath(spec), module)
			if !ours {
				continue
			}
			to, _, _ = strings.Cut(to, "/")
			if slices.Contains(allowed, to) || test && (to == layer || to == "testnet") {
				continue
			}
			t.Errorf("%s imports %s", name, to)
		}
	}
}

// crdt is values alone: no I/O, no clock, no goroutine, no lock.
func TestTheCoreIsPure(t *testing.T) {
	impure := []string{"os", "io", "io/fs", "net", "net/http", "sync", "sync/atomic", "context", "log", "log/slog", "math/rand", "math/rand/v2", "crypto/rand", "runtime"}
	for name, file := range sources(t) {
		if !strings.HasPrefix(name, "crdt/") || strings.HasSuffix(name, "_test.go") {
			continue
		}
		for _, spec := range file.Imports {
			if slices.Contains(impure, importPath(spec)) {
				t.Errorf("%s imports %s", name, spec.Path.Value)
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				t.Errorf("%s starts a goroutine", name)
			case *ast.SelectorExpr:
				if pkg, ok := n.X.(*ast.Ident); ok && pkg.Name == "time" && slices.Contains([]string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick"}, n.Sel.Name) {
					t.Errorf("%s reads the clock: time.%s", name, n.Sel.Name)
				}
			}
			return true
		})
	}
}

// The top level holds what the design names, dot-files, and what git ignores.
func TestTheTopLevelIsSmall(t *testing.T) {
	allowed := []string{"node", "crdt", "gossip", "persist", "cmd", "testnet", "alerts", "go.mod", "go.sum", "README.md", "LICENSE"}
	raw, err := os.ReadFile(filepath.Join(root, ".gitignore"))
	if err != nil {
		t.Fatal(err)
	}
	ignored := strings.Fields(string(raw))
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name := e.Name()
		of := func(pattern string) bool {
			ok, err := path.Match(strings.TrimSuffix(pattern, "/"), name)
			return ok && err == nil
		}
		if !strings.HasPrefix(name, ".") && !slices.Contains(allowed, name) && !slices.ContainsFunc(ignored, of) {
			t.Errorf("%s does not belong at the top level", name)
		}
	}
}

// Every package says what it is, once, on one screen.
func TestEveryPackageSaysWhatItIs(t *testing.T) {
	const screen = 60 // lines
	said := map[string]int{}
	for name, file := range sources(t) {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		dir := path.Dir(name)
		said[dir] += 0
		if file.Doc == nil {
			continue
		}
		said[dir]++
		if lines := strings.Count(file.Doc.Text(), "\n"); lines > screen {
			t.Errorf("%s: a package comment of %d lines, more than a screen", name, lines)
		}
	}
	for dir, times := range said {
		if times != 1 {
			t.Errorf("%s: %d package comments, want 1", dir, times)
		}
	}
}

func importPath(spec *ast.ImportSpec) string {
	p, _ := strconv.Unquote(spec.Path.Value) // a string literal, or it had not parsed
	return p
}

// sources parses every Go file of the repository, by its path from the root.
func sources(t *testing.T) map[string]*ast.File {
	t.Helper()
	files := map[string]*ast.File{}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := filepath.ToSlash(strings.TrimPrefix(name, root+string(filepath.Separator)))
		if d.IsDir() && name != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata") {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		files[rel], err = parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
