package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/quorlog/quorlog/internal/testcluster"
)

// natsConfig is what a JetStream cluster needs to be told; the rest is the server's defaults, of which sync_interval is
// two minutes.
const natsConfig = `server_name: node-%d
listen: 127.0.0.1:%d
jetstream { store_dir: %q%s }
cluster { name: peers, listen: 127.0.0.1:%d, routes: [%s] }
`

// natsSync makes JetStream fsync each write.
const natsSync = ", sync_interval: always"

// buildNATS builds the server and the publisher from their module.
func buildNATS(ctx context.Context) (server, publisher string, err error) {
	dir, err := cacheDir("bin")
	if err != nil {
		return "", "", err
	}
	module := filepath.Join(testcluster.Root(), "compat", "peers", "nats")
	server, publisher = filepath.Join(dir, "nats-server"), filepath.Join(dir, "natspublish")
	if err := goBuild(ctx, module, server, "github.com/nats-io/nats-server/v2"); err != nil {
		return "", "", err
	}
	return server, publisher, goBuild(ctx, module, publisher, ".")
}

func startNATS(ctx context.Context, dir, extra string) (*fleet, error) {
	server, publisher, err := buildNATS(ctx)
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(2 * nodes)
	if err != nil {
		return nil, err
	}
	f := &fleet{name: "nats", dir: dir}
	routes := make([]string, nodes)
	for i := range nodes {
		routes[i] = fmt.Sprintf("nats://127.0.0.1:%d", ports[2*i+1])
		f.addrs = append(f.addrs, fmt.Sprintf("nats://127.0.0.1:%d", ports[2*i]))
	}
	for i := range nodes {
		data := filepath.Join(dir, fmt.Sprintf("node-%d", i+1))
		text := fmt.Sprintf(natsConfig, i+1, ports[2*i], data, extra, ports[2*i+1], strings.Join(routes, ", "))
		if err := os.WriteFile(data+".conf", []byte(text), 0o644); err != nil {
			return f, err
		}
		if err := f.run(fmt.Sprintf("node-%d", i+1), server, "-c", data+".conf"); err != nil {
			return f, err
		}
	}
	return f, f.await(ctx, func(ctx context.Context) error {
		_, err := ask(ctx, publisher, "-servers", strings.Join(f.addrs, ","), "-ping")
		return err
	})
}
