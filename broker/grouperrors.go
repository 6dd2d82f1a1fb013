package broker

import "errors"

// Errors of transactional offsets and of groups whose members the broker assigns (KIP-447, KIP-848, KIP-932).
var (
	ErrUnstableOffsetCommit     = errors.New("an open transaction would change the offset")
	ErrFencedMemberEpoch        = errors.New("fenced member epoch")
	ErrStaleMemberEpoch         = errors.New("stale member epoch")
	ErrUnreleasedInstanceID     = errors.New("another member still has the instance id")
	ErrUnsupportedAssignor      = errors.New("unsupported assignor")
	ErrInvalidRegularExpression = errors.New("invalid regular expression")
)
