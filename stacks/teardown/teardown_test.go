package teardown

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"

	"ephemos.dev/deploy/stacks/inventory"
)

func resource(typ, name string, inputs map[string]any) inventory.Resource {
	return inventory.Resource{URN: name, Type: typ, Name: name, Custom: true, Inputs: inputs}
}

func dependent(typ, name string, on ...string) inventory.Resource {
	r := resource(typ, name, nil)
	r.Dependencies = on
	return r
}

func TestWhatRunsInTheClusterGoesFirst(t *testing.T) {
	child := resource("kubernetes:core/v1:ConfigMap", "config", nil)
	child.Parent = "component"
	p := Plan(inventory.New("test", []inventory.Resource{
		{URN: "component", Type: "ephemos:test:Component", Name: "component", Dependencies: []string{"namespace"}},
		resource("aws:eks/cluster:Cluster", "cluster", nil),
		dependent("pulumi:providers:kubernetes", "provider", "cluster"),
		dependent("kubernetes:core/v1:Namespace", "namespace", "cluster"),
		child,
		dependent("aws:route53/record:Record", "record", "namespace"),
		dependent("aws:route53/healthCheck:HealthCheck", "check", "record"),
	}))
	assert.Equal(t, []string{"namespace", "config"}, p.Kubernetes)
	assert.Equal(t, []string{"record", "check"}, p.Dependents, "what needs something in the cluster goes with it")
	assert.Equal(t, 3, p.Rest, "the cluster and its provider stay until the second phase")
}

func TestFindings(t *testing.T) {
	retain := resource("aws:s3/bucketV2:BucketV2", "x", map[string]any{"objectLockEnabled": true})
	retain.RetainOnDelete = true
	protected := resource("aws:ec2/vpc:Vpc", "x", nil)
	protected.Protect = true
	lock := func(retention map[string]any) map[string]any {
		return map[string]any{"rule": map[string]any{"defaultRetention": retention}}
	}
	type want struct {
		kind Kind
		days int
		text string
	}
	for name, test := range map[string]struct {
		resource inventory.Resource
		want     []want
	}{
		"key":                 {resource("aws:kms/key:Key", "x", map[string]any{"deletionWindowInDays": 7.0}), []want{{Delayed, 7, "disabled at once"}}},
		"key by default":      {resource("aws:kms/key:Key", "x", nil), []want{{Delayed, 30, "disabled at once"}}},
		"replica":             {resource("aws:kms/replicaKey:ReplicaKey", "x", map[string]any{"deletionWindowInDays": 14.0}), []want{{Delayed, 14, "replica"}}},
		"authority":           {resource("aws:acmpca/certificateAuthority:CertificateAuthority", "x", map[string]any{"permanentDeletionTimeInDays": 7.0}), []want{{Delayed, 7, "authority"}}},
		"compliance in years": {resource("aws:s3/bucketObjectLockConfigurationV2:BucketObjectLockConfigurationV2", "x", lock(map[string]any{"mode": "COMPLIANCE", "years": 7.0})), []want{{Stays, 2555, "nobody, the account's owner included"}}},
		"governance in days":  {resource("aws:s3/bucketObjectLockConfigurationV2:BucketObjectLockConfigurationV2", "x", lock(map[string]any{"mode": "GOVERNANCE", "days": 30.0})), []want{{Stays, 30, "s3:BypassGovernanceRetention"}}},
		"lock without rule":   {resource("aws:s3/bucketObjectLockConfigurationV2:BucketObjectLockConfigurationV2", "x", nil), nil},
		"locked bucket":       {resource("aws:s3/bucketV2:BucketV2", "x", map[string]any{"objectLockEnabled": true, "forceDestroy": true}), []want{{Stays, 0, "while it holds an object"}}},
		"full bucket":         {resource("aws:s3/bucketV2:BucketV2", "x", nil), []want{{Stays, 0, "only when it is empty"}}},
		"forced bucket":       {resource("aws:s3/bucketV2:BucketV2", "x", map[string]any{"forceDestroy": true}), nil},
		"retained bucket":     {retain, []want{{Stays, 0, "left in place"}}},
		"vault lock for good": {resource("aws:backup/vaultLockConfiguration:VaultLockConfiguration", "x", map[string]any{"changeableForDays": 3.0, "minRetentionDays": 7.0, "maxRetentionDays": 365.0}), []want{{Stays, 365, "from 3 days after it was made nobody"}}},
		"vault lock":          {resource("aws:backup/vaultLockConfiguration:VaultLockConfiguration", "x", map[string]any{"minRetentionDays": 7.0, "maxRetentionDays": 35.0}), []want{{Stays, 35, "unless somebody who may change the lock"}}},
		"database": {resource("aws:rds/cluster:Cluster", "x", map[string]any{"deletionProtection": true, "finalSnapshotIdentifier": "last", "deleteAutomatedBackups": false, "backupRetentionPeriod": 35.0}),
			[]want{{Blocks, 0, "deletion protection"}, {Stays, 35, "automated backups"}, {Stays, 0, "the snapshot last"}}},
		"database to throw away": {resource("aws:rds/cluster:Cluster", "x", map[string]any{"skipFinalSnapshot": true}), nil},
		"balancer":               {resource("aws:lb/loadBalancer:LoadBalancer", "x", map[string]any{"enableDeletionProtection": true}), []want{{Blocks, 0, "deletion protection"}}},
		"firewall":               {resource("aws:networkfirewall/firewall:Firewall", "x", map[string]any{"deleteProtection": true}), []want{{Blocks, 0, "deletion protection"}}},
		"protected":              {protected, []want{{Blocks, 0, "is protected"}}},
		"logs that stay":         {resource("aws:cloudwatch/logGroup:LogGroup", "x", map[string]any{"skipDestroy": true, "retentionInDays": 365.0}), []want{{Stays, 365, "for 365 days"}}},
		"logs":                   {resource("aws:cloudwatch/logGroup:LogGroup", "x", map[string]any{"retentionInDays": 365.0}), nil},
	} {
		t.Run(name, func(t *testing.T) {
			found := Findings(inventory.New("test", []inventory.Resource{test.resource}))
			if assert.Len(t, found, len(test.want)) {
				for i, w := range test.want {
					assert.Equal(t, w.kind, found[i].Kind)
					assert.Equal(t, w.days, found[i].Days)
					assert.Contains(t, found[i].Text, w.text)
				}
			}
		})
	}
}

func TestBlockingComesFirstAndIsCounted(t *testing.T) {
	all := Findings(inventory.New("test", []inventory.Resource{
		resource("aws:kms/key:Key", "key", nil),
		resource("aws:lb/loadBalancer:LoadBalancer", "edge", map[string]any{"enableDeletionProtection": true}),
	}))
	assert.Equal(t, Blocks, all[0].Kind)
	assert.Len(t, Blocking(all), 1)
	var out bytes.Buffer
	Write(&out, all)
	assert.Contains(t, out.String(), "30 days")
	assert.Contains(t, out.String(), "LoadBalancer edge")
	Write(&out, nil)
	assert.Contains(t, out.String(), "Nothing stays behind.")
}
