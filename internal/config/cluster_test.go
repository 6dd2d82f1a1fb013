package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestClusterSettings: what several settings say together.
func TestClusterSettings(t *testing.T) {
	for _, tc := range []struct {
		what  string
		flags map[string]string
		want  string // in the error; empty: none
		check func(*Node) bool
	}{
		{"alone", nil, "", func(n *Node) bool { return n.BootstrapExpect == 1 && n.Gossip == "127.0.0.1:9093" && !n.Clustered() }},
		{"alone, to be joined", map[string]string{"cluster-key-file": "k"}, "", func(n *Node) bool { return n.BootstrapExpect == 1 && n.Clustered() }},
		{"three", map[string]string{"cluster-key-file": "k", "bootstrap-expect": "3", "node-id": "1"}, "", func(n *Node) bool { return n.BootstrapExpect == 3 }},
		{"joins", map[string]string{"cluster-key-file": "k", "join": "a, b:7, [::1], ::1, [::1]:5", "node-id": "1"}, "", func(n *Node) bool {
			return n.BootstrapExpect == 0 && slices.Equal(n.Join, []string{"a:9093", "b:7", "[::1]:9093", "[::1]:9093", "[::1]:5"})
		}},
		{"three that name each other", map[string]string{"cluster-key-file": "k", "join": "a", "bootstrap-expect": "3", "node-id": "1"}, "", func(n *Node) bool { return n.BootstrapExpect == 3 }},
		{"waits to be found", map[string]string{"cluster-key-file": "k", "bootstrap-expect": "0"}, "", func(n *Node) bool { return n.BootstrapExpect == 0 }},
		{"both at once", map[string]string{"cluster-key-file": "k", "join": "a", "bootstrap-expect": "1", "node-id": "1"}, "leave out one of", nil},
		{"waits for nobody", map[string]string{"bootstrap-expect": "0"}, "waits for a cluster to join", nil},
		{"joins without a key", map[string]string{"join": "a", "node-id": "1"}, "cluster-key-file: needed", nil},
		{"three without a key", map[string]string{"bootstrap-expect": "3", "node-id": "1"}, "cluster-key-file: needed", nil},
		{"joins without an id", map[string]string{"join": "a", "cluster-key-file": "k"}, "node-id: must be given", nil},
		{"three without an id", map[string]string{"bootstrap-expect": "3", "cluster-key-file": "k"}, "node-id: must be given", nil},
		{"all interfaces", map[string]string{"listen": "0.0.0.0:9092", "cluster-key-file": "k"}, "advertise: must be given", nil},
		{"all interfaces, unsaid", map[string]string{"listen": ":9092", "cluster-key-file": "k"}, "advertise: must be given", nil},
		{"all interfaces, v6", map[string]string{"listen": "[::]:9092", "cluster-key-file": "k"}, "advertise: must be given", nil},
		{"all interfaces, alone", map[string]string{"listen": "0.0.0.0:9092"}, "", func(n *Node) bool { return n.Gossip == "0.0.0.0:9093" && n.GossipAdvertise == "" }},
		{"advertised", map[string]string{"listen": "0.0.0.0:9092", "advertise": "b.example:19092", "cluster-key-file": "k"}, "", func(n *Node) bool {
			return n.Gossip == "0.0.0.0:9093" && n.GossipAdvertise == "b.example:9093"
		}},
		{"gossip elsewhere", map[string]string{"listen": "0.0.0.0:9092", "advertise": "b.example:19092", "gossip": "10.0.0.1:7", "cluster-key-file": "k"}, "", func(n *Node) bool {
			return n.Gossip == "10.0.0.1:7" && n.GossipAdvertise == ""
		}},
		{"gossip told", map[string]string{"gossip": "0.0.0.0:7", "gossip-advertise": "g.example:8"}, "", func(n *Node) bool { return n.GossipAdvertise == "g.example:8" }},
		{"free ports", map[string]string{"listen": "127.0.0.1:0"}, "", func(n *Node) bool { return n.Gossip == "127.0.0.1:0" }},
		{"the last port", map[string]string{"listen": "127.0.0.1:65535"}, "", func(n *Node) bool { return n.Gossip == "127.0.0.1:9093" }},
		{"no gossip address", map[string]string{"gossip": "nowhere"}, "expected host:port", nil},
		{"no gossip address told", map[string]string{"gossip-advertise": "0.0.0.0:7"}, "unspecified", nil},
		{"nobody to join", map[string]string{"join": ":9093"}, "expected host or host:port", nil},
		{"no port to join", map[string]string{"join": "a:b"}, "expected host or host:port", nil},
		{"port 0 to join", map[string]string{"join": "a:0"}, "expected host or host:port", nil},
		{"too many expected", map[string]string{"bootstrap-expect": "100"}, "expected a number from 0 to 99", nil},
		{"fewer than none", map[string]string{"bootstrap-expect": "-1"}, "expected a number from 0 to 99", nil},
		{"a long rack", map[string]string{"rack": strings.Repeat("r", maxRack+1)}, "longer than 100 bytes", nil},
		{"a long host", map[string]string{"advertise": strings.Repeat("h", maxHost+1) + ":1"}, "longer than 200 bytes", nil},
	} {
		n, err := Load(Sources{Flags: tc.flags})
		if tc.want == "" && (err != nil || !tc.check(n)) {
			t.Errorf("%s: %+v, %v", tc.what, n, err)
		}
		if tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", tc.what, err, tc.want)
		}
	}
}

// TestClusterKey: a new key can be read back, and what is no key is refused.
func TestClusterKey(t *testing.T) {
	dir := t.TempDir()
	file := func(text string, mode os.FileMode) string {
		name := filepath.Join(dir, "key")
		if err := errors.Join(os.RemoveAll(name), os.WriteFile(name, []byte(text), mode), os.Chmod(name, mode)); err != nil {
			t.Fatal(err)
		}
		return name
	}
	text := NewClusterKey()
	if text == NewClusterKey() || len(text) < 40 {
		t.Errorf("a new key is %q", text)
	}
	key, warning, err := ReadClusterKey(file(text+"\r\n", 0o600))
	if err != nil || string(key) != text || warning != "" {
		t.Errorf("%q, %q, %v", key, warning, err)
	}
	for mode, warns := range map[os.FileMode]bool{0o400: false, 0o440: false, 0o640: false, 0o660: true, 0o644: true, 0o604: true} {
		if _, warning, err := ReadClusterKey(file(text, mode)); err != nil || warns != strings.Contains(warning, fmt.Sprintf("%04o", mode)) {
			t.Errorf("a key with mode %04o: %q, %v", mode, warning, err)
		}
	}
	for _, bad := range []string{"", "  short \n", strings.Repeat(" ", maxKey) + "0123456789abcdef", strings.Repeat("k", maxKey+1)} {
		if _, _, err := ReadClusterKey(file(bad, 0o600)); !errors.Is(err, ErrClusterKey) {
			t.Errorf("a key of %d bytes: %v", len(bad), err)
		}
	}
	if _, _, err := ReadClusterKey(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, _, err := ReadClusterKey(dir); err == nil {
		t.Error("a directory was read")
	}
}
