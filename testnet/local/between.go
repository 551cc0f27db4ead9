package local

import "github.com/openclaw/edge/testnet/memnet"

// Between is the link from one region to another that nothing was done to.
func (c *Config) Between(from, to string) memnet.Link {
	d := c.delay(from, to)
	return memnet.Link{Delay: d - d/20, Jitter: d / 10}
}
