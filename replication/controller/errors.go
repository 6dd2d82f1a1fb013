package controller

import (
	"errors"
	"fmt"

	"github.com/quorlog/quorlog/replication"
)

// Errors of this package, beside those of package replication.
var (
	// ErrNotController is definite: this node does not lead the metadata group and nothing was changed (NOT_CONTROLLER).
	ErrNotController = errors.New("this node is not the controller")
	// ErrTopicDeletionDisabled: delete.topic.enable is false (TOPIC_DELETION_DISABLED).
	ErrTopicDeletionDisabled = errors.New("deleting topics is disabled (delete.topic.enable)")
	// ErrDirectoryChanged: a node came back with another data directory while replicas are placed on it. It must not vote
	// in their groups, because it has forgotten how it voted.
	ErrDirectoryChanged = errors.New("the node has another data directory than before")
	// ErrOlderCopy: a node's data directory was put back to an earlier state. It has forgotten what it has acknowledged since, and how
	// it voted.
	ErrOlderCopy = errors.New("the data directory is an older copy of itself")
	// ErrDuplicateNode: a node wants to register with a directory that is not the node's, whose own is in use
	// (DUPLICATE_BROKER_REGISTRATION).
	ErrDuplicateNode = errors.New("another node with this id is alive")
	// ErrUnknownNode: no node has this id (BROKER_ID_NOT_REGISTERED).
	ErrUnknownNode = errors.New("no such node")
	// ErrNodeInUse: a node that is alive or holds replicas is not unregistered (INVALID_REQUEST).
	ErrNodeInUse = errors.New("the node is in use")
	// ErrNoReassignment: there is nothing to call off (NO_REASSIGNMENT_IN_PROGRESS).
	ErrNoReassignment = errors.New("no reassignment is under way")
	// ErrOtherCluster: the cluster has another id than the one that it was to be given.
	ErrOtherCluster = errors.New("the cluster has another id")
	// ErrTooNew: a command or a snapshot needs a newer version of this program.
	ErrTooNew = errors.New("written by a newer version")
	// ErrDamaged: a command or a snapshot is not what was written.
	ErrDamaged = errors.New("damaged metadata")

	// errConflict: the state moved between the look at it and the command. The command had no effect; look again.
	errConflict = errors.New("changed by somebody else at the same time")
)

// failf is an error of a kind, with what it is about.
func failf(kind error, format string, args ...any) error {
	return fmt.Errorf("%w: %s", kind, fmt.Sprintf(format, args...))
}

func invalidConfig(err error) error { return fmt.Errorf("%w: %w", replication.ErrInvalidConfig, err) }
