package vfs

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// byteModel says of one byte of a file which values a power cut may leave there.
type byteModel struct {
	allowed map[byte]bool
	durable byte
	now     byte
}

// contentModel is memContent told in another way: byte by byte, keeping all that ever was since the last sync. It knows
// nothing of sectors, so it allows more than may happen; what it forbids must not happen.
type contentModel struct {
	bytes   []byteModel // long enough for all operations
	length  int64
	durable int64
	lengths map[int64]bool
}

const modelSize = 5 * SectorSize

func newContentModel() *contentModel {
	c := &contentModel{bytes: make([]byteModel, modelSize), lengths: map[int64]bool{0: true}}
	for i := range c.bytes {
		c.bytes[i].allowed = map[byte]bool{0: true}
	}
	return c
}

func (c *contentModel) set(i int64, b byte) {
	c.bytes[i].now = b
	c.bytes[i].allowed[b] = true
}

func (c *contentModel) setLength(n int64) {
	for i := n; i < c.length; i++ {
		c.set(i, 0)
	}
	// The length on disk may stop anywhere on the way up from where it was, or may be.
	for i := min(c.durable, c.length); i < n; i++ {
		c.lengths[i] = true
	}
	c.length = n
	c.lengths[n] = true
}

func (c *contentModel) sync() {
	for i := range c.bytes {
		b := &c.bytes[i]
		b.durable, b.allowed = b.now, map[byte]bool{b.now: true}
	}
	c.durable, c.lengths = c.length, map[int64]bool{c.length: true}
}

func (c *contentModel) current() []byte {
	out := make([]byte, c.length)
	for i := range out {
		out[i] = c.bytes[i].now
	}
	return out
}

func (c *contentModel) synced() []byte {
	out := make([]byte, c.durable)
	for i := range out {
		out[i] = c.bytes[i].durable
	}
	return out
}

// TestContentAgainstModel: random writes, truncations, syncs and power cuts of one file.
func TestContentAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m, model := NewMem(), newContentModel()
		durable(t, m, "f", "")
		f, err := m.Open("f")
		must(t, err)
		next := byte(0)
		after := func(opt CrashOptions) []byte {
			data, err := ReadFile(m.CrashClone(seeded(rapid.Uint64().Draw(rt, "seed")), opt), "f")
			must(t, err)
			return data
		}
		rt.Repeat(map[string]func(*rapid.T){
			"write": func(rt *rapid.T) {
				off := rapid.Int64Range(0, modelSize-2).Draw(rt, "off")
				n := rapid.Int64Range(1, modelSize-off).Draw(rt, "n")
				next++
				must(t, f.WriteVec([][]byte{bytes.Repeat([]byte{next}, int(n/2)), bytes.Repeat([]byte{next}, int(n-n/2))}, off))
				if off+n > model.length {
					model.setLength(off + n)
				}
				for i := off; i < off+n; i++ {
					model.set(i, next)
				}
			},
			"truncate": func(rt *rapid.T) {
				n := rapid.Int64Range(0, modelSize).Draw(rt, "n")
				must(t, f.Truncate(n))
				model.setLength(n)
			},
			"sync": func(*rapid.T) {
				must(t, f.Sync())
				model.sync()
			},
			"kill": func(rt *rapid.T) {
				m = m.Crash(nil, CrashOptions{Kill: true})
				f, err = m.Open("f")
				must(t, err)
			},
			"reboot": func(rt *rapid.T) {
				m = m.Crash(seeded(rapid.Uint64().Draw(rt, "seed")), CrashOptions{Survive: 100})
				f, err = m.Open("f")
				must(t, err)
				model.sync()
			},
			"": func(rt *rapid.T) {
				data, err := ReadFile(m, "f")
				must(t, err)
				if !bytes.Equal(data, model.current()) {
					rt.Fatal("a reader sees something else than what was written")
				}
				if !bytes.Equal(after(CrashOptions{}), model.synced()) {
					rt.Fatal("a power cut that spares nothing leaves something else than what was synced")
				}
				if !bytes.Equal(after(CrashOptions{Survive: 100}), model.current()) {
					rt.Fatal("a power cut that spares all leaves something else than what was written")
				}
				found := after(CrashOptions{Survive: 50})
				if !model.lengths[int64(len(found))] {
					rt.Fatalf("the file was never %d bytes long", len(found))
				}
				for i, b := range found {
					if !model.bytes[i].allowed[b] {
						rt.Fatalf("byte %d holds %d, which it never did since the last sync", i, b)
					}
				}
			},
		})
	})
}
