// Package access runs real clients against live nodes that ask who may do what: foreign ones that are denied and must hear why, and
// clients under load while rules are taken away and given back.
package access
