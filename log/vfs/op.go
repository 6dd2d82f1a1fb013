package vfs

// Op is a kind of operation, for fault rules, counters and the watchdog.
type Op uint8

// The kinds of operations. OpAny in a rule stands for every kind that changes something.
const (
	OpAny Op = iota
	OpRead
	OpWrite // WriteAt and WriteVec
	OpSync
	OpTruncate
	OpCreate
	OpOpen
	OpRename
	OpRemove // Remove and RemoveAll
	OpSyncDir
	OpMkdir
	OpMap
	OpLock
	numOps
)

var opNames = [numOps]string{
	"any", "read", "write", "sync", "truncate", "create", "open", "rename", "remove", "syncdir", "mkdir", "map", "lock",
}

// String is the operation's name in logs.
func (o Op) String() string {
	if o < numOps {
		return opNames[o]
	}
	return "unknown"
}

// Changes tells whether the operation changes what is, or what will be, on the disk.
func (o Op) Changes() bool {
	switch o {
	case OpWrite, OpSync, OpTruncate, OpCreate, OpRename, OpRemove, OpSyncDir, OpMkdir:
		return true
	}
	return false
}
