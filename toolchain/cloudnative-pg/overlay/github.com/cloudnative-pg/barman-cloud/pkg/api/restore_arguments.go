package api

// AppendRestoreAdditionalCommandArgs exists in barman-cloud v0.6.0, which CloudNativePG 1.30.1 asks for and module proxies do
// not all serve. v0.5.1 has no configuration key for such arguments, so there is nothing to append.
func (cfg *DataBackupConfiguration) AppendRestoreAdditionalCommandArgs(options []string) []string {
	return options
}
