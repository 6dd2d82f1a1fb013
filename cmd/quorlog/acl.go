package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func newACL(c *client) *cobra.Command {
	cmd := &cobra.Command{
		Use: "acl", Aliases: []string{"acls"}, Short: "Add, list and remove the rules of who may do what",
		Long: `Rules count on nodes with authorizer=acl. What no rule allows is denied, except to super.users; a rule that denies wins over
all that allow. Who may read, write, delete or alter something may describe it, too.`,
	}
	c.flags(cmd)
	cmd.AddCommand(newACLAdd(c), newACLList(c), newACLRemove(c))
	return cmd
}

// aclRule is one rule, as it is shown.
type aclRule struct {
	Permission string `json:"permission"`
	Principal  string `json:"principal"`
	Host       string `json:"host"`
	Operation  string `json:"operation"`
	Type       string `json:"type"`
	Pattern    string `json:"pattern"`
	Name       string `json:"name"`
}

func (r aclRule) String() string {
	return strings.Join([]string{r.Permission, r.Principal, r.Operation, r.Type, r.Pattern, r.Name, "from", r.Host}, " ")
}

// aclFlags choose rules, or make them.
type aclFlags struct {
	users, principals, operations, topics, groups, txns, hosts []string
	cluster, prefixed, deny                                    bool
}

func (f *aclFlags) flags(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringSliceVar(&f.users, "user", nil, `who: a user's name; a type and a name such as User:alice; or "*" for everybody`)
	fl.StringArrayVar(&f.principals, "principal", nil, `who, where the name has commas in it: "User:CN=alice,O=example"`)
	fl.StringSliceVar(&f.operations, "operation", nil, "what: read, write, create, delete, alter, describe, cluster_action, describe_configs, alter_configs, idempotent_write, all")
	fl.StringSliceVar(&f.topics, "topic", nil, `topics it is about; "*" for all`)
	fl.StringSliceVar(&f.groups, "group", nil, `groups it is about; "*" for all`)
	fl.StringSliceVar(&f.txns, "transactional-id", nil, `transactional ids it is about; "*" for all`)
	fl.BoolVar(&f.cluster, "cluster", false, "it is about the cluster itself")
	fl.StringSliceVar(&f.hosts, "host", nil, "addresses that it holds for; all if not given")
	fl.BoolVar(&f.prefixed, "prefixed", false, "the names are prefixes")
	fl.BoolVar(&f.deny, "deny", false, "deny it instead of allowing it")
}

// principal completes a name.
func principal(name string) string {
	if strings.Contains(name, ":") {
		return name
	}
	return "User:" + name
}

// resources are the types and names that the flags are about.
func (f *aclFlags) resources() (out []kmsg.CreateACLsRequestCreation) {
	add := func(t kmsg.ACLResourceType, pattern kmsg.ACLResourcePatternType, names ...string) {
		for _, name := range names {
			r := kmsg.NewCreateACLsRequestCreation()
			r.ResourceType, r.ResourceName, r.ResourcePatternType = t, name, pattern
			out = append(out, r)
		}
	}
	pattern := kmsg.ACLResourcePatternTypeLiteral
	if f.prefixed {
		pattern = kmsg.ACLResourcePatternTypePrefixed
	}
	add(kmsg.ACLResourceTypeTopic, pattern, f.topics...)
	add(kmsg.ACLResourceTypeGroup, pattern, f.groups...)
	add(kmsg.ACLResourceTypeTransactionalId, pattern, f.txns...)
	if f.cluster {
		add(kmsg.ACLResourceTypeCluster, kmsg.ACLResourcePatternTypeLiteral, "kafka-cluster")
	}
	return out
}

// rules are all combinations of the flags.
func (f *aclFlags) rules() (out []kmsg.CreateACLsRequestCreation, err error) {
	permission, hosts := kmsg.ACLPermissionTypeAllow, f.hosts
	if f.deny {
		permission = kmsg.ACLPermissionTypeDeny
	}
	if len(hosts) == 0 {
		hosts = []string{"*"}
	}
	for _, r := range f.resources() {
		for _, who := range slices.Concat(f.users, f.principals) {
			for _, host := range hosts {
				for _, name := range f.operations {
					one := r
					if one.Operation, err = kmsg.ParseACLOperation(name); err != nil {
						return nil, withCode(exitUsage, fmt.Errorf("unknown operation %q", name))
					}
					one.Principal, one.Host, one.PermissionType = principal(who), host, permission
					out = append(out, one)
				}
			}
		}
	}
	if len(out) == 0 {
		return nil, withCode(exitUsage, errors.New("a rule needs --user, --operation, and one of --topic, --group, --transactional-id and --cluster"))
	}
	return out, nil
}

func newACLAdd(c *client) *cobra.Command {
	f := &aclFlags{}
	cmd := &cobra.Command{
		Use:     "add",
		Short:   "Add rules: one for each combination of the flags",
		Example: "  quorlog acl add --user alice --operation read --topic orders --group billing\n  quorlog acl add --user '*' --operation write --topic secret- --prefixed --deny",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			rules, err := f.rules()
			if err != nil {
				return err
			}
			q := kmsg.NewPtrCreateACLsRequest()
			q.Creations = rules
			resp, err := requestWith(cmd.Context(), c, q.RequestWith)
			if err != nil {
				return err
			}
			items := make([]item, len(resp.Results))
			for i, r := range resp.Results {
				items[i] = item{shownRule(rules[i]).String(), codeText(r.ErrorCode, r.ErrorMessage)}
			}
			return c.report(cmd.OutOrStdout(), "added", items)
		},
	}
	f.flags(cmd)
	return cmd
}

// requestWith sends one request over a client of its own.
func requestWith[R any](ctx context.Context, c *client, send func(context.Context, kmsg.Requestor) (R, error)) (R, error) {
	var none R
	cl, err := c.connect(ctx)
	if err != nil {
		return none, err
	}
	defer cl.Close()
	return send(ctx, (*kgo.Client)(cl))
}

func codeText(code int16, message *string) string {
	if message == nil {
		message = new(string)
	}
	return errorText(kerr.ErrorForCode(code), *message)
}

func shownRule(r kmsg.CreateACLsRequestCreation) aclRule {
	return aclRule{
		strings.ToLower(r.PermissionType.String()), r.Principal, r.Host, strings.ToLower(r.Operation.String()),
		strings.ToLower(r.ResourceType.String()), strings.ToLower(r.ResourcePatternType.String()), r.ResourceName,
	}
}

func newACLList(c *client) *cobra.Command {
	var who, topic, group string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List rules: all, or those that are about something",
		Example: "  quorlog acl list\n  quorlog acl list --topic orders   # literal, by prefix and for all topics",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := kmsg.NewPtrDescribeACLsRequest()
			q.ResourceType, q.ResourcePatternType = kmsg.ACLResourceTypeAny, kmsg.ACLResourcePatternTypeMatch
			q.Operation, q.PermissionType = kmsg.ACLOperationAny, kmsg.ACLPermissionTypeAny
			if who != "" {
				q.Principal = kmsg.StringPtr(principal(who))
			}
			switch {
			case topic != "" && group != "":
				return withCode(exitUsage, errors.New("one of --topic and --group"))
			case topic != "":
				q.ResourceType = kmsg.ACLResourceTypeTopic
			case group != "":
				q.ResourceType = kmsg.ACLResourceTypeGroup
			}
			if name := cmp.Or(topic, group); name != "" {
				q.ResourceName = &name
			}
			resp, err := requestWith(cmd.Context(), c, q.RequestWith)
			if err != nil {
				return err
			}
			if text := codeText(resp.ErrorCode, resp.ErrorMessage); text != "" {
				return errors.New(text)
			}
			return c.showRules(cmd, resp)
		},
	}
	cmd.Flags().StringVar(&who, "user", "", "only rules of this user")
	cmd.Flags().StringVar(&topic, "topic", "", "only rules that are about this topic")
	cmd.Flags().StringVar(&group, "group", "", "only rules that are about this group")
	return cmd
}

func (c *client) showRules(cmd *cobra.Command, resp *kmsg.DescribeACLsResponse) error {
	rules, rows := []aclRule{}, [][]string{}
	for _, r := range resp.Resources {
		for _, a := range r.ACLs {
			one := kmsg.CreateACLsRequestCreation{
				ResourceType: r.ResourceType, ResourceName: r.ResourceName, ResourcePatternType: r.ResourcePatternType,
				Principal: a.Principal, Host: a.Host, Operation: a.Operation, PermissionType: a.PermissionType,
			}
			s := shownRule(one)
			rules, rows = append(rules, s), append(rows, []string{s.Permission, s.Principal, s.Host, s.Operation, s.Type, s.Pattern, s.Name})
		}
	}
	if c.json() {
		return printJSON(cmd.OutOrStdout(), rules)
	}
	return table(cmd.OutOrStdout(), []string{"PERMISSION", "PRINCIPAL", "HOST", "OPERATION", "TYPE", "PATTERN", "NAME"}, rows)
}

func newACLRemove(c *client) *cobra.Command {
	f, all := &aclFlags{}, false
	cmd := &cobra.Command{
		Use: "remove", Aliases: []string{"rm"},
		Short:   "Remove rules: those that add makes with the same flags, or all of somebody",
		Example: "  quorlog acl remove --user alice --operation read --topic orders --group billing\n  quorlog acl remove --user alice --all",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			filters, err := f.filters(all)
			if err != nil {
				return err
			}
			q := kmsg.NewPtrDeleteACLsRequest()
			q.Filters = filters
			resp, err := requestWith(cmd.Context(), c, q.RequestWith)
			if err != nil {
				return err
			}
			var items []item
			for i := range resp.Results {
				r := &resp.Results[i]
				if failed := codeText(r.ErrorCode, r.ErrorMessage); failed != "" || len(r.MatchingACLs) == 0 {
					items = append(items, item{shownFilter(&filters[i]), cmp.Or(failed, "there is no such rule")})
				}
				for j := range r.MatchingACLs {
					m := &r.MatchingACLs[j]
					items = append(items, item{shownMatch(m).String(), codeText(m.ErrorCode, m.ErrorMessage)})
				}
			}
			return c.report(cmd.OutOrStdout(), "removed", items)
		},
	}
	f.flags(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "all rules of --user and --principal, whatever they are about")
	return cmd
}

// filters choose the rules that the flags make, or all of those whom they name.
func (f *aclFlags) filters(all bool) (out []kmsg.DeleteACLsRequestFilter, err error) {
	if all {
		for _, who := range slices.Concat(f.users, f.principals) {
			one := kmsg.NewDeleteACLsRequestFilter()
			one.ResourceType, one.ResourcePatternType = kmsg.ACLResourceTypeAny, kmsg.ACLResourcePatternTypeAny
			one.Operation, one.PermissionType, one.Principal = kmsg.ACLOperationAny, kmsg.ACLPermissionTypeAny, kmsg.StringPtr(principal(who))
			out = append(out, one)
		}
		if len(out) == 0 || len(f.operations)+len(f.resources())+len(f.hosts) > 0 {
			return nil, withCode(exitUsage, errors.New("--all goes with --user or --principal, and with nothing else"))
		}
		return out, nil
	}
	rules, err := f.rules()
	for _, r := range rules {
		one := kmsg.NewDeleteACLsRequestFilter()
		one.ResourceType, one.ResourceName, one.ResourcePatternType = r.ResourceType, kmsg.StringPtr(r.ResourceName), r.ResourcePatternType
		one.Principal, one.Host, one.Operation, one.PermissionType = kmsg.StringPtr(r.Principal), kmsg.StringPtr(r.Host), r.Operation, r.PermissionType
		out = append(out, one)
	}
	return out, err
}

// shownFilter is the rule that a filter chooses, or whose rules it does.
func shownFilter(f *kmsg.DeleteACLsRequestFilter) string {
	if f.ResourceName == nil {
		return "rules of " + *f.Principal
	}
	return shownRule(kmsg.CreateACLsRequestCreation{
		ResourceType: f.ResourceType, ResourceName: *f.ResourceName, ResourcePatternType: f.ResourcePatternType,
		Principal: *f.Principal, Host: *f.Host, Operation: f.Operation, PermissionType: f.PermissionType,
	}).String()
}

func shownMatch(m *kmsg.DeleteACLsResponseResultMatchingACL) aclRule {
	return shownRule(kmsg.CreateACLsRequestCreation{
		ResourceType: m.ResourceType, ResourceName: m.ResourceName, ResourcePatternType: m.ResourcePatternType,
		Principal: m.Principal, Host: m.Host, Operation: m.Operation, PermissionType: m.PermissionType,
	})
}
