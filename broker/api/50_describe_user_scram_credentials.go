package api

import (
	"context"

	"github.com/quorlog/quorlog/kafkaproto"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeUserScramCredentials, key 50, version 0 (KIP-554), flexible.
//
// Of a credential its mechanism and iterations are told, never the salt or a key. No users named, or null, is all of them. One
// that does not exist is RESOURCE_NOT_FOUND, one that is named twice DUPLICATE_RESOURCE, each for itself.
var describeUserScramCredentialsRow = Row{
	Key: kafkaproto.KeyDescribeUserScramCredentials, Min: 0, Max: 0, AdvertisedMin: 0, Handler: handler(handleDescribeUserScramCredentials),
}

func handleDescribeUserScramCredentials(_ context.Context, a *API, _ *Request, q *kmsg.DescribeUserSCRAMCredentialsRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrDescribeUserSCRAMCredentialsResponse()
	names := make([]string, len(q.Users))
	for i := range q.Users {
		names[i] = q.Users[i].Name
	}
	for _, info := range a.Users.Describe(names) {
		result := kmsg.NewDescribeUserSCRAMCredentialsResponseResult()
		result.User, result.ErrorCode, result.ErrorMessage = info.Name, code(info.Err), message(info.Err)
		for _, c := range info.Credentials {
			credential := kmsg.NewDescribeUserSCRAMCredentialsResponseResultCredentialInfo()
			credential.Mechanism, credential.Iterations = int8(c.Mechanism), int32(c.Iterations)
			result.CredentialInfos = append(result.CredentialInfos, credential)
		}
		resp.Results = append(resp.Results, result)
	}
	return resp, nil
}
