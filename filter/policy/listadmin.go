package policy

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/moatwaf/moat/ratelimit/redis"
	"github.com/moatwaf/moat/rules"
	"github.com/moatwaf/moat/rules/list"
)

// Bounds of a request to the admin routes of lists.
const (
	maxListRequest = 256 << 10 // bytes
	listEditTime   = 5 * time.Second
	maxListFor     = 10 * 366 * 24 * time.Hour
)

// HandleLists adds the routes of lists to the admin API:
//
//	GET    /moat/lists                       every list, its size and where it is kept
//	GET    /moat/lists/{name}                the entries of a list that is kept in the store
//	POST   /moat/lists/{name}                adds {"entries": ["192.0.2.0/24"], "for": "2h"}; without for they stay
//	DELETE /moat/lists/{name}?entry=A&entry=B removes entries
//
// running returns the policies in use; an edit is made in the store of each that has a
// list of that name. It answers when the store has confirmed: 200 with the number of
// entries that changed, 404 where no policy has such a list, 409 for a list that is not
// kept in a store and so cannot be edited, or is full, 503 where the store does not
// answer. The routes belong on the admin address.
func HandleLists(mux *http.ServeMux, running func() []*Runtime) {
	mux.HandleFunc("GET /moat/lists", func(w http.ResponseWriter, _ *http.Request) { showLists(w, running()) })
	mux.HandleFunc("GET /moat/lists/{name}", func(w http.ResponseWriter, r *http.Request) {
		if lists := namedLists(w, r, running()); lists != nil {
			showList(w, r.PathValue("name"), lists[0])
		}
	})
	mux.HandleFunc("POST /moat/lists/{name}", func(w http.ResponseWriter, r *http.Request) {
		if lists := namedLists(w, r, running()); lists != nil {
			addToLists(w, r, lists)
		}
	})
	mux.HandleFunc("DELETE /moat/lists/{name}", func(w http.ResponseWriter, r *http.Request) {
		if lists := namedLists(w, r, running()); lists != nil {
			editLists(w, r, lists, nil, r.URL.Query()["entry"])
		}
	})
}

// shownList is a list in an answer.
type shownList struct {
	Name    string `json:"name"`
	Kept    string `json:"kept"` // in: policy, store
	Entries int    `json:"entries"`
	// Synced says of a list in the store that the last look at it went well.
	Synced *bool `json:"synced,omitempty"`
}

func showLists(w http.ResponseWriter, running []*Runtime) {
	all := []shownList{}
	for _, rt := range running {
		stores := rt.StoreLists()
		for _, l := range rt.Lists() {
			one := shownList{Name: l.Name, Kept: "policy", Entries: l.Entries}
			if kept := stores[l.Name]; kept != nil {
				synced := kept.Synced()
				one.Kept, one.Synced = "store", &synced
			}
			if !slices.ContainsFunc(all, func(s shownList) bool { return s.Name == one.Name && s.Kept == one.Kept && s.Entries == one.Entries }) {
				all = append(all, one)
			}
		}
	}
	slices.SortFunc(all, func(a, b shownList) int {
		if a.Name < b.Name {
			return -1
		}
		if a.Name > b.Name {
			return 1
		}
		return 0
	})
	writeAdmin(w, http.StatusOK, map[string]any{"lists": all})
}

// namedLists returns the lists in stores that a request names; nil after an answer.
func namedLists(w http.ResponseWriter, r *http.Request, running []*Runtime) []*redis.List {
	name := r.PathValue("name")
	var lists []*redis.List
	elsewhere := false
	for _, rt := range running {
		if l := rt.StoreLists()[name]; l != nil {
			if !slices.Contains(lists, l) {
				lists = append(lists, l)
			}
			continue
		}
		for _, l := range rt.Lists() {
			elsewhere = elsewhere || l.Name == name
		}
	}
	switch {
	case lists != nil:
		return lists
	case elsewhere:
		writeAdmin(w, http.StatusConflict, map[string]any{"error": "the list is kept in the policy, a file or at a URL: edit it there, or keep it in the store"})
	default:
		writeAdmin(w, http.StatusNotFound, map[string]any{"error": "no policy in use has a list of this name"})
	}
	return nil
}

// shownEntry is an entry in an answer.
type shownEntry struct {
	Entry string     `json:"entry"`
	Until *time.Time `json:"until,omitempty"`
}

func showList(w http.ResponseWriter, name string, l *redis.List) {
	version, entries := l.Entries()
	shown := make([]shownEntry, len(entries))
	for i, e := range entries {
		shown[i].Entry = e.Text
		if !e.Until.IsZero() {
			until := e.Until.UTC()
			shown[i].Until = &until
		}
	}
	writeAdmin(w, http.StatusOK, map[string]any{"name": name, "version": strconv.FormatUint(version, 10), "synced": l.Synced(), "entries": shown})
}

func addToLists(w http.ResponseWriter, r *http.Request, lists []*redis.List) {
	var spec struct {
		Entries []string `json:"entries"`
		For     string   `json:"for"`
	}
	body := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxListRequest))
	body.DisallowUnknownFields()
	if err := body.Decode(&spec); err != nil {
		writeAdmin(w, http.StatusBadRequest, map[string]any{"error": `write {"entries": ["192.0.2.0/24"], "for": "2h"}`})
		return
	}
	var until time.Time
	if spec.For != "" {
		d, err := rules.ParseDuration(spec.For)
		if err == nil && (d < time.Second || d > maxListFor) {
			err = errors.New("an entry is for 1s to ten years")
		}
		if err != nil {
			writeAdmin(w, http.StatusBadRequest, map[string]any{"error": err.Error()})
			return
		}
		until = time.Now().Add(d)
	}
	add := make([]list.Entry, len(spec.Entries))
	for i, text := range spec.Entries {
		add[i] = list.Entry{Text: text, Until: until}
	}
	editLists(w, r, lists, add, nil)
}

// editLists makes an edit in every list, and answers.
func editLists(w http.ResponseWriter, r *http.Request, lists []*redis.List, add []list.Entry, remove []string) {
	if len(add)+len(remove) == 0 {
		writeAdmin(w, http.StatusBadRequest, map[string]any{"error": "name at least one entry"})
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), listEditTime)
	defer cancel()
	changed := 0
	for _, l := range lists {
		n, err := l.Edit(ctx, add, remove)
		if err != nil {
			status := http.StatusBadRequest
			switch {
			case errors.Is(err, redis.ErrListAway):
				status = http.StatusServiceUnavailable
			case errors.Is(err, redis.ErrListFull):
				status = http.StatusConflict
			}
			writeAdmin(w, status, map[string]any{"error": err.Error(), "changed": changed})
			return
		}
		changed = max(changed, n)
	}
	writeAdmin(w, http.StatusOK, map[string]any{"changed": changed})
}
