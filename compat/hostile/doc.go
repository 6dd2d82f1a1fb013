// Package hostile has clients that mean ill, and holds a node against them: its memory stays within bounds, an honest client is
// served, probes are answered, and when they are gone nothing of them is left.
package hostile
