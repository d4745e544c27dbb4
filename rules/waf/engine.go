package waf

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/corazawaf/coraza/v3"
	"github.com/corazawaf/coraza/v3/collection"
	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
	"github.com/corazawaf/coraza/v3/types"

	"github.com/moatwaf/moat/filter"
)

// evaluator decides one request by its payload. It is the seam between the stage
// and the engines: the plain engine below is the reference for any other.
type evaluator interface {
	// evaluate judges the request. It calls body at most once, and only if it
	// must see the body to decide; a refusal of body is the outcome. The kind that
	// it asks for is bodyKindOf the request, or what a rule has chosen.
	evaluate(r *filter.Request, body bodyFunc) (outcome, error)
}

// bodyFunc reads and prepares a body. See Stage.readPayload.
type bodyFunc func(bodyKind) (payload, *filter.Decision)

// outcome is what the rules found. The zero outcome lets the request pass.
type outcome struct {
	refusal   *filter.Decision // the body decided by itself
	blocked   bool
	rule      int // the rule that refused; 0 for the engine itself
	status    int // as the rule says it; 0 for none
	score     int
	threshold int
	matched   []int // rules with a message, in order, each once

	// dear says that the rules of phase 1 or 2 cost too much. They were not all
	// evaluated, and nothing else of the outcome says anything.
	dear types.RulePhase

	ended  bool      // by the budget, and so judged by less of the request, or by none
	proved bool      // shown to be clean without the engine
	why    *handover // why it was not; nil without the fast engine

	followed bool // judged without the engine, with what the rules have found
}

// maxMatched bounds the rules that one outcome lists.
const maxMatched = 32

// transaction is what the stage needs of the engine's transaction beyond
// types.Transaction. The engine's own type has it.
type transaction interface {
	types.Transaction
	plugintypes.TransactionState
	RemoveRuleByID(id int)
	RemoveRuleByIDRange(start, end int)
	GetRuleRemoveByIDRanges() [][2]int
	AddPostRequestArgument(key, value string)
}

// plain is Coraza as it is.
type plain struct {
	waf coraza.WAF

	// small is how many bytes a request may have without being held to its budget.
	small int

	// arguments is the limit that the preparation of XML keeps to.
	arguments int

	// observe, if not nil, is told every rule that matched. It is for tests.
	observe func([]types.MatchedRule)

	// look, if not nil, is shown the transaction before it is closed. See Explain.
	look func(transaction)
}

var errTransaction = errors.New("the engine's transaction lacks a method that moat needs")

// evaluate implements evaluator.
func (e plain) evaluate(r *filter.Request, body bodyFunc) (out outcome, err error) {
	base := e.waf.NewTransactionWithID(r.ID())
	tx, ok := base.(transaction)
	defer func() {
		if e.observe != nil {
			e.observe(base.MatchedRules())
		}
		if e.look != nil && ok {
			e.look(tx)
		}
		// The transaction goes back to the engine's pool. An error here is one of
		// removing temporary files of uploads; what was decided stands.
		_ = base.Close()
	}()
	if !ok {
		return outcome{}, errTransaction
	}
	addConnection(tx, r)
	addHeaders(tx, r)
	// The engine names a parser for two types; the others are named here, so that
	// the rules of phase 1 know it.
	kind := bodyKindOf(r.HTTP)
	if name := processors[kind]; name != "" {
		set(tx.Variables().RequestBodyProcessor(), name)
	}
	size := headSize(r.HTTP)
	if size <= e.small {
		afford(tx, types.PhaseRequestHeaders)
	}
	it := tx.ProcessRequestHeaders()
	if dear(tx) {
		return outcome{dear: types.PhaseRequestHeaders}, nil
	}
	if it != nil {
		return e.outcome(tx, it), nil
	}
	// An exclusion may have switched the rules, or the body, off.
	if !tx.IsRuleEngineOff() && tx.IsRequestBodyAccessible() {
		if kind == kindNone && tx.Variables().RequestBodyProcessor().Get() != "" && hasBody(r.HTTP) {
			kind = kindText // a rule has chosen a parser for what nobody would read
		}
		p, refusal := body(kind)
		if refusal != nil {
			return outcome{refusal: refusal}, nil
		}
		if p.settle(e.arguments, e.small < math.MaxInt); p.dear {
			return outcome{dear: types.PhaseRequestBody}, nil
		}
		size += len(p.data)
		if it, err := e.addBody(tx, p); err != nil || it != nil {
			return e.outcome(tx, it), err
		}
	}
	if size <= e.small {
		afford(tx, types.PhaseRequestBody)
	}
	it, err = tx.ProcessRequestBody()
	if err != nil {
		return outcome{}, fmt.Errorf("judging the body: %w", err)
	}
	if dear(tx) {
		return outcome{dear: types.PhaseRequestBody}, nil
	}
	return e.outcome(tx, it), nil
}

// processors are the engine's body parsers. Text has none of them: it is put
// where the rules look by addBody.
var processors = [...]string{
	kindNone:      "",
	kindText:      "RAW",
	kindForm:      "URLENCODED",
	kindMultipart: "MULTIPART",
	kindJSON:      "JSON",
	kindNDJSON:    "JSON",
	kindXML:       "XML",
}

// addBody gives the engine the body, before phase 2.
func (e plain) addBody(tx transaction, p payload) (*types.Interruption, error) {
	if len(p.data) == 0 {
		return nil, nil
	}
	v := tx.Variables()
	switch p.kind {
	case kindNone:
		return nil, nil
	case kindJSON:
		// Text may have turned out to be JSON. A processor that a rule has chosen
		// stands.
		if v.RequestBodyProcessor().Get() == processors[kindText] {
			set(v.RequestBodyProcessor(), processors[kindJSON])
			set(v.RequestBodyLength(), strconv.Itoa(len(p.data))) // as the parser for text does
		}
	case kindText:
		if v.RequestBodyProcessor().Get() == processors[kindText] {
			text := string(p.data)
			tx.AddPostRequestArgument("body", text)
			for _, pair := range formPairs(text) {
				tx.AddPostRequestArgument(pair[0], pair[1])
			}
		}
	}
	if p.cut {
		// The end of what the rules see is the policy's choice, not the client's.
		set(v.InboundDataError(), "1")
		tx.RemoveRuleByID(ruleBodyError)
	}
	it, n, err := tx.WriteRequestBody(p.data)
	if err != nil {
		return nil, fmt.Errorf("handing over the body: %w", err)
	}
	if it == nil && n != len(p.data) && !tx.IsRuleEngineOff() {
		return nil, fmt.Errorf("the engine took %d of %d bytes of the body", n, len(p.data))
	}
	return it, nil
}

// addConnection sets the variables about the connection and the request line.
func addConnection(tx transaction, r *filter.Request) {
	client := r.Client
	if !client.IsValid() {
		client = r.Peer
	}
	address, port := "", 0
	if client.IsValid() {
		address = client.String()
		if ap, err := netip.ParseAddrPort(r.HTTP.RemoteAddr); err == nil && client == r.Peer {
			port = int(ap.Port())
		}
	}
	server, serverPort := localAddr(r.HTTP.Context())
	tx.ProcessConnection(address, port, server, serverPort)

	tx.ProcessURI(targetOf(r.HTTP), r.HTTP.Method, r.HTTP.Proto)
	tx.SetServerName(r.Host)
	distinctKeys(tx.Variables().ArgsGet())
	if isTunnel(r.HTTP) {
		tx.RemoveRuleByID(ruleURI)
	}
}

// targetOf returns the request target as the client sent it.
func targetOf(r *http.Request) string {
	if r.RequestURI != "" {
		return r.RequestURI
	}
	return r.URL.RequestURI()
}

// isTunnel reports whether a request has the authority form of RFC 9112 section
// 3.2.3, which the engine takes for a path that does not parse.
func isTunnel(r *http.Request) bool {
	if r.Method != http.MethodConnect {
		return false
	}
	_, _, err := net.SplitHostPort(targetOf(r))
	return err == nil
}

// headSize returns how many bytes of a request's head the rules look at.
func headSize(r *http.Request) int {
	n := len(r.RequestURI) + len(r.Host)
	if r.RequestURI == "" {
		n += len(r.URL.Path) + len(r.URL.RawQuery)
	}
	for key, values := range r.Header {
		for _, value := range values {
			n += len(key) + len(value)
		}
	}
	return n
}

// localAddr returns the address at which net/http took the connection.
func localAddr(ctx context.Context) (host string, port int) {
	addr, ok := ctx.Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return "", 0
	}
	ap, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return "", 0
	}
	return ap.Addr().Unmap().WithZone("").String(), int(ap.Port())
}

// addHeaders adds the header fields as the client sent them. net/http keeps three
// of them elsewhere.
func addHeaders(tx transaction, r *filter.Request) {
	h := r.HTTP
	// A request of HTTP/1.1 without the field does not get here, one with an empty
	// field does.
	if h.Host != "" || h.ProtoMajor == 1 && h.ProtoMinor == 1 {
		tx.AddRequestHeader("Host", h.Host)
	}
	for key, values := range h.Header {
		for i, value := range values {
			if i > 0 {
				key = ownKey(key)
			}
			tx.AddRequestHeader(key, value)
		}
	}
	if len(h.TransferEncoding) > 0 && len(h.Header["Transfer-Encoding"]) == 0 {
		tx.AddRequestHeader("Transfer-Encoding", strings.Join(h.TransferEncoding, ", "))
	}
	if h.ContentLength > 0 && len(h.Header["Content-Length"]) == 0 {
		tx.AddRequestHeader("Content-Length", strconv.FormatInt(h.ContentLength, 10))
	}
	distinctKeys(tx.Variables().RequestCookies())
}

// outcome reads what the rules found. it is nil if they refuse nothing.
func (e plain) outcome(tx transaction, it *types.Interruption) outcome {
	out := outcome{
		score:     txNumber(tx, "blocking_inbound_anomaly_score"),
		threshold: txNumber(tx, "inbound_anomaly_score_threshold"),
		matched:   matched(tx.MatchedRules()),
	}
	if it == nil {
		return out
	}
	out.blocked, out.rule = true, it.RuleID
	if it.Action == "deny" {
		out.status = it.Status
	}
	return out
}

// txNumber returns a number of the TX collection; 0 if it is not there.
func txNumber(tx transaction, name string) int {
	var values collection.Map = tx.Variables().TX()
	v := values.Get(name)
	if len(v) == 0 {
		return 0
	}
	n, err := strconv.Atoi(v[0])
	if err != nil {
		return 0
	}
	return n
}

// matched returns the rules that found something: those that are logged with a
// message. Rules that set up, count and decide by the count are left out.
func matched(all []types.MatchedRule) []int {
	var ids []int
	for _, m := range all {
		id := m.Rule().ID()
		if m.Message() == "" || id == ruleScore || id == ruleEarlyScore || slices.Contains(ids, id) {
			continue
		}
		if l, ok := m.(interface{ Log() bool }); ok && !l.Log() {
			continue
		}
		if ids = append(ids, id); len(ids) == maxMatched {
			break
		}
	}
	return ids
}
