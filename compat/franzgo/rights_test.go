package franzgo

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quorlog/quorlog/internal/testcluster"
)

// guarded are the flags of nodes that allow nothing but by rules; scramUser makes them.
func guarded() []string {
	name, _, _ := strings.Cut(scramUser, ":")
	return []string{"--set", "authorizer=acl", "--set", "super.users=User:" + name}
}

// grant lets everybody do everything, by rules.
func (r *run) grant(t *testing.T) {
	t.Helper()
	name, password, _ := strings.Cut(scramUser, ":")
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	rules := []string{"acl", "add", "--user", "*", "--operation", "all", "--topic", "*", "--group", "*", "--transactional-id", "*", "--cluster"}
	cmd := exec.Command(testcluster.Binary(t), append(rules, "-b", strings.Join(r.scram, ","))...)
	cmd.Env = append(os.Environ(), "QUORLOG_USER="+name, "QUORLOG_PASSWORD_FILE="+file)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", rules, err, out)
	}
}
