package agent

import (
	"encoding/json"
	"fmt"

	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"
)

// The calls between nodes that are not yet in one cluster. They are few and small, so they are JSON: unknown fields of a later
// version are ignored, missing ones are zero.
const (
	// joinPromise asks for a promise: promiseRequest, promiseAnswer.
	joinPromise = "join.promise"
	// joinState asks how far a node is: no body, stateAnswer.
	joinState = "join.state"
	// joinRegister has a member of a cluster take the node in: registerRequest, registerAnswer.
	joinRegister = "join.register"

	// maxJoinBody bounds a body, in bytes. The largest holds a host name, a rack and a version.
	maxJoinBody = 16 << 10
)

type promiseRequest struct {
	Promise promise `json:"promise"`
	Expect  int     `json:"expect"`
}

type promiseAnswer struct {
	Refused   string `json:"refused,omitempty"` // why; empty: promised
	ClusterID string `json:"cluster_id,omitempty"`
}

type stateAnswer struct {
	Node      replication.NodeID `json:"node"`
	Directory directoryID        `json:"directory"`
	State     belonging          `json:"state"`
	ClusterID string             `json:"cluster_id,omitempty"`
	Candidacy string             `json:"candidacy,omitempty"` // the cluster id that the node is the candidate for
}

type registerRequest struct {
	Node      replication.NodeID       `json:"node"`
	Host      string                   `json:"host"`
	Port      int32                    `json:"port"`
	Rack      string                   `json:"rack,omitempty"`
	Endpoints []replication.Endpoint   `json:"endpoints,omitempty"`
	Directory directoryID              `json:"directory"`
	Version   string                   `json:"version,omitempty"`
	Running   *replication.Incarnation `json:"running,omitempty"`
	Start     controller.StartID       `json:"start,omitempty"`
	Earlier   []controller.StartID     `json:"earlier_starts,omitempty"`
	Forgone   controller.StartID       `json:"forgone_start,omitempty"`
}

// refusal sorts why a node was not taken in.
type refusal string

const (
	notRefused   refusal = ""
	notReady     refusal = "not_ready"      // try again, or another node
	duplicateID  refusal = "duplicate_node" // another node with the id is alive
	olderCopy    refusal = "older_copy"     // the directory was put back to an earlier state; see registerAnswer.Forgotten
	neverAllowed refusal = "refused"        // trying again does not help
)

type registerAnswer struct {
	Refused     refusal                 `json:"refused,omitempty"`
	Text        string                  `json:"text,omitempty"`
	ClusterID   string                  `json:"cluster_id,omitempty"`
	Incarnation replication.Incarnation `json:"incarnation"`
	Renewed     bool                    `json:"renewed,omitempty"`
	Forgotten   controller.StartID      `json:"forgotten_start,omitempty"`
}

func decodeJoin[T any](body []byte) (out T, err error) {
	if len(body) > maxJoinBody {
		return out, fmt.Errorf("join: a body of %d bytes, %d are allowed", len(body), maxJoinBody)
	}
	if err := json.Unmarshal(body, &out); err != nil {
		return out, fmt.Errorf("join: %w", err)
	}
	return out, nil
}
