package connectivity

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestMutationsAreFound applies each change to the model and leaves the cluster, which has the unchanged one, as it is.
func TestMutationsAreFound(t *testing.T) {
	observed := observe(t)
	names, refused := map[string]bool{}, 0
	for _, mutation := range Mutations() {
		require.False(t, names[mutation.Name], "%s: twice", mutation.Name)
		names[mutation.Name] = true
		t.Run(mutation.Name, func(t *testing.T) {
			changed := mutation.Apply(model)
			require.NoError(t, model.Validate(), "the change leaves the original alone")
			err := changed.Validate()
			if mutation.Refused {
				refused++
				require.ErrorContains(t, err, mutation.Names)
				t.Log(err)
				return
			}
			require.NoError(t, err)
			// What the changed model adds to try is tried on the cluster as it is.
			further := observed.Untried(Expect(changed, observed.Topology))
			differences := observed.With(enforced(model, observed.Topology, further)).Check(changed)
			require.True(t, slices.ContainsFunc(differences, func(d Difference) bool { return d.Names(mutation.Names) }),
				"%s is not named:\n%s", mutation.Names, Describe(differences))
			t.Log(Describe(differences))
		})
	}
	require.GreaterOrEqual(t, refused, 10)
	require.GreaterOrEqual(t, len(names)-refused, 10)
}
