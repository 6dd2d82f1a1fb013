package api

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/replication"
)

func TestCodes(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want kafkaproto.Code
	}{
		{nil, kafkaproto.None},
		{errors.New("nobody foresaw this"), kafkaproto.UnknownServerError},
		{replication.ErrNotLeader, kafkaproto.NotLeaderOrFollower},
		{fmt.Errorf("wrapped: %w", replication.ErrUnknownOutcome), kafkaproto.RequestTimedOut},
		{broker.ErrNoTransactionalID, kafkaproto.TransactionalIDAuthorizationFailed},
		{fmt.Errorf("%w and %w", errors.New("one"), broker.ErrInvalidRecord), kafkaproto.InvalidRecord},
		{context.DeadlineExceeded, kafkaproto.RequestTimedOut},
	} {
		if got := code(tc.err); got != int16(tc.want) {
			t.Errorf("%v: %v, want %v", tc.err, kafkaproto.Code(got), tc.want)
		}
	}
	if message(nil) != nil || *message(errors.New("x")) != "x" {
		t.Error("message")
	}
}

// Each error stands for one code, and none of the table's errors is hidden behind another.
func TestCodesAreUnique(t *testing.T) {
	for i := range errorCodes {
		if got := code(errorCodes[i].err); got != int16(errorCodes[i].code) {
			t.Errorf("%v is hidden behind another row: %v", errorCodes[i].err, kafkaproto.Code(got))
		}
	}
}
