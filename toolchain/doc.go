// Package toolchain builds every program, image and root filesystem that the local stack runs from pinned source and from Debian
// packages, and keeps them in a cache by the hash of what they are built from.
//
// What flows in: the nested Go modules beside this file, one an upstream, whose go.mod and go.sum pin every dependency; the
// programs of this repository; the package mirrors of the host. What comes out: paths of programs, OCI image archives with
// references by digest, and folders. catalogue.go is the list of all of it.
//
// The key of a program is computed without the go command: from the nested module's files, or, for this repository's own
// programs, from the files of all packages that they import. A run that finds everything in the cache takes a fraction of a second.
package toolchain
