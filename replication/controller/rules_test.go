package controller

import (
	"crypto/sha256"
	"fmt"
	"testing"

	"github.com/quorlog/quorlog/internal/config"
)

// TestRulesVersion holds the registry of settings against what it was when rulesVersion was raised last.
func TestRulesVersion(t *testing.T) {
	const version, want = 4, "bfe33541a6a353c0"
	sum := sha256.New()
	for _, scope := range []config.Scope{config.Broker, config.Topic, config.Group} {
		for _, s := range config.All(scope) {
			fmt.Fprintf(sum, "%d %q %v %q %q %q\n", scope, s.Name, s.Type, s.Range, s.Default, s.Bounds)
		}
	}
	if got := fmt.Sprintf("%x", sum.Sum(nil)[:8]); got != want || rulesVersion != version {
		t.Errorf("the settings of rules version %d are %s, and those of version %d were %s. If names, types, ranges or defaults have changed, raise rulesVersion"+
			" (rules.go), write both figures into this test, and the golden bytes anew (go test -run TestGoldenBytes -update)", rulesVersion, got, version, want)
	}
}
