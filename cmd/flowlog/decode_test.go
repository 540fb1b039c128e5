package main

import (
	"net"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"
)

var (
	client4, server4 = netip.MustParseAddr("10.244.1.5"), netip.MustParseAddr("10.244.2.7")
	client6, server6 = netip.MustParseAddr("fd00:1::5"), netip.MustParseAddr("fd00:2::7")
)

// serialize writes a packet with right lengths and checksums.
func serialize(t testing.TB, parts ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buffer := gopacket.NewSerializeBuffer()
	require.NoError(t, gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, parts...))
	return buffer.Bytes()
}

func ipv4(protocol layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: 64, Protocol: protocol, SrcIP: net.IP(client4.AsSlice()), DstIP: net.IP(server4.AsSlice())}
}

func ipv6(next layers.IPProtocol) *layers.IPv6 {
	return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: next, SrcIP: net.IP(client6.AsSlice()), DstIP: net.IP(server6.AsSlice())}
}

func tcp(ip gopacket.NetworkLayer, change func(*layers.TCP)) *layers.TCP {
	segment := &layers.TCP{SrcPort: 40000, DstPort: 8443, SYN: true, Window: 1024}
	if change != nil {
		change(segment)
	}
	_ = segment.SetNetworkLayerForChecksum(ip)
	return segment
}

func TestDecode(t *testing.T) {
	v4, v6 := ipv4(layers.IPProtocolTCP), ipv6(layers.IPProtocolTCP)
	options := ipv4(layers.IPProtocolTCP)
	options.Options = []layers.IPv4Option{{OptionType: 7, OptionLength: 7, OptionData: make([]byte, 5)}}
	later := ipv4(layers.IPProtocolTCP)
	later.FragOffset = 100
	udp4 := &layers.UDP{SrcPort: 40000, DstPort: 53}
	_ = udp4.SetNetworkLayerForChecksum(ipv4(layers.IPProtocolUDP))
	icmp6 := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(128, 0)}
	_ = icmp6.SetNetworkLayerForChecksum(v6)
	hops := gopacket.Payload(append([]byte{protocolTCP, 0, 1, 4, 0, 0, 0, 0}, serialize(t, tcp(v6, nil))...))

	connect4 := packet{from: client4, fromPort: 40000, target: target{to: server4, protocol: protocolTCP, port: 8443}}
	connect6 := packet{from: client6, fromPort: 40000, target: target{to: server6, protocol: protocolTCP, port: 8443}}
	stray := connect4
	stray.stray = true
	for _, c := range []struct {
		name string
		data []byte
		want packet
	}{
		{"TCP", serialize(t, v4, tcp(v4, nil)), connect4},
		{"TCP over IPv6", serialize(t, v6, tcp(v6, nil)), connect6},
		{"IPv4 options", serialize(t, options, tcp(v4, nil)), connect4},
		{"IPv6 hop-by-hop options", serialize(t, ipv6(layers.IPProtocolIPv6HopByHop), hops), connect6},
		{"IPv6 first fragment", serialize(t, ipv6(layers.IPProtocolIPv6Fragment),
			gopacket.Payload(append([]byte{protocolTCP, 0, 0, 1, 0, 0, 0, 9}, serialize(t, tcp(v6, nil))...))), connect6},
		{"scan without flags", serialize(t, v4, tcp(v4, func(s *layers.TCP) { s.SYN = false })), connect4},
		{"answer", serialize(t, v4, tcp(v4, func(s *layers.TCP) { s.ACK = true })), stray},
		{"reset", serialize(t, v4, tcp(v4, func(s *layers.TCP) { s.SYN, s.RST = false, true })), stray},
		{"UDP", serialize(t, ipv4(layers.IPProtocolUDP), udp4, gopacket.Payload("x")),
			packet{from: client4, fromPort: 40000, target: target{to: server4, protocol: protocolUDP, port: 53}}},
		{"ping", serialize(t, ipv4(layers.IPProtocolICMPv4), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0)}),
			packet{from: client4, target: target{to: server4, protocol: protocolICMP, port: 8 << 8}}},
		{"unreachable", serialize(t, ipv4(layers.IPProtocolICMPv4), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 13)}),
			packet{from: client4, stray: true, target: target{to: server4, protocol: protocolICMP, port: 3<<8 | 13}}},
		{"ping over IPv6", serialize(t, ipv6(layers.IPProtocolICMPv6), icmp6),
			packet{from: client6, target: target{to: server6, protocol: protocolICMPv6, port: 128 << 8}}},
		{"later fragment", serialize(t, later, gopacket.Payload("rest")),
			packet{from: client4, stray: true, target: target{to: server4, protocol: protocolTCP}}},
		{"another protocol", serialize(t, ipv4(layers.IPProtocolGRE), gopacket.Payload("xxxx")),
			packet{from: client4, target: target{to: server4, protocol: 47}}},
		{"cut off ports", serialize(t, v4, tcp(v4, nil))[:22],
			packet{from: client4, target: target{to: server4, protocol: protocolTCP}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := decode(c.data)
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	whole := serialize(t, ipv4(layers.IPProtocolTCP), tcp(ipv4(layers.IPProtocolTCP), nil))
	change := func(i int, b byte) []byte {
		data := append([]byte{}, whole...)
		data[i] = b
		return data
	}
	chain := []byte{0x60, 0, 0, 0, 0, 200, 0, 64}
	chain = append(chain, make([]byte, 32+200)...) // hop-by-hop options that follow each other
	for name, data := range map[string][]byte{
		"nothing": nil, "version 5": {0x55}, "short IPv4": whole[:19], "short IPv6": make([]byte, 39),
		"header of 16 bytes": change(0, 0x44), "header longer than the packet": change(0, 0x4f)[:40], "total length of 4": change(3, 4)[:24],
		"endless extensions": chain,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := decode(data)
			require.ErrorIs(t, err, errMalformed)
		})
	}
}

func FuzzDecode(f *testing.F) {
	v4, v6 := ipv4(layers.IPProtocolTCP), ipv6(layers.IPProtocolTCP)
	f.Add(serialize(f, v4, tcp(v4, nil)))
	f.Add(serialize(f, v6, tcp(v6, nil)))
	f.Add(serialize(f, ipv6(layers.IPProtocolIPv6Fragment), gopacket.Payload("\x06\x00\x10\x00\x00\x00\x00\x09rest")))
	f.Add(serialize(f, ipv4(layers.IPProtocolICMPv4), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0)}))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := decode(data)
		if err != nil {
			require.Zero(t, p, "an error comes without a packet")
			return
		}
		require.True(t, p.from.IsValid() && p.to.IsValid() && p.from.Is4() == p.to.Is4())
		if p.port != 0 && p.fromPort != 0 {
			require.True(t, p.hasPorts())
		}
		// What the kernel cuts off must not make another packet of it.
		short, err := decode(data[:max(len(data)-1, 1)])
		if err == nil {
			require.Equal(t, p.from, short.from)
			require.Equal(t, p.to, short.to)
		}
		// The decoder of gopacket agrees where it has an opinion.
		checkAgainstGopacket(t, data, p)
	})
}

// checkAgainstGopacket compares with gopacket for packets that it decodes without reservation up to the transport layer.
func checkAgainstGopacket(t *testing.T, data []byte, p packet) {
	first := layers.LayerTypeIPv4
	if data[0]>>4 == 6 {
		first = layers.LayerTypeIPv6
	}
	other := gopacket.NewPacket(data, first, gopacket.NoCopy)
	if other.ErrorLayer() != nil || other.TransportLayer() == nil || other.Metadata().Truncated {
		return
	}
	// gopacket also decodes what is inside tunnels.
	if types := other.Layers(); len(types) < 2 || types[1].LayerType() != other.TransportLayer().LayerType() {
		return
	}
	switch layer := other.TransportLayer().(type) {
	case *layers.TCP:
		require.Equal(t, [2]uint16{uint16(layer.SrcPort), uint16(layer.DstPort)}, [2]uint16{p.fromPort, p.port})
		require.Equal(t, layer.ACK || layer.RST, p.stray)
	case *layers.UDP:
		require.Equal(t, [2]uint16{uint16(layer.SrcPort), uint16(layer.DstPort)}, [2]uint16{p.fromPort, p.port})
	}
}
