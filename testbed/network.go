package testbed

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// within opens a netlink handle that acts in the machine's network namespace.
func within(m machine) (*netlink.Handle, func(), error) {
	ns, err := m.networkNamespace()
	if err != nil {
		return nil, nil, fmt.Errorf("network namespace of %s: %w", m.Name, err)
	}
	handle, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()))
	if err != nil {
		_ = ns.Close()
		return nil, nil, fmt.Errorf("network namespace of %s: %w", m.Name, err)
	}
	return handle, func() { handle.Close(); _ = ns.Close() }, nil
}

// linkControlPlane makes the bridge inside the control plane's namespace and routes to every node's pods. What no node owns in
// the pod and service ranges is unreachable, and there is no default route. It may be called again at any time.
func linkControlPlane(m machine, nodes []node) error {
	h, done, err := within(m)
	if err != nil {
		return err
	}
	defer done()
	if err := linkUp(h, "lo"); err != nil {
		return err
	}
	attributes := netlink.NewLinkAttrs()
	attributes.Name = bridgeName
	if err := h.LinkAdd(&netlink.Bridge{LinkAttrs: attributes}); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("bridge: %w", err)
	}
	if err := setAddress(h, bridgeName, controlPlaneAddress); err != nil {
		return err
	}
	for _, cidr := range []string{PodRange, ServiceRange} {
		if err := h.RouteReplace(&netlink.Route{Dst: mustCIDR(cidr), Type: unix.RTN_UNREACHABLE}); err != nil {
			return fmt.Errorf("unreachable %s: %w", cidr, err)
		}
	}
	for _, n := range nodes {
		if err := h.RouteReplace(&netlink.Route{Dst: mustCIDR(n.PodCIDR), Gw: net.ParseIP(n.Address)}); err != nil {
			return fmt.Errorf("route to the pods of %s: %w", n.Name, err)
		}
	}
	return nil
}

// linkNode joins the node to the bridge and gives it routes to the other nodes' pods and to the service range. There is no
// default route. It may be called again at any time, and mends what is missing.
func linkNode(control, m machine, n node, nodes []node) error {
	c, doneControl, err := within(control)
	if err != nil {
		return err
	}
	defer doneControl()
	h, done, err := within(m)
	if err != nil {
		return err
	}
	defer done()
	if err := linkUp(h, "lo"); err != nil {
		return err
	}
	if _, err := h.LinkByName("eth0"); err != nil {
		// The bridge's end of an earlier life of this node goes away with its namespace, but not at once.
		if old, err := c.LinkByName(n.link()); err == nil {
			if err := c.LinkDel(old); err != nil && !errors.Is(err, unix.ENODEV) {
				return fmt.Errorf("remove old link: %w", err)
			}
		}
		attributes := netlink.NewLinkAttrs()
		attributes.Name = n.link()
		veth := &netlink.Veth{LinkAttrs: attributes, PeerName: "eth0", PeerNamespace: netlink.NsPid(m.pid)}
		if err := c.LinkAdd(veth); err != nil {
			return fmt.Errorf("veth: %w", err)
		}
	}
	bridge, err := c.LinkByName(bridgeName)
	if err != nil {
		return err
	}
	port, err := c.LinkByName(n.link())
	if err != nil {
		return err
	}
	if err := c.LinkSetMaster(port, bridge); err != nil {
		return err
	}
	if err := c.LinkSetUp(port); err != nil {
		return err
	}
	if err := setAddress(h, "eth0", n.Address); err != nil {
		return err
	}
	eth0, err := h.LinkByName("eth0")
	if err != nil {
		return err
	}
	// Destination translation of a service address happens after the routing decision, which therefore needs a route; what is
	// not translated finds no neighbour and stays on the bridge.
	if err := h.RouteReplace(&netlink.Route{Dst: mustCIDR(ServiceRange), LinkIndex: eth0.Attrs().Index, Scope: unix.RT_SCOPE_LINK}); err != nil {
		return fmt.Errorf("route to services: %w", err)
	}
	if err := h.RouteReplace(&netlink.Route{Dst: mustCIDR(PodRange), Type: unix.RTN_UNREACHABLE}); err != nil {
		return err
	}
	for _, other := range nodes {
		if other.Name == n.Name {
			continue
		}
		// A cut that was never healed would make the other node an unusable gateway.
		if err := h.RouteDel(blackholeRoute(other)); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("heal the cut from %s: %w", other.Name, err)
		}
		if err := h.RouteReplace(&netlink.Route{Dst: mustCIDR(other.PodCIDR), Gw: net.ParseIP(other.Address)}); err != nil {
			return fmt.Errorf("route to the pods of %s: %w", other.Name, err)
		}
	}
	return nil
}

// setPort takes the bridge's port of the node up or down: down, no other machine reaches the node.
func setPort(control machine, n node, up bool) error {
	h, done, err := within(control)
	if err != nil {
		return err
	}
	defer done()
	port, err := h.LinkByName(n.link())
	if err != nil {
		return fmt.Errorf("link to %s: %w", n.Name, err)
	}
	if up {
		return h.LinkSetUp(port)
	}
	return h.LinkSetDown(port)
}

// blackhole makes m drop, without an answer, everything for the node and its pods; heal undoes it with the routes of linkNode.
func blackhole(m machine, target node, drop bool) error {
	h, done, err := within(m)
	if err != nil {
		return err
	}
	defer done()
	host := blackholeRoute(target)
	pods := mustCIDR(target.PodCIDR)
	if drop {
		return errors.Join(h.RouteReplace(host), h.RouteReplace(&netlink.Route{Dst: pods, Type: unix.RTN_BLACKHOLE}))
	}
	if err := h.RouteDel(host); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return h.RouteReplace(&netlink.Route{Dst: pods, Gw: net.ParseIP(target.Address)})
}

func blackholeRoute(n node) *netlink.Route {
	return &netlink.Route{Dst: &net.IPNet{IP: net.ParseIP(n.Address), Mask: net.CIDRMask(32, 32)}, Type: unix.RTN_BLACKHOLE}
}

func linkUp(h *netlink.Handle, name string) error {
	l, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return h.LinkSetUp(l)
}

func setAddress(h *netlink.Handle, name, address string) error {
	l, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	a := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(address), Mask: net.CIDRMask(linkPrefixLength, 32)}}
	if err := h.AddrReplace(l, a); err != nil {
		return fmt.Errorf("address %s: %w", address, err)
	}
	return h.LinkSetUp(l)
}
