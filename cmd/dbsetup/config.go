package main

import (
	"crypto/x509"
	"regexp"
	"time"

	"ephemos.dev/deploy/cmd/internal/environment"
)

// Config is the program's configuration. Each field names the environment variable it is read from and its default.
type Config struct {
	// Host (DATABASE_HOST, required) is the endpoint of the cluster's writer, as in the database's certificate.
	Host string
	// Port (DATABASE_PORT, default 5432).
	Port int
	// Database (DATABASE_NAME, default spire) is the database to provide.
	Database string
	// Role (DATABASE_ROLE, default spire) is the role to provide, which the servers sign in as.
	Role string
	// Roots (DATABASE_CA_FILE, required) is a file of the certificates of the CAs that sign the database's certificate.
	Roots *x509.CertPool
	// SecretARN (MASTER_SECRET_ARN, required) is the secret with the master user's name and password.
	SecretARN string
	// Region (AWS_REGION, required) is that of the secret.
	Region string
	// Deadline (DEADLINE, default 5m, 1s to 1h) is the time for all attempts.
	Deadline time.Duration
}

var (
	// A role or a database of plain letters needs no quotation anywhere, in a connection string or in the policy that lets it in.
	plainName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)
	hostName  = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)
	secretARN = regexp.MustCompile(`^arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:.+$`)
)

// ParseConfig reads the configuration. The error has all mistakes.
func ParseConfig(env func(string) (string, bool), readFile func(string) ([]byte, error)) (Config, error) {
	p := environment.New(env)
	const name = "a name of lower-case letters, digits and underscores, at most 63"
	c := Config{
		Port:     p.Integer("DATABASE_PORT", 5432, 1, 65535),
		Database: p.Match("DATABASE_NAME", "spire", plainName, name),
		Role:     p.Match("DATABASE_ROLE", "spire", plainName, name),
		Region:   p.Required("AWS_REGION", "the region of the secret"),
		Deadline: p.Duration("DEADLINE", 5*time.Minute, time.Second, time.Hour),
	}
	if c.Host = p.Required("DATABASE_HOST", "the database's host name"); c.Host != "" && !hostName.MatchString(c.Host) {
		p.Fail("DATABASE_HOST", c.Host, "a host name in lower case, without port")
	}
	if c.SecretARN = p.Required("MASTER_SECRET_ARN", "the ARN of the master user's secret"); c.SecretARN != "" && !secretARN.MatchString(c.SecretARN) {
		p.Fail("MASTER_SECRET_ARN", c.SecretARN, "the ARN of a secret")
	}
	if file := p.Required("DATABASE_CA_FILE", "a file of certificates"); file != "" {
		c.Roots = x509.NewCertPool()
		if data, err := readFile(file); err != nil {
			p.Fail("DATABASE_CA_FILE", file, "a file that can be read: %w", err)
		} else if !c.Roots.AppendCertsFromPEM(data) {
			p.Fail("DATABASE_CA_FILE", file, "a file with at least one certificate in PEM")
		}
	}
	return c, p.Err()
}
