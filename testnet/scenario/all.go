package scenario

import (
	"fmt"
	"os"
	"strings"

	"github.com/openclaw/edge/testnet/scenarios"
)

// All is the scenarios that come with the program, by name.
func All() (list []*Scenario, err error) {
	files, err := scenarios.Files.ReadDir(".")
	for _, f := range files {
		text, err := scenarios.Files.ReadFile(f.Name())
		if err != nil {
			return nil, fmt.Errorf("scenario: %w", err)
		}
		s, err := Parse(f.Name(), string(text))
		if err != nil {
			return nil, fmt.Errorf("scenario: %w", err)
		}
		list = append(list, s)
	}
	return list, err
}

// Open finds one that comes with the program by its name, or reads a file.
func Open(name string) (*Scenario, error) {
	if strings.HasSuffix(name, ".txt") || strings.ContainsRune(name, os.PathSeparator) {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("scenario: %w", err)
		}
		return Parse(name, string(text))
	}
	text, err := scenarios.Files.ReadFile(name + ".txt")
	if err != nil {
		var names []string
		list, _ := All()
		for _, s := range list {
			names = append(names, s.Name)
		}
		return nil, fmt.Errorf("no scenario %q: write the name of a file that ends in .txt, or one of %s", name, strings.Join(names, ", "))
	}
	return Parse(name+".txt", string(text))
}
