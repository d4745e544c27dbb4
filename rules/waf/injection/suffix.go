package injection

import "sync"

// firsts finds in constant time where an end of a text occurs first in it,
// after a preparation that is linear in the length of the text.
type firsts struct {
	// at holds, by the length of the end, the distance from the end of the text
	// to the end of its first occurrence.
	at []int32
	// odd holds for each place whether an odd number of backslashes is before it.
	odd []int32
}

// maxPrepared bounds the texts that are prepared: 8 bytes are kept for each
// byte of them.
const maxPrepared = 1 << 20

// maxPreparations bounds how often one reading of a text may prepare.
const maxPreparations = 8

var firstsPool = sync.Pool{New: func() any { return new(firsts) }}

// release gives f back; f may be nil.
func (f *firsts) release() {
	if f != nil {
		firstsPool.Put(f)
	}
}

// prepare reads text. Read backwards, an end of the text is a beginning, and
// how long a beginning occurs at each place is what the Z algorithm yields.
func (f *firsts) prepare(text string) {
	n := len(text)
	if cap(f.at) < n+2 {
		f.at, f.odd = make([]int32, n+2), make([]int32, n+2)
	}
	at, z := f.at[:n+2], f.odd[:n+2]
	clear(at)
	back := func(i int) byte { return text[n-1-i] }
	begin, end := 0, 0
	for i := 1; i < n; i++ {
		k := 0
		if i < end {
			k = min(end-i, int(z[i-begin]))
		}
		for i+k < n && back(k) == back(i+k) {
			k++
		}
		z[i] = int32(k)
		if i+k > end {
			begin, end = i, i+k
		}
		at[k] = int32(i)
	}
	for k := n - 1; k > 0; k-- {
		at[k] = max(at[k], at[k+1])
	}
	odd := z
	odd[0] = 0
	for i := range n {
		odd[i+1] = 0
		if text[i] == '\\' {
			odd[i+1] = 1 - odd[i]
		}
	}
	f.at, f.odd = at, odd
}

// escaped reports whether an odd number of backslashes stands before the first
// occurrence of text[end:].
func (f *firsts) escaped(text string, end int) bool {
	k := len(text) - end
	return f.odd[len(text)-k-int(f.at[k])] != 0
}
