package waf

import "github.com/moatwaf/moat/rules"

func checkDirectives(plan []segment, src *source) rules.Errors { return nil }

func (s *source) locate(plan []segment, err error) *rules.Error {
	return &rules.Error{Msg: err.Error()}
}
