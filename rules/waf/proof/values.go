package proof

import (
	"github.com/corazawaf/coraza/v3/types/variables"

	"github.com/moatwaf/moat/rules/waf/view"
)

// source is a collection or variable of the request, or the names in one.
type source struct {
	variable variables.RuleVariable
	names    bool
}

// later are the variables that phase 2 sees otherwise than phase 1.
var later = map[variables.RuleVariable]bool{
	variables.ArgsPost: true, variables.ArgsPath: true, variables.Files: true, variables.FilesNames: true,
	variables.FilesSizes: true, variables.FilesTmpNames: true, variables.FilesTmpContent: true, variables.MultipartName: true,
	variables.MultipartFilename: true, variables.MultipartFilenameCharset: true, variables.MultipartFilenameLanguage: true,
	variables.MultipartPartHeaders: true, variables.RequestXML: true,
	variables.RequestBody: true, variables.RequestBodyLength: true, variables.ReqbodyProcessor: true,
	variables.ReqbodyError: true, variables.ReqbodyErrorMsg: true, variables.ReqbodyProcessorError: true,
	variables.ReqbodyProcessorErrorMsg: true, variables.ArgumentsLimitReached: true, variables.UrlencodedError: true,
	variables.ArgsCombinedSize: true, variables.FilesCombinedSize: true, variables.InboundDataError: true,
	variables.MultipartStrictError: true, variables.MultipartDuplicatePartHeader: true, variables.MultipartInvalidQuoting: true,
	variables.MultipartDataAfter: true, variables.FullRequestLength: true,
}

// sourcesOf returns the sources that a variable joins, and whether they have one
// value each; nil for a variable that a View does not know.
func sourcesOf(v variables.RuleVariable) (list []source, single bool) {
	switch v {
	case variables.Args:
		return []source{{variable: variables.ArgsGet}, {variable: variables.ArgsPost}, {variable: variables.ArgsPath}}, false
	case variables.ArgsNames:
		return []source{{variables.ArgsGet, true}, {variables.ArgsPost, true}, {variables.ArgsPath, true}}, false
	case variables.ArgsGetNames:
		return []source{{variables.ArgsGet, true}}, false
	case variables.ArgsPostNames:
		return []source{{variables.ArgsPost, true}}, false
	case variables.RequestHeadersNames:
		return []source{{variables.RequestHeaders, true}}, false
	case variables.RequestCookiesNames:
		return []source{{variables.RequestCookies, true}}, false
	case variables.XML:
		return []source{{variable: variables.RequestXML}}, false
	}
	if !view.Knows(v) {
		return nil, false
	}
	return []source{{variable: v}}, !view.IsList(v)
}

// named reports whether the collections of a variable show names in place of
// values.
func named(v variables.RuleVariable) bool {
	list, _ := sourcesOf(v)
	return len(list) > 0 && list[0].names
}
