package status

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// apiServer answers as an API server that holds the objects, by path ("/apis/apps/v1/namespaces/..."). The path of a list
// of pods goes on with "?" and the selector.
func apiServer(t *testing.T, objects map[string]any) *Client {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path
		if selector := r.URL.Query().Get("labelSelector"); selector != "" {
			path += "?" + selector
		}
		w.Header().Set("Content-Type", "application/json")
		object, ok := objects[path]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			object = metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Code: 404, Reason: metav1.StatusReasonNotFound, Message: "not found"}
		}
		_ = json.NewEncoder(w).Encode(object) // the client notices
	}))
	t.Cleanup(server.Close)
	config := &rest.Config{Host: server.URL}
	set, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)
	return &Client{config: config, set: set}
}

// pod is one that is ready; edit changes it.
func pod(name string, edit ...func(*corev1.Pod)) corev1.Pod {
	p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.PodStatus{
		Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
	}}
	for _, e := range edit {
		e(&p)
	}
	return p
}

func terminated(p *corev1.Pod) {
	now := metav1.NewTime(time.Unix(1, 0))
	p.DeletionTimestamp = &now
}

func unready(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse }

func podList(pods ...corev1.Pod) corev1.PodList {
	return corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}, Items: pods}
}

func typed(kind string) metav1.TypeMeta { return metav1.TypeMeta{Kind: kind, APIVersion: "apps/v1"} }

func selecting(name string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}
}

// deployed are the objects of a whole stack.
func deployed() map[string]any {
	two, three := int32(2), int32(3)
	objects := map[string]any{
		"/apis/apps/v1/namespaces/spire-server/statefulsets/spire-server": appsv1.StatefulSet{
			TypeMeta: typed("StatefulSet"), Spec: appsv1.StatefulSetSpec{Replicas: &three, Selector: selecting("server")},
		},
		"/api/v1/namespaces/spire-server/pods?app=server": podList(pod("s-0"), pod("s-1"), pod("s-2")),
		"/apis/postgresql.cnpg.io/v1/namespaces/spire-server/clusters/spire-db": map[string]any{
			"kind": "Cluster", "spec": map[string]any{"instances": 3},
		},
		"/api/v1/namespaces/spire-server/pods?" + instanceSelector: podList(pod("db-1"), pod("db-2"), pod("db-3")),
		"/apis/apps/v1/namespaces/spire-agent/daemonsets/spire-agent": appsv1.DaemonSet{
			TypeMeta: typed("DaemonSet"), Spec: appsv1.DaemonSetSpec{Selector: selecting("agent")}, Status: appsv1.DaemonSetStatus{DesiredNumberScheduled: 2},
		},
		"/api/v1/namespaces/spire-agent/pods?app=agent": podList(pod("a-1"), pod("a-2")),
		"/apis/apps/v1/namespaces/intrusion-detection/daemonsets/flowlog": appsv1.DaemonSet{
			TypeMeta: typed("DaemonSet"), Spec: appsv1.DaemonSetSpec{Selector: selecting("flowlog")}, Status: appsv1.DaemonSetStatus{DesiredNumberScheduled: 2},
		},
		"/api/v1/namespaces/intrusion-detection/pods?app=flowlog": podList(pod("f-1"), pod("f-2")),
	}
	for _, d := range []string{"spire-server/spire-server-primary", "spire-server/spire-server-backup", "services/payment", "services/user", "services/order",
		"dmz/web-gateway", "dmz/api-gateway", "data/cache", "data/queue"} {
		namespace, name, _ := strings.Cut(d, "/")
		objects["/apis/apps/v1/namespaces/"+namespace+"/deployments/"+name] = appsv1.Deployment{
			TypeMeta: typed("Deployment"), Spec: appsv1.DeploymentSpec{Replicas: &two, Selector: selecting(name)},
		}
		objects["/api/v1/namespaces/"+namespace+"/pods?app="+name] = podList(pod(name+"-1"), pod(name+"-2"))
	}
	return objects
}

func TestPartsCountWhatIsMissing(t *testing.T) {
	const services = "/api/v1/namespaces/services/pods?app="
	for name, test := range map[string]struct {
		harm func(objects map[string]any)
		want []string // problems and errors
	}{
		"whole": {func(map[string]any) {}, nil},
		"an instance is missing": {
			func(o map[string]any) {
				o["/api/v1/namespaces/spire-server/pods?"+instanceSelector] = podList(pod("db-1"), pod("db-2"))
			},
			[]string{"2 of 3 pods of Cluster spire-db are ready"},
		},
		"a server is not ready": {
			func(o map[string]any) {
				o["/api/v1/namespaces/spire-server/pods?app=server"] = podList(pod("s-0"), pod("s-1"), pod("s-2", unready))
			},
			[]string{"2 of 3 pods of StatefulSet spire-server are ready"},
		},
		"an agent is missing": {
			func(o map[string]any) { o["/api/v1/namespaces/spire-agent/pods?app=agent"] = podList(pod("a-1")) },
			[]string{"1 of 2 pods of DaemonSet spire-agent are ready"},
		},
		"no pod": {
			func(o map[string]any) { o[services+"user"] = podList() },
			[]string{"0 of 2 pods of Deployment user are ready"},
		},
		"a pod goes away and is replaced": {
			func(o map[string]any) {
				o[services+"order"] = podList(pod("order-1"), pod("order-2", terminated), pod("order-3"))
			}, nil,
		},
		"a pod goes away": {
			func(o map[string]any) { o[services+"order"] = podList(pod("order-1"), pod("order-2", terminated)) },
			[]string{"1 of 2 pods of Deployment order are ready"},
		},
		"not deployed": {
			func(o map[string]any) { delete(o, "/apis/apps/v1/namespaces/services/deployments/order") },
			[]string{"Deployment order: not found"},
		},
		"database not deployed": {
			func(o map[string]any) {
				delete(o, "/apis/postgresql.cnpg.io/v1/namespaces/spire-server/clusters/spire-db")
			},
			[]string{"Cluster spire-db: the server could not find the requested resource"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			objects := deployed()
			test.harm(objects)
			parts, err := apiServer(t, objects).parts(t.Context())
			r := Report{Parts: parts, Agents: 2}
			if err != nil {
				r.Errors = []error{err}
			}
			require.Equal(t, test.want, r.Problems())
		})
	}
}

// A terminating pod is in the report, for its counters, and marked.
func TestServicesMarkTerminatingPods(t *testing.T) {
	inServices := func(p *corev1.Pod) { p.Namespace = servicesNamespace }
	const path = "/api/v1/namespaces/services/pods"
	client := apiServer(t, map[string]any{
		path + "?app.kubernetes.io/part-of=ephemos": podList(pod("order-1", inServices), pod("order-2", inServices, terminated)),
		path + "/http:order-1:8080/proxy/stats":     Stats{Service: "order"},
	})
	services, err := client.services(t.Context(), servicesNamespace)
	require.NoError(t, err)
	require.Equal(t, []Service{
		{Pod: "order-1", Ready: true, Stats: Stats{Service: "order"}}, {Pod: "order-2", Terminating: true},
	}, services)
}
