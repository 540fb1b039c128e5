package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffegrpc/grpccredentials"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	svidv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/svid/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

const (
	// roundRobin and the options of dial are those of the agent (spire pkg/agent/client/dial.go, v1.15.3), so that the
	// prober finds the servers as an agent does.
	roundRobin = `{ "loadBalancingConfig": [ { "round_robin": {} } ] }`
	// pageSize and batchSize keep requests small.
	pageSize  = 500
	batchSize = 50
	mintTTL   = time.Minute
)

// source is the prober's own identity and the bundles it trusts.
type source interface {
	x509svid.Source
	x509bundle.Source
}

// servers is the SPIRE servers' API, used with an admin identity.
type servers struct {
	conn        *grpc.ClientConn
	entries     entryv1.EntryClient
	svids       svidv1.SVIDClient
	trustDomain spiffeid.TrustDomain
	prefix      string
}

func dial(c config, s source) (*servers, error) {
	serverID, err := spiffeid.FromSegments(c.trustDomain, "spire", "server")
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient("dns:///"+c.server,
		grpc.WithDefaultServiceConfig(roundRobin),
		grpc.WithDisableServiceConfig(),
		grpc.WithTransportCredentials(grpccredentials.MTLSClientCredentials(s, s, tlsconfig.AuthorizeID(serverID))),
	)
	if err != nil {
		return nil, fmt.Errorf("SERVER_ADDRESS: %w", err)
	}
	return newServers(conn, c), nil
}

func newServers(conn *grpc.ClientConn, c config) *servers {
	return &servers{
		conn: conn, entries: entryv1.NewEntryClient(conn), svids: svidv1.NewSVIDClient(conn),
		trustDomain: c.trustDomain, prefix: c.prefix,
	}
}

func (s *servers) id(path string) *types.SPIFFEID {
	return &types.SPIFFEID{TrustDomain: s.trustDomain.Name(), Path: path}
}

// parent is the parent of all entries of the prober. No agent has this identity, so the entries give nobody an SVID.
func (s *servers) parent() *types.SPIFFEID { return s.id("/" + s.prefix + "/parent") }

// create creates an entry with a unique SPIFFE ID and returns its ID once the server has acknowledged it.
func (s *servers) create(ctx context.Context) (string, error) {
	name := rand.Text()
	response, err := s.entries.BatchCreateEntry(ctx, &entryv1.BatchCreateEntryRequest{
		Entries: []*types.Entry{{
			SpiffeId:  s.id("/" + s.prefix + "/entry/" + name),
			ParentId:  s.parent(),
			Selectors: []*types.Selector{{Type: s.prefix, Value: "id:" + name}},
		}},
		OutputMask: &types.EntryMask{},
	})
	if err != nil {
		return "", err
	}
	if len(response.Results) != 1 {
		return "", fmt.Errorf("%d results for one entry", len(response.Results))
	}
	result := response.Results[0]
	if code := codes.Code(result.GetStatus().GetCode()); code != codes.OK {
		return "", fmt.Errorf("%s: %s", code, result.GetStatus().GetMessage())
	}
	if result.GetEntry().GetId() == "" {
		return "", errors.New("an entry without an ID was acknowledged")
	}
	return result.Entry.Id, nil
}

// mint has the server issue an SVID for a made-up workload.
func (s *servers) mint(ctx context.Context) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	id, err := spiffeid.FromSegments(s.trustDomain, s.prefix, "minted")
	if err != nil {
		return err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{id.URL()}}, key)
	if err != nil {
		return err
	}
	response, err := s.svids.MintX509SVID(ctx, &svidv1.MintX509SVIDRequest{Csr: csr, Ttl: int32(mintTTL.Seconds())})
	if err != nil {
		return err
	}
	if len(response.GetSvid().GetCertChain()) == 0 {
		return errors.New("the answer holds no certificate")
	}
	return nil
}

// list returns the IDs of all entries of the prober.
func (s *servers) list(ctx context.Context) ([]string, error) {
	var ids []string
	token := ""
	for {
		response, err := s.entries.ListEntries(ctx, &entryv1.ListEntriesRequest{
			Filter:     &entryv1.ListEntriesRequest_Filter{ByParentId: s.parent()},
			OutputMask: &types.EntryMask{},
			PageSize:   pageSize, PageToken: token,
		})
		if err != nil {
			return nil, err
		}
		for _, e := range response.Entries {
			ids = append(ids, e.Id)
		}
		if token = response.NextPageToken; token == "" {
			return ids, nil
		}
	}
}

// remove deletes entries and returns how many it deleted. Those that are gone already are no error.
func (s *servers) remove(ctx context.Context, ids []string) (int, error) {
	deleted := 0
	var errs []error
	for start := 0; start < len(ids); start += batchSize {
		batch := ids[start:min(start+batchSize, len(ids))]
		response, err := s.entries.BatchDeleteEntry(ctx, &entryv1.BatchDeleteEntryRequest{Ids: batch})
		if err != nil {
			return deleted, errors.Join(append(errs, err)...)
		}
		for _, r := range response.Results {
			switch code := codes.Code(r.GetStatus().GetCode()); code {
			case codes.OK:
				deleted++
			case codes.NotFound:
			default:
				errs = append(errs, fmt.Errorf("entry %s: %s: %s", r.Id, code, r.GetStatus().GetMessage()))
			}
		}
	}
	return deleted, errors.Join(errs...)
}
