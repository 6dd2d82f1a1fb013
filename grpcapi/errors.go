package grpcapi

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"

	"github.com/quorlog/quorlog/broker/auth"
	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"
	"github.com/quorlog/quorlog/replication"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
)

// unknownError is the name of Kafka's code for errors without one of their own.
const unknownError = "UNKNOWN_SERVER_ERROR"

// domain is the domain of the ErrorInfo of every error.
const domain = "quorlog"

// codesOf gives the names of Kafka's error codes their codes of gRPC. What is missing here is INVALID_ARGUMENT if its name says
// so, else FAILED_PRECONDITION: all that is worth another try is in the list.
var codesOf = map[string]codes.Code{
	"UNKNOWN_SERVER_ERROR":         codes.Internal,
	"UNKNOWN_TOPIC_OR_PARTITION":   codes.NotFound,
	"UNKNOWN_TOPIC_ID":             codes.NotFound,
	"GROUP_ID_NOT_FOUND":           codes.NotFound,
	"BROKER_ID_NOT_REGISTERED":     codes.NotFound,
	"TOPIC_ALREADY_EXISTS":         codes.AlreadyExists,
	"OFFSET_OUT_OF_RANGE":          codes.OutOfRange,
	"REQUEST_TIMED_OUT":            codes.DeadlineExceeded,
	"CORRUPT_MESSAGE":              codes.DataLoss,
	"NOT_LEADER_OR_FOLLOWER":       codes.Unavailable,
	"LEADER_NOT_AVAILABLE":         codes.Unavailable,
	"OFFSET_NOT_AVAILABLE":         codes.Unavailable,
	"COORDINATOR_NOT_AVAILABLE":    codes.Unavailable,
	"COORDINATOR_LOAD_IN_PROGRESS": codes.Unavailable,
	"NOT_ENOUGH_REPLICAS":          codes.Unavailable,
	"NOT_CONTROLLER":               codes.Unavailable,
	"NOT_COORDINATOR":              codes.Unavailable,
	"KAFKA_STORAGE_ERROR":          codes.Unavailable,
	"MESSAGE_TOO_LARGE":            codes.InvalidArgument,
	"RECORD_LIST_TOO_LARGE":        codes.InvalidArgument,
	"POLICY_VIOLATION":             codes.InvalidArgument,
	"OFFSET_METADATA_TOO_LARGE":    codes.InvalidArgument,
}

func codeOf(reason string) codes.Code {
	if c, ok := codesOf[reason]; ok {
		return c
	}
	switch {
	case strings.HasSuffix(reason, "_AUTHORIZATION_FAILED"):
		return codes.PermissionDenied
	case strings.HasPrefix(reason, "INVALID_") && reason != "INVALID_PRODUCER_EPOCH" && reason != "INVALID_TXN_STATE":
		return codes.InvalidArgument
	}
	return codes.FailedPrecondition
}

// failure is an error of a service as gRPC tells it: its code, its reason, and what the client can do.
func (s *core) failure(err error, details ...protoadapt.MessageV1) error {
	if err == nil {
		return nil
	}
	if _, told := status.FromError(err); told {
		return err
	}
	reason := s.o.Reason(err)
	code, message := codeOf(reason), text(err.Error())
	switch {
	case errors.Is(err, replication.ErrOverloaded):
		code = codes.ResourceExhausted
	case errors.Is(err, context.Canceled):
		code = codes.Canceled
		if s.ctx.Err() != nil {
			return errStopping
		}
	case reason == unknownError, errors.Is(err, replication.ErrStorage):
		// What went wrong inside is the operator's to know: the text may name files.
		s.logger.Warn("a call failed", "reason", reason, "error", err)
		message = "the node failed; its log says why"
	}
	st := status.New(code, message)
	full, detailsErr := st.WithDetails(append([]protoadapt.MessageV1{&errdetails.ErrorInfo{Reason: reason, Domain: domain}}, details...)...)
	if detailsErr != nil {
		return st.Err()
	}
	return full.Err()
}

// part is the same for an error of a part of an answer.
func (s *core) part(err error, l *quorlogv1.NotLeader) *quorlogv1.Error {
	st, _ := status.FromError(s.failure(err))
	out := &quorlogv1.Error{Code: int32(st.Code()), Reason: reasonOf(st), Message: st.Message(), NotLeader: l}
	for _, d := range st.Details() {
		if d, ok := d.(*quorlogv1.NotLeader); ok {
			out.NotLeader = d
		}
	}
	return out
}

// whole makes the error of a call of the error of its only part.
func whole(e *quorlogv1.Error) error {
	st := status.New(codes.Code(e.GetCode()), e.GetMessage())
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{Reason: e.GetReason(), Domain: domain}}
	if e.GetNotLeader() != nil {
		details = append(details, e.GetNotLeader())
	}
	full, err := st.WithDetails(details...)
	if err != nil {
		return st.Err()
	}
	return full.Err()
}

// reasonOf is the name of Kafka's error code in a status; empty if it has none.
func reasonOf(st *status.Status) string {
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == domain {
			return info.GetReason()
		}
	}
	return ""
}

// unproven is the error of a caller who could not prove who it is.
func (s *core) unproven(err error) error {
	code := codes.Unauthenticated
	switch {
	case errors.Is(err, auth.ErrNoPasswords):
		code = codes.PermissionDenied
	case !errors.Is(err, auth.ErrNoCredentials) && !errors.Is(err, auth.ErrAuthentication):
		return s.failure(err)
	}
	return whole(&quorlogv1.Error{Code: int32(code), Reason: "SASL_AUTHENTICATION_FAILED", Message: err.Error()})
}

// notLeader tells where the leader is.
func (s *core) notLeader(ctx context.Context, l replication.Leader) *quorlogv1.NotLeader {
	return &quorlogv1.NotLeader{Leader: int32(l.Node), LeaderEpoch: int32(l.Epoch), Address: s.address(ctx, l.Node)}
}

// address is where clients of the caller's listener reach a node; empty if they can't or it is not known.
func (s *core) address(ctx context.Context, id replication.NodeID) string {
	n, ok := s.o.Admin.Node(id)
	if !ok {
		return ""
	}
	return addressAt(n, callerOf(ctx).Listener)
}

func addressAt(n replication.Node, listener string) string {
	n, ok := n.At(listener)
	if !ok {
		return ""
	}
	return net.JoinHostPort(n.Host, strconv.Itoa(int(n.Port)))
}
