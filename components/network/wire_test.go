package network

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"github.com/stretchr/testify/require"
)

// A wire records packets between two hosts as a firewall between them sees them, and writes them to a file.
type wire struct {
	t      *testing.T
	now    time.Time
	frames [][]byte
	times  []time.Time
	// port is the client's next port, so that each connection is one of its own.
	port uint16
}

func newWire(t *testing.T) *wire {
	return &wire{t: t, now: time.Date(2026, 1, 15, 10, 30, 0, 0, time.UTC), port: 40000}
}

func (w *wire) pause(d time.Duration) { w.now = w.now.Add(d) }

func (w *wire) send(parts ...gopacket.SerializableLayer) {
	w.t.Helper()
	ethernet := &layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, EthernetType: layers.EthernetTypeIPv4}
	buffer := gopacket.NewSerializeBuffer()
	require.NoError(w.t, gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		append([]gopacket.SerializableLayer{ethernet}, parts...)...))
	w.frames, w.times = append(w.frames, buffer.Bytes()), append(w.times, w.now)
	w.pause(time.Millisecond)
}

func (w *wire) write(name string) {
	w.t.Helper()
	file, err := os.Create(name)
	require.NoError(w.t, err)
	writer := pcapgo.NewWriter(file)
	require.NoError(w.t, writer.WriteFileHeader(65536, layers.LinkTypeEthernet))
	for i, frame := range w.frames {
		require.NoError(w.t, writer.WritePacket(gopacket.CaptureInfo{Timestamp: w.times[i], CaptureLength: len(frame), Length: len(frame)}, frame))
	}
	require.NoError(w.t, file.Close())
}

func ip(from, to netip.Addr, protocol layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: 63, Protocol: protocol, SrcIP: from.AsSlice(), DstIP: to.AsSlice()}
}

// segment sends one TCP segment.
func (w *wire) segment(from, to netip.Addr, segment *layers.TCP, payload []byte) {
	w.t.Helper()
	network := ip(from, to, layers.IPProtocolTCP)
	segment.Window = 64240
	require.NoError(w.t, segment.SetNetworkLayerForChecksum(network))
	w.send(network, segment, gopacket.Payload(payload))
}

// A speech is what one side says.
type speech struct {
	client bool
	data   []byte
}

func says(data string) speech    { return speech{true, []byte(data)} }
func answers(data string) speech { return speech{false, []byte(data)} }

// connection records a whole TCP connection: handshake, what the sides say in segments of at most 1400 bytes with acknowledgements,
// and the end.
func (w *wire) connection(from, to netip.Addr, port int, speeches ...speech) {
	w.t.Helper()
	w.port++
	clientPort, serverPort := layers.TCPPort(w.port), layers.TCPPort(port)
	clientSeq, serverSeq := uint32(1000), uint32(9000)
	client := func(change func(*layers.TCP), payload []byte) {
		s := &layers.TCP{SrcPort: clientPort, DstPort: serverPort, Seq: clientSeq, Ack: serverSeq, ACK: true}
		change(s)
		w.segment(from, to, s, payload)
		clientSeq += uint32(len(payload))
	}
	server := func(change func(*layers.TCP), payload []byte) {
		s := &layers.TCP{SrcPort: serverPort, DstPort: clientPort, Seq: serverSeq, Ack: clientSeq, ACK: true}
		change(s)
		w.segment(to, from, s, payload)
		serverSeq += uint32(len(payload))
	}
	plain, push := func(*layers.TCP) {}, func(s *layers.TCP) { s.PSH = true }
	client(func(s *layers.TCP) { s.SYN, s.ACK, s.Ack = true, false, 0 }, nil)
	clientSeq++
	server(func(s *layers.TCP) { s.SYN = true }, nil)
	serverSeq++
	client(plain, nil)
	for _, speech := range speeches {
		for rest := speech.data; len(rest) > 0; {
			part := rest[:min(len(rest), 1400)]
			rest = rest[len(part):]
			if speech.client {
				client(push, part)
				server(plain, nil)
			} else {
				server(push, part)
				client(plain, nil)
			}
		}
	}
	client(func(s *layers.TCP) { s.FIN = true }, nil)
	clientSeq++
	server(func(s *layers.TCP) { s.FIN = true }, nil)
	serverSeq++
	client(plain, nil)
	w.pause(10 * time.Millisecond)
}

// knock sends a single segment, which nobody answers.
func (w *wire) knock(from, to netip.Addr, port int, change func(*layers.TCP)) {
	w.t.Helper()
	w.port++
	s := &layers.TCP{SrcPort: layers.TCPPort(w.port), DstPort: layers.TCPPort(port), Seq: 1000}
	change(s)
	w.segment(from, to, s, nil)
}

func syn(s *layers.TCP) { s.SYN = true }

func (w *wire) datagram(from, to netip.Addr, port int, payload []byte) {
	w.t.Helper()
	w.port++
	network := ip(from, to, layers.IPProtocolUDP)
	datagram := &layers.UDP{SrcPort: layers.UDPPort(w.port), DstPort: layers.UDPPort(port)}
	require.NoError(w.t, datagram.SetNetworkLayerForChecksum(network))
	w.send(network, datagram, gopacket.Payload(payload))
}

func (w *wire) icmp(from, to netip.Addr, kind, code uint8, payload []byte) {
	w.t.Helper()
	w.send(ip(from, to, layers.IPProtocolICMPv4), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(kind, code), Id: 7}, gopacket.Payload(payload))
}

// query asks for an address and gets one.
func (w *wire) query(from, to netip.Addr, name string) {
	w.t.Helper()
	w.port++
	question := layers.DNSQuestion{Name: []byte(name), Type: layers.DNSTypeA, Class: layers.DNSClassIN}
	for _, answer := range []bool{false, true} {
		network, datagram := ip(from, to, layers.IPProtocolUDP), &layers.UDP{SrcPort: layers.UDPPort(w.port), DstPort: 53}
		message := &layers.DNS{ID: 1, RD: true, Questions: []layers.DNSQuestion{question}}
		if answer {
			network, datagram = ip(to, from, layers.IPProtocolUDP), &layers.UDP{SrcPort: 53, DstPort: layers.UDPPort(w.port)}
			message.QR, message.RA = true, true
			message.Answers = []layers.DNSResourceRecord{{
				Name: []byte(name), Type: layers.DNSTypeA, Class: layers.DNSClassIN, TTL: 30, IP: net.IPv4(10, 0, 70, 7),
			}}
		}
		require.NoError(w.t, datagram.SetNetworkLayerForChecksum(network))
		w.send(network, datagram, message)
	}
}

// recorder notes what goes through a connection in one direction.
type recorder struct {
	net.Conn
	client bool
	log    *[]speech
	mu     *sync.Mutex
}

func (r recorder) Write(data []byte) (int, error) {
	r.mu.Lock()
	*r.log = append(*r.log, speech{r.client, append([]byte{}, data...)})
	r.mu.Unlock()
	return r.Conn.Write(data)
}

// mutualTLS returns what a real mutual TLS connection of one version says, with a request and an answer inside.
func mutualTLS(t *testing.T, version uint16) []speech {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true, DNSNames: []string{"order"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	certificate, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(certificate)
	config := &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, RootCAs: pool, ClientCAs: pool,
		ClientAuth: tls.RequireAndVerifyClientCert, ServerName: "order", MinVersion: version, MaxVersion: version,
	}
	var log []speech
	var mu sync.Mutex
	clientEnd, serverEnd := net.Pipe()
	client := tls.Client(recorder{clientEnd, true, &log, &mu}, config)
	server := tls.Server(recorder{serverEnd, false, &log, &mu}, config)
	const request = "GET /chain HTTP/1.1\r\nHost: order\r\n\r\n"
	answered := make(chan error, 1)
	go func() {
		text := make([]byte, len(request))
		if _, err := io.ReadFull(server, text); err != nil {
			answered <- err
			return
		}
		if _, err := server.Write([]byte(httpAnswer)); err != nil {
			answered <- err
			return
		}
		_, err := io.Copy(io.Discard, server) // the client's farewell
		answered <- err
	}()
	_, err = client.Write([]byte(request))
	require.NoError(t, err)
	_, err = io.ReadFull(client, make([]byte, len(httpAnswer)))
	require.NoError(t, err)
	require.NoError(t, client.Close())
	require.NoError(t, <-answered)
	require.Equal(t, version, client.ConnectionState().Version)
	return log
}

// cut returns the same in segments of a few bytes.
func cut(speeches []speech, size int) []speech {
	var parts []speech
	for _, s := range speeches {
		for part := range slices.Chunk(s.data, size) {
			parts = append(parts, speech{s.client, part})
		}
	}
	return parts
}

// downgrade returns a TLS connection whose client offers 1.2, and whose server answers with an older version.
func downgrade(t *testing.T) []speech {
	t.Helper()
	offer := mutualTLS(t, tls.VersionTLS12)[0]
	old := mutualTLS(t, tls.VersionTLS10)
	return append([]speech{offer}, old[1:2]...)
}

// smb wraps an SMB1 message: NetBIOS length, the protocol, the command, and a header of 32 bytes in all.
func smb(command byte, body []byte) string {
	header := make([]byte, 32)
	copy(header, "\xffSMB")
	header[4] = command
	header[9], header[10], header[11] = 0x18, 0x07, 0xc0
	message := slices.Concat(header, body)
	return string(binary.BigEndian.AppendUint32(nil, uint32(len(message)))) + string(message)
}
