package agent

import (
	"errors"
	"fmt"
	"testing"

	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
)

// put makes a data directory with a node.json, and what else it holds.
func put(t *testing.T, text string, partitions bool) *vfs.Mem {
	t.Helper()
	disk := vfs.NewMem()
	if err := vfs.MkdirDurable(disk, "/data"); err != nil {
		t.Fatal(err)
	}
	if text != "" {
		if err := vfs.WriteFileAtomic(disk, "/data/node.json", []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if partitions {
		if err := vfs.MkdirDurable(disk, "/data/partitions/0123-0"); err != nil {
			t.Fatal(err)
		}
	}
	return disk
}

const (
	formatOne = `{"format":1,"node_id":1}`
	dirText   = `"directory":"00112233445566778899aabbccddeeff"`
)

func formatTwo(rest string) string {
	return fmt.Sprintf(`{"format":2,"node_id":1,%s,%s}`, dirText, rest)
}

// TestDataDirectories: what a node finds, and what it makes of it.
func TestDataDirectories(t *testing.T) {
	errAny := errors.New("any")
	for _, tc := range []struct {
		what                 string
		text                 string
		metadata, partitions bool
		err                  error
		state                belonging
	}{
		{"empty", "", false, false, nil, fresh},
		{"partitions without an identity", "", false, true, ErrIdentityLost, ""},
		{"metadata without an identity", "", true, false, ErrIdentityLost, ""},
		{"format 1, just made", formatOne, false, false, nil, fresh},
		{"format 1, in use", formatOne, true, true, nil, founding},
		{"format 1, its metadata lost", formatOne, false, true, ErrMetadataLost, ""},
		{"format 1 of another node", `{"format":1,"node_id":2}`, true, true, errAny, ""},
		{"of another node", `{"format":2,"node_id":2,` + dirText + `,"state":"fresh"}`, false, false, errAny, ""},
		{"a later format", `{"format":3,"node_id":1}`, true, true, errAny, ""},
		{"no format", `{}`, false, false, errAny, ""},
		{"no JSON", `format`, false, false, errAny, ""},
		{"fresh", formatTwo(`"state":"fresh"`), false, false, nil, fresh},
		{"fresh with data", formatTwo(`"state":"fresh"`), false, true, ErrMetadataLost, ""},
		{"fresh in a cluster", formatTwo(`"state":"fresh","cluster_id":"A"`), false, false, errAny, ""},
		{"no directory", `{"format":2,"node_id":1,"state":"fresh"}`, false, false, errAny, ""},
		{"a short directory", `{"format":2,"node_id":1,"state":"fresh","directory":"0011"}`, false, false, errAny, ""},
		{"an unknown state", formatTwo(`"state":"happy"`), false, false, errAny, ""},
		{"promised", formatTwo(`"state":"promised","promise":{"founder":0,"founder_` + dirText[1:] + `,"cluster_id":"A"}`), false, false, nil, promised},
		{"promised to nobody", formatTwo(`"state":"promised"`), false, false, errAny, ""},
		{"promised to itself", formatTwo(`"state":"promised","promise":{"founder":1,"founder_` + dirText[1:] + `,"cluster_id":"A"}`), false, false, errAny, ""},
		{"candidate", formatTwo(`"state":"candidate","promise":{"founder":1,"founder_` + dirText[1:] + `,"cluster_id":"A"}`), false, false, nil, candidate},
		{"founding", formatTwo(`"state":"founding","cluster_id":"A"`), false, false, nil, founding},
		{"founding, begun", formatTwo(`"state":"founding","cluster_id":"A"`), true, false, nil, founding},
		{"joined", formatTwo(`"state":"joined","cluster_id":"A","metadata_incarnation":4`), false, false, nil, joined},
		{"joined nothing", formatTwo(`"state":"joined"`), false, false, errAny, ""},
		{"member", formatTwo(`"state":"member","cluster_id":"A","metadata_incarnation":4`), true, true, nil, member},
		{"member, its metadata lost", formatTwo(`"state":"member","cluster_id":"A"`), false, false, ErrMetadataLost, ""},
		{"member with a promise", formatTwo(`"state":"member","cluster_id":"A","promise":{"founder":1,"cluster_id":"A"}`), true, false, errAny, ""},
	} {
		disk := put(t, tc.text, tc.partitions)
		s, err := openIdentityWith(disk, "/data", 1, func() (bool, error) { return tc.metadata, nil })
		if tc.err != nil {
			if err == nil || tc.err != errAny && !errors.Is(err, tc.err) {
				t.Errorf("%s: %v, want %v", tc.what, err, tc.err)
			}
			// A directory that is refused is neither changed nor held.
			if tc.text != "" {
				if data, err := vfs.ReadFile(disk, "/data/node.json"); err != nil || string(data) != tc.text {
					t.Errorf("%s: the file is now %q, %v", tc.what, data, err)
				}
			}
			lock, err := disk.Lock("/data/lock")
			if err != nil {
				t.Errorf("%s: still locked: %v", tc.what, err)
			} else if err := lock.Close(); err != nil {
				t.Error(err)
			}
			continue
		}
		if err != nil || s.get().State != tc.state || s.get().NodeID != 1 || s.get().Directory == (directoryID{}) {
			t.Errorf("%s: %+v, %v", tc.what, s, err)
			continue
		}
		// A second process is kept out, and what was found is found again.
		if _, err := openIdentityWith(disk, "/data", 1, func() (bool, error) { return tc.metadata, nil }); !errors.Is(err, vfs.ErrLocked) {
			t.Errorf("%s: opened twice: %v", tc.what, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		again, err := openIdentityWith(disk.Crash(nil, vfs.CrashOptions{}), "/data", 1, func() (bool, error) { return tc.metadata, nil })
		if err != nil || again.get() != s.get() {
			t.Errorf("%s: %+v, then %+v, %v", tc.what, s.get(), again, err)
		}
	}
}

// TestIdentityChanges: only changes that make sense are made, and one that the disk may not have got ends all deciding.
func TestIdentityChanges(t *testing.T) {
	disk := vfs.NewMem()
	faults := vfs.Inject(disk)
	s, err := openIdentityWith(faults, "/data", 1, func() (bool, error) { return false, nil })
	if err != nil {
		t.Fatal(err)
	}
	if err := s.opened("A"); err == nil {
		t.Error("a node of no cluster has opened its metadata")
	}
	if err := s.rejoined(replication.ReplicaID{Node: 1, Incarnation: 2}); err == nil {
		t.Error("a node of no cluster has got another replica")
	}
	if err := s.change(func(i *identity) error { i.State = promised; return nil }); err == nil {
		t.Error("a promise to nobody was written")
	}
	if err := s.change(func(i *identity) error { i.State, i.ClusterID, i.Meta = joined, "A", 3; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := s.opened("B"); err == nil {
		t.Error("the metadata of another cluster was opened")
	}
	if err := s.opened("A"); err != nil || s.get().State != member || s.clusterID() != "A" {
		t.Errorf("%+v, %v", s.get(), err)
	}
	if err := s.rejoined(replication.ReplicaID{Node: 1, Incarnation: 3}); err != nil || s.get().State != member {
		t.Errorf("%+v, %v", s.get(), err)
	}
	if err := s.rejoined(replication.ReplicaID{Node: 2, Incarnation: 4}); err == nil {
		t.Error("another node's replica was taken")
	}
	writes := len(faults.Calls())
	if err := s.opened("A"); err != nil || len(faults.Calls()) != writes {
		t.Errorf("what is so already was written again: %v", err)
	}
	failed := errors.New("no disk")
	faults.Add(vfs.Rule{Op: vfs.OpSyncDir, Err: failed})
	if err := s.rejoined(replication.ReplicaID{Node: 1, Incarnation: 4}); !errors.Is(err, failed) || !errors.Is(err, errDisk) {
		t.Errorf("the disk's error: %v", err)
	}
	if err := s.change(func(*identity) error { return nil }); !errors.Is(err, errDisk) {
		t.Errorf("a decision after the disk has failed: %v", err)
	}
}
