package gate

import (
	"github.com/corazawaf/coraza/v3/collection"
	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
	"github.com/corazawaf/coraza/v3/types/variables"
)

// source is a collection of the engine, or the names in one, whose values stay the
// same within a phase.
type source uint8

const (
	getValues source = iota
	getNames
	postValues
	postNames
	pathValues
	pathNames
	headerValues
	headerNames
	cookieValues
	cookieNames
	firstMap
	// From here on collections without names of interest.
)

// mapSources are the collections whose names are targets too: values first, names
// behind. Both come from one walk.
var mapSources = []struct {
	values source
	get    func(plugintypes.TransactionVariables) collection.Collection
}{
	{getValues, func(v plugintypes.TransactionVariables) collection.Collection { return v.ArgsGet() }},
	{postValues, func(v plugintypes.TransactionVariables) collection.Collection { return v.ArgsPost() }},
	{pathValues, func(v plugintypes.TransactionVariables) collection.Collection { return v.ArgsPath() }},
	{headerValues, func(v plugintypes.TransactionVariables) collection.Collection { return v.RequestHeaders() }},
	{cookieValues, func(v plugintypes.TransactionVariables) collection.Collection { return v.RequestCookies() }},
}

// otherSources are further collections, keyed and single ones; their source is
// firstMap and the index.
var otherSources = []variables.RuleVariable{
	variables.Files, variables.FilesNames, variables.FilesTmpContent,
	variables.MultipartName, variables.MultipartFilename, variables.MultipartFilenameCharset,
	variables.MultipartFilenameLanguage, variables.MultipartPartHeaders,
	variables.RequestXML,
	variables.RequestURI, variables.RequestURIRaw, variables.RequestFilename, variables.RequestBasename,
	variables.RequestLine, variables.RequestMethod, variables.RequestProtocol, variables.QueryString,
	variables.RequestBody, variables.RemoteAddr, variables.RemotePort, variables.ServerAddr,
	variables.ServerName, variables.ServerPort,
}

// sourcesOf returns the sources that a variable shows; nil for one whose values
// may change within a phase, or are not known here.
func sourcesOf(v variables.RuleVariable) []source {
	switch v {
	case variables.Args:
		return []source{getValues, postValues, pathValues}
	case variables.ArgsGet:
		return []source{getValues}
	case variables.ArgsPost:
		return []source{postValues}
	case variables.ArgsPath:
		return []source{pathValues}
	case variables.ArgsNames:
		return []source{getNames, postNames, pathNames}
	case variables.ArgsGetNames:
		return []source{getNames}
	case variables.ArgsPostNames:
		return []source{postNames}
	case variables.RequestHeaders:
		return []source{headerValues}
	case variables.RequestHeadersNames:
		return []source{headerNames}
	case variables.RequestCookies:
		return []source{cookieValues}
	case variables.RequestCookiesNames:
		return []source{cookieNames}
	case variables.XML:
		v = variables.RequestXML // the engine has one collection for both
	}
	for i, o := range otherSources {
		if o == v {
			return []source{firstMap + source(i)}
		}
	}
	return nil
}

// numSources is how many sources there are.
var numSources = int(firstMap) + len(otherSources)

// onePerRequest reports whether a source has one value only.
func (s source) onePerRequest() bool {
	return s >= firstMap && int(s-firstMap) >= 9
}
