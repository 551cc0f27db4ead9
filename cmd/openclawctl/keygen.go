package main

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
)

type keygenCmd struct{}

func (*keygenCmd) Help() string {
	return `Prints 32 random bytes in base64, for gossip.keys of every node's config. The first key there encrypts,
all decrypt: to change it, append the new one everywhere, then move it to the front, then drop the old.`
}

func (*keygenCmd) Run(s *session) error {
	var key [32]byte
	rand.Read(key[:]) // never fails
	text := base64.StdEncoding.EncodeToString(key[:])
	if s.json {
		s.raw(fmt.Appendf(nil, `{"key":%q}`, text))
	}
	s.say("%s", text)
	return nil
}
