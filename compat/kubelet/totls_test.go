package kubelet

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A cluster that began in plain text goes over to TLS by two upgrades, each of which restarts one pod after the other: at every moment
// the node that has restarted must find those that have not.
func TestToTLS(t *testing.T) {
	const key = "clusterKey.existingSecret=quorlog-cluster-key"
	m := render(t, "default", key)
	secrets(t, m, filepath.Join(t.TempDir(), "certs"))
	w := newWorld(t, m, buildImage(t), namespace)
	ctx, cancel := context.WithTimeout(t.Context(), lifetime)
	defer cancel()
	nodes := make([]*pod, w.manifests.set.Spec.Replicas)
	for i := range nodes {
		nodes[i] = w.add(i)
	}
	for _, p := range nodes {
		p.awaitReady(ctx, t)
	}
	for n, step := range [][]string{{"tls.existingSecret=quorlog-tls", "tls.peers=optional"}, {"tls.existingSecret=quorlog-tls", "listeners.internal.tls=true"}} {
		w.manifests = render(t, "default", append(step, key)...)
		for of, contents := range m.files {
			if strings.HasPrefix(of, "Secret/") {
				w.manifests.files[of] = contents
			}
		}
		for i := len(nodes) - 1; i >= 0; i-- {
			// In the second upgrade the hook of a pod that is still plain can't speak with those that are not: SIGTERM does its work.
			if hook, err := nodes[i].hook(); err != nil && n == 0 {
				t.Errorf("%v: the hook of %s: %v: %s", step, nodes[i].name, err, hook)
			}
			nodes[i].terminate(t, time.After(patience))
			w.remove(nodes[i])
			nodes[i] = w.add(i)
			nodes[i].awaitReady(ctx, t)
		}
		if err := helmTest(w); err != nil {
			t.Errorf("%v: %v", step, err)
		}
	}
	for _, p := range nodes {
		shown(t, p)
	}
}
