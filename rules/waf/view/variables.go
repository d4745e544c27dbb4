package view

import "github.com/corazawaf/coraza/v3/types/variables"

// The places of the keyed collections. Place 0 is that of what is none, place 1
// that of collections that are always empty while requests are judged.
const (
	_ = iota
	emptyList
	argsGet
	argsPost
	headers
	cookies
	files
	filesNames
	filesSizes
	partNames
	partFilenames
	partHeaders
	partCharsets
	partLanguages
	nodes
	numLists
	firstList = argsGet
)

var listAt = [256]uint8{
	variables.ArgsGet:        argsGet,
	variables.ArgsPost:       argsPost,
	variables.RequestHeaders: headers,
	variables.RequestCookies: cookies,
	variables.RequestXML:     nodes,
	variables.XML:            nodes,

	variables.Files:                     files,
	variables.FilesNames:                filesNames,
	variables.FilesSizes:                filesSizes,
	variables.MultipartName:             partNames,
	variables.MultipartFilename:         partFilenames,
	variables.MultipartPartHeaders:      partHeaders,
	variables.MultipartFilenameCharset:  partCharsets,
	variables.MultipartFilenameLanguage: partLanguages,

	variables.ArgsPath:        emptyList, // no host of moat has a router's parameters
	variables.FilesTmpContent: emptyList, // the engine does not fill it
	variables.ResponseHeaders: emptyList,
	variables.ResponseArgs:    emptyList,
	variables.ResponseXML:     emptyList,
}

// The places of the variables with one value. Place 0 is that of what is none.
const (
	_ = iota
	remoteAddr
	remotePort
	serverAddr
	serverName
	serverPort
	requestMethod
	requestProtocol
	requestLine
	requestURI
	requestURIRaw
	requestFilename
	requestBasename
	queryString
	requestBody
	requestBodyLength
	processor
	argsCombinedSize
	filesCombinedSize
	uriParseError
	inboundDataError
	multipartStrict
	multipartDuplicate
	multipartQuoting
	always0  // what has the value "0" throughout the request
	alwaysNo // what is empty throughout the request
	identifier
	numSingles
)

var singleAt = [256]uint8{
	variables.RemoteAddr:        remoteAddr,
	variables.RemotePort:        remotePort,
	variables.ServerAddr:        serverAddr,
	variables.ServerName:        serverName,
	variables.ServerPort:        serverPort,
	variables.RequestMethod:     requestMethod,
	variables.RequestProtocol:   requestProtocol,
	variables.RequestLine:       requestLine,
	variables.RequestURI:        requestURI,
	variables.RequestURIRaw:     requestURIRaw,
	variables.RequestFilename:   requestFilename,
	variables.RequestBasename:   requestBasename,
	variables.QueryString:       queryString,
	variables.RequestBody:       requestBody,
	variables.RequestBodyLength: requestBodyLength,
	variables.ReqbodyProcessor:  processor,
	variables.ArgsCombinedSize:  argsCombinedSize,
	variables.FilesCombinedSize: filesCombinedSize,
	variables.InboundDataError:  inboundDataError,
	variables.URIParseError:     uriParseError,
	variables.UniqueID:          identifier,

	variables.MultipartStrictError:         multipartStrict,
	variables.MultipartDuplicatePartHeader: multipartDuplicate,
	variables.MultipartInvalidQuoting:      multipartQuoting,

	// A request that would set them is not known.
	variables.ReqbodyError:          always0,
	variables.ReqbodyProcessorError: always0,
	variables.ArgumentsLimitReached: always0,
	// The engine never sets them.
	variables.UrlencodedError:    always0,
	variables.FullRequestLength:  always0,
	variables.MultipartDataAfter: always0,
	variables.OutboundDataError:  always0,

	variables.ReqbodyErrorMsg:          alwaysNo,
	variables.ReqbodyProcessorErrorMsg: alwaysNo,
	variables.RemoteHost:               alwaysNo,
	variables.ResponseBody:             alwaysNo,
	variables.ResponseContentLength:    alwaysNo,
	variables.ResponseContentType:      alwaysNo,
	variables.ResponseProtocol:         alwaysNo,
	variables.ResponseStatus:           alwaysNo,
	variables.StatusLine:               alwaysNo,
}

// defaults are the values that a transaction begins with.
var defaults = [numSingles]string{
	always0:            "0",
	requestBodyLength:  "0",
	filesCombinedSize:  "0",
	uriParseError:      "0",
	multipartDuplicate: "0",
	multipartQuoting:   "0",
}
