// Package teardown says how a stack is taken down in order, and what stays behind.
//
// In: the resources of a stack, of its state or of a recorded graph. Out: which resources go first, what refuses to be deleted, and what
// retention and deletion windows of AWS keep after everything is gone.
//
// What runs in the cluster goes first, while its controllers still run: they hold network interfaces, volumes and target registrations,
// which AWS would not let go of otherwise, and which would outlive the cluster without anybody who knows them.
package teardown

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"ephemos.dev/deploy/stacks/inventory"
)

// Phases are the two halves of a teardown.
type Phases struct {
	// Kubernetes are the URNs of what goes first: all that the Kubernetes provider manages.
	Kubernetes []string
	// Dependents are those of everything else that depends on something in Kubernetes, and goes with it.
	Dependents []string
	// Rest is the number of resources that the second phase is for.
	Rest int
}

// Plan divides a stack.
func Plan(inv *inventory.Inventory) Phases {
	first := map[string]bool{}
	for _, r := range inv.Resources {
		if r.Kubernetes() {
			first[r.URN] = true
		}
	}
	needs := func(r *inventory.Resource) bool {
		return first[r.Parent] || slices.ContainsFunc(r.Dependencies, func(d string) bool { return first[d] })
	}
	for changed := true; changed; {
		changed = false
		for i := range inv.Resources {
			r := &inv.Resources[i]
			// Components are only names; what hangs on them says so itself.
			if r.Custom && !first[r.URN] && needs(r) {
				first[r.URN], changed = true, true
			}
		}
	}
	var p Phases
	for i := range inv.Resources {
		switch r := &inv.Resources[i]; {
		case r.Kubernetes():
			p.Kubernetes = append(p.Kubernetes, r.URN)
		case first[r.URN]:
			p.Dependents = append(p.Dependents, r.URN)
		default:
			p.Rest++
		}
	}
	return p
}

// Kind says what becomes of something.
type Kind string

// The kinds of findings.
const (
	// Blocks refuses to be deleted until it is changed or emptied.
	Blocks Kind = "blocks"
	// Delayed is gone for the program, and deleted by AWS after some days, until when it can be brought back.
	Delayed Kind = "deleted later"
	// Stays is not deleted at all.
	Stays Kind = "stays"
)

// Finding is something that a teardown does not simply delete.
type Finding struct {
	Kind       Kind
	Type, Name string
	// Days is how long it stays at most, 0 when that is open.
	Days int
	Text string
}

// Findings lists what a teardown does not simply delete: what blocks it first, then by how long it stays.
func Findings(inv *inventory.Inventory) []Finding {
	var all []Finding
	for i := range inv.Resources {
		r := &inv.Resources[i]
		add := func(kind Kind, days int, format string, args ...any) {
			all = append(all, Finding{kind, r.Type, r.Name, days, fmt.Sprintf(format, args...)})
		}
		if r.Protect {
			add(Blocks, 0, "is protected: set ephemos:protect to false and run pulumi up")
		}
		if r.RetainOnDelete {
			add(Stays, 0, "is taken out of the state and left in place")
		}
		if rule, ok := rules[r.Type]; ok {
			rule(inv, r, add)
		}
	}
	order := []Kind{Blocks, Stays, Delayed}
	slices.SortStableFunc(all, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.Kind), slices.Index(order, b.Kind)), cmp.Compare(b.Days, a.Days), cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name))
	})
	return all
}

// Blocking are the findings because of which a teardown would fail half-way.
func Blocking(all []Finding) []Finding {
	return slices.DeleteFunc(slices.Clone(all), func(f Finding) bool { return f.Kind != Blocks })
}

type adder func(kind Kind, days int, format string, args ...any)

// deletionWindow is what AWS takes when a key or an authority says nothing.
const deletionWindow = 30

func days(number float64) int { return cmp.Or(int(number), deletionWindow) }

// rules are by type. Sources: the AWS documentation of each service on deletion, and of the arguments in the provider's.
var rules = map[string]func(*inventory.Inventory, *inventory.Resource, adder){
	"aws:kms/key:Key": func(inv *inventory.Inventory, r *inventory.Resource, add adder) {
		after := ""
		if r.Bool("multiRegion") && slices.ContainsFunc(inv.Resources, func(o inventory.Resource) bool { return o.Type == "aws:kms/replicaKey:ReplicaKey" }) {
			after = ", counted from when its replicas are gone"
		}
		add(Delayed, days(r.Number("deletionWindowInDays")), "the key is disabled at once and can be brought back until then%s; whatever it encrypted is lost after that", after)
	},
	"aws:kms/replicaKey:ReplicaKey": func(_ *inventory.Inventory, r *inventory.Resource, add adder) {
		add(Delayed, days(r.Number("deletionWindowInDays")), "the replica is disabled at once and can be brought back until then")
	},
	"aws:acmpca/certificateAuthority:CertificateAuthority": func(_ *inventory.Inventory, r *inventory.Resource, add adder) {
		add(Delayed, days(r.Number("permanentDeletionTimeInDays")), "the authority issues nothing any more, costs nothing, and can be brought back until then")
	},
	"aws:s3/bucketObjectLockConfigurationV2:BucketObjectLockConfigurationV2": func(_ *inventory.Inventory, r *inventory.Resource, add adder) {
		retention := []any{"rule", "defaultRetention"}
		kept := int(r.Number(append(retention, "days")...) + 365*r.Number(append(retention, "years")...))
		switch mode := r.String(append(retention, "mode")...); {
		case kept == 0:
			return
		case mode == "COMPLIANCE":
			add(Stays, kept, "nobody, the account's owner included, can delete an object before %d days after it was written; the bucket stays as long, and with it what it costs", kept)
		default:
			add(Stays, kept, "objects stay for %d days after they were written, unless somebody with s3:BypassGovernanceRetention deletes them; the bucket stays as long", kept)
		}
	},
	"aws:s3/bucketV2:BucketV2": func(_ *inventory.Inventory, r *inventory.Resource, add adder) {
		switch {
		case r.RetainOnDelete:
		case r.Bool("objectLockEnabled"):
			add(Stays, 0, "a bucket with Object Lock cannot be deleted while it holds an object: take it out of the state when only it is left (pulumi state delete)")
		case !r.Bool("forceDestroy"):
			add(Stays, 0, "the bucket is deleted only when it is empty: empty it, or take it out of the state")
		}
	},
	"aws:backup/vaultLockConfiguration:VaultLockConfiguration": func(_ *inventory.Inventory, r *inventory.Resource, add adder) {
		kept := int(max(r.Number("maxRetentionDays"), r.Number("minRetentionDays")))
		if grace := r.Number("changeableForDays"); grace > 0 {
			add(Stays, kept, "from %g days after it was made nobody can take the lock away; recovery points stay for %g to %g days, and the vault as long", grace, r.Number("minRetentionDays"), r.Number("maxRetentionDays"))
			return
		}
		add(Stays, kept, "recovery points stay for %g to %g days, unless somebody who may change the lock takes it away", r.Number("minRetentionDays"), r.Number("maxRetentionDays"))
	},
	"aws:backup/vault:Vault": func(_ *inventory.Inventory, r *inventory.Resource, add adder) {
		if !r.Bool("forceDestroy") && !r.RetainOnDelete {
			add(Stays, 0, "the vault is deleted only when it holds no recovery point: delete those, or take it out of the state")
		}
	},
	"aws:rds/cluster:Cluster": func(_ *inventory.Inventory, r *inventory.Resource, add adder) {
		if r.Bool("deletionProtection") {
			add(Blocks, 0, "has deletion protection: set ephemos:protect to false and run pulumi up")
		}
		if !r.Bool("skipFinalSnapshot") {
			add(Stays, 0, "leaves the snapshot %s, until somebody deletes it", cmp.Or(r.String("finalSnapshotIdentifier"), "(without a name it cannot be deleted: set finalSnapshotIdentifier)"))
		}
		if automated, set := r.At("deleteAutomatedBackups").(bool); set && !automated {
			add(Stays, int(r.Number("backupRetentionPeriod")), "automated backups stay for their retention of %g days", r.Number("backupRetentionPeriod"))
		}
	},
	"aws:lb/loadBalancer:LoadBalancer": func(_ *inventory.Inventory, r *inventory.Resource, add adder) {
		if r.Bool("enableDeletionProtection") {
			add(Blocks, 0, "has deletion protection: set ephemos:protect to false and run pulumi up")
		}
	},
	"aws:networkfirewall/firewall:Firewall": func(_ *inventory.Inventory, r *inventory.Resource, add adder) {
		if r.Bool("deleteProtection") {
			add(Blocks, 0, "has deletion protection: set ephemos:protect to false and run pulumi up")
		}
	},
	"aws:eks/cluster:Cluster": func(_ *inventory.Inventory, r *inventory.Resource, add adder) {
		if r.Bool("deletionProtection") {
			add(Blocks, 0, "has deletion protection: set ephemos:protect to false and run pulumi up")
		}
	},
	"aws:cloudwatch/logGroup:LogGroup": func(_ *inventory.Inventory, r *inventory.Resource, add adder) {
		if r.Bool("skipDestroy") {
			kept := int(r.Number("retentionInDays"))
			add(Stays, kept, "its logs stay%s", map[bool]string{true: fmt.Sprintf(" for %d days", kept)}[kept > 0])
		}
	},
	"aws:route53/zone:Zone": func(_ *inventory.Inventory, r *inventory.Resource, add adder) {
		if !r.Bool("forceDestroy") {
			add(Stays, 0, "the zone is deleted only when nobody else wrote a record into it")
		}
	},
	"kubernetes:apps/v1:StatefulSet": func(_ *inventory.Inventory, r *inventory.Resource, add adder) {
		if r.Len("spec", "volumeClaimTemplates") > 0 && r.String("spec", "persistentVolumeClaimRetentionPolicy", "whenDeleted") != "Delete" {
			add(Stays, 0, "its volumes stay until their namespace goes, which it does in the first phase while the driver that deletes them still runs")
		}
	},
}

// Write prints the findings.
func Write(out io.Writer, all []Finding) {
	if len(all) == 0 {
		fmt.Fprintln(out, "Nothing stays behind.")
		return
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, f := range all {
		kept := ""
		if f.Days > 0 {
			kept = fmt.Sprintf("%d days", f.Days)
		}
		fmt.Fprintf(w, "%s\t%s\t%s %s\t%s\n", f.Kind, kept, f.Type[strings.LastIndex(f.Type, ":")+1:], f.Name, f.Text)
	}
	_ = w.Flush()
}
