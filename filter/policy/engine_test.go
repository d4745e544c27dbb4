package policy

import "testing"

// TestEnginesAgree asks both engines the same: what one refuses, so does the other.
func TestEnginesAgree(t *testing.T) {
	for _, engine := range []string{"plain", "fast"} {
		t.Run(engine, func(t *testing.T) {
			h := newHouse(t, "")
			h.write("policy.yaml", "version: 1\naudit: {file: \"off\"}\nwaf: {engine: "+engine+"}\n")
			h.start(false)
			for range 3 {
				h.want("192.0.2.1", "/?q=tea", 0)
				h.want("192.0.2.1", "/?q=<script>alert(1)</script>", 403)
				h.want("192.0.2.1", "/?id=1%27+UNION+SELECT+password+FROM+users--+-", 403)
				h.want("192.0.2.1", "/?file=../../../../etc/passwd", 403)
			}
		})
	}
}
