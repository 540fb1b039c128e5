// The modules whose tests carry recorded requests (../recorded.go). No code is built from them: the file pins their
// checksums.
module ephemos.dev/deploy/cmd/internal/waf/corpus/recorded

go 1.26

require (
	github.com/linode/linodego v1.0.0
	github.com/scaleway/scaleway-sdk-go v1.0.0-beta.33
)
