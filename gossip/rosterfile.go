package gossip

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
)

// rosterDoc is the roster file: JSON, so that an operator can read it. Sum is the CRC-32C of
// the compact entries.
type rosterDoc struct {
	Format  int             `json:"format"`
	Cluster string          `json:"cluster"`
	Sum     uint32          `json:"sum"`
	Entries json.RawMessage `json:"entries"`
}

var errRosterFile = errors.New("gossip: roster file is damaged")

// loadRoster reads what saveRoster wrote. No file is an empty roster. A file that is damaged
// or another cluster's is moved aside, and the error says where to.
func loadRoster(file, cluster string) ([]entry, error) {
	if file == "" {
		return nil, nil
	}
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("gossip: roster file: %w", err)
	}
	es, err := decodeRoster(b, cluster)
	if err == nil {
		return es, nil
	}
	aside := file + ".damaged"
	if e := os.Rename(file, aside); e != nil {
		return nil, fmt.Errorf("%w, and cannot be moved aside: %w", err, e)
	}
	return nil, fmt.Errorf("%w; kept as %s", err, aside)
}

func decodeRoster(b []byte, cluster string) ([]entry, error) {
	var doc rosterDoc
	if err := json.Unmarshal(b, &doc); err != nil {
		return nil, fmt.Errorf("%w: %w", errRosterFile, err)
	}
	var raw bytes.Buffer
	if err := json.Compact(&raw, doc.Entries); err != nil || crc32.Checksum(raw.Bytes(), castagnoli) != doc.Sum {
		return nil, fmt.Errorf("%w: checksum", errRosterFile)
	}
	var es []entry
	if err := json.Unmarshal(raw.Bytes(), &es); err != nil {
		return nil, fmt.Errorf("%w: %w", errRosterFile, err)
	}
	switch {
	case doc.Format != 1:
		return nil, fmt.Errorf("gossip: roster file has format %d, this program knows 1", doc.Format)
	case doc.Cluster != cluster:
		return nil, fmt.Errorf("gossip: roster file is of cluster %q, not %q", doc.Cluster, cluster)
	}
	return es, nil
}

// saveRoster replaces the file in one step: a crash leaves the old one or the new one.
func saveRoster(file, cluster string, es []entry) error {
	raw, err := json.Marshal(es)
	if err != nil {
		return fmt.Errorf("gossip: roster file: %w", err)
	}
	b, err := json.MarshalIndent(rosterDoc{1, cluster, crc32.Checksum(raw, castagnoli), raw}, "", "  ")
	if err != nil {
		return fmt.Errorf("gossip: roster file: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*")
	if err != nil {
		return fmt.Errorf("gossip: roster file: %w", err)
	}
	defer os.Remove(f.Name()) // gone already when all went well
	_, err = f.Write(append(b, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return fmt.Errorf("gossip: roster file: %w", err)
	}
	return nil
}
