module ephemos.dev/deploy/toolchain/pause

go 1.26.0
