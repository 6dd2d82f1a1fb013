package batch

import "fmt"

// Codec is a compression format of Kafka's, as the low three attribute bits name it.
type Codec uint8

// The codecs.
const (
	None Codec = iota
	Gzip
	Snappy
	LZ4
	Zstd
)

// DefaultLevel asks for a codec's own default level. Zstandard's real level -1 cannot be asked for.
const DefaultLevel = -1

// codecs is indexed by Codec. The level ranges and defaults are those of Kafka's compression.*.level (KIP-390); they are
// mapped to what the Go encoders offer.
var codecs = [...]struct {
	name            string
	min, max, deflt int
}{
	None:   {name: "none"},
	Gzip:   {name: "gzip", min: 1, max: 9, deflt: DefaultLevel},
	Snappy: {name: "snappy"},
	LZ4:    {name: "lz4", min: 1, max: 17, deflt: 9},
	Zstd:   {name: "zstd", min: -131072, max: 22, deflt: 3},
}

// Valid tells whether the codec exists.
func (c Codec) Valid() bool { return int(c) < len(codecs) }

// String is the name that Kafka's compression.type uses, or "none".
func (c Codec) String() string {
	if !c.Valid() {
		return fmt.Sprintf("codec(%d)", uint8(c))
	}
	return codecs[c].name
}

// ParseCodec reads a codec's name; "uncompressed" is compression.type's word for None.
func ParseCodec(name string) (Codec, error) {
	if name == "uncompressed" {
		return None, nil
	}
	for c := range codecs {
		if codecs[c].name == name {
			return Codec(c), nil
		}
	}
	return None, fmt.Errorf("unknown compression codec %q", name)
}

// Levels tells which levels compression.<codec>.level may have and which is the default. Codecs without levels have 0, 0, 0.
func (c Codec) Levels() (lowest, highest, deflt int) {
	if !c.Valid() {
		return 0, 0, 0
	}
	return codecs[c].min, codecs[c].max, codecs[c].deflt
}
