package franzgo

// What the suite asks for, in the versions that it asks for.
var (
	consumerGroups = need{68, 1}
	scramUsers     = need{51, 0}
)

// exceptions are the suite's tests that do not pass against us, each with its reason.
var exceptions = map[string]exception{
	"TestIssueProduceBrokerTooOldFailsRecords": {outcome: skipped, why: "it needs a broker without Produce 0-2; ours advertises them, as clients of librdkafka ask"},
	"TestSCRAMAuth":               {skipped, scramUsers, "it needs SCRAM"},
	"TestSCRAMAuthBadCredentials": {skipped, scramUsers, "it needs SCRAM"},

	"TestTxnEtl/range/848":         {skipped, consumerGroups, "it needs KIP-848"},
	"TestTxnEtl/sticky/848":        {skipped, consumerGroups, "it needs KIP-848"},
	"TestTxnEtl/sticky/848/static": {skipped, consumerGroups, "it needs KIP-848"},

	"Test848RegexBrokerResolves":     {skipped, consumerGroups, "it needs KIP-848"},
	"TestGroupETL/range/848":         {skipped, consumerGroups, "it needs KIP-848"},
	"TestGroupETL/sticky/848":        {skipped, consumerGroups, "it needs KIP-848"},
	"TestGroupETL/sticky/848/static": {skipped, consumerGroups, "it needs KIP-848"},
	"TestGroupSimple/848":            {skipped, consumerGroups, "it needs KIP-848"},
}
