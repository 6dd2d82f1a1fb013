package api

import (
	"context"

	"github.com/quorlog/quorlog/broker/auth"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/replication/controller"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// AlterUserScramCredentials, key 51, version 0 (KIP-554), flexible.
//
// It brings the password salted; what is kept of it is too little to log in with. Either all changes of a user are made or none,
// and a user with an error is no hindrance for the others. Iterations are 4096 to 16384. Several mechanisms of one user may be
// changed together, which Kafka answers DUPLICATE_RESOURCE; the same one twice is that here too.
var alterUserScramCredentialsRow = Row{
	Key: kafkaproto.KeyAlterUserScramCredentials, Min: 0, Max: 0, AdvertisedMin: 0, Handler: handler(handleAlterUserScramCredentials),
}

func handleAlterUserScramCredentials(ctx context.Context, a *API, _ *Request, q *kmsg.AlterUserSCRAMCredentialsRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrAlterUserSCRAMCredentialsResponse()
	changes := make([]auth.UserChange, 0, len(q.Deletions)+len(q.Upsertions))
	for i := range q.Deletions {
		d := &q.Deletions[i]
		changes = append(changes, auth.UserChange{User: d.Name, Mechanism: scramMechanism(d.Mechanism), Remove: true})
	}
	for i := range q.Upsertions {
		u := &q.Upsertions[i]
		changes = append(changes, auth.UserChange{
			User: u.Name, Mechanism: scramMechanism(u.Mechanism), Iterations: int(u.Iterations), Salt: u.Salt, SaltedPassword: u.SaltedPassword,
		})
	}
	for _, done := range a.Users.Alter(ctx, changes) {
		result := kmsg.NewAlterUserSCRAMCredentialsResponseResult()
		result.User, result.ErrorCode, result.ErrorMessage = done.Name, code(done.Err), message(done.Err)
		resp.Results = append(resp.Results, result)
	}
	return resp, nil
}

// scramMechanism reads a mechanism; 0, which is none, for numbers that can't be one.
func scramMechanism(number int8) controller.Mechanism { return controller.Mechanism(max(number, 0)) }
