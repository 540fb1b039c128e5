package log

// ConfigureOption exists in machinery v0.6.0, which CloudNativePG 1.30.1 asks for and module proxies do not all serve. The
// build gives v0.5.0's ConfigureLogging a variadic parameter of this type, which it ignores.
type ConfigureOption struct{}

// WithDisabledSampling asks for a logger that drops no repeated message. v0.5.0 always samples, as CloudNativePG 1.30.0 does:
// under a burst of Postgres messages some are dropped.
func WithDisabledSampling() ConfigureOption { return ConfigureOption{} }
