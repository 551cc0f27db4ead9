package node

import (
	"cmp"
	"path/filepath"
)

// TLS names the PEM files of HTTP, gRPC and metrics, which all go by them.
type TLS struct {
	Cert, Key string // chain and private key; "": plain text
	ClientCA  string // who may connect: clients with a certificate that it signed; "": anybody

	where map[string]string // of each file, in the config: FILE:LINE:COLUMN: field
}

// tlsSchema is the section tls.
type tlsSchema struct {
	position
	Cert     at[string] `yaml:"cert"`
	Key      at[string] `yaml:"key"`
	ClientCA at[string] `yaml:"client_ca"`
}

// tls reads the section. Paths that are not absolute are as seen from the config file. The
// files themselves are read when a node starts: see TLS.check.
func (r *reader) tls(f *fileSchema, c *Config) {
	if f.TLS == nil {
		return
	}
	c.TLS.where = map[string]string{}
	for _, it := range []struct {
		at       at[string]
		path     string
		required bool
		into     *string
	}{
		{f.TLS.Cert, "tls.cert", true, &c.TLS.Cert},
		{f.TLS.Key, "tls.key", true, &c.TLS.Key},
		{f.TLS.ClientCA, "tls.client_ca", false, &c.TLS.ClientCA},
	} {
		switch {
		case !it.at.set && it.required:
			r.fail(cmp.Or(f.TLS.position, position{1, 1}), "%s: missing; write the path of a PEM file, or leave tls out", it.path)
		case it.at.good && it.at.value == "":
			r.fail(it.at.pos, "%s: empty; write the path of a PEM file", it.path)
		case it.at.good:
			if *it.into = it.at.value; !filepath.IsAbs(it.at.value) {
				*it.into = filepath.Join(filepath.Dir(r.file), it.at.value)
			}
			c.TLS.where[*it.into] = r.say(it.at.pos, "%s", it.path)
		}
	}
}
