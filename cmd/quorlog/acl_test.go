package main

import "testing"

func TestACLCommands(t *testing.T) {
	b := startLoginBroker(t, "authorizer=acl", "super.users=User:admin")
	b.quorlog(0, "", "topic", "create", "orders")
	b.has(b.quorlog(0, "", "acl", "add", "--user", "alice", "--operation", "read,write", "--topic", "orders", "--group", "billing"),
		"added allow User:alice read topic literal orders from *")
	b.has(b.quorlog(0, "", "acl", "add", "--user", "*", "--operation", "all", "--topic", "secret-", "--prefixed", "--deny", "--host", "10.0.0.1"),
		"added deny User:* all topic prefixed secret- from 10.0.0.1")
	b.has(b.quorlog(0, "", "acl", "list", "--topic", "orders"), "allow", "User:alice")
	b.has(b.quorlog(0, "", "acl", "list"), "deny", "secret-")
	b.quorlog(exitUsage, "", "acl", "add", "--user", "alice", "--topic", "orders")
	b.quorlog(exitUsage, "", "acl", "add", "--user", "alice", "--topic", "orders", "--operation", "reed")
	b.quorlog(exitFailed, "", "acl", "add", "--user", "alice", "--topic", "orders", "--operation", "read", "--host", "example.org")

	b.quorlog(0, "open sesame\n", "user", "add", "alice")
	t.Setenv("QUORLOG_USER", "alice")
	t.Setenv("QUORLOG_PASSWORD_FILE", file(t, "open sesame\n"))
	b.quorlog(0, "one\n", "produce", "orders")
	b.quorlog(exitFailed, "", "topic", "delete", "orders")
	b.quorlog(exitFailed, "", "acl", "list")

	t.Setenv("QUORLOG_USER", "admin")
	t.Setenv("QUORLOG_PASSWORD_FILE", file(t, "let me in\n"))
	b.has(b.quorlog(0, "", "acl", "remove", "--user", "alice", "--operation", "read,write", "--topic", "orders"), "removed allow User:alice write")
	b.quorlog(exitFailed, "", "acl", "remove", "--user", "alice", "--operation", "write", "--topic", "orders")
	b.quorlog(exitUsage, "", "acl", "remove", "--all")
	b.quorlog(exitUsage, "", "acl", "remove", "--all", "--user", "alice", "--topic", "orders")
	b.has(b.quorlog(0, "", "acl", "remove", "--all", "--user", "alice"), "removed allow User:alice read group literal billing", "removed allow User:alice write group")
	b.has(b.quorlog(0, "", "acl", "list"), "deny", "secret-")
	b.quorlog(exitFailed, "", "acl", "remove", "--all", "--user", "alice")
}
