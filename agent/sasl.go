package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/auth"
	"github.com/quorlog/quorlog/internal/config"
	"github.com/quorlog/quorlog/replication/controller"
)

const (
	// maxUsersFile bounds a file of users, in bytes.
	maxUsersFile = 64 << 10
	// forOthers are the bits of a file's mode that no file with passwords should have; the group may read (as in internal/config).
	forOthers = 0o027
)

// ErrUsersFile means that the file of the first users can't be used.
var ErrUsersFile = errors.New("the file of the first users can't be used")

// logins are what authenticates clients, by the names of the listeners that want it; nil until the node knows.
type logins struct {
	atomic.Pointer[map[string]*auth.SASL]
}

// openSASL makes what authenticates the clients of each listener that wants it, by the listeners' names.
func openSASL(a *Agent) (map[string]*auth.SASL, error) {
	out := map[string]*auth.SASL{}
	users := auth.NewDirectory(a.controller, a.turns.Line())
	for _, p := range a.ports.all {
		if !p.SASL {
			continue
		}
		s, err := auth.NewSASL(auth.SASLOptions{
			Users: users, Mechanisms: config.Elements(a.layers.Get(config.Broker, "sasl.enabled.mechanisms")),
			TLS: p.TLS, PlainOnLoopback: a.layers.Bool("quorlog.sasl.plain.on.loopback"),
			Lifetime:     a.layers.Duration("connections.max.reauth.ms"),
			FailureDelay: a.layers.Duration("connection.failed.authentication.delay.ms"),
			Now:          a.config.Now, Logger: a.levels.Logger("auth"),
		})
		if err != nil {
			return nil, fmt.Errorf("listener %s: %w", p.Name, err)
		}
		out[p.Name] = s
	}
	a.logins.Store(&out)
	return out, nil
}

// authenticate makes sure who sends a request by HTTP or gRPC, where its listener has SASL: the user that its Authorization proves
// (auth.SASL.Basic, whose errors these are). Elsewhere the caller is who the connection says.
func (l *logins) authenticate(ctx context.Context, caller broker.Caller, authorization string) (broker.Caller, error) {
	if caller.Principal != "" {
		return caller, nil
	}
	by := l.Load()
	if by == nil {
		return broker.Caller{}, errStarting
	}
	login := (*by)[caller.Listener]
	if login == nil {
		return broker.Caller{}, auth.ErrNoPasswords
	}
	var err error
	caller.Principal, err = login.Basic(ctx, caller.Host, authorization)
	return caller, err
}

// foundUsers makes the first users of a new cluster, before any client is served. The nodes that begin it together have the same
// file, and the first one's counts.
func foundUsers(ctx context.Context, a *Agent) error {
	path := a.node.BootstrapUsersFile
	if path == "" || len(a.controller.Image().UsersSecret) > 0 {
		return nil
	}
	users, warning, err := readUsers(path)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrUsersFile, path, err)
	}
	if warning != "" {
		a.logger.Warn(warning)
	}
	made, err := auth.NewUsers(controller.NewUsers(a.controller)).Found(ctx, users)
	if err != nil {
		return fmt.Errorf("the first users: %w", err)
	}
	if made {
		a.logger.Info("the first users are made", "count", len(users), "file", path)
	}
	return nil
}

func readUsers(path string) (users []auth.NewUser, warning string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, "", err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxUsersFile+1))
	if err != nil {
		return nil, "", err
	}
	if len(text) > maxUsersFile {
		return nil, "", fmt.Errorf("more than %d bytes", maxUsersFile)
	}
	if mode := info.Mode().Perm(); mode&forOthers != 0 {
		warning = fmt.Sprintf("others than the owner and its group may read passwords: %s has mode %04o (chmod 640)", path, mode)
	}
	users, err = auth.ParseUsers(string(text))
	return users, warning, err
}
