"""Many photos: finding them, working on them beside reading and writing, tables, Ray."""
