package main

import (
	"bytes"
	"debug/elf"
	"fmt"
)

// checkStatic refuses what can't run in an empty file system.
func checkStatic(binary []byte) error {
	f, err := elf.NewFile(bytes.NewReader(binary))
	if err != nil {
		return fmt.Errorf("not a program for Linux: %w", err)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return errNotStatic
		}
	}
	return nil
}
