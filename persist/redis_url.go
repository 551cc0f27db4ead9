package persist

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/url"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// errRedisURL tells nothing of the URL: a password with a stray '/' or '@' turns up in any
// part of it.
var errRedisURL = errors.New("the redis url is not understood: write redis://[[user]:password@]host[:6379][/db], " +
	"rediss:// for TLS, unix:///path for a socket, ?master_name=NAME for Sentinel; in a password, " +
	"write every character but letters and digits as %XX; the only parameters are addr, master_name, username, password, " +
	"db, skip_verify, dial_timeout, read_timeout")

// redisOptions reads the URL. What it does not say is set as facts and measurements advise;
// most of go-redis' own defaults make a call last many seconds.
func redisOptions(cfg RedisConfig) (*goredis.UniversalOptions, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, errRedisURL
	}
	for name := range u.Query() {
		switch name {
		case "addr", "master_name", "username", "password", "db", "skip_verify", "dial_timeout", "read_timeout":
		default:
			return nil, errRedisURL
		}
	}
	sentinel := u.Query().Has("master_name")
	var o *goredis.UniversalOptions
	switch {
	case cfg.Cluster && sentinel:
		return nil, errors.New("cluster: true and ?master_name= exclude each other: Redis Cluster has no sentinels")
	case cfg.Cluster && u.Scheme == "unix":
		return nil, errors.New("cluster: true needs addresses, not a unix socket")
	case cfg.Cluster && u.Path != "" && u.Path != "/" && u.Path != "/0":
		return nil, errors.New("a Redis Cluster has database 0 only: take /N out of the url")
	case cfg.Cluster:
		o, err = clusterOptions(cfg.URL)
	case sentinel:
		o, err = sentinelOptions(cfg.URL)
	default:
		o, err = singleOptions(cfg.URL)
	}
	if err != nil {
		return nil, errRedisURL
	}
	if o.DialTimeout <= 0 {
		o.DialTimeout = redisDial
		if o.TLSConfig != nil {
			o.DialTimeout *= 2 // one more round trip, and signatures to check
		}
	}
	if o.ReadTimeout <= 0 {
		o.ReadTimeout = redisCall
	}
	o.ContextTimeoutEnabled = true
	o.MaxRetries, o.DialerRetries = 1, 1
	o.Protocol = 2 // what every server and proxy speaks
	o.DisableIdentity = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	o.MaxActiveConns, o.MaxConcurrentDials = redisConns, 4
	// After PoolSize failed dials a pool goes on dialling in the background, past Close.
	o.PoolSize = 4096
	o.PoolTimeout = o.ReadTimeout
	return o, nil
}

func singleOptions(text string) (*goredis.UniversalOptions, error) {
	p, err := goredis.ParseURL(text)
	if err != nil {
		return nil, err
	}
	o := &goredis.UniversalOptions{
		Addrs: []string{p.Addr}, DB: p.DB, Username: p.Username, Password: p.Password,
		DialTimeout: p.DialTimeout, ReadTimeout: p.ReadTimeout, TLSConfig: p.TLSConfig,
	}
	if p.Network == "unix" {
		o.Dialer = func(ctx context.Context, _, addr string) (net.Conn, error) {
			return (&net.Dialer{Timeout: o.DialTimeout}).DialContext(ctx, "unix", addr)
		}
	}
	return o, nil
}

func sentinelOptions(text string) (*goredis.UniversalOptions, error) {
	p, err := goredis.ParseFailoverURL(text)
	if err != nil {
		return nil, err
	}
	if p.TLSConfig != nil {
		p.TLSConfig.ServerName = "" // it is the first sentinel's; each address has its own
	}
	return &goredis.UniversalOptions{
		Addrs: p.SentinelAddrs, MasterName: p.MasterName, DB: p.DB,
		Username: p.Username, Password: p.Password,
		SentinelUsername: p.SentinelUsername, SentinelPassword: p.SentinelPassword,
		DialTimeout: p.DialTimeout, ReadTimeout: p.ReadTimeout, TLSConfig: p.TLSConfig,
	}, nil
}

func clusterOptions(text string) (*goredis.UniversalOptions, error) {
	p, err := goredis.ParseClusterURL(text)
	if err != nil {
		return nil, err
	}
	if p.TLSConfig != nil {
		p.TLSConfig.MinVersion = tls.VersionTLS12
	}
	return &goredis.UniversalOptions{
		Addrs: p.Addrs, IsClusterMode: true, Username: p.Username, Password: p.Password,
		DialTimeout: p.DialTimeout, ReadTimeout: p.ReadTimeout, TLSConfig: p.TLSConfig,
	}, nil
}
