package graph

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/iampolicy"
)

// awsStacks are the stacks on AWS.
var awsStacks = []string{"prod", "staging"}

// onEach runs a test on the recording of each stack on AWS.
func onEach(t *testing.T, test func(t *testing.T, stack string, g *Graph)) {
	t.Helper()
	for _, stack := range awsStacks {
		t.Run(stack, func(t *testing.T) { test(t, stack, unchanged(t, stack, Update)) })
	}
}

// ofType lists the resources of a type without its provider and module, such as "LoadBalancer".
func ofType(g *Graph, name string) []*Resource {
	var found []*Resource
	for _, r := range g.Resources {
		if r.Custom && strings.HasPrefix(r.Type, "aws:") && strings.HasSuffix(r.Type, ":"+name) {
			found = append(found, r)
		}
	}
	return found
}

func TestEachTierIsInThreeAvailabilityZones(t *testing.T) {
	onEach(t, func(t *testing.T, _ string, g *Graph) {
		tiers := map[string]map[any]bool{}
		for _, r := range ofType(g, "Subnet") {
			zone := r.Object()["availabilityZone"]
			tier := strings.TrimSuffix(r.Name, "-"+fmt.Sprint(zone))
			if tiers[tier] == nil {
				tiers[tier] = map[any]bool{}
			}
			tiers[tier][zone] = true
			assert.NotEqual(t, true, r.Object()["mapPublicIpOnLaunch"], r.Name)
		}
		assert.Len(t, tiers, 7, "public, firewall, and the five zones: %v", tiers)
		for tier, zones := range tiers {
			assert.Len(t, zones, 3, tier)
		}
	})
}

// A Multi-AZ DB cluster is a writer and two readable standbys, one in each of the subnet group's availability zones (RDS User Guide,
// "Multi-AZ DB cluster deployments"); what makes it one is the instance class at the cluster.
func TestTheDatabaseIsAWriterAndTwoStandbys(t *testing.T) {
	onEach(t, func(t *testing.T, _ string, g *Graph) {
		clusters := g.withPrefix("aws:rds/cluster:")
		require.Len(t, clusters, 1)
		c := clusters[0].Object()
		assert.Equal(t, "postgres", c["engine"])
		assert.NotEmpty(t, c["dbClusterInstanceClass"])
		assert.Equal(t, true, c["iamDatabaseAuthenticationEnabled"])
		assert.Equal(t, true, c["storageEncrypted"])
		assert.Equal(t, true, c["manageMasterUserPassword"])
		groups := g.withPrefix("aws:rds/subnetGroup:")
		require.Len(t, groups, 1)
		assert.Len(t, groups[0].Object()["subnetIds"], 3)
	})
}

func (g *Graph) withPrefix(prefix string) []*Resource {
	var found []*Resource
	for _, r := range g.Resources {
		if strings.HasPrefix(r.Type, prefix) {
			found = append(found, r)
		}
	}
	return found
}

func TestNothingIsPublicButTheEdge(t *testing.T) {
	onEach(t, func(t *testing.T, _ string, g *Graph) {
		outside := 0
		for _, r := range ofType(g, "Route") {
			if gateway := fmt.Sprint(r.Object()["gatewayId"]); strings.HasPrefix(gateway, "igw-") {
				outside++
				assert.Contains(t, r.Name, "public", "the way to the internet gateway")
			}
			assert.Nil(t, r.Object()["natGatewayId"], r.Name)
		}
		assert.Equal(t, 3, outside, "one route to the internet for each public subnet")
		public := []string{}
		for _, r := range ofType(g, "LoadBalancer") {
			if r.Object()["internal"] != true {
				public = append(public, r.Name)
			}
		}
		assert.Equal(t, []string{"edge-alb"}, public)
		for _, r := range ofType(g, "SecurityGroupIngressRule") {
			if r.Object()["cidrIpv4"] == "0.0.0.0/0" || r.Object()["cidrIpv6"] == "::/0" {
				assert.Contains(t, r.Name, "edge-balancer")
				assert.EqualValues(t, 443, r.Object()["fromPort"], r.Name)
				assert.EqualValues(t, 443, r.Object()["toPort"], r.Name)
			}
		}
		for _, r := range g.withPrefix("aws:eks/cluster:") {
			vpc := dig(r.Object(), "vpcConfig")
			assert.Equal(t, true, dig(vpc, "endpointPrivateAccess"))
			assert.Equal(t, false, dig(vpc, "endpointPublicAccess"))
		}
		for _, r := range ofType(g, "LaunchTemplate") {
			assert.Equal(t, "required", dig(r.Object(), "metadataOptions", "httpTokens"), r.Name)
			assert.EqualValues(t, 1, dig(r.Object(), "metadataOptions", "httpPutResponseHopLimit"), r.Name)
		}
		blocked := len(ofType(g, "BucketPublicAccessBlock"))
		assert.Equal(t, len(ofType(g, "BucketV2")), blocked, "every bucket blocks public access")
	})
}

// keyUse says which class of data the resources of a type may encrypt, for all types that name a key.
var keyUse = map[string][]string{
	"aws:rds/cluster:Cluster":                   {"database", "credentials"},
	"aws:eks/cluster:Cluster":                   {"secrets"},
	"aws:ec2/launchTemplate:LaunchTemplate":     {"disk"},
	"kubernetes:storage.k8s.io/v1:StorageClass": {"disk"},
	"aws:cloudwatch/logGroup:LogGroup":          {"logs"},
	"aws:s3/bucketServerSideEncryptionConfigurationV2:BucketServerSideEncryptionConfigurationV2": {"audit"},
	"aws:s3/bucketPolicy:BucketPolicy":                       {"audit"},
	"aws:s3/bucketReplicationConfig:BucketReplicationConfig": {"audit"},
	"aws:cloudtrail/trail:Trail":                             {"audit"},
	"aws:backup/vault:Vault":                                 {"backup"},
	"aws:sns/topic:Topic":                                    {"notification"},
	"aws:networkfirewall/firewall:Firewall":                  {},
}

var keyName = regexp.MustCompile(`:key/keys-([a-z]+?)(-backup)?(?:"|$|[^a-z-])`)

func TestNoKeyServesTwoClassesOfData(t *testing.T) {
	onEach(t, func(t *testing.T, _ string, g *Graph) {
		used := map[string]bool{}
		for _, r := range g.Resources {
			// Roles and keys' own aliases and policies name keys and encrypt nothing.
			if !r.Custom || strings.HasPrefix(r.Type, "aws:kms/") || strings.HasPrefix(r.Type, "aws:iam/") {
				continue
			}
			for _, m := range keyName.FindAllStringSubmatch(fmt.Sprint(r.Object())+" ", -1) {
				used[m[1]] = true
				assert.Contains(t, keyUse[r.Type], m[1], "%s encrypts with the key of another class", r)
			}
		}
		for _, class := range []string{"database", "credentials", "secrets", "disk", "audit", "backup", "notification", "logs"} {
			assert.True(t, used[class], "the key of %s is used by nothing", class)
		}
	})
}

// wildcards are the places where a policy may say "*", with the reason. The name is that of the resource, the sid the statement's.
var wildcards = []struct{ typ, name, sid, why string }{
	{"Key", ".*", ".*", "the resource of a key's policy is the key itself"},
	{"BucketPolicy", ".*", "DenyPlaintext|DenyOldTLS", "denies everything that comes without TLS"},
	{"VaultPolicy", ".*", "DenyDeletion", "denies, and the resource of a vault's policy is the vault"},
	{"VpcEndpoint", ".*", "OwnPrincipals|OwnPrincipalsOwnResources|Pull", "an endpoint narrows what principals of the account may do already, to the account"},
	{"RolePolicy", "cluster-control-plane-policy", "ReadNetwork", "EC2's Describe actions take no resource"},
	{"RolePolicy", "spire-server-role-policy", "MakeOwnKeys", "a key that is not there yet has no name; conditions hold its tags and kind"},
	{"RolePolicy", "spire-server-role-policy", "FindKeys", "ListAliases and GetResources take no resource"},
}

func TestPoliciesAreValidAndWildcardsAreExceptions(t *testing.T) {
	onEach(t, func(t *testing.T, _ string, g *Graph) {
		seen, used := 0, map[int]bool{}
		for _, r := range g.Resources {
			if !r.Custom || !strings.HasPrefix(r.Type, "aws:") {
				continue
			}
			typ := r.Type[strings.LastIndex(r.Type, ":")+1:]
			walk(resource.NewProperty(r.Inputs), "", func(path string, v resource.PropertyValue) bool {
				if !v.IsString() || path == "ruleJson" || !strings.Contains(v.StringValue(), `"Statement"`) { // rules of the firewall have statements too
					return true
				}
				seen++
				for _, err := range iampolicy.Validate(v.StringValue()) {
					t.Errorf("%s %s: %v", r, path, err)
				}
				for sid, statement := range iampolicy.Statements(v.StringValue()) {
					if !anywhere(statement["Action"]) && !anywhere(statement["Resource"]) {
						continue
					}
					i := slices.IndexFunc(wildcards, func(w struct{ typ, name, sid, why string }) bool {
						return w.typ == typ && regexp.MustCompile("^("+w.name+")$").MatchString(r.Name) && regexp.MustCompile("^("+w.sid+")$").MatchString(sid)
					})
					used[i] = true
					assert.GreaterOrEqual(t, i, 0, "%s, statement %s says * and is no exception", r, sid)
				}
				return true
			})
		}
		assert.Greater(t, seen, 40, "policies")
		for i, w := range wildcards {
			assert.True(t, used[i], "the exception of %s %s %s is used by nothing", w.typ, w.name, w.sid)
		}
	})
}

// anywhere says whether actions or resources hold "*" or all of a service.
func anywhere(v any) bool {
	return slices.ContainsFunc(iampolicy.Texts(v), func(text string) bool {
		return text == "*" || strings.HasSuffix(text, ":*") && strings.Count(text, ":") == 1
	})
}

// stateful are the types whose loss is a loss of data, of keys, or of everything that stands on them.
var stateful = []string{
	"aws:rds/cluster:Cluster", "aws:kms/key:Key", "aws:acmpca/certificateAuthority:CertificateAuthority", "aws:eks/cluster:Cluster",
	"aws:s3/bucketV2:BucketV2", "aws:cloudtrail/trail:Trail", "aws:backup/vault:Vault", "aws:ec2/vpc:Vpc",
}

func TestProductionRefusesToLoseState(t *testing.T) {
	onEach(t, func(t *testing.T, stack string, g *Graph) {
		for _, typ := range stateful {
			resources := g.withPrefix(typ)
			assert.NotEmpty(t, resources, typ)
			for _, r := range resources {
				assert.Equal(t, stack == "prod", r.Protect, "%s protect", r)
			}
		}
		for _, r := range g.withPrefix("aws:s3/bucketObjectLockConfigurationV2:") {
			mode := dig(r.Object(), "rule", "defaultRetention", "mode")
			assert.Equal(t, map[string]any{"prod": "COMPLIANCE", "staging": "GOVERNANCE"}[stack], mode, r.Name)
		}
		for _, r := range ofType(g, "LogGroup") {
			assert.NotEmpty(t, r.Object()["kmsKeyId"], r.Name)
			assert.NotZero(t, r.Object()["retentionInDays"], r.Name)
		}
	})
}

// Production and staging share nothing: no account, no address, no trust domain.
func TestStacksAreApart(t *testing.T) {
	for _, stack := range awsStacks {
		for _, other := range awsStacks {
			if other == stack {
				continue
			}
			for _, r := range unchanged(t, stack, Update).Resources {
				assert.NotContains(t, fmt.Sprint(r.Object()), other+".company.com", "%s of %s", r, stack)
			}
		}
	}
	vpcs := map[any]string{}
	for _, stack := range awsStacks {
		for _, r := range unchanged(t, stack, Update).withPrefix("aws:ec2/vpc:") {
			assert.Empty(t, vpcs[r.Object()["cidrBlock"]], "two stacks have the same addresses")
			vpcs[r.Object()["cidrBlock"]] = stack
		}
	}
}

// What a stack's configuration says of keys that exist reaches what encrypts with them.
func TestExistingKeysAreUsed(t *testing.T) {
	const arn = "arn:aws:kms:eu-central-1:111122223333:key/00000000-0000-4000-8000-000000000000"
	g := record(t, "prod", Update, map[string]string{"keyARNs": "audit=" + arn})
	for _, r := range ofType(g, "Key") {
		assert.NotEqual(t, "keys-audit", r.Name)
	}
	trails := g.withPrefix("aws:cloudtrail/trail:")
	require.Len(t, trails, 1)
	assert.Equal(t, arn, trails[0].Object()["kmsKeyId"])
}
