// Package cost estimates what a stack costs a month on AWS, from list prices in a dated table. It asks nobody.
//
// In: the resources of a stack. Out: what is paid whether or not it is used, by component; what is paid by use, with its unit price;
// and every type of resource for which the table has no price.
//
// The figures are approximate: on-demand list prices in US dollars without tax, discounts and free tiers.
package cost

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"ephemos.dev/deploy/stacks/inventory"
)

// hours in a month, as AWS' own calculator has it.
const hours = 730

// Line is something that is paid every month.
type Line struct {
	Component, Type, Name, Region string
	// What says what is paid for, Quantity and Unit how much of it.
	What     string
	Quantity float64
	Unit     string
	// Price is that of one unit a month, Monthly the product.
	Price, Monthly float64
}

// Usage is something that is paid by use.
type Usage struct {
	Type, What string
	// Price and Unit, as in 0.50 and "GB taken in".
	Price float64
	Unit  string
	// Count is the number of resources that cause it.
	Count int
}

// Estimate is what a stack costs.
type Estimate struct {
	Lines []Line
	Usage []Usage
	// Free counts resources by type that cost nothing by themselves.
	Free map[string]int
	// NotPriced lists what the tables have no price for: types, or an instance type.
	NotPriced []string
	// Region is that of the stack's prices.
	Region string
}

// A row says what resources of a type cost. All members empty: nothing.
type row struct {
	// fixed are the monthly costs of a resource.
	fixed func(e *estimator, r *inventory.Resource, p prices) []Line
	// usage are what its use costs besides.
	usage func(p prices) []Usage
}

type estimator struct {
	inventory *inventory.Inventory
	notPriced map[string]bool
}

// Of estimates the costs of a stack. region is the region of resources whose provider does not say.
func Of(inv *inventory.Inventory, region string) Estimate {
	e := &estimator{inventory: inv, notPriced: map[string]bool{}}
	result := Estimate{Free: map[string]int{}, Region: region}
	usage := map[Usage]int{}
	for i := range inv.Resources {
		r := &inv.Resources[i]
		switch {
		case !r.Custom, strings.HasPrefix(r.Type, "pulumi:"):
			continue
		case r.Kubernetes():
			if lines := volumes(e, r, region); len(lines) > 0 {
				result.Lines = append(result.Lines, lines...)
			} else {
				result.Free["kubernetes: runs on the nodes"]++
			}
			continue
		}
		where := inv.Region(r, region)
		p, ok := table[where]
		if !ok {
			p, where = table[defaultRegion], where+" at the prices of "+defaultRegion
		}
		row, known := rows[r.Type]
		if !known {
			e.notPriced[r.Type] = true
			continue
		}
		if row.fixed == nil && row.usage == nil {
			result.Free[r.Type]++
			continue
		}
		if row.fixed != nil {
			for _, line := range row.fixed(e, r, p) {
				line.Component, line.Type, line.Name, line.Region = inv.Component(r), r.Type, r.Name, where
				line.Monthly = line.Quantity * line.Price
				result.Lines = append(result.Lines, line)
			}
		}
		if row.usage != nil {
			for _, u := range row.usage(p) {
				u.Type = r.Type
				usage[u]++
			}
		}
	}
	for u, n := range usage {
		u.Count = n
		result.Usage = append(result.Usage, u)
	}
	slices.SortFunc(result.Usage, func(a, b Usage) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.What, b.What), cmp.Compare(a.Price, b.Price))
	})
	slices.SortStableFunc(result.Lines, func(a, b Line) int {
		return cmp.Or(cmp.Compare(a.Component, b.Component), cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name))
	})
	result.NotPriced = slices.Sorted(maps.Keys(e.notPriced))
	return result
}

// Total is the sum of what is paid every month.
func (e Estimate) Total() float64 {
	sum := 0.0
	for _, l := range e.Lines {
		sum += l.Monthly
	}
	return sum
}

// ByComponent are the sums by component.
func (e Estimate) ByComponent() map[string]float64 {
	sums := map[string]float64{}
	for _, l := range e.Lines {
		sums[l.Component] += l.Monthly
	}
	return sums
}

// volumes are the disks that the claims of a StatefulSet make.
func volumes(e *estimator, r *inventory.Resource, region string) []Line {
	if !strings.HasSuffix(r.Type, ":StatefulSet") {
		return nil
	}
	p, ok := table[region]
	if !ok {
		p = table[defaultRegion]
	}
	replicas := r.Number("spec", "replicas")
	var lines []Line
	for i := range r.Len("spec", "volumeClaimTemplates") {
		size := gibibytes(r.String("spec", "volumeClaimTemplates", i, "spec", "resources", "requests", "storage"))
		if size == 0 {
			continue
		}
		lines = append(lines, Line{
			Component: e.inventory.Component(r), Type: r.Type, Name: r.Name, Region: region, What: "volumes of its pods (gp3)",
			Quantity: replicas * size, Unit: "GB", Price: p.gp3, Monthly: replicas * size * p.gp3,
		})
	}
	return lines
}

func gibibytes(quantity string) float64 {
	var n float64
	var unit string
	if _, err := fmt.Sscanf(quantity, "%f%s", &n, &unit); err != nil {
		return 0
	}
	return map[string]float64{"Mi": n / 1024, "Gi": n, "Ti": n * 1024}[unit]
}

// instance is the price an hour of an EC2 instance type, 0 and a note when the table has none.
func (e *estimator) instance(p prices, instanceType string) float64 {
	family, size, _ := strings.Cut(instanceType, ".")
	price := p.ec2[family] * sizes[size]
	if price == 0 {
		e.notPriced["instance type "+instanceType] = true
	}
	return price
}

// database is the price an hour of one instance of a database.
func (e *estimator) database(prices map[string]float64, class string) float64 {
	family, size, _ := strings.Cut(strings.TrimPrefix(class, "db."), ".")
	price := prices[family] * sizes[size]
	if price == 0 {
		e.notPriced["database class "+class] = true
	}
	return price
}

// nodes are the instances of a node group at their desired number, and their disks.
func nodes(e *estimator, r *inventory.Resource, p prices) []Line {
	count := r.Number("scalingConfig", "desiredSize")
	instanceType := cmp.Or(r.String("instanceTypes", 0), "t3.medium")
	lines := []Line{{What: "nodes " + instanceType, Quantity: count, Unit: "instance", Price: e.instance(p, instanceType) * hours}}
	disk := r.Number("diskSize")
	for _, d := range r.Dependencies {
		template := e.inventory.Get(d)
		if template == nil || template.Type != "aws:ec2/launchTemplate:LaunchTemplate" {
			continue
		}
		for i := range template.Len("blockDeviceMappings") {
			disk += template.Number("blockDeviceMappings", i, "ebs", "volumeSize")
		}
	}
	return append(lines, Line{What: "disks of the nodes (gp3)", Quantity: count * disk, Unit: "GB", Price: p.gp3})
}

func cluster(e *estimator, r *inventory.Resource, p prices) []Line {
	var lines []Line
	if class := r.String("dbClusterInstanceClass"); class != "" { // a Multi-AZ DB cluster: a writer and two readable standbys
		lines = append(lines,
			Line{What: "writer and two standbys " + class, Quantity: 3, Unit: "instance", Price: e.database(p.rds, class) * hours},
			Line{What: "storage in three zones", Quantity: 3 * r.Number("allocatedStorage"), Unit: "GB", Price: p.rdsStorage})
		if iops := r.Number("iops"); iops > 0 && strings.HasPrefix(r.String("storageType"), "io") {
			lines = append(lines, Line{What: "provisioned IOPS in three zones", Quantity: 3 * iops, Unit: "IOPS", Price: p.rdsIOPS})
		}
	}
	if r.Bool("manageMasterUserPassword") {
		lines = append(lines, Line{What: "the master user's secret", Quantity: 1, Unit: "secret", Price: p.secret})
	}
	return lines
}

func endpoint(_ *estimator, r *inventory.Resource, p prices) []Line {
	if r.String("vpcEndpointType") != "Interface" {
		return nil
	}
	return []Line{{What: "endpoint " + lastPart(r.String("serviceName")), Quantity: float64(r.Len("subnetIds")), Unit: "zone", Price: p.endpoint * hours}}
}

func lastPart(name string) string { return name[strings.LastIndex(name, ".")+1:] }

func balancer(_ *estimator, r *inventory.Resource, p prices) []Line {
	kind := cmp.Or(r.String("loadBalancerType"), "application")
	lines := []Line{{What: kind + " load balancer", Quantity: 1, Unit: "balancer", Price: p.balancer * hours}}
	zones := max(r.Len("subnets"), r.Len("subnetMappings"))
	if !r.Bool("internal") {
		lines = append(lines, Line{What: "public addresses", Quantity: float64(zones), Unit: "address", Price: p.address * hours})
	}
	return lines
}

func webACL(_ *estimator, r *inventory.Resource, p prices) []Line {
	rules := r.Len("rules")
	if text := r.String("ruleJson"); text != "" {
		var list []any
		if json.Unmarshal([]byte(text), &list) == nil {
			rules += len(list)
		}
	}
	return []Line{
		{What: "web ACL", Quantity: 1, Unit: "ACL", Price: p.webACL},
		{What: "rules", Quantity: float64(rules), Unit: "rule", Price: p.webRule},
	}
}

func authority(_ *estimator, r *inventory.Resource, p prices) []Line {
	price := p.authority
	what := "certificate authority"
	if r.String("usageMode") == "SHORT_LIVED_CERTIFICATE" {
		price, what = p.authorityShort, what+" for short-lived certificates"
	}
	return []Line{{What: what, Quantity: 1, Unit: "authority", Price: price}}
}

// flat is one unit of something at a price.
func flat(what, unit string, price func(prices) float64) func(*estimator, *inventory.Resource, prices) []Line {
	return func(_ *estimator, _ *inventory.Resource, p prices) []Line {
		return []Line{{What: what, Quantity: 1, Unit: unit, Price: price(p)}}
	}
}

// Write prints the estimate.
func (e Estimate) Write(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "US dollars a month at list prices of %s, %s, on demand, without tax; approximate. Source: %s\n\n", Date, e.Region, Source)
	byComponent := e.ByComponent()
	for _, name := range slices.Sorted(maps.Keys(byComponent)) {
		fmt.Fprintf(w, "%s\t\t%10.2f\n", name, byComponent[name])
		type group struct {
			what, unit, region string
			price              float64
		}
		sums := map[group]float64{}
		var order []group
		for _, l := range e.Lines {
			if l.Component != name {
				continue
			}
			g := group{l.What, l.Unit, l.Region, l.Price}
			if _, seen := sums[g]; !seen {
				order = append(order, g)
			}
			sums[g] += l.Quantity
		}
		for _, g := range order {
			region := ""
			if g.region != e.Region {
				region = " (" + g.region + ")"
			}
			fmt.Fprintf(w, "  %s%s\t%g %s x %.4g\t%10.2f\n", g.what, region, sums[g], g.unit, g.price, sums[g]*g.price)
		}
	}
	fmt.Fprintf(w, "all components\t\t%10.2f\n\n", e.Total())
	fmt.Fprintf(w, "By use, besides:\n")
	for _, u := range e.Usage {
		fmt.Fprintf(w, "  %s\t%g per %s\t%d of %s\n", u.What, u.Price, u.Unit, u.Count, u.Type)
	}
	free := 0
	for _, n := range e.Free {
		free += n
	}
	fmt.Fprintf(w, "\n%d resources of %d types cost nothing by themselves.\n", free, len(e.Free))
	if len(e.NotPriced) > 0 {
		fmt.Fprintf(w, "Not priced: %s\n", strings.Join(e.NotPriced, ", "))
	}
	return w.Flush()
}
