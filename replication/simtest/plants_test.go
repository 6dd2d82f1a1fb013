package simtest

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/quorlog/quorlog/internal/mutation"
	"github.com/quorlog/quorlog/log/vfs"
)

var plantFlag = flag.String("sim.plant", "", "plant this bug in TestPlanted, which then must find it")

// plant is a bug, and what finds it.
type plant struct {
	name  string
	code  mutation.Name // in the code; needs the build tag
	lies  []vfs.Rule    // or in every disk
	only  []string      // events that bring it out; nil: all
	plain bool          // no idempotent producers, which notice this bug before the check that is meant
	by    []string      // one of these checks must fail
}

var plants = []plant{
	{
		name: "fsync skipped", lies: []vfs.Rule{{Op: vfs.OpSync, Path: ".log", Last: -1, Lie: true}},
		only: []string{"leadership is transferred", "time passes"}, by: []string{majorityHolds},
	},
	{
		name: "fsync skipped, and power cut", lies: []vfs.Rule{{Op: vfs.OpSync, Path: ".log", Last: -1, Lie: true}},
		only: []string{"power cut of all"}, by: []string{ackedStays, servedRises, committedStays, storageHolds},
	},
	{
		name: "fsync of directories skipped", lies: []vfs.Rule{{Op: vfs.OpSyncDir, Last: -1, Lie: true}},
		by: []string{majorityHolds, storageHolds, ackedStays, committedStays},
	},
	{
		name: "vote forgotten", lies: []vfs.Rule{{Op: vfs.OpRename, Path: "votes", Last: -1, Lie: true}},
		only: []string{"restless voter"}, by: []string{storageHolds},
	},
	{
		name: "vote forgotten, and not looked at", code: mutation.VotesUnchecked,
		lies: []vfs.Rule{{Op: vfs.OpRename, Path: "votes", Last: -1, Lie: true}},
		only: []string{"restless voter"}, by: []string{oneLeader},
	},
	{
		name: "snapshot at the applied index", code: mutation.SnapshotAtApplied,
		only: []string{"laggard behind the log start", "retention", "leadership is transferred"},
		by:   []string{noHoles, replicasAgree, becomesWhole, majorityHolds, ackedStays},
	},
	{name: "offsets reused", code: mutation.OffsetsReused, by: []string{ackedStays, committedStays}},
	{name: "served before the own epoch is applied", code: mutation.ServeBeforeEpoch, by: []string{servedRises}},
	{
		name: "stale leader serves", code: mutation.StaleLeader, only: []string{"leader is isolated"}, plain: true,
		by: []string{leaseEnds},
	},
	{
		name: "commit index not filtered", code: mutation.CommitUnfiltered, only: []string{"slow start of a leader"},
		by: []string{committedStays, servedRises, storageHolds, noDuplicates, watermarkRises, ackedStays},
	},
	{
		name: "matching log emptied by a snapshot", code: mutation.ResetMatching, only: []string{"laggard behind the log start"},
		by: []string{watermarkRises, majorityHolds},
	},
	{name: "uncommitted data served", code: mutation.DirtyRead, by: []string{committedStays}},
	{name: "sequences not looked at", code: mutation.NoDedup, by: []string{noDuplicates, orderStays}},
	{name: "unknown outcome acknowledged", code: mutation.AckUnknown, by: []string{ackedStays, servedRises, majorityHolds}},
	{name: "unknown outcome refused", code: mutation.RefuseUnknown, by: []string{refusedIsNowhere}},
	{
		name: "missing entries reported in another way", code: mutation.NotFoundWrapped, only: []string{"laggard behind the log start"},
		by: []string{becomesWhole},
	},
	{name: "epoch forgotten", code: mutation.EpochForgotten, by: []string{epochsRise}},
}

// plantRounds is how many clusters a planted bug has to come out in.
const plantRounds = 60

// TestPlanted lives through clusters with the bug of -sim.plant until a check fails. TestPlantedBugs starts it.
func TestPlanted(t *testing.T) {
	if *plantFlag == "" {
		t.Skip("no bug is planted: see TestPlantedBugs")
	}
	i := slices.IndexFunc(plants, func(p plant) bool { return p.name == *plantFlag })
	if i < 0 {
		t.Fatalf("no bug is called %q", *plantFlag)
	}
	p := plants[i]
	p.set()
	b := newBook()
	for round := range uint64(plantRounds) {
		runRound(t, b, *seedFlag+round, plan{events: *eventsFlag, only: p.only, lies: p.lies, plain: p.plain})
		if b.broken() {
			break
		}
	}
	b.report(t, *seedFlag)
}

// TestPlantedBugs plants one bug after the other, each in a process of its own, and wants the check to fail that is there
// for it. Those in the code need the build tag quorlog_mutations.
func TestPlantedBugs(t *testing.T) {
	for _, p := range plants {
		t.Run(strings.ReplaceAll(p.name, " ", "-"), func(t *testing.T) {
			if p.code != "" && !mutation.Possible {
				t.Skip("needs the build tag quorlog_mutations")
			}
			out, err := p.run()
			if err == nil {
				t.Fatalf("nothing was found in %d rounds:\n%s", plantRounds, out)
			}
			for _, line := range strings.Split(string(out), "\n") {
				_, found, ok := strings.Cut(line, "VIOLATED: ")
				if ok && slices.ContainsFunc(p.by, func(check string) bool { return strings.HasPrefix(found, check+": ") }) {
					t.Logf("found: %s", found)
					return
				}
			}
			t.Fatalf("found, but by none of %q:\n%s", p.by, out[:min(len(out), 8<<10)])
		})
	}
}

// run looks for the bug in a process of its own: it may well bring that down.
func (p plant) run() ([]byte, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	c := exec.Command(exe, "-test.run=^TestPlanted$", "-test.timeout=4m", "-sim.plant="+p.name, fmt.Sprintf("-sim.seed=%d", *seedFlag))
	c.Stdout, c.Stderr = &out, &out
	err = c.Run()
	return out.Bytes(), err
}
