// Package dns is CoreDNS with the plugins that cluster DNS needs and no others: the full
// set brings in the client libraries of every cloud.
package dns

import (
	"context"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	"github.com/coredns/coredns/plugin"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/ready"
	"github.com/miekg/dns"
)

// Run serves DNS until the process is told to stop; it reads CoreDNS's own flags.
func Run() {
	// Outermost first: an answer passes through the plugins in this order.
	dnsserver.Directives = []string{"bind", "ready", "errors", "cache", "kubernetes", "nxdomain"}
	plugin.Register("nxdomain", func(c *caddy.Controller) error {
		dnsserver.GetConfig(c).AddPlugin(func(plugin.Handler) plugin.Handler { return nxdomain{} })
		return nil
	})
	coremain.Run()
}

// nxdomain ends the chain: the node has no way out, so a name outside of the cluster does
// not exist, which clients take as an answer, while they would retry a refusal.
type nxdomain struct{}

func (nxdomain) Name() string { return "nxdomain" }

func (nxdomain) ServeDNS(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	answer := new(dns.Msg).SetRcode(r, dns.RcodeNameError)
	return dns.RcodeNameError, w.WriteMsg(answer)
}
