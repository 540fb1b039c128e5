// Package naming fits names into what a provider allows. It makes no resources.
package naming

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// hashLength is how many hexadecimal digits of a name's hash stand in for what was cut off: two names that begin alike collide
// once in four thousand million.
const hashLength = 8

// Truncate returns name if it has at most max bytes. Otherwise it returns the beginning of name, a hyphen and a hash of the whole
// name, in max bytes or fewer: the same name gives the same result, and names that differ only behind the cut give different ones.
// There are never two hyphens at the seam. When max leaves no room for a beginning, the result is the hash alone.
//
// A load balancer and a target group have 32 characters, an IAM role 64, an RDS cluster 63.
func Truncate(name string, max int) string {
	if len(name) <= max {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	hash := hex.EncodeToString(sum[:])[:hashLength]
	if max <= hashLength+1 {
		return hash[:min(hashLength, max)]
	}
	beginning := strings.TrimRight(name[:max-hashLength-1], "-")
	if beginning == "" {
		return hash
	}
	return beginning + "-" + hash
}
