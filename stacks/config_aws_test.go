package stacks

import (
	"fmt"
	"maps"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// parseAWS parses a good configuration of the platform aws with the given changes; an empty value removes a key.
func parseAWS(t *testing.T, changes map[string]string) (*Config, error) {
	t.Helper()
	values := map[string]string{
		"platform":           "aws",
		"kubeconfig":         "",
		"region":             "eu-central-1",
		"backupRegion":       "eu-west-1",
		"accountID":          "111122223333",
		"administrators":     "arn:aws:iam::111122223333:role/deployer",
		"edgeCertificateARN": "arn:aws:acm:eu-central-1:111122223333:certificate/00000000-0000-4000-8000-000000000000",
		"databaseCAFile":     written(t, "cas.pem", "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"),
	}
	maps.Copy(values, changes)
	return parse(t, values)
}

func TestParseAWS(t *testing.T) {
	c, err := parseAWS(t, nil)
	require.NoError(t, err)
	assert.Equal(t, []string{"eu-central-1a", "eu-central-1b", "eu-central-1c"}, c.AWS.AvailabilityZones)
	assert.Equal(t, "10.0.0.0/16", c.AWS.VPC.String())
	assert.Empty(t, c.AWS.PublicAccessCIDRs, "nobody reaches the API from outside unless said")
	assert.Equal(t, Profiles["production"], c.Profile)
}

func TestEveryProfileIsConsistentOnAWS(t *testing.T) {
	for name := range Profiles {
		_, err := parseAWS(t, map[string]string{"profile": name})
		assert.NoError(t, err, name)
	}
}

const someKey = "arn:aws:kms:eu-central-1:111122223333:key/00000000-0000-4000-8000-000000000000"

// Each is refused with one message that names the key, the value and what is allowed.
func TestParseAWSRefuses(t *testing.T) {
	for name, bad := range map[string]struct {
		changes map[string]string
		parts   []string
	}{
		"overlapping ranges":            {map[string]string{"vpcCIDR": "172.20.0.0/16"}, []string{"ephemos:serviceCIDR", "172.20.0.0/16", "ephemos:vpcCIDR"}},
		"range of another network":      {map[string]string{"reservedCIDRs": "10.0.128.0/20"}, []string{"ephemos:vpcCIDR", "10.0.0.0/16", "10.0.128.0/20"}},
		"two zones":                     {map[string]string{"availabilityZones": "eu-central-1a,eu-central-1b"}, []string{"ephemos:availabilityZones", "three or four"}},
		"a zone twice":                  {map[string]string{"availabilityZones": "eu-central-1a,eu-central-1b,eu-central-1b"}, []string{"ephemos:availabilityZones", "different"}},
		"zones of another region":       {map[string]string{"availabilityZones": "eu-west-1a,eu-west-1b,eu-west-1c"}, []string{"ephemos:availabilityZones", "eu-central-1"}},
		"no audit retention":            {map[string]string{"auditRetentionDays": "0"}, []string{"ephemos:auditRetentionDays", `"0"`, "1 to 36500"}},
		"no backup retention":           {map[string]string{"backupRetentionDays": "0"}, []string{"ephemos:backupRetentionDays", `"0"`, "1 to 35"}},
		"no log retention":              {map[string]string{"logRetentionDays": "0"}, []string{"ephemos:logRetentionDays", `"0"`, "365"}},
		"key of another region":         {map[string]string{"keyARNs": "audit=arn:aws:kms:us-east-1:111122223333:key/00000000-0000-4000-8000-000000000000"}, []string{"ephemos:keyARNs", "us-east-1", "eu-central-1"}},
		"key of another account":        {map[string]string{"keyARNs": "audit=arn:aws:kms:eu-central-1:999999999999:key/00000000-0000-4000-8000-000000000000"}, []string{"ephemos:keyARNs", "999999999999", "111122223333"}},
		"one key for two classes":       {map[string]string{"keyARNs": "audit=" + someKey + ",backup=" + someKey}, []string{"ephemos:keyARNs", "audit", "backup"}},
		"key of no class":               {map[string]string{"keyARNs": "everything=" + someKey}, []string{"ephemos:keyARNs", "everything", "database"}},
		"production with force-destroy": {map[string]string{"forceDestroy": "true"}, []string{"ephemos:forceDestroy", "true", "ephemos:protect"}},
		"one region":                    {map[string]string{"backupRegion": "eu-central-1"}, []string{"ephemos:backupRegion", "another region"}},
		"public address":                {map[string]string{"vpcCIDR": "8.8.0.0/16"}, []string{"ephemos:vpcCIDR", "8.8.0.0/16", "private"}},
		"host bits":                     {map[string]string{"vpcCIDR": "10.0.0.1/16"}, []string{"ephemos:vpcCIDR", "10.0.0.1/16"}},
		"too small":                     {map[string]string{"vpcCIDR": "10.0.0.0/24"}, []string{"ephemos:vpcCIDR", "/16 to /20"}},
		"the API open to everybody":     {map[string]string{"publicAccessCIDRs": "0.0.0.0/0"}, []string{"ephemos:publicAccessCIDRs", "0.0.0.0/0"}},
		"certificate elsewhere":         {map[string]string{"edgeCertificateARN": "arn:aws:acm:us-east-1:111122223333:certificate/00000000-0000-4000-8000-000000000000"}, []string{"ephemos:edgeCertificateARN", "us-east-1", "eu-central-1"}},
		"nobody administers":            {map[string]string{"administrators": ""}, []string{"ephemos:administrators is not set"}},
		"no account":                    {map[string]string{"accountID": ""}, []string{"ephemos:accountID is not set"}},
		"short account":                 {map[string]string{"accountID": "12345"}, []string{"ephemos:accountID", "12345"}},
		"a role of everybody":           {map[string]string{"administrators": "*"}, []string{"ephemos:administrators", `"*"`}},
		"too few operations":            {map[string]string{"databaseStorageGiB": "10000"}, []string{"ephemos:databaseIOPS", "3000", "10000"}},
		"short-lived CA, long CA":       {map[string]string{"caUsage": "SHORT_LIVED_CERTIFICATE", "caTTL": "240h"}, []string{"ephemos:caTTL", "240h", "168h"}},
		"a kubeconfig":                  {map[string]string{"kubeconfig": "/home/me/.kube/config"}, []string{"ephemos:kubeconfig", "no value unless ephemos:platform is kubernetes"}},
		"no file of CAs":                {map[string]string{"databaseCAFile": "/does/not/exist"}, []string{"ephemos:databaseCAFile", "/does/not/exist", "no such file"}},
		"no mail address":               {map[string]string{"securityContacts": "everyone"}, []string{"ephemos:securityContacts", "everyone"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseAWS(t, bad.changes)
			require.Error(t, err)
			lines := messages(t, err)
			require.Len(t, lines, 1, "one message")
			for _, part := range bad.parts {
				assert.Contains(t, lines[0], part)
			}
		})
	}
}

// One message each, whether the value would be good there or not.
func TestKeysOfAnotherPlatformAreRefused(t *testing.T) {
	for name, value := range map[string]string{"accountID": "111122223333", "region": "Frankfurt"} {
		_, err := parse(t, map[string]string{name: value})
		require.Error(t, err)
		assert.Equal(t, []string{fmt.Sprintf("ephemos:%s: %q is refused: it takes no value unless ephemos:platform is aws", name, value)}, messages(t, err))
	}
	_, err := parseAWS(t, map[string]string{"podCIDR": "everywhere"})
	require.Error(t, err)
	assert.Equal(t, []string{`ephemos:podCIDR: "everywhere" is refused: it takes no value unless ephemos:platform is kubernetes`}, messages(t, err))
}

func TestAPlatformThatDoesNotExistIsOneMistake(t *testing.T) {
	_, err := parse(t, map[string]string{"platform": "AWS", "kubeconfig": "", "region": "eu-central-1"})
	require.Error(t, err)
	assert.Equal(t, []string{`ephemos:platform: "AWS" is refused: it takes kubernetes or aws`}, messages(t, err))
}

// The Pulumi CLI hands the program every default of Pulumi.yaml as if it were set.
func TestDefaultsOfOtherPlatformsAreNotRefused(t *testing.T) {
	defaults := map[string]string{}
	for _, k := range keys {
		if k.def != "" && k.name != keyPlatform {
			defaults[k.name] = k.def
		}
	}
	_, err := parse(t, defaults)
	require.NoError(t, err)
	_, err = parseAWS(t, defaults)
	require.NoError(t, err)
}
