// Package bench measures moat as a whole: whole policies, whole requests. The
// benchmarks of single parts stand beside their code.
//
//	go test -bench . -benchmem ./bench
//
// The machine that measures is shared and noisy: compare two versions in one run,
// interleaved, with benchstat, and trust ratios.
package bench
