package main

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strconv"
)

// A packet is what the headers of a refused packet say.
type packet struct {
	target
	from     netip.Addr
	fromPort uint16
	// stray says that the packet does not open a connection: an answer, the middle of a connection that the kernel has forgotten,
	// or an ICMP error. It is reported, and forms no pattern.
	stray bool
}

// A target is what a packet was sent to.
type target struct {
	to       netip.Addr
	protocol uint8 // of the Internet protocol numbers
	// port is the TCP or UDP port. For ICMP it is the type in the upper and the code in the lower byte. Zero for other
	// protocols, and for fragments that carry no header.
	port uint16
}

// The protocols that are looked into.
const (
	protocolICMP   = 1
	protocolTCP    = 6
	protocolUDP    = 17
	protocolICMPv6 = 58
)

// Extension headers of IPv6.
const (
	extensionHopByHop     = 0
	extensionRouting      = 43
	extensionFragment     = 44
	extensionAuth         = 51
	extensionNone         = 59
	extensionDestination  = 60
	extensionMobility     = 135
	extensionHostIdentity = 139
	extensionShim6        = 140
)

// maxExtensions bounds the extension headers that are followed. Real packets have three or four at most.
const maxExtensions = 8

var errMalformed = errors.New("malformed packet")

// decode reads the headers of an IP packet, of which only the beginning need be there. Everything in it is chosen by whoever sent
// it. A packet whose IP header makes no sense is an error; one whose inner header is missing or cut off has no ports.
func decode(data []byte) (packet, error) {
	if len(data) == 0 {
		return packet{}, errMalformed
	}
	switch data[0] >> 4 {
	case 4:
		return decodeIPv4(data)
	case 6:
		return decodeIPv6(data)
	}
	return packet{}, errMalformed
}

func decodeIPv4(data []byte) (packet, error) {
	if len(data) < 20 {
		return packet{}, errMalformed
	}
	header, total := int(data[0]&0x0f)*4, int(binary.BigEndian.Uint16(data[2:]))
	if header < 20 || len(data) < header || total < header {
		return packet{}, errMalformed
	}
	p := packet{from: netip.AddrFrom4([4]byte(data[12:16])), target: target{to: netip.AddrFrom4([4]byte(data[16:20])), protocol: data[9]}}
	if offset := binary.BigEndian.Uint16(data[6:]) & 0x1fff; offset != 0 {
		p.stray = true
		return p, nil
	}
	p.inner(data[header:min(len(data), total)])
	return p, nil
}

func decodeIPv6(data []byte) (packet, error) {
	if len(data) < 40 {
		return packet{}, errMalformed
	}
	p := packet{from: netip.AddrFrom16([16]byte(data[8:24])), target: target{to: netip.AddrFrom16([16]byte(data[24:40]))}}
	next, rest := data[6], data[40:]
	if length := int(binary.BigEndian.Uint16(data[4:])); length < len(rest) {
		rest = rest[:length]
	}
	for range maxExtensions {
		p.protocol = next
		switch next {
		case extensionHopByHop, extensionRouting, extensionDestination, extensionMobility, extensionHostIdentity, extensionShim6:
			if len(rest) < 8 {
				return p, nil
			}
			size := (int(rest[1]) + 1) * 8
			if len(rest) < size {
				return p, nil
			}
			next, rest = rest[0], rest[size:]
		case extensionAuth:
			if len(rest) < 8 {
				return p, nil
			}
			size := (int(rest[1]) + 2) * 4
			if len(rest) < size {
				return p, nil
			}
			next, rest = rest[0], rest[size:]
		case extensionFragment:
			if len(rest) < 8 {
				return p, nil
			}
			offset := binary.BigEndian.Uint16(rest[2:]) >> 3
			next, rest = rest[0], rest[8:]
			if offset != 0 {
				p.protocol, p.stray = next, true
				return p, nil
			}
		case extensionNone:
			return p, nil
		default:
			p.inner(rest)
			return p, nil
		}
	}
	return packet{}, errMalformed
}

// inner reads the header inside the IP packet, if it is there.
func (p *packet) inner(data []byte) {
	switch p.protocol {
	case protocolTCP:
		if len(data) < 14 {
			return
		}
		p.fromPort, p.port = binary.BigEndian.Uint16(data), binary.BigEndian.Uint16(data[2:])
		// A scan may do without SYN, but a segment that acknowledges something, or resets, is no attempt to connect.
		const reset, acknowledgement = 0x04, 0x10
		p.stray = data[13]&(reset|acknowledgement) != 0
	case protocolUDP:
		if len(data) < 4 {
			return
		}
		p.fromPort, p.port = binary.BigEndian.Uint16(data), binary.BigEndian.Uint16(data[2:])
	case protocolICMP:
		if len(data) < 2 {
			return
		}
		p.port = binary.BigEndian.Uint16(data)
		// Echo, timestamp, information and mask requests ask for an answer, everything else is one or reports an error.
		p.stray = data[0] != 8 && data[0] != 13 && data[0] != 15 && data[0] != 17
	case protocolICMPv6:
		if len(data) < 2 {
			return
		}
		p.port = binary.BigEndian.Uint16(data)
		p.stray = data[0] != 128
	}
}

// name is the protocol in Kubernetes' notation, or its number.
func (t target) name() string {
	switch t.protocol {
	case protocolTCP:
		return "TCP"
	case protocolUDP:
		return "UDP"
	case protocolICMP:
		return "ICMP"
	case protocolICMPv6:
		return "ICMPv6"
	}
	return strconv.Itoa(int(t.protocol))
}

// hasPorts says whether port is a port.
func (t target) hasPorts() bool { return t.protocol == protocolTCP || t.protocol == protocolUDP }

// String names the target in reports, such as "10.1.2.3:8443/TCP" and "10.1.2.3/ICMP".
func (t target) String() string {
	if t.hasPorts() {
		return netip.AddrPortFrom(t.to, t.port).String() + "/" + t.name()
	}
	return t.to.String() + "/" + t.name()
}
