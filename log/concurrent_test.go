package log

import (
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/log/vfs"
)

// TestConcurrent lets everything run at once: one writer that also truncates, one applier, one that keeps house, and
// readers that check what they get. It is meant for the race detector.
func TestConcurrent(t *testing.T) {
	for name, fs := range map[string]vfs.FS{"mem": vfs.NewMem(), "os": vfs.OS{}} {
		t.Run(name, func(t *testing.T) {
			dir := "data"
			if name == "os" {
				dir = t.TempDir()
			}
			mustBe(t, fs.MkdirAll(dir), nil)
			l, err := Open(Options{
				FS: fs, Dir: filepath.Join(dir, "t-0"), SegmentBytes: 3000, CheckpointBytes: 5000, TailBytes: 2000, mapSlots: 5,
			})
			mustBe(t, err, nil)
			c := &crowd{t: t, l: l, rounds: map[string]int{"mem": 400, "os": 100}[name], done: make(chan struct{}), committed: make(chan Index, 1)}
			c.run()
			mustBe(t, l.Err(), nil)
			mustBe(t, l.Close(), nil)
			r, err := Verify(fs, filepath.Join(dir, "t-0"))
			mustBe(t, err, nil)
			equal(t, len(r.Problems), 0, "problems")
		})
	}
}

type crowd struct {
	t         *testing.T
	l         *Log
	rounds    int
	done      chan struct{}
	committed chan Index
}

func (c *crowd) run() {
	var wg sync.WaitGroup
	wg.Go(c.write)
	wg.Go(c.apply)
	for _, f := range []func() error{c.read, c.readEntries, c.ask, c.scrub, c.keep} {
		wg.Go(func() {
			for {
				select {
				case <-c.done:
					return
				default:
				}
				if err := f(); err != nil && !errors.Is(err, ErrOffsetOutOfRange) && !errors.Is(err, ErrNotFound) {
					c.t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// write appends, and now and then takes the last entries back: they are announced as committed only afterwards.
func (c *crowd) write() {
	defer close(c.done)
	defer close(c.committed)
	seq := int32(0)
	for i := range c.rounds {
		next := c.l.LastIndex() + 1
		term := Epoch(1 + i/50)
		es := []Entry{
			{Index: next, Term: term, Frame: txn(c.t, 2, term, 1, 0, seq)},
			{Index: next + 1, Term: term, Frame: marker(term, 1, 0, i%2 == 0)},
			{Index: next + 2, Term: term, Frame: plain(c.t, 1, term)},
		}
		seq += 2
		if i%10 == 9 {
			end := c.l.Offsets().HighWatermark
			es = append(es, Entry{Index: next + 3, Term: term, Frame: logStart(max(end-20, 0))})
		}
		if err := c.l.Append(es); err != nil {
			c.t.Error(err)
			return
		}
		last := c.l.LastIndex()
		if i%7 == 3 {
			if err := c.l.TruncateSuffix(last - 1); err != nil {
				c.t.Error(err)
				return
			}
			last -= 2
		}
		c.committed <- last
	}
}

func (c *crowd) apply() {
	for to := range c.committed {
		for i := c.l.AppliedIndex() + 1; i <= to; i++ {
			e, err := c.l.Entry(i)
			if err != nil {
				c.t.Error(i, err)
				continue
			}
			c.l.Apply(e)
		}
	}
}

func (c *crowd) read() error {
	o := c.l.Offsets()
	if o.LogStart > o.LastStable || o.LastStable > o.HighWatermark || o.HighWatermark > o.LogEnd {
		return errors.New("offsets out of order")
	}
	r, err := c.l.Read(o.LogStart, o.HighWatermark, 1<<20, true)
	if err != nil {
		return err
	}
	defer r.Release()
	b, err := r.AppendTo(nil)
	if err != nil {
		return err
	}
	frames, err := batch.Split(b)
	if err != nil {
		return err
	}
	next := Offset(-1)
	for _, f := range frames {
		h, err := batch.ParseHeader(f)
		if err == nil {
			err = batch.CheckCRC(f)
		}
		if err != nil {
			return err
		}
		if next >= 0 && h.BaseOffset != next {
			return errors.New("offsets have a hole")
		}
		next = h.NextOffset()
	}
	return nil
}

func (c *crowd) readEntries() error {
	for i := max(c.l.FirstIndex(), 1); i <= c.l.AppliedIndex(); i++ {
		e, err := c.l.Entry(i)
		if err != nil {
			return err
		}
		if len(e.Frame) > 0 && batch.CheckCRC(e.Frame) != nil {
			return errors.New("entry with a wrong CRC")
		}
	}
	return nil
}

func (c *crowd) ask() error {
	l := c.l
	o := l.Offsets()
	l.Producers()
	l.LastProducer(1)
	l.EndOffsetForEpoch(3)
	l.EpochOf(o.LogStart)
	l.Configuration()
	l.Segments()
	l.Size()
	l.Stats()
	l.RetentionStart(time.Now(), -1, 4000)
	if _, err := l.Aborted(o.LogStart, o.HighWatermark); err != nil {
		return err
	}
	if _, _, _, err := l.OffsetForTimestamp(900, o.HighWatermark); err != nil {
		return err
	}
	if _, _, _, err := l.MaxTimestamp(o.HighWatermark); err != nil {
		return err
	}
	if _, _, err := l.ConfigurationAt(l.AppliedIndex()); err != nil {
		return err
	}
	_, err := l.StartState()
	return err
}

func (c *crowd) scrub() error {
	_, err := c.l.Scrub(1000)
	return err
}

func (c *crowd) keep() error {
	if _, err := c.l.DropSegments(); err != nil {
		return err
	}
	if _, err := c.l.Roll(time.Now()); err != nil {
		return err
	}
	return c.l.Checkpoint(1 << 40)
}
