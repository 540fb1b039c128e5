// Package cabundle checks the bundle of CA certificates with which clients verify a database of Amazon RDS.
package cabundle

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// Check reports what is wrong with a bundle: it has to be certificates of CAs in PEM, at least one, and nothing behind them. Whether
// they are still valid is not asked: a bundle is the same text today and tomorrow.
func Check(bundle string) error {
	rest := []byte(bundle)
	for n := 0; ; n++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			switch {
			case n == 0:
				return errors.New("no certificate")
			case len(strings.TrimSpace(string(rest))) > 0:
				return fmt.Errorf("something follows certificate %d", n)
			}
			return nil
		}
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("a block of the type %s", block.Type)
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return fmt.Errorf("certificate %d: %w", n+1, err)
		}
		if !certificate.IsCA {
			return fmt.Errorf("certificate %d, %s, is not of a CA", n+1, certificate.Subject)
		}
	}
}
