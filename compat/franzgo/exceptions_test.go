package franzgo

// scramUsers is AlterUserScramCredentials.
var scramUsers = need{51, 0}

// exceptions are the suite's tests that do not pass against us, each with its reason.
var exceptions = map[string]exception{
	"TestIssueProduceBrokerTooOldFailsRecords": {outcome: skipped, why: "it needs a broker without Produce 0-2; ours advertises them, as clients of librdkafka ask"},
	"TestSCRAMAuth":               {skipped, scramUsers, "it needs SCRAM"},
	"TestSCRAMAuthBadCredentials": {skipped, scramUsers, "it needs SCRAM"},
}
