package cost

// Date is the month whose list prices the table holds, rounded by hand: a change of price after that is not in it.
const Date = "2025-06"

// Source is where the prices stand, page by page: aws.amazon.com/<service>/pricing.
const Source = "https://aws.amazon.com/pricing/"

const defaultRegion = "eu-central-1"

// prices of one region, in US dollars.
type prices struct {
	// An hour of the size "large" of an instance family, on Linux.
	ec2 map[string]float64
	// An hour of the size "large" of one instance of RDS for PostgreSQL, and of Aurora PostgreSQL.
	rds, aurora map[string]float64
	gp3         float64 // EBS, GB and month
	rdsStorage  float64 // provisioned IOPS storage of one copy, GB and month
	rdsIOPS     float64 // of one copy, IOPS and month
	secret      float64 // month

	cluster  float64 // EKS, hour, in standard support
	endpoint float64 // interface endpoint, hour and zone
	firewall float64 // firewall endpoint, hour
	balancer float64 // application or network load balancer, hour
	address  float64 // public IPv4 address, hour
	nat      float64 // NAT gateway, hour

	webACL, webRule           float64 // month
	key                       float64 // KMS, month
	authority, authorityShort float64 // private CA, month
	zone, healthCheck         float64 // Route 53, month
	alarm                     float64 // month

	// By use.
	endpointGB, firewallGB, natGB, balancerUnit, networkBalancerUnit float64
	webMillion, keyRequests, certificate, queriesMillion             float64
	logsGB, vendedGB, logsStoredGB                                   float64
	s3GB, trailEvents, backupGB, restoreTest                         float64
	configItem, finding, guardDutyMillion, auroraGB, auroraMillionIO float64
	notificationsMillion, firewallQueriesMillion                     float64
}

// sizes are multiples of "large".
var sizes = map[string]float64{"medium": 0.5, "large": 1, "xlarge": 2, "2xlarge": 4, "4xlarge": 8, "8xlarge": 16, "12xlarge": 24, "16xlarge": 32}

var table = map[string]prices{
	"us-east-1": {
		ec2: map[string]float64{
			"m5": 0.096, "m6i": 0.096, "m7i": 0.1008, "m6g": 0.077, "m7g": 0.0816, "c5": 0.085, "c6i": 0.085, "c7i": 0.08925, "c6g": 0.068, "c7g": 0.0725,
			"r5": 0.126, "r6i": 0.126, "r7i": 0.1323, "r6g": 0.1008, "r7g": 0.1071,
		},
		rds: map[string]float64{
			"m5d": 0.208, "m6gd": 0.181, "m6id": 0.229, "m7gd": 0.191, "m8gd": 0.204, "r5d": 0.286, "r6gd": 0.259, "r6id": 0.317, "r7gd": 0.273, "r8gd": 0.294, "c6gd": 0.137, "x2iedn": 0.72,
		},
		aurora: map[string]float64{"r5": 0.29, "r6g": 0.26, "r6i": 0.29, "r7g": 0.276, "r7i": 0.305, "t3": 0.164, "t4g": 0.146},
		gp3:    0.08, rdsStorage: 0.125, rdsIOPS: 0.10, secret: 0.40,
		cluster: 0.10, endpoint: 0.01, firewall: 0.395, balancer: 0.0225, address: 0.005, nat: 0.045,
		webACL: 5, webRule: 1, key: 1, authority: 400, authorityShort: 50, zone: 0.50, healthCheck: 0.50, alarm: 0.10,
		endpointGB: 0.01, firewallGB: 0.065, natGB: 0.045, balancerUnit: 0.008, networkBalancerUnit: 0.006,
		webMillion: 0.60, keyRequests: 0.03, certificate: 0.75, queriesMillion: 0.40,
		logsGB: 0.50, vendedGB: 0.50, logsStoredGB: 0.03,
		s3GB: 0.023, trailEvents: 0.10, backupGB: 0.095, restoreTest: 1.50,
		configItem: 0.003, finding: 0.0010, guardDutyMillion: 4.00, auroraGB: 0.10, auroraMillionIO: 0.20,
		notificationsMillion: 0.50, firewallQueriesMillion: 0.60,
	},
	"eu-central-1": {
		ec2: map[string]float64{
			"m5": 0.115, "m6i": 0.115, "m7i": 0.12075, "m6g": 0.092, "m7g": 0.0978, "c5": 0.097, "c6i": 0.097, "c7i": 0.10185, "c6g": 0.0776, "c7g": 0.0827,
			"r5": 0.152, "r6i": 0.152, "r7i": 0.1596, "r6g": 0.1216, "r7g": 0.1292,
		},
		rds: map[string]float64{
			"m5d": 0.247, "m6gd": 0.215, "m6id": 0.272, "m7gd": 0.227, "m8gd": 0.243, "r5d": 0.342, "r6gd": 0.310, "r6id": 0.379, "r7gd": 0.327, "r8gd": 0.352, "c6gd": 0.163, "x2iedn": 0.90,
		},
		aurora: map[string]float64{"r5": 0.35, "r6g": 0.313, "r6i": 0.35, "r7g": 0.332, "r7i": 0.368, "t3": 0.192, "t4g": 0.174},
		gp3:    0.0952, rdsStorage: 0.149, rdsIOPS: 0.119, secret: 0.40,
		cluster: 0.10, endpoint: 0.012, firewall: 0.395, balancer: 0.027, address: 0.005, nat: 0.052,
		webACL: 5, webRule: 1, key: 1, authority: 400, authorityShort: 50, zone: 0.50, healthCheck: 0.50, alarm: 0.10,
		endpointGB: 0.01, firewallGB: 0.065, natGB: 0.052, balancerUnit: 0.008, networkBalancerUnit: 0.006,
		webMillion: 0.60, keyRequests: 0.03, certificate: 0.75, queriesMillion: 0.40,
		logsGB: 0.63, vendedGB: 0.63, logsStoredGB: 0.0324,
		s3GB: 0.0245, trailEvents: 0.10, backupGB: 0.10, restoreTest: 1.50,
		configItem: 0.003, finding: 0.0010, guardDutyMillion: 4.60, auroraGB: 0.119, auroraMillionIO: 0.22,
		notificationsMillion: 0.50, firewallQueriesMillion: 0.60,
	},
}
