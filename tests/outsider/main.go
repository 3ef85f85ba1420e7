// Checks a note of the audit chain with Go's own packages for signed notes and transparency logs.
//
//	outsider VERIFIER_KEY NOTE CHECKPOINTS
//
// The note must be signed by the key, and its root must be that of the tree over the first checkpoints of
// the file, as many as the note says. It prints how many.
package main

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func main() {
	log.SetFlags(0)
	verifier, err := note.NewVerifier(os.Args[1])
	check(err)
	text, err := os.ReadFile(os.Args[2])
	check(err)
	opened, err := note.Open(text, note.VerifierList(verifier))
	check(err)
	lines := strings.Split(opened.Text, "\n")
	if lines[0] != verifier.Name() {
		log.Fatalf("the log is %s, and the key %s", lines[0], verifier.Name())
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	check(err)
	root, err := tlog.ParseHash(lines[2])
	check(err)
	same, err := tlog.TreeHash(size, tree(os.Args[3], size))
	check(err)
	if same != root {
		log.Fatalf("the root of %d checkpoints is %v, and the note says %v", size, same, root)
	}
	fmt.Println(size)
}

// tree holds the hashes of the tree over the first checkpoints of an exported file.
func tree(path string, size int64) tlog.HashReader {
	file, err := os.Open(path)
	check(err)
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		hashes := make([]tlog.Hash, len(indexes))
		for i, index := range indexes {
			hashes[i] = stored[index]
		}
		return hashes, nil
	})
	lines := bufio.NewScanner(file)
	for number := int64(0); number < size && lines.Scan(); number++ {
		var checkpoint struct{ Hash string }
		check(json.Unmarshal(lines.Bytes(), &checkpoint))
		entry, err := hex.DecodeString(checkpoint.Hash)
		check(err)
		hashes, err := tlog.StoredHashes(number, entry, reader)
		check(err)
		stored = append(stored, hashes...)
	}
	return reader
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
