package geo

import "strings"

// codes are the officially assigned codes of ISO 3166-1 alpha-2, and XK, the
// user-assigned code under which databases list Kosovo.
const codes = "" +
	"AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ " +
	"BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ " +
	"CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ " +
	"DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR " +
	"GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY " +
	"HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP " +
	"KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY " +
	"MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ " +
	"NA NC NE NF NG NI NL NO NP NR NU NZ OM " +
	"PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW " +
	"SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ " +
	"TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ " +
	"VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW"

// assigned has an entry for each pair of letters: the code itself, a part of
// codes, if it is assigned, so that a look-up yields a string without making one.
var assigned = func() (table [26 * 26]string) {
	for code := range strings.SplitSeq(codes, " ") {
		table[int(code[0]-'A')*26+int(code[1]-'A')] = code
	}
	return table
}()

// Countries returns the codes that ValidCountry accepts, in alphabetical order.
func Countries() []string { return strings.Split(codes, " ") }

// ValidCountry reports whether code is an officially assigned code of ISO 3166-1
// alpha-2 in upper case, or XK (Kosovo). Withdrawn, reserved and made-up codes
// (AN, EU, UK, ZZ) are not valid, and no Location has them.
func ValidCountry(code string) bool {
	return len(code) == 2 && country(code[0], code[1]) == code
}

// normalCountry returns code in upper case if it is valid then, else "". The
// result does not refer to the memory of code.
func normalCountry(code string) string {
	if len(code) != 2 {
		return ""
	}
	const caseBit = 'a' - 'A'
	return country(code[0]&^caseBit, code[1]&^caseBit)
}

func country(a, b byte) string {
	if a < 'A' || a > 'Z' || b < 'A' || b > 'Z' {
		return ""
	}
	return assigned[int(a-'A')*26+int(b-'A')]
}
