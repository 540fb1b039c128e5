package check

import (
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/require"
)

func TestChecks(t *testing.T) {
	var none *int
	for name, c := range map[string]struct {
		err error
		ok  bool
	}{
		"account":               {Account("f", "123456789012"), true},
		"short account":         {Account("f", "12345678901"), false},
		"account of letters":    {Account("f", "12345678901a"), false},
		"region":                {Region("f", "eu-central-1"), true},
		"region of a partition": {Region("f", "us-gov-west-1"), true},
		"zone":                  {Region("f", "eu-central-1a"), false},
		"two regions":           {Regions("f", "eu-central-1", "g", "eu-west-1"), true},
		"same region":           {Regions("f", "eu-central-1", "g", "eu-central-1"), false},
		"no backup region":      {Regions("f", "eu-central-1", "g", ""), false},
		"trust domain":          {TrustDomain("f", "prod.company.com"), true},
		"trust domain with URI": {TrustDomain("f", "spiffe://prod"), false},
		"empty label":           {TrustDomain("f", "prod..com"), false},
		"least":                 {Between("f", 7, 7, 30), true},
		"too little":            {Between("f", 6, 7, 30), false},
		"too much":              {Between("f", 31, 7, 30), false},
		"one of":                {OneOf("f", "a", "a", "b"), true},
		"none of":               {OneOf("f", "c", "a", "b"), false},
		"retention":             {LogRetention("f", 365), true},
		"for ever":              {LogRetention("f", 0), false},
		"odd":                   {LogRetention("f", 366), false},
		"set":                   {Set("f", 1), true},
		"nil":                   {Set("f", nil), false},
		"key":                   {Key("f", pulumi.String("arn:aws:kms:eu-central-1:123456789012:key/1"), "eu-central-1"), true},
		"key that is not known": {Key("f", pulumi.String("x").ToStringOutput(), "eu-central-1"), true},
		"key elsewhere":         {Key("f", pulumi.String("arn:aws:kms:eu-west-1:123456789012:key/1"), "eu-central-1"), false},
		"no key":                {Key("f", nil, "eu-central-1"), false},
		"empty list":            {Set("f", pulumi.StringArray{}), false},
		"nil pointer":           {Set("f", none), false},
	} {
		if c.ok {
			require.NoError(t, c.err, name)
		} else {
			require.ErrorContains(t, c.err, `: "`, name)
		}
	}
}
