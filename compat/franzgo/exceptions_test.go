package franzgo

// scramUsers is AlterUserScramCredentials.
var scramUsers = need{51, 0}

// exceptions are the suite's tests that do not pass against us, each with its reason.
var exceptions = map[string]exception{
	"TestIssueProduceBrokerTooOldFailsRecords": {outcome: skipped, why: "it needs a broker without Produce 0-2; ours advertises them, as clients of librdkafka ask"},
	"TestSCRAMAuth":               {skipped, scramUsers, "it needs SCRAM"},
	"TestSCRAMAuthBadCredentials": {skipped, scramUsers, "it needs SCRAM"},
}

// racy are the suite's tests whose own code lets them fail by chance, whatever the broker does. One that fails is run again
// alone, and must pass then.
var racy = map[string]string{
	"Test848RegexBrokerResolves": "it stops when it has seen as many topics as it wants, and counts an internal topic that it does not want: the one it misses may come third",
}

// mostAgain is how often a racy test is run again; by itself it fails about once in five times.
const mostAgain = 5
