package redis

import (
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/ban"
	"github.com/moatwaf/moat/ratelimit"
)

var probe = ratelimit.Spend{Bucket: ratelimit.Bucket{Key: [16]byte{1}}, Depth: time.Second}

// TestScript holds the script to what a Store promises.
func TestScript(t *testing.T) {
	s := open(t, Options{URL: startServer(t).url()})
	q := ratelimit.Spend{Bucket: ratelimit.Bucket{Key: [16]byte{2}}, Depth: 4 * time.Hour, Cost: time.Hour}
	near := func(got, want time.Duration) bool { return got > want-10*time.Second && got <= want }
	for i := range 4 {
		got, err := s.Spend(t.Context(), q)
		if err != nil || !got.OK || !near(got.Used, time.Duration(i+1)*time.Hour) {
			t.Errorf("token %d: %+v, %v", i+1, got, err)
		}
	}
	got, err := s.Spend(t.Context(), q)
	if err != nil || got.OK || !near(got.Wait, time.Hour) || !near(got.Used, 4*time.Hour) {
		t.Errorf("the fifth: %+v, %v", got, err)
	}
	// What was used up before is taken in any case, up to a debt of one bucket.
	q.Forced = 2 * time.Hour
	if got, err := s.Spend(t.Context(), q); err != nil || got.OK || !near(got.Used, 6*time.Hour) || !near(got.Wait, 3*time.Hour) {
		t.Errorf("a debt: %+v, %v", got, err)
	}
	q.Forced = 100 * time.Hour
	if got, err := s.Spend(t.Context(), q); err != nil || got.OK || got.Used > 8*time.Hour {
		t.Errorf("a debt without bound: %+v, %v", got, err)
	}
	// Many at once, each in its place; a question without cost changes nothing.
	all := make([]ratelimit.Spend, 500)
	for i := range all {
		all[i] = ratelimit.Spend{Bucket: ratelimit.Bucket{Key: [16]byte{3, byte(i), byte(i >> 8)}}, Depth: time.Hour, Forced: time.Duration(i) * time.Second}
	}
	answers, err := s.SpendAll(t.Context(), all)
	if err != nil {
		t.Fatal(err)
	}
	for i, a := range answers {
		if !near(a.Used, time.Duration(i)*time.Second) && i > 0 {
			t.Errorf("%d: %+v", i, a)
		}
	}
	// Keys go away by themselves.
	c, err := s.get()
	if err != nil {
		t.Fatal(err)
	}
	keys, err := c.Do(t.Context(), c.B().Keys().Pattern("moat:t:*").Build()).AsStrSlice()
	if err != nil || len(keys) != 500 {
		t.Errorf("%d keys, %v", len(keys), err)
	}
	for _, key := range keys {
		if ttl, err := c.Do(t.Context(), c.B().Pttl().Key(key).Build()).AsInt64(); err != nil || ttl <= 0 && ttl != -2 {
			t.Errorf("%s stays: %d, %v", key, ttl, err)
		}
	}
}

// TestScriptTwin holds random arrivals at a real server against burst + rate × time.
func TestScriptTwin(t *testing.T) {
	s := open(t, Options{URL: startServer(t).url()})
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 8 {
		interval := time.Duration(100+rng.IntN(5000)) * time.Microsecond
		burst := 1 + rng.IntN(20)
		q := ratelimit.Spend{Bucket: ratelimit.Bucket{Key: [16]byte{4, byte(round)}}, Depth: interval * time.Duration(burst), Cost: interval}
		start := time.Now()
		granted := 0
		for range 1500 {
			got, err := s.Spend(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			if got.OK {
				granted++
			} else if got.Wait <= 0 || got.Wait > interval+time.Microsecond {
				t.Fatalf("wait %s with an interval of %s", got.Wait, interval)
			}
			if rng.IntN(300) == 0 {
				time.Sleep(time.Duration(rng.Int64N(int64(q.Depth))))
			}
		}
		if most := burst + int(time.Since(start)/interval) + 1; granted > most {
			t.Errorf("interval %s burst %d: %d granted, %d at most", interval, burst, granted, most)
		}
	}
}

// node is a stage with one tier that shares a store.
type node struct {
	*ratelimit.Stage
	*ratelimit.Shared
}

func newNode(t *testing.T, url string, tier ratelimit.Tier, budget time.Duration) node {
	t.Helper()
	store := open(t, Options{URL: url})
	share := ratelimit.NewShared(store, budget)
	t.Cleanup(share.Close)
	s, err := ratelimit.New([]ratelimit.Tier{tier}, nil, ratelimit.Options{Shared: share})
	if err != nil {
		t.Fatal(err)
	}
	return node{s, share}
}

func byAddress(t *testing.T, rate ratelimit.Rate, burst int) ratelimit.Tier {
	t.Helper()
	key, err := ratelimit.ParseKey("ip")
	if err != nil {
		t.Fatal(err)
	}
	return ratelimit.Tier{ID: "all", Key: key, Rate: rate, Burst: burst}
}

// worker makes requests with one filter.Request.
type worker struct{ r *filter.Request }

func newWorker() worker {
	return worker{filter.NewRequest(httptest.NewRequest("GET", "/", nil), time.Now())}
}

func (w worker) ask(n node, client netip.Addr) (granted bool, took time.Duration) {
	w.r.Now, w.r.Client = time.Now(), client
	d, err := n.Check(w.r)
	return err == nil && !d.Refuses(), time.Since(w.r.Now)
}

func client(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}) }

// TestFourNodes: four nodes, one tier, ten thousand clients that ask for more than
// their limit: together they get the limit, and at most 2 % less or more.
func TestFourNodes(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	const clients, burst = 10_000, 10
	// A token takes longer than the test, so that the exact number is known.
	tier := byAddress(t, ratelimit.Rate{Count: 1, Per: time.Hour}, burst)
	url := startServer(t).url()
	var nodes [4]node
	for i := range nodes {
		// What is measured is the count. On a busy machine the store would be
		// late for the usual budget, and the nodes would decide alone.
		nodes[i] = newNode(t, url, tier, time.Second)
	}
	var granted atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for g := range 8 {
		wg.Go(func() {
			w := newWorker()
			rng := rand.New(rand.NewPCG(3, uint64(g)))
			for range 2 * burst {
				for i := g; i < clients; i += 8 {
					if ok, _ := w.ask(nodes[rng.IntN(4)], client(i)); ok {
						granted.Add(1)
					}
				}
			}
		})
	}
	wg.Wait()
	var st ratelimit.SharedStats
	for _, n := range nodes {
		one := n.Shared.Stats()
		st.Asked, st.Over, st.Degraded, st.Late = st.Asked+one.Asked, st.Over+one.Over, st.Degraded+one.Degraded, st.Late+one.Late
	}
	exact := float64(clients * burst)
	off := (float64(granted.Load()) - exact) / exact
	t.Logf("%d asked, %d granted in %s, exact %.0f: %+.3f %%; %d decided by the store, %d by what it had said, %d by the node alone",
		2*burst*clients, granted.Load(), time.Since(start).Round(time.Millisecond), exact, 100*off, st.Asked, st.Over, st.Degraded)
	if off > 0.02 || off < -0.02 {
		t.Errorf("%+.2f %% off the limit", 100*off)
	}
}

// TestKilledAndRestarted: the server dies under load and comes back empty. No request
// fails, none waits longer than the budget and 5 ms, no node grants more than its own
// limit, and the store is used again.
//
// The scheduler of a busy machine may hold one goroutine up and no other, so that no
// control can tell. It does so now and then; what a store does, it does every time.
func TestKilledAndRestarted(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	const most = 3
	for try := range most {
		late, of := killUnderLoad(t)
		if late == 0 || t.Failed() {
			return
		}
		t.Logf("try %d: %d of %d decisions took longer than the budget and 5 ms, and the machine was not seen to be late", try+1, late, of)
	}
	t.Errorf("decisions took longer than the budget and 5 ms in each of %d tries", most)
}

// killUnderLoad kills and restarts a server under load. It returns how many decisions
// took too long while a control without a store was on time, and of how many.
func killUnderLoad(t *testing.T) (late, of int) {
	t.Helper()
	const clients, burst = 200, 20
	rate := ratelimit.Rate{Count: 10, Per: time.Second}
	srv := startServer(t)
	var nodes [4]node
	for i := range nodes {
		nodes[i] = newNode(t, srv.url(), byAddress(t, rate, burst), 0)
	}
	var (
		wg      sync.WaitGroup
		stop    = make(chan struct{})
		mu      sync.Mutex
		granted = map[[2]int]int{}
		times   []time.Duration
		slow    []stall
		held    []stall // of the control
	)
	start := time.Now()
	const most5 = ratelimit.DefaultBudget + 5*time.Millisecond
	for range 4 {
		wg.Go(func() { // the control: as many waits as long as the budget, and no store
			var mine []stall
			for {
				select {
				case <-stop:
					mu.Lock()
					defer mu.Unlock()
					held = append(held, mine...)
					return
				default:
				}
				from := time.Now()
				timer := time.NewTimer(ratelimit.DefaultBudget)
				done := make(chan struct{}, 1)
				go func() { <-timer.C; done <- struct{}{} }()
				<-done
				if to := time.Now(); to.Sub(from) > ratelimit.DefaultBudget+2*time.Millisecond {
					mine = append(mine, stall{from, to})
				}
			}
		})
	}
	for g := range 4 {
		wg.Go(func() {
			w := newWorker()
			var mySlow []stall
			rng := rand.New(rand.NewPCG(4, uint64(g)))
			mine, took := map[[2]int]int{}, []time.Duration(nil)
			for {
				select {
				case <-stop:
					mu.Lock()
					defer mu.Unlock()
					for k, n := range mine {
						granted[k] += n
					}
					times = append(times, took...)
					slow = append(slow, mySlow...)
					return
				default:
				}
				i, c := rng.IntN(4), rng.IntN(clients)
				ok, d := w.ask(nodes[i], client(c))
				if ok {
					mine[[2]int{i, c}]++
				}
				took = append(took, d)
				if d > most5 {
					mySlow = append(mySlow, stall{w.r.Now, w.r.Now.Add(d)})
				}
				time.Sleep(200 * time.Microsecond)
			}
		})
	}
	away := func() (n int) {
		for _, n2 := range nodes {
			if n2.Shared.Stats().Away {
				n++
			}
		}
		return n
	}
	time.Sleep(time.Second)
	srv.kill()
	waitFor(t, 5*time.Second, "the nodes to decide alone", func() bool { return away() == 4 })
	time.Sleep(time.Second)
	srv.start()
	waitFor(t, 10*time.Second, "the nodes to come back", func() bool { return away() == 0 })
	before := nodes[0].Shared.Stats().Asked
	time.Sleep(time.Second)
	close(stop)
	wg.Wait()
	elapsed := time.Since(start)
	if got := nodes[0].Shared.Stats().Asked; got == before {
		t.Error("the store is not asked again")
	}
	most := burst + int(elapsed/(rate.Per/time.Duration(rate.Count))) + 1
	perClient := map[int]int{}
	for k, n := range granted {
		if n > most {
			t.Errorf("node %d alone granted client %d %d, its limit is %d", k[0], k[1], n, most)
		}
		perClient[k[1]] += n
	}
	worst := 0
	for _, n := range perClient {
		worst = max(worst, n)
	}
	slices.Sort(times)
	for _, one := range slow {
		// Held up at that time, and for as long as the decision was over its bound.
		excused := slices.ContainsFunc(held, func(c stall) bool {
			return one.overlaps(c) && c.took()-ratelimit.DefaultBudget >= one.took()-most5
		})
		if !excused {
			late++
		}
	}
	t.Logf("%d decisions in %s; p50 %s, p99 %s, worst %s, %d over budget + 5 ms, %d of them while the control was on time (it was late %d times); a client got %d at most, one node's limit is %d, four nodes' %d",
		len(times), elapsed.Round(time.Millisecond), times[len(times)/2], times[len(times)*99/100], times[len(times)-1], len(slow), late, len(held), worst, most, 4*most)
	return late, len(times)
}

// stall is a time in which a goroutine waited for longer than it was to.
type stall struct{ from, to time.Time }

func (s stall) took() time.Duration { return s.to.Sub(s.from) }

func (s stall) overlaps(o stall) bool { return s.from.Before(o.to) && o.from.Before(s.to) }

// TestWaysToAServer connects by TLS as an ACL user, to a Cluster and by a Sentinel.
func TestWaysToAServer(t *testing.T) {
	ask := func(t *testing.T, s *Store) {
		t.Helper()
		for i := range 20 {
			got, err := s.Spend(t.Context(), ratelimit.Spend{Bucket: ratelimit.Bucket{Key: [16]byte{5, byte(i)}}, Depth: time.Hour, Cost: time.Hour})
			if err != nil || !got.OK {
				t.Errorf("%+v, %v", got, err)
			}
		}
	}
	t.Run("tls and user", func(t *testing.T) {
		cert, key, pool := certificate(t)
		port := freePort(t)
		acl := filepath.Join(t.TempDir(), "users.acl")
		rights := "user default off\nuser moat on >s3cret~/@ ~moat:* &moat:* -@all +evalsha +eval +script|load +get +set +del +time +hget +hset +hdel +hlen +hgetall +hscan +publish +subscribe +ping +hello +client +cluster\n"
		if err := os.WriteFile(acl, []byte(rights), 0o600); err != nil {
			t.Fatal(err)
		}
		startServer(t, "--tls-port", fmt.Sprint(port), "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert, "--tls-auth-clients", "no", "--aclfile", acl)
		url := fmt.Sprintf("rediss://moat@127.0.0.1:%d/0", port)
		o, err := Options{URL: url, Password: "s3cret~/@"}.parse()
		if err != nil {
			t.Fatal(err)
		}
		o.TLSConfig.RootCAs = pool
		client, err := rueidis.NewClient(o)
		if err != nil {
			t.Fatal(err)
		}
		s := &Store{ctx: t.Context()}
		s.client.Store(&client)
		defer client.Close()
		ask(t, s)
		l, err := s.List("abuse", ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		<-l.Ready()
		doEdit(t, l, entries("192.0.2.1"), nil, 1)
		if err := s.tryPutBans(t.Context(), []ban.Change{{Ban: ban.Ban{Prefix: prefix("192.0.2.1")}}}); err != nil {
			t.Error(err)
		}
		// An unknown authority and a wrong password are refused.
		for _, bad := range []Options{{URL: url, Password: "s3cret~/@"}, {URL: url, Password: "wrong"}} {
			o, err := bad.parse()
			if err != nil {
				t.Fatal(err)
			}
			if bad.Password == "wrong" {
				o.TLSConfig.RootCAs = pool
			}
			if c, err := rueidis.NewClient(o); err == nil {
				c.Close()
				t.Errorf("connected with the password %q", bad.Password)
			}
		}
	})
	t.Run("cluster", func(t *testing.T) {
		srv := startServer(t, "--cluster-enabled", "yes", "--cluster-announce-ip", "127.0.0.1")
		single, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{srv.addr}, ForceSingleClient: true, DisableCache: true})
		if err != nil {
			t.Fatal(err)
		}
		err = single.Do(t.Context(), single.B().Arbitrary("CLUSTER", "ADDSLOTSRANGE", "0", "16383").Build()).Error()
		single.Close()
		if err != nil {
			t.Fatal(err)
		}
		ask(t, open(t, Options{URL: "redis://" + srv.addr}))
	})
	t.Run("sentinel", func(t *testing.T) {
		srv := startServer(t)
		port := freePort(t)
		_, master, _ := strings.Cut(srv.addr, ":")
		config := filepath.Join(t.TempDir(), "sentinel.conf")
		text := fmt.Sprintf("port %d\nbind 127.0.0.1\ndir %s\nsentinel monitor main 127.0.0.1 %s 1\n", port, t.TempDir(), master)
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		sentinel := &server{t: t, path: srv.path, addr: fmt.Sprintf("127.0.0.1:%d", port), args: []string{config, "--sentinel"}}
		sentinel.start()
		t.Cleanup(sentinel.kill)
		ask(t, open(t, Options{URL: fmt.Sprintf("redis://%s?master_set=main", sentinel.addr)}))
	})
}

func TestOptions(t *testing.T) {
	for _, good := range []string{
		"redis://127.0.0.1:6379/0", "redis://localhost", "rediss://user:pass@host:6380/2", "valkey://h", "unix:///run/redis.sock?db=1",
		"redis://h?addr=h2:1&addr=h3:2", "redis://h:26379?master_set=main",
	} {
		if err := (Options{URL: good}).Check(); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "http://h", "redis://u:hunter2@h:1/x", "redis://u:hunter2@h:bad:port/0", "redis://u:hunter2@h/0/1", "redis://u:hunter2@h?skip_verify=1", "127.0.0.1:6379",
	} {
		err := (Options{URL: bad}).Check()
		if err == nil {
			t.Errorf("%s is taken", bad)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error tells the password: %v", err)
		}
		if s, err := Open(Options{URL: bad}); err == nil {
			s.Close()
			t.Errorf("%s is opened", bad)
		}
	}
}

// TestWithoutServer: a store without a server answers at once.
func TestWithoutServer(t *testing.T) {
	s, err := Open(Options{URL: fmt.Sprintf("redis://127.0.0.1:%d", freePort(t))})
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if _, err := s.Spend(t.Context(), probe); err == nil {
		t.Error("there is an answer")
	}
	if _, err := s.SpendAll(t.Context(), []ratelimit.Spend{probe}); err == nil {
		t.Error("there is an answer")
	}
	s.Close()
	if d := time.Since(start); d > 3*time.Second {
		t.Errorf("it took %s", d)
	}
}
