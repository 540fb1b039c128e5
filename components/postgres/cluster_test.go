package postgres

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/manifest"
)

func minimal() *Args {
	return &Args{Namespace: "spire-server", ImageName: pulumi.String("example.org/postgresql:15.14")}
}

func deploy(t *testing.T, args *Args) *recorder {
	t.Helper()
	return run(t, func(ctx *pulumi.Context) error { _, err := New(ctx, "db", args); return err })
}

func TestObjects(t *testing.T) {
	full := &Args{
		Name: "other", Namespace: "ns", Database: "store", ImageName: pulumi.String("example.org/postgresql:16.1"), Instances: 5,
		Durability: Preferred, StorageClass: pulumi.String("fast"), StorageSize: "20Gi",
		Parameters: map[string]string{"max_connections": "300", "work_mem": "8MB"}, WALArchiving: true,
		PriorityClassName: pulumi.String("database"), Resources: manifest.Resources{CPU: "1", MemoryLimit: "2Gi"}, Await: Whole,
	}
	single := minimal()
	single.Instances = 1
	for name, args := range map[string]*Args{"default": minimal(), "full": full, "single": single} {
		t.Run(name, func(t *testing.T) {
			r := deploy(t, args)
			var objects []any
			for _, suffix := range []string{"-no-password", "-cluster", "-role"} {
				objects = append(objects, r.inputs(t, "db"+suffix))
			}
			golden(t, "cluster-"+name, objects)
		})
	}
}

func TestOnlyACertificateOpensTheDatabase(t *testing.T) {
	r := deploy(t, minimal())
	cluster, role := r.inputs(t, "db-cluster"), r.inputs(t, "db-role")

	require.Equal(t, []any{"hostssl spire spire all cert", "host all all all reject"}, at(t, cluster, "spec.postgresql.pg_hba"),
		"the last rule keeps CloudNativePG's default, a password for anybody, from being reached")
	require.Equal(t, false, at(t, cluster, "spec.enableSuperuserAccess"))
	require.Equal(t, true, at(t, role, "spec.disablePassword"))
	require.Equal(t, true, at(t, role, "spec.clientCertificate.enabled"))
	for _, power := range []string{"superuser", "createdb", "createrole", "replication", "bypassrls"} {
		require.NotContains(t, at(t, role, "spec"), power, "the role has no power but its own database")
	}
	require.Equal(t, "TLSv1.3", at(t, cluster, "spec.postgresql.parameters.ssl_min_protocol_version"))

	// Named, so that none is generated; empty and passed through, so that none is set.
	secret := r.inputs(t, "db-no-password")
	require.Equal(t, at(t, secret, "metadata.name"), at(t, cluster, "spec.bootstrap.initdb.secret.name"))
	require.Equal(t, "spire", at(t, secret, "stringData.username"))
	require.Equal(t, "", at(t, secret, "stringData.password"))
	annotations := at(t, secret, "metadata.annotations").(map[string]any)
	require.Equal(t, "enabled", annotations["cnpg.io/passwordPassthrough"])
}

// TestLeaseIsOneThatCloudNativePGAccepts repeats the invariants of its webhook.
func TestLeaseIsOneThatCloudNativePGAccepts(t *testing.T) {
	require.Greater(t, leaseDuration, leaseRenew)
	require.Greater(t, 5*leaseRenew, 6*leaseRetry)
	require.GreaterOrEqual(t, leaseRetry, 1)
	require.GreaterOrEqual(t, stopDelay-smartShutdown, 15)
}

// TestLossOfAProcessFitsTheBudget adds up what the package comment says of a killed instance: noticing and electing (2 s),
// the lease, promotion (2 s). The aim is ten seconds.
func TestLossOfAProcessFitsTheBudget(t *testing.T) {
	require.Less(t, 2+leaseDuration+leaseRetry+2, 10)
}

func TestNothingToConfirmWithOneInstance(t *testing.T) {
	args := minimal()
	args.Instances = 1
	postgresql := at(t, deploy(t, args).inputs(t, "db-cluster"), "spec.postgresql").(map[string]any)
	require.NotContains(t, postgresql, "synchronous", "every commit would wait for ever")
	args.Instances = 2
	require.Equal(t, true, at(t, deploy(t, args).inputs(t, "db-cluster"), "spec.postgresql.synchronous.failoverQuorum"))
}

func TestAwait(t *testing.T) {
	conditions := func(object map[string]any) []string {
		annotations := at(t, object, "metadata.annotations").(map[string]any)
		text, set := annotations["pulumi.com/waitFor"].(string)
		if !set {
			return nil
		}
		var out []string
		require.NoError(t, json.Unmarshal([]byte(text), &out))
		return out
	}
	args := minimal()
	r := deploy(t, args)
	primary := []string{"jsonpath={.status.currentPrimary}", "jsonpath={.status.readyInstances}"}
	require.Equal(t, primary, conditions(r.inputs(t, "db-cluster")))
	require.Equal(t, []string{"jsonpath={.status.applied}=true", "jsonpath={.status.clientCertificate.expiration}"},
		conditions(r.inputs(t, "db-role")))
	args.Await = Whole
	require.Equal(t, append(primary, "condition=Ready"), conditions(deploy(t, args).inputs(t, "db-cluster")))
}

func TestOutputs(t *testing.T) {
	run(t, func(ctx *pulumi.Context) error {
		c, err := New(ctx, "db", minimal())
		require.NoError(t, err)
		got := make(chan []any, 1)
		pulumi.All(c.Host, c.Port, c.Database, c.User, c.CASecret, c.ClientSecret, c.PodLabels).ApplyT(func(v []any) error {
			got <- v
			return nil
		})
		require.Equal(t, []any{
			"spire-db-rw.spire-server.svc", 5432, "spire", "spire", "spire-db-ca", "spire-db-client-cert",
			map[string]string{"cnpg.io/cluster": "spire-db", "cnpg.io/podRole": "instance"},
		}, <-got)
		return nil
	})
}

func TestTwoClustersDoNotCollide(t *testing.T) {
	r := run(t, func(ctx *pulumi.Context) error {
		if _, err := New(ctx, "a", minimal()); err != nil {
			return err
		}
		other := minimal()
		other.Name = "other-db"
		_, err := New(ctx, "b", other)
		return err
	})
	names := r.names()
	slices.Sort(names)
	require.Equal(t, names, slices.Compact(slices.Clone(names)))
}

func TestAllClusterErrorsAtOnce(t *testing.T) {
	err := runErr(func(ctx *pulumi.Context) error {
		_, err := New(ctx, "db", &Args{
			Name: "Spire", Database: "postgres", Instances: 9, Durability: "maybe", StorageSize: "1G", Await: "never",
			Parameters: map[string]string{"x = 1\nfsync": "off"},
		})
		return err
	})
	for _, key := range []string{
		"name", "namespace", "database", "imageName", "instances", "durability", "storageSize", "await", "parameters",
	} {
		require.ErrorContains(t, err, key+`: "`)
	}
	require.Equal(t, 9, strings.Count(err.Error(), "is not allowed: it must be"))
}

func TestDatabaseNamesThatPostgresKeepsAreRefused(t *testing.T) {
	for _, name := range []string{"postgres", "template1", "all", "replication", "streaming_replica", "pg_x", "cnpg_x", "a-b", "1a", "a b"} {
		args := minimal()
		args.Database = name
		require.ErrorContains(t, args.withDefaults().validate(), "database: ", name)
	}
	args := minimal()
	args.Database = "spire_2"
	require.NoError(t, args.withDefaults().validate())
}
