package agent

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"
	"github.com/quorlog/quorlog/replication/partition"
	"github.com/quorlog/quorlog/replication/raftgroup"
)

// RecoverConfig describes an offline recovery.
type RecoverConfig struct {
	DataDir string
	Node    replication.NodeID
	Left    []replication.NodeID // the nodes that are left, Node among them
	DryRun  bool                 // only tell
	Out     io.Writer            // what is done, in lines
	Logger  *slog.Logger         // nil: nowhere
}

// ErrPartlyRecovered: some groups could not be recovered; the output names them.
var ErrPartlyRecovered = errors.New("some groups were not recovered")

// Recover makes the groups of a stopped node's data directory begin again whose majority was lost for good: those of its
// partitions, then the metadata. See partition.Recover and controller.Recover for what is lost by it.
func Recover(c RecoverConfig) (err error) {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if _, err := os.Stat(filepath.Join(c.DataDir, identityFile)); err != nil {
		return fmt.Errorf("no node's data directory: %w", err)
	}
	id, err := openIdentity(vfs.OS{}, c.DataDir, c.Node) // which locks the directory
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, id.Close()) }()
	r := recovery{RecoverConfig: c}
	parts, err := partition.Recover(partition.RecoverOptions{DataDir: c.DataDir, Node: c.Node, Left: c.Left, DryRun: c.DryRun, Logger: c.Logger})
	if err != nil {
		return err
	}
	for i := range parts {
		r.sayPartition(&parts[i])
	}
	if err := r.metadata(); err != nil {
		r.failed = true
		r.say("metadata: %v", err)
	}
	if r.failed {
		return ErrPartlyRecovered
	}
	return nil
}

type recovery struct {
	RecoverConfig
	failed bool
}

func (r *recovery) say(format string, args ...any) {
	_, _ = fmt.Fprintf(r.Out, format+"\n", args...) // who does not listen does not hear
}

func (r *recovery) verb() string {
	if r.DryRun {
		return "would become"
	}
	return "are now"
}

func (r *recovery) sayPartition(p *partition.Recovered) {
	name := fmt.Sprintf("%s-%d", p.Topic, p.ID.Partition)
	if p.Topic == "" {
		name = p.ID.String()
	}
	switch {
	case p.Err != nil:
		r.failed = true
		r.say("%s: not recovered: %v", name, p.Err)
	case p.Forced == nil:
		r.say("%s: a majority of %v is left; nothing to do", name, p.Voters)
	default:
		r.say("%s: the voters %v %s %v; log end %d", name, p.Voters, r.verb(), p.Forced, p.LogEnd)
	}
}

func (r *recovery) metadata() error {
	dir := filepath.Join(r.DataDir, metadataDir)
	self, err := raftgroup.OwnerOfMeta(dir, r.Node)
	if err != nil {
		return err
	}
	voters, err := raftgroup.VotersOfMeta(dir)
	if err != nil {
		return err
	}
	left := 0
	for _, v := range voters {
		if slices.Contains(r.Left, v.Node) {
			left++
		}
	}
	if left > len(voters)/2 {
		r.say("metadata: a majority of %v is left; nothing to do", voters)
		return nil
	}
	if !r.DryRun {
		if _, err := controller.Recover(controller.RecoverOptions{Dir: dir, Self: self, Logger: r.Logger}); err != nil {
			return err
		}
	}
	r.say("metadata: the voters %v %s [%s]", voters, r.verb(), self)
	return nil
}
