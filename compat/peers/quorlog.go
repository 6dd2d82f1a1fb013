package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/quorlog/quorlog/internal/config"
	"github.com/quorlog/quorlog/internal/testcluster"
)

// buildQuorlog builds the command once per run; $QUORLOG_BINARY names one that is there already.
func buildQuorlog(ctx context.Context) (string, error) {
	if bin := os.Getenv("QUORLOG_BINARY"); bin != "" {
		return bin, nil
	}
	dir, err := cacheDir("bin")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "quorlog")
	return bin, goBuild(ctx, testcluster.Root(), bin, "./cmd/quorlog")
}

func goBuild(ctx context.Context, dir, out, pkg string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", out, pkg)
	cmd.Dir = dir
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building %s: %w\n%s", pkg, err, text)
	}
	return nil
}

func startQuorlog(ctx context.Context, dir string) (*fleet, error) {
	bin, err := buildQuorlog(ctx)
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(2 * nodes)
	if err != nil {
		return nil, err
	}
	key := filepath.Join(dir, "cluster.key")
	if err := os.WriteFile(key, []byte(config.NewClusterKey()+"\n"), 0o600); err != nil {
		return nil, err
	}
	f := &fleet{name: "quorlog", dir: dir, kafka: true}
	gossip := make([]string, nodes)
	for i := range nodes {
		f.addrs = append(f.addrs, fmt.Sprintf("127.0.0.1:%d", ports[2*i]))
		gossip[i] = fmt.Sprintf("127.0.0.1:%d", ports[2*i+1])
	}
	for i := range nodes {
		if err := f.run(fmt.Sprintf("node-%d", i+1), bin, "serve", "--node-id", fmt.Sprint(i+1), "--listen", f.addrs[i],
			"--gossip", gossip[i], "--join", strings.Join(gossip, ","), "--bootstrap-expect", fmt.Sprint(nodes),
			"--cluster-key-file", key, "--data-dir", filepath.Join(dir, fmt.Sprintf("node-%d", i+1))); err != nil {
			return f, err
		}
	}
	return f, f.await(ctx, f.brokersUp)
}
