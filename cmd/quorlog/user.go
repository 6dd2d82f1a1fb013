package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

func newUser(c *client) *cobra.Command {
	cmd := &cobra.Command{
		Use: "user", Aliases: []string{"users"}, Short: "Add, list and remove the users that log in by a password",
		Long: `Users log in by SCRAM, or by PLAIN over TLS, on listeners with SASL. The cluster keeps what recognises a password, never the
password. A change holds for new logins at once; connections that are logged in stay (connections.max.reauth.ms bounds them).`,
	}
	c.flags(cmd)
	cmd.AddCommand(newUserAdd(c), newUserPassword(c), newUserList(c), newUserRemove(c))
	return cmd
}

// defaultIterations are those of new credentials.
const defaultIterations = 8192

// credentials are how a user is to log in.
type credentials struct {
	mechanisms []string
	iterations int32
	generate   bool
}

var scramMechanisms = map[string]kadm.ScramMechanism{"SCRAM-SHA-256": kadm.ScramSha256, "SCRAM-SHA-512": kadm.ScramSha512}

func (k *credentials) flags(cmd *cobra.Command) {
	cmd.Flags().Int32Var(&k.iterations, "iterations", defaultIterations, "how hard guessing the password from a stolen credential is: 4096 to 16384")
	cmd.Flags().BoolVar(&k.generate, "generate", false, "make a password and print it, instead of reading it from standard input")
}

// upserts reads or makes the password and returns the changes that set it.
func (k *credentials) upserts(user string, stdin io.Reader) (changes []kadm.UpsertSCRAM, password string, err error) {
	if len(k.mechanisms) == 0 {
		return nil, "", withCode(exitUsage, errors.New("--mechanism names none: the user could not log in"))
	}
	if k.generate {
		password = rand.Text()
	} else if password, err = readPassword(stdin); err != nil {
		return nil, "", withCode(exitUsage, fmt.Errorf("standard input: %w", err))
	}
	for _, name := range k.mechanisms {
		m, ok := scramMechanisms[strings.ToUpper(name)]
		if !ok {
			return nil, "", withCode(exitUsage, fmt.Errorf("unknown mechanism %q: use SCRAM-SHA-512 or SCRAM-SHA-256", name))
		}
		changes = append(changes, kadm.UpsertSCRAM{User: user, Mechanism: m, Iterations: k.iterations, Password: password})
	}
	return changes, password, nil
}

func newUserAdd(c *client) *cobra.Command {
	k := &credentials{}
	cmd := &cobra.Command{
		Use:     "add USER",
		Short:   "Add a user, with the password from standard input",
		Example: "  quorlog user add alice < password.txt\n  quorlog user add alice --generate",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.setPassword(cmd, k, args[0], func(found []kadm.ScramMechanism) error {
				if len(found) > 0 {
					return fmt.Errorf("user %s exists; quorlog user password changes it", args[0])
				}
				return nil
			})
		},
	}
	cmd.Flags().StringSliceVar(&k.mechanisms, "mechanism", []string{"SCRAM-SHA-512", "SCRAM-SHA-256"}, "how the user may log in")
	k.flags(cmd)
	return cmd
}

func newUserPassword(c *client) *cobra.Command {
	k := &credentials{}
	cmd := &cobra.Command{
		Use:     "password USER",
		Short:   "Change a user's password to that from standard input",
		Example: "  quorlog user password alice < password.txt",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.setPassword(cmd, k, args[0], func(found []kadm.ScramMechanism) error {
				if len(found) == 0 {
					return fmt.Errorf("there is no user %s; quorlog user add makes one", args[0])
				}
				k.mechanisms = nil
				for _, m := range found {
					k.mechanisms = append(k.mechanisms, m.String())
				}
				return nil
			})
		},
	}
	k.flags(cmd)
	return cmd
}

// setPassword sets the credentials of a user. check is told how the user may log in so far.
func (c *client) setPassword(cmd *cobra.Command, k *credentials, user string, check func([]kadm.ScramMechanism) error) error {
	adm, err := c.admin(cmd.Context())
	if err != nil {
		return err
	}
	defer adm.Close()
	described, err := adm.DescribeUserSCRAMs(cmd.Context(), user)
	if err != nil {
		return err
	}
	if err := described[user].Err; err != nil && !errors.Is(err, kerr.ResourceNotFound) {
		return errors.New(errorText(err, described[user].ErrMessage))
	}
	if err := check(mechanismsOf(described[user])); err != nil {
		return err
	}
	changes, password, err := k.upserts(user, cmd.InOrStdin())
	if err != nil {
		return err
	}
	altered, err := adm.AlterUserSCRAMs(cmd.Context(), nil, changes)
	if err != nil {
		return err
	}
	if one := altered[user]; one.Err != nil {
		return errors.New(errorText(one.Err, one.ErrMessage))
	}
	switch {
	case c.json():
		out := map[string]string{"user": user}
		if k.generate {
			out["password"] = password
		}
		return printJSON(cmd.OutOrStdout(), out)
	case k.generate:
		_, err = fmt.Fprintln(cmd.OutOrStdout(), password) // alone, so that a script can keep it
	default:
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "set the password of %s\n", user)
	}
	return err
}

func mechanismsOf(d kadm.DescribedUserSCRAM) (out []kadm.ScramMechanism) {
	for _, info := range d.CredInfos {
		out = append(out, info.Mechanism)
	}
	return out
}

func newUserList(c *client) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List users",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			adm, err := c.admin(cmd.Context())
			if err != nil {
				return err
			}
			defer adm.Close()
			described, err := adm.DescribeUserSCRAMs(cmd.Context())
			if err != nil {
				return err
			}
			type credential struct {
				Mechanism  string `json:"mechanism"`
				Iterations int32  `json:"iterations"`
			}
			type row struct {
				User        string       `json:"user"`
				Credentials []credential `json:"credentials"`
			}
			rows, text := []row{}, [][]string{}
			for _, d := range described.Sorted() {
				one, shown := row{User: d.User}, []string{}
				for _, info := range d.CredInfos {
					one.Credentials = append(one.Credentials, credential{info.Mechanism.String(), info.Iterations})
					shown = append(shown, fmt.Sprintf("%s (%d)", info.Mechanism, info.Iterations))
				}
				rows, text = append(rows, one), append(text, []string{d.User, strings.Join(shown, ", ")})
			}
			if c.json() {
				return printJSON(cmd.OutOrStdout(), rows)
			}
			return table(cmd.OutOrStdout(), []string{"USER", "MECHANISMS (ITERATIONS)"}, text)
		},
	}
}

func newUserRemove(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "remove USER...", Aliases: []string{"rm"},
		Short: "Remove users",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, names []string) error {
			adm, err := c.admin(cmd.Context())
			if err != nil {
				return err
			}
			defer adm.Close()
			slices.Sort(names)
			names = slices.Compact(names)
			described, err := adm.DescribeUserSCRAMs(cmd.Context(), names...)
			if err != nil {
				return err
			}
			var gone []kadm.DeleteSCRAM
			for _, name := range names {
				for _, m := range mechanismsOf(described[name]) {
					gone = append(gone, kadm.DeleteSCRAM{User: name, Mechanism: m})
				}
			}
			altered := kadm.AlteredUserSCRAMs{}
			if len(gone) > 0 {
				if altered, err = adm.AlterUserSCRAMs(cmd.Context(), gone, nil); err != nil {
					return err
				}
			}
			items := make([]item, len(names))
			for i, name := range names {
				items[i] = item{Name: name, Error: errorText(described[name].Err, described[name].ErrMessage)}
				if a := altered[name]; a.Err != nil {
					items[i].Error = errorText(a.Err, a.ErrMessage)
				}
			}
			return c.report(cmd.OutOrStdout(), "removed", items)
		},
	}
}
