package proof

// Matched returns the rules because of which only those requests are handed over that
// they match, or of which they match a part, with the reason. Those of Reasons are not
// among them.
func (p *Proof) Matched() map[int]string {
	matched := map[int]string{}
	for _, ru := range p.rows {
		if p.reasons[ru.id] != "" {
			continue
		}
		for i := range ru.links {
			if l := &ru.links[i]; l.bad != "" {
				matched[ru.id] = l.bad
			} else if l.badMatch != "" {
				matched[ru.id] = l.badMatch
			}
		}
	}
	return matched
}

// Unfit returns how many automata there is no memory for. Their patterns may match any
// value, until each is held against it.
func (p *Proof) Unfit() int {
	n := 0
	for _, s := range p.scans.sets {
		if s.set == nil {
			n++
		}
	}
	return n
}
