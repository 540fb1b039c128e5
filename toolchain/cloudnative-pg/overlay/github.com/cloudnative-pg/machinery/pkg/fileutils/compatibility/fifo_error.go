package compatibility

import "errors"

// ErrExistsNotFifo exists in machinery v0.6.0, which CloudNativePG 1.30.1 asks for and module proxies do not all serve. With
// v0.5.0 CreateFifo never returns it, which leaves the behaviour of CloudNativePG 1.30.0 in that one place: a regular file
// where a log FIFO belongs is not replaced.
var ErrExistsNotFifo = errors.New("file exists and is not a FIFO")
