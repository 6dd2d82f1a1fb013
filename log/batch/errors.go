package batch

import "errors"

// ErrInvalid is what every error about the content of a batch wraps. Errors that do not wrap it are mistakes of the caller.
var ErrInvalid = errors.New("invalid record batch")

// fault is one kind of damage or lie in a batch. A type instead of fmt.Errorf("%w") keeps the texts short: the kind alone is
// printed, while errors.Is still finds both the kind and ErrInvalid.
type fault struct{ text string }

func (f *fault) Error() string { return f.text }
func (f *fault) Unwrap() error { return ErrInvalid }

// The kinds of ErrInvalid. The texts of the errors that wrap them carry the figures.
var (
	// ErrTruncated: fewer bytes than the batch claims to have.
	ErrTruncated error = &fault{"batch is truncated"}
	// ErrMagic: not a RecordBatch v2; message sets v0 and v1 (Kafka before 0.11) land here.
	ErrMagic error = &fault{"batch has an unsupported magic"}
	// ErrLength: the length field is out of bounds or differs from the frame.
	ErrLength error = &fault{"batch has a wrong length"}
	// ErrCRC: the bytes were changed on the way. The only kind that a client should retry.
	ErrCRC error = &fault{"batch does not match its CRC"}
	// ErrReserved: attribute bits that this origin must not set, the control bit of a client's batch among them.
	ErrReserved error = &fault{"batch sets reserved attribute bits"}
	// ErrCount: record count, last offset delta and content disagree.
	ErrCount error = &fault{"batch has a wrong record count"}
	// ErrDelta: the offset deltas are not 0, 1, 2, ...
	ErrDelta error = &fault{"batch has a wrong offset delta"}
	// ErrRecord: a record's own fields do not add up.
	ErrRecord error = &fault{"batch has a malformed record"}
	// ErrTimestamp: base timestamp and delta of a record add up to more than 64 bits.
	ErrTimestamp error = &fault{"batch has an impossible timestamp"}
	// ErrSequence: producer id, epoch and sequence do not belong together.
	ErrSequence error = &fault{"batch has an implausible producer id, epoch or sequence"}
	// ErrTooLarge: the batch, or what it decompresses to, is larger than allowed.
	ErrTooLarge error = &fault{"batch is too large"}
	// ErrCodec: an unknown codec, or content that the codec cannot decompress.
	ErrCodec error = &fault{"batch cannot be decompressed"}
)
