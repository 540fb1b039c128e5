// Package postgres deploys replicated Postgres on Kubernetes with CloudNativePG: the operator (NewOperator) and a cluster
// with one database, for one client that logs in with a certificate (New).
//
// In: images, sizes, and what a commit has to wait for. Out: the host to connect to and the names of the Secrets with the
// database's CA certificate and the client's certificate. No private key and no password passes through Pulumi.
//
// What is said here of CloudNativePG was read in its source at v1.30.1; paths are those of its repository.
//
// # No password
//
// The client role logs in with a certificate that the operator issues and renews (a DatabaseRole with clientCertificate).
// pg_hba lets it in by `hostssl <database> <role> all cert` and rejects every other connection over the network, except
// those that CloudNativePG puts first: its own replication, by certificate, and its instance manager, over a socket in
// the pod. The default rule at the end, a password for anybody, is never reached.
//
// bootstrap.initdb by itself always makes a Secret <cluster>-app with a generated password for the owner of the database
// and sets it whenever an instance manager starts, also after a DatabaseRole with disablePassword has removed it
// (api/v1/cluster_funcs.go ShouldInitDBCreateApplicationSecret, internal/management/controller reconcileUser). It does not
// when bootstrap.initdb.secret names a Secret, which must then have the keys username and password. So the cluster is
// given one whose password is empty, and annotated so that the operator hands the value to Postgres as it is: Postgres
// takes an empty password for none and clears it (ALTER ROLE). The role thus has no password in the database either.
// There is no password for the superuser: enableSuperuserAccess stays off.
//
// # How fast a failover is
//
// Writes stop from the loss of the primary until the Service <cluster>-rw has the next one as its endpoint. What the time
// goes into, and what is set here to shorten it:
//
// Primary's pod deleted, with grace or by force. Both ways the kubelet sends SIGTERM and waits for the pod's termination
// grace period, which is stopDelay: a forced deletion only takes the object away (Kubernetes v1.35,
// pkg/kubelet/pod_workers.go calculateEffectiveGracePeriod). The instance manager then begins with a "smart" shutdown,
// by default for up to 180 s, in which sessions that are open go on. Its command loop is busy with that shutdown
// (internal/cmd/manager/instance/run/lifecycle), so it does not hear that the operator wants it out of the way, the
// standbys go on receiving, and the operator waits, second by second, for all receivers to be down before it elects
// (internal/controller/replicas.go). With smartShutdownTimeout 0 the shutdown is "fast" from the beginning: sessions end,
// the standbys receive what is left, the manager releases the primary's lease, and a standby may take it at its next poll.
// Expect: shutdown below 1 s, the operator's next pass 1 s, the lease poll up to leaseRetry, promotion about 1 s.
//
// Instance process killed. The lease stays held: a standby has to see it unchanged for a whole leaseDuration, counted from
// when the standby was elected (internal/cmd/manager/instance/run/lease). The default is 15 s. The operator elects as
// soon as the pod is not Ready and its status endpoint does not answer, which for an ended container is within about a
// second. If the kubelet has restarted the container before that, the old primary recovers and goes on instead; it may,
// because the lease names it. Expect: 1-2 s, then at most leaseDuration + leaseRetry, then promotion.
//
// Postgres hangs. Ready turns false after readinessPeriod x readinessFailures, then as above.
//
// Node lost without a word. Ready turns false only when the node controller gives the node up:
// kube-controller-manager's --node-monitor-grace-period, 50 s by default from Kubernetes 1.32 on, plus up to one
// --node-monitor-period (5 s). Nothing in the cluster's specification can shorten that; then as above. The operator may have
// been on that node: there are two replicas on different nodes, and their own election takes over within the time above.
// The receivers of the standbys notice by wal_receiver_timeout. The operator's requests to the lost pod end after 2 s
// without a connection (pkg/management/postgres/webserver/client/remote); a kept-alive one after up to 30 s, which falls
// into the grace period.
//
// Switchover (kubectl cnpg promote, a drained node, an update). The old primary takes a checkpoint, shuts down fast within
// switchoverDelay and releases the lease: as with a deleted pod.
//
// Why a short lease is safe. The lease does not stop a primary that cannot renew it: that primary retries for as long as
// nobody else has taken the lease (runLeaderElection). Somebody else takes it only after being elected by the operator,
// which takes a primary that is not Ready and standbys that no longer receive from it; and with synchronous replication a
// primary without standbys cannot acknowledge a commit. What the lease is for, a standby that replays from an archive
// and stops short, does not occur without an archive. The price is one small write a second to the API server.
//
// failoverQuorum lets the operator elect only when the standbys it can see must include one with every acknowledged
// commit (internal/controller/replicas_quorum.go): of three instances both standbys must be Ready. A second failover is
// therefore refused until the first one's loser has come back as a standby. Losing a write would be worse.
//
// # How fast a cluster is there
//
// Instances join one after the other: a job copies the primary's data, then the pod starts and must be Ready. Two defaults
// dominate that time. The startup and readiness probes run every 10 s; here, every second or two. pg_basebackup asks for a
// checkpoint that is spread over time (pkg/management/postgres/join.go gives no -c fast), writing one buffer in 100 ms as
// long as it is ahead of schedule; with checkpoint_completion_target 0 it never is (PostgreSQL,
// src/backend/postmaster/checkpointer.c IsCheckpointOnSchedule). The data is small, so a checkpoint that does not spread
// its writes harms nobody.
//
// New is done, for Pulumi, when the primary accepts connections and the client's certificate exists: dependents need not
// wait for standbys. The instance manager applies the DatabaseRole once Postgres accepts connections, and its own sessions
// do not wait for standbys, so status.applied says exactly that. With "required" durability the commits of dependents wait
// until the first standby streams. To wait for the whole cluster, use Await: Whole, or
// `kubectl wait --for=condition=Ready cluster/<name>`.
package postgres
