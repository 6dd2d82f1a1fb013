package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/quorlog/quorlog/broker/auth"
	"github.com/quorlog/quorlog/internal/config"
)

// TestDamagedPolicyStopsTheStart: a policy that can't be read must not be taken for one that allows.
func TestDamagedPolicyStopsTheStart(t *testing.T) {
	dir := t.TempDir()
	model, policy := filepath.Join(dir, "model.conf"), filepath.Join(dir, "policy.csv")
	text := "[request_definition]\nr = sub, obj, act\n[policy_definition]\np = sub, obj, act\n[policy_effect]\ne = some(where (p.eft == allow))\n" +
		"[matchers]\nm = r.sub == p.sub && r.obj == p.obj && r.act == p.act\n"
	for path, text := range map[string]string{model: text, policy: "p, User:alice, topic:orders\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, tc := range map[string]struct {
		settings []string
		want     error
	}{
		"damaged":  {[]string{"authorizer=casbin", "authorizer.casbin.model=" + model, "authorizer.casbin.policy=" + policy}, auth.ErrCasbin},
		"no files": {[]string{"authorizer=casbin"}, ErrAuthorizer},
	} {
		node, err := config.Load(config.Sources{Set: tc.settings, Flags: map[string]string{"data-dir": t.TempDir(), "listen": "127.0.0.1:0"}})
		if err != nil {
			t.Fatal(err)
		}
		a, err := New(Config{Node: node, OnFatal: func(err error) { t.Error(err) }})
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Start(t.Context()); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
		if err := a.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}
}
