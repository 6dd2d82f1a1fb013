package txn

import (
	"fmt"
	"strconv"
	"time"

	"github.com/quorlog/quorlog/replication"
)

// SettingMaxIDs is the setting that Limits.MaxIDs comes from.
const SettingMaxIDs = "quorlog.transaction.max.ids"

// Limits are the bounds and times of transactions. The zero value is not usable; start from DefaultLimits.
type Limits struct {
	MaxTimeout time.Duration // transaction.max.timeout.ms
	Expiration time.Duration // transactional.id.expiration.ms, counted from the id's last change
	// MaxIDs is how many transactional ids one node coordinates. An idle one costs about 900 bytes, and is there until it expires:
	// jobs that take a new id for each checkpoint come to hundreds of thousands. Kafka has no such bound.
	MaxIDs int

	// The next ones are our own. Kafka has no such bounds; ours keep what clients can make a node hold finite.
	RetryDelay     time.Duration // between attempts of what nobody waits for: a write that failed, a marker that was not taken
	MarkerTimeout  time.Duration // how long a node may take to write markers
	MaxIDBytes     int           // of a transactional id: what a string of the record can hold
	MaxPartitions  int           // of one transaction: they must fit into one record
	MaxCalls       int           // requests that wait in one shard
	MaxQueuedBytes int           // records that wait in one shard for the batch under way
	MaxBatchBytes  int           // records that are appended at once
	MaxMarkers     int           // markers that go to a node in one call
	MaxUnmarked    int           // markers that are not written yet; above, transactions are not ended but by time
}

// DefaultLimits are Kafka's defaults where Kafka has the setting.
func DefaultLimits() Limits {
	return Limits{
		MaxTimeout:     15 * time.Minute,
		Expiration:     7 * 24 * time.Hour,
		RetryDelay:     100 * time.Millisecond,
		MarkerTimeout:  10 * time.Second,
		MaxIDs:         1_000_000,
		MaxIDBytes:     1<<15 - 1,
		MaxPartitions:  10_000,
		MaxCalls:       100_000,
		MaxQueuedBytes: 64 << 20,
		MaxBatchBytes:  1 << 20,
		MaxMarkers:     2_000,
		MaxUnmarked:    1_000_000,
	}
}

// LimitsOf takes the defaults and then those settings of a broker that are about transactions, by their names. Others are passed
// over.
func LimitsOf(settings map[string]string) (Limits, error) {
	l := DefaultLimits()
	for name, set := range map[string]func(n int){
		"transaction.max.timeout.ms":     func(n int) { l.MaxTimeout = time.Duration(n) * time.Millisecond },
		"transactional.id.expiration.ms": func(n int) { l.Expiration = time.Duration(n) * time.Millisecond },
		SettingMaxIDs:                    func(n int) { l.MaxIDs = n },
	} {
		value, ok := settings[name]
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(value, 10, 32)
		if err != nil || n <= 0 {
			return Limits{}, fmt.Errorf("%s: %q is not a number that fits", name, value)
		}
		set(int(n))
	}
	return l, nil
}

// errTooManyPartitions refuses what would not fit into a record.
var errTooManyPartitions = fmt.Errorf("%w: too many partitions in one transaction", replication.ErrPolicyViolation)
