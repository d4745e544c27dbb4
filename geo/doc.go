// Package geo finds country and autonomous system of an address in databases of
// the MaxMind DB format.
//
//	file -> read whole, bounded -> every network walked once -> table of ranges -> Locate
//
// A Database is compiled when it is loaded: every network is visited, every
// distinct record decoded and checked, and neighbouring networks of one location
// joined. After that neither the file nor its bytes are needed. A look-up cannot
// meet a corrupt record, and a file that is truncated or rewritten in place
// cannot harm the process, as it could through a memory map.
//
// The layouts of MaxMind, DB-IP, IPinfo and ip-location-db are understood; see
// record. A country database ships with the package; see Shipped.
package geo
