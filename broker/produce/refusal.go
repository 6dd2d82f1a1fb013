package produce

import (
	"errors"
	"fmt"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

// RecordError is what is wrong with one record of a batch.
type RecordError struct {
	Index   int32 // of the record in its batch, from 0
	Message string
}

// RecordsError refuses a batch because of some of its records (KIP-467). It wraps broker.ErrInvalidRecord or
// broker.ErrInvalidTimestamp.
type RecordsError struct {
	Err     error
	Records []RecordError // the first maxRecordErrors of them
}

// maxRecordErrors bounds an answer: a client learns from the first few, and a batch may hold millions.
const maxRecordErrors = 64

// Error is what the batch as a whole is refused for.
func (e *RecordsError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *RecordsError) Unwrap() error { return e.Err }

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{broker.ErrInvalidRecord}, args...)...)
}

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{replication.ErrCorrupt}, args...)...)
}

func tooLarge(size, limit int) error {
	return fmt.Errorf("%w: %d bytes, max.message.bytes is %d", broker.ErrMessageTooLarge, size, limit)
}

// refusal turns what validation found into what a client is told. Only damage on the way is worth a retry.
func refusal(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, batch.ErrCRC), errors.Is(err, batch.ErrTruncated), errors.Is(err, batch.ErrLength), errors.Is(err, batch.ErrMagic):
		return corrupt("%v", err)
	case errors.Is(err, batch.ErrTooLarge):
		// What it decompresses to is too large. The Java producer splits such a batch and tries again.
		return fmt.Errorf("%w: %v", broker.ErrMessageTooLarge, err)
	case errors.Is(err, batch.ErrInvalid):
		return invalid("%v", err)
	}
	return err
}

// keyless names the records without a key that a compacted topic can't take.
func keyless(frame []byte) error {
	e := &RecordsError{Err: invalid("a compacted topic takes no records without a key")}
	return e.collect(frame, func(r *batch.Glance) string {
		if r.HasKey {
			return ""
		}
		return "a compacted topic takes no record without a key"
	})
}

// outOfTime names the records whose timestamps are too old or too new. Records without a timestamp are neither.
func outOfTime(frame []byte, low, high int64) error {
	e := &RecordsError{Err: fmt.Errorf("%w: some records are too old or too new", broker.ErrInvalidTimestamp)}
	return e.collect(frame, func(r *batch.Glance) string {
		if r.Timestamp == batch.NoTimestamp || r.Timestamp >= low && r.Timestamp <= high {
			return ""
		}
		return fmt.Sprintf("timestamp %d is not within %d to %d", r.Timestamp, low, high)
	})
}

// collect asks for each record what is wrong with it, and returns nil if that is nothing.
func (e *RecordsError) collect(frame []byte, judge func(*batch.Glance) string) error {
	index := int32(0)
	err := batch.Scan(frame, func(r *batch.Glance) error {
		if text := judge(r); text != "" {
			e.Records = append(e.Records, RecordError{Index: index, Message: text})
		}
		if index++; len(e.Records) == maxRecordErrors {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return refusal(err)
	}
	if len(e.Records) == 0 {
		return nil
	}
	return e
}

var errEnough = errors.New("enough records named")
