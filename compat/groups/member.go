package groups

import "github.com/quorlog/quorlog/compat/rig"

// member is one process of a group.
type member = rig.Process

// join starts a member; what it prints goes to the history under its number.
func join(h *history, number int, argv []string) (*member, error) {
	return rig.Run(argv, func(line string) { h.line(number, line) })
}
